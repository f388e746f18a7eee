/* The way from a finding's evidence to the chart that shows it, and back. The address says which evidence is shown, and
   shows it again: where the finding has cleared meanwhile, the same evidence of it. */
(function () {
  "use strict";

  const NAME = "evidence"; // of the shapes that mark it in a chart
  const COLOUR = "#e69f00";
  const PATIENCE = 20000; // milliseconds that drawing the chart may take
  const LEAST = 6; // steps shown on both sides of the evidence

  const SOON = 2000; // milliseconds until findings that came are on the page

  let shown = null; // the evidence on show: its key, its run, its card and chart, its shapes, and the zoom and the page there were before
  let asked = window.cockpit.address.get("evidence"); // what the address shows, until the run is judged
  const heard = new WeakSet(); // charts whose events are listened to

  function smooth() {
    return window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  }

  function band(steps, margin) {
    const least = margin / 30; // a single step is a band that can be seen
    return {
      name: NAME,
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: steps[0] - least,
      x1: steps[1] + least,
      y0: 0,
      y1: 1,
      layer: "below",
      fillcolor: COLOUR,
      opacity: 0.2,
      line: { width: 0 },
    };
  }

  function ring(point) {
    return {
      name: NAME,
      type: "circle",
      xref: "x",
      yref: "y",
      xsizemode: "pixel",
      ysizemode: "pixel",
      xanchor: point[0],
      yanchor: point[1],
      x0: -5,
      x1: 5,
      y0: -5,
      y1: 5,
      line: { color: COLOUR, width: 2 },
    };
  }

  function others(chart) {
    return (chart.layout.shapes || []).filter((shape) => shape.name !== NAME);
  }

  function isMarked(chart) {
    return (chart.layout.shapes || []).some((shape) => shape.name === NAME);
  }

  /* An update of a chart brings the shapes that the server knows: the marks are put back. */
  function listen(chart) {
    if (heard.has(chart)) {
      return;
    }
    heard.add(chart);
    chart.on("plotly_afterplot", function () {
      if (shown && shown.chart === chart && !isMarked(chart)) {
        window.Plotly.relayout(chart, { shapes: others(chart).concat(shown.shapes) });
      }
    });
    chart.on("plotly_doubleclick", function () {
      window.setTimeout(function () {
        if (shown && shown.chart === chart) {
          clear(zoomOf(chart)); // as the double click has left it
        }
      }, 0);
    });
  }

  /* Take the marks away and go to a zoom: [range of steps, range of values], null for all of them. Both at once, or
     the chart would look for the extremes of marks that are no longer there. */
  function clear(zoom) {
    const last = shown;
    shown = null;
    if (!last) {
      return;
    }
    window.cockpit.address.set("evidence", null);
    delete last.card.dataset.marked;
    if (last.chart && document.contains(last.chart)) {
      const change = { shapes: others(last.chart) };
      window.Plotly.relayout(last.chart, Object.assign(change, rangeOf("xaxis", zoom[0]), rangeOf("yaxis", zoom[1])));
      window.cockpit.heights.renew(last.chart);
    }
  }

  function rangeOf(axis, range) {
    return range ? { [axis + ".range"]: range, [axis + ".autorange"]: false } : { [axis + ".autorange"]: true };
  }

  function zoomOf(chart) {
    const { autorange, range } = chart.layout.xaxis;
    return [autorange ? null : range.slice(), window.cockpit.heights.own(chart)];
  }

  /* A little after the last step that a chart shows. */
  function end(chart) {
    return Math.max(...chart.data.map((trace) => Number(trace.x && trace.x.at(-1)) || 0)) + LEAST;
  }

  function mark(chart, steps, points) {
    const log = chart.layout.yaxis.type === "log";
    const margin = Math.max(0.4 * (steps[1] - steps[0]), LEAST);
    const rings = points.filter((point) => !log || point[1] > 0).map(ring);
    listen(chart);
    shown.zoom = zoomOf(chart);
    shown.shapes = [band(steps, margin), ...rings];
    shown.chart = chart;
    const range = [Math.max(steps[0] - margin, -LEAST), Math.min(steps[1] + margin, end(chart))];
    const change = Object.assign({ shapes: others(chart).concat(shown.shapes) }, rangeOf("xaxis", range));
    if (shown.zoom[1]) {
      Object.assign(change, rangeOf("yaxis", null));
    }
    window.Plotly.relayout(chart, change);
    window.cockpit.heights.renew(chart);
  }

  /* Go to the overview, which may have to be drawn first, and show the evidence there. */
  function follow(button) {
    const from = window.cockpit.address.page();
    const wanted = { ...button.dataset };
    const end = Date.now() + PATIENCE;
    window.cockpit.address.visit("overview");
    (function attempt() {
      const card = document.getElementById("panel-" + wanted.shownBy);
      const chart = card && card.querySelector(".chart-plot .js-plotly-plot");
      if (chart && chart.layout) {
        show(wanted, card, chart, from);
        return;
      }
      if (card) {
        card.scrollIntoView({ block: "center", behavior: "instant" }); // which has it drawn
      }
      if (Date.now() < end && window.cockpit.address.page() === "overview") {
        window.setTimeout(attempt, 50);
      }
    })();
  }

  function show(wanted, card, chart, from) {
    clear(shown && shown.zoom);
    const steps = JSON.parse(wanted.steps);
    const run = window.cockpit.address.get("run");
    shown = { key: wanted.evidence, run: run, card: card, chart: null, shapes: [], zoom: null, from: from };
    window.cockpit.address.set("evidence", shown.key);
    card.dataset.marked = "";
    card.querySelector(".which").textContent = wanted.words;
    if (steps.length) {
      mark(chart, steps, JSON.parse(wanted.points));
    }
    card.querySelector(".back").focus({ preventScroll: true });
    card.scrollIntoView({ block: "center", behavior: smooth() });
  }

  function goBack() {
    const key = shown && shown.key;
    if (shown) {
      window.cockpit.address.visit(shown.from);
    }
    clear(shown && shown.zoom);
    const buttons = [...document.querySelectorAll("[data-evidence]")];
    const button = buttons.find((each) => each.dataset.evidence === key);
    for (let part = button; part; part = part.parentElement && part.parentElement.closest("details")) {
      part.open = true;
    }
    if (button) {
      button.focus({ preventScroll: true });
      button.scrollIntoView({ block: "center", behavior: smooth() });
    }
  }

  /* The button of some evidence; one of a finding that has cleared has the step since which it stood in its key. */
  function buttonOf(key) {
    const buttons = [...document.querySelectorAll("[data-evidence]")];
    const ends = (words) => [words.split(" ").at(0), words.split(" ").at(-1)].join(" ");
    return (
      buttons.find((button) => button.dataset.evidence === key) ||
      buttons.find((button) => ends(button.dataset.evidence) === ends(key))
    );
  }

  /* Show what the address says, as soon as it is among the findings; on other pages it is shown no more. */
  function recall(key, end) {
    const button = buttonOf(key);
    const isHere = window.cockpit.address.page() === "overview";
    if (button && isHere) {
      follow(button);
    } else if (Date.now() < end) {
      window.setTimeout(() => recall(key, end), 100);
    } else {
      const words = "The finding whose evidence the address shows is not among those of this run.";
      window.dash_clientside.set_props("astray", { children: isHere ? words : "" });
      window.cockpit.address.set("evidence", null);
    }
  }

  window.cockpit.address.listen(function () {
    const key = window.cockpit.address.get("evidence");
    if (key && !(shown && shown.key === key)) {
      recall(key, Date.now() + SOON);
    } else if (!key) {
      clear(shown && shown.zoom);
    }
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    /* A run was judged: its evidence is shown where the address says so, and that of another run no more. */
    judged: function (judged) {
      const run = judged ? judged[0] : null;
      if (run && run === window.cockpit.address.get("run")) {
        if (shown && shown.run !== run) {
          clear(shown.zoom);
        }
        if (asked) {
          recall(asked, Date.now() + SOON);
          asked = null;
        }
      }
      return run;
    },
  });

  document.addEventListener("click", function (event) {
    const evidence = event.target.closest("[data-evidence]");
    if (evidence) {
      follow(evidence);
    } else if (event.target.closest(".marked .back")) {
      goBack();
    }
  });
})();
