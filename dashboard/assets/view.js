/* How all charts are drawn, as the person has chosen: kept in the address, told to the server, shown on the tools.

   cockpit.view.state    axis, smoothing, range (of steps, or null), linked, follow (steps, or 0), paused, scales
   cockpit.view.change   change some of it, and have the charts drawn so
   cockpit.view.request  what the server is asked for: the charts on the screen, and how they are to be
   cockpit.view.cards    the cards that are on the screen and have a chart
   cockpit.view.board    all cards of the board that is shown; isComplete tells whether all are drawn
   cockpit.view.look     see which cards have come; those on the screen are asked for at once */
(function () {
  "use strict";

  const STRONGEST = 0.99;
  const AT_ONCE = 3; // charts off the screen that are drawn at once
  const state = { axis: "step", smoothing: 0, range: null, linked: true, follow: 0, paused: false, scales: {} };
  let pausedAt = null; // the last step when the page was paused
  let once = false; // a paused page is drawn once more when the person changes how
  let waiting = 0;
  const onScreen = new Set(); // cards
  const seen = new WeakSet(); // cards that are looked after

  function chartOf(card) {
    const chart = card.querySelector(".chart-plot .js-plotly-plot");
    return chart && chart.layout && chart.layout.xaxis ? chart : null;
  }

  const watch = new IntersectionObserver(
    function (entries) {
      for (const entry of entries) {
        onScreen[entry.isIntersecting ? "add" : "delete"](entry.target);
      }
      if (entries.some((entry) => entry.isIntersecting)) {
        window.cockpit.zoom.sync();
        window.cockpit.clock.ask();
      }
    },
    { rootMargin: "100px" }
  );

  /* All cards of the board that is shown, which stands in a place of that id; the loss stands beside the verdict. */
  function board() {
    const parts = place() === "board" ? "#vital [data-panel], #board [data-panel]" : "#" + place() + " [data-panel]";
    return [...document.querySelectorAll(parts)];
  }

  function place() {
    return { layers: "layer-board", runs: "comparison" }[window.cockpit.address.page()] || "board";
  }

  function look() {
    const fresh = board().filter((card) => !seen.has(card));
    for (const card of fresh) {
      seen.add(card);
      watch.observe(card);
    }
    for (const card of onScreen) {
      if (!card.isConnected) {
        onScreen.delete(card);
      }
    }
    return fresh.length > 0;
  }

  function isComplete() {
    return board().every(window.cockpit.charts.shownOf);
  }

  function cards() {
    return board().filter((card) => onScreen.has(card) && chartOf(card));
  }

  /* The range of steps a chart is zoomed to, or null while it shows all. */
  function windowOf(chart) {
    const axis = chart.layout.xaxis;
    return axis.autorange ? null : [axis.range[0], axis.range[1]];
  }

  function scaleOf(card) {
    return state.scales[card.dataset.name] || card.dataset.scale;
  }

  function lastStep() {
    const words = document.getElementById("step");
    return words ? Number(words.textContent.replace(/\D/g, "")) : 0;
  }

  /* What the charts on the screen lack; and when these are drawn, a few of the others, so that all are soon. */
  function request() {
    look();
    window.cockpit.zoom.tick();
    paint();
    const all = board();
    const shownOf = window.cockpit.charts.shownOf;
    const missing = all.filter((card) => !shownOf(card));
    let wanted = all.filter((card) => onScreen.has(card));
    if (wanted.length && wanted.every(shownOf)) {
      wanted = wanted.concat(missing.slice(0, AT_ONCE));
    }
    if (state.paused && !once) {
      wanted = wanted.filter((card) => !shownOf(card));
    } else {
      pausedAt = lastStep();
      once = false;
    }
    const charts = {};
    for (const card of wanted) {
      const [chart, scale] = [chartOf(card), state.scales[card.dataset.name] || null];
      const range = chart ? windowOf(chart) : window.cockpit.zoom.rangeOf(card);
      charts[card.dataset.panel] = [window.cockpit.charts.widthOf(card), range, scale, shownOf(card)];
    }
    return { charts: charts, smoothing: state.smoothing, axis: state.axis };
  }

  /* Ask the server at once, and not only at the next tick of the clock; a slider asks a few times a second. */
  function ask() {
    once = true;
    if (!waiting) {
      waiting = window.setTimeout(function () {
        waiting = 0;
        window.cockpit.clock.ask();
      }, 120);
    }
  }

  function change(part) {
    Object.assign(state, part);
    remember();
    paint();
    window.cockpit.zoom.sync();
    ask();
  }

  /* The address ---------------------------------------------------------------------------------------------- */

  function remember() {
    const address = window.cockpit.address;
    const scales = Object.entries(state.scales).map(([name, scale]) => encodeURIComponent(name) + ":" + scale);
    address.set("steps", state.range && state.linked && !state.follow ? state.range.map(rounded).join("~") : null);
    address.set("last", state.follow ? String(Math.round(state.follow)) : null);
    address.set("smooth", state.smoothing ? String(state.smoothing) : null);
    address.set("axis", state.axis === "step" ? null : state.axis);
    address.set("scale", scales.length ? scales.join(",") : null);
    address.set("linked", state.linked ? null : "no");
  }

  function rounded(step) {
    return Number(step.toFixed(2));
  }

  /* What the address says; what it does not spell rightly counts as not said. */
  function recall() {
    const address = window.cockpit.address;
    const range = (address.get("steps") || "").split("~").map(Number);
    const smoothing = Number(address.get("smooth"));
    const scales = (address.get("scale") || "").split(",").map((part) => part.split(":"));
    const axis = address.get("axis");
    state.range = range.length === 2 && range.every(Number.isFinite) && range[0] < range[1] ? range : null;
    state.follow = Math.max(Math.round(Number(address.get("last"))) || 0, 0);
    state.smoothing = smoothing > 0 && smoothing <= STRONGEST ? smoothing : 0;
    state.axis = ["time", "epoch"].includes(axis) ? axis : "step";
    state.linked = address.get("linked") !== "no";
    state.scales = {};
    for (const [name, scale] of scales) {
      if (["log", "linear"].includes(scale)) {
        state.scales[decoded(name)] = scale;
      }
    }
  }

  function decoded(name) {
    try {
      return decodeURIComponent(name);
    } catch (error) {
      return name;
    }
  }

  /* The tools ------------------------------------------------------------------------------------------------ */

  function press(button, pressed) {
    if (button.getAttribute("aria-pressed") !== String(pressed)) {
      button.setAttribute("aria-pressed", String(pressed));
    }
  }

  function write(part, words) {
    if (part.textContent !== words) {
      part.textContent = words;
    }
  }

  function paint() {
    const tools = document.getElementById("tools");
    if (!tools) {
      return;
    }
    const known = ["step", ...document.getElementById("rulers").textContent.split(" ")];
    for (const button of tools.querySelectorAll("[data-axis]")) {
      press(button, button.dataset.axis === state.axis);
      button.hidden = !known.includes(button.dataset.axis) && button.dataset.axis !== state.axis;
    }
    for (const name of ["linked", "paused", "follow"]) {
      press(tools.querySelector("[data-toggle=" + name + "]"), Boolean(state[name]));
    }
    tools.querySelector("[data-do=reset]").disabled = !state.range && !state.follow;
    const slider = document.getElementById("smoothing");
    if (slider && Number(slider.value) !== state.smoothing && document.activeElement !== slider) {
      window.dash_clientside.set_props("smoothing", { value: state.smoothing });
    }
    write(document.getElementById("smoothed"), state.smoothing ? state.smoothing.toFixed(2) : "off");
    const behind = lastStep() - pausedAt;
    write(document.getElementById("behind"), state.paused ? behind.toLocaleString("en") + " steps behind" : "");
    for (const button of document.querySelectorAll("[data-do=scale]")) {
      press(button, scaleOf(button.closest("[data-panel]")) === "log");
    }
  }

  document.addEventListener("input", function (event) {
    if (event.target.id === "smoothing") {
      change({ smoothing: Math.min(Math.max(Number(event.target.value) || 0, 0), STRONGEST) });
    }
  });

  document.addEventListener("click", function (event) {
    const button = event.target.closest("#tools button");
    if (!button) {
      return;
    }
    if (button.dataset.axis) {
      change({ axis: button.dataset.axis });
    } else if (button.dataset.toggle === "paused") {
      pause();
    } else if (button.dataset.toggle === "follow") {
      window.cockpit.zoom.follow();
    } else if (button.dataset.toggle === "linked") {
      change({ linked: !state.linked });
    } else if (button.dataset.do === "reset") {
      window.cockpit.zoom.reset();
    }
  });

  function pause() {
    state.paused = !state.paused;
    once = false;
    paint();
    if (!state.paused) {
      ask();
    }
  }

  window.cockpit = Object.assign(window.cockpit || {}, {
    view: { state, change, request, place, board, look, isComplete, cards, chartOf, windowOf, scaleOf, lastStep, pause },
  });

  recall();
  window.cockpit.address.listen(function () {
    recall();
    change({});
  });
})();
