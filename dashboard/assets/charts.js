/* Drawing the charts of cards from what the server sends. Zoom, hidden lines and marks stay: what a chart holds is
   changed in its place.

   cockpit.charts.start()             load what draws them, which keeps the page busy for a while
   cockpit.charts.take(card, change)  put what is new into a card; charts are drawn a few at a time, as frames come
   cockpit.charts.shownOf(card)       what the server said that a card shows, null before it is drawn
   cockpit.charts.widthOf(card)       the width of its chart in pixels
   cockpit.charts.fill(place, parts)  put parts, as the server describes them, into an element of the page
   cockpit.charts.element(part)       one such part
   cockpit.charts.clear(place)        let go of the charts in a part of the page
   cockpit.charts.busy()              whether there is more to draw
   cockpit.charts.spent()             the milliseconds that drawing took since this was last called */
(function () {
  "use strict";

  const CONFIG = { displayModeBar: false, doubleClick: "autosize", showTips: false };
  const FRAME = 40; // milliseconds of drawing, after which the browser may do something else
  const KINDS = ["chart", "gauge"];
  const LEGEND = 29; // pixels above a chart for a legend of one row (figures.py)
  const shown = new WeakMap(); // by card
  const widths = new WeakMap(); // of plots
  const told = new WeakMap(); // the parts that an element was filled with, as words
  const waiting = new Map(); // by card: what of its charts is not drawn yet
  let frame = 0;
  let spent = 0;

  function plotOf(card, kind) {
    return card.querySelector("." + kind + "-plot > .drawing");
  }

  function widthOf(card) {
    const plot = plotOf(card, "chart");
    return Math.round(widths.get(plot) || plot.clientWidth);
  }

  const sizes = new ResizeObserver(function (entries) {
    for (const entry of entries) {
      const width = entry.contentRect.width;
      widths.set(entry.target, width);
      const layout = entry.target._fullLayout;
      const fits = layout && Math.abs(layout.width - width) < 1 && Math.abs(layout.height - entry.contentRect.height) < 1;
      if (width && layout && !fits) {
        window.Plotly.Plots.resize(entry.target).then(() => makeRoom(entry.target));
      }
    }
  });

  /* Words ----------------------------------------------------------------------------------------------------- */

  const SPELLED = { className: "class", htmlFor: "for", tabIndex: "tabindex" };

  function element(part) {
    if (typeof part !== "object") {
      return document.createTextNode(String(part));
    }
    const made = document.createElement(part.type);
    for (const [name, value] of Object.entries(part.props)) {
      if (name === "children") {
        fill(made, value);
      } else if (name === "style") {
        Object.entries(value).forEach(([property, size]) => made.style.setProperty(property, size));
      } else if (value !== null && value !== false) {
        made.setAttribute(SPELLED[name] || name, value === true ? "" : value);
      }
    }
    return made;
  }

  /* Put parts into an element, unless they are there. */
  function fill(place, parts) {
    const list = (Array.isArray(parts) ? parts : [parts]).filter((part) => part !== null && part !== undefined);
    const words = JSON.stringify(list);
    if (told.get(place) !== words) {
      told.set(place, words);
      place.replaceChildren(...list.map(element));
    }
  }

  /* Charts ---------------------------------------------------------------------------------------------------- */

  /* Do to a figure what the server says: put something in a place, or append to what is there. */
  function apply(figure, operations) {
    for (const { operation, location, params } of operations) {
      const target = location.slice(0, -1).reduce((part, key) => part[key], figure);
      const key = location.at(-1);
      if (operation === "Assign") {
        target[key] = params.value;
      } else if (operation === "Extend") {
        target[key] = (target[key] || []).concat(params.value);
      } else {
        throw new Error("no chart is changed by " + operation);
      }
    }
  }

  function begin(card, kind, plot, figure) {
    const range = kind === "chart" && window.cockpit.zoom.rangeOf(card);
    if (range) {
      Object.assign(figure.layout.xaxis, { range: range.slice(), autorange: false });
    }
    window.cockpit.card.hide(card, figure.data);
    prepare(card, kind, plot, figure);
    window.Plotly.newPlot(plot, figure.data, figure.layout, CONFIG);
    sizes.observe(plot);
    plot.addEventListener("touchstart", leave, { capture: true, passive: true });
    if (kind === "chart") {
      makeRoom(plot);
      window.cockpit.zoom.listen(plot);
      window.cockpit.card.listen(card, plot);
      window.cockpit.heights.listen(plot);
      window.cockpit.labels.listen(plot);
    }
  }

  /* A finger scrolls the page and zooms no chart: plotly.js does not hear of it, but of the click that a tap is. */
  function leave(event) {
    event.stopPropagation();
  }

  function change(card, kind, plot, changes) {
    for (const each of changes) {
      apply(plot, each.operations);
    }
    window.cockpit.card.hide(card, plot.data);
    prepare(card, kind, plot, plot);
    window.Plotly.redraw(plot);
    makeRoom(plot);
  }

  function prepare(card, kind, plot, figure) {
    if (kind === "chart") {
      window.cockpit.heights.put(plot, figure);
      window.cockpit.labels.put(plot, figure);
    }
    if (kind === "chart" && window.cockpit.zoom.hasSteps(card)) {
      window.cockpit.steps.put(figure.layout);
    } else if (kind === "chart") {
      delete figure.layout.xaxis.autorangeoptions; // of the steps that it had before
    }
  }

  /* Above a chart for its legend, which has more rows where the chart is narrow. */
  function makeRoom(plot) {
    if (!plot._fullLayout) {
      return; // it was let go of while it was sized
    }
    const { margin, legend, showlegend } = plot._fullLayout;
    const height = showlegend && legend && legend.y >= 1 && legend._height; // else it is below
    if (height && Math.max(Math.ceil(height), LEGEND) !== margin.t) {
      window.Plotly.relayout(plot, { "margin.t": Math.max(Math.ceil(height), LEGEND) });
    }
  }

  function draw(card, changes) {
    for (const kind of KINDS) {
      const plot = plotOf(card, kind);
      const news = changes.map((each) => each[kind]).filter(Boolean);
      const figure = news.find((each) => each.data);
      if (figure) {
        begin(card, kind, plot, figure);
      }
      const patches = news.filter((each) => each.operations);
      if (patches.length) {
        change(card, kind, plot, patches);
      }
    }
  }

  /* Let go of the charts in a part of the page. */
  function clear(place) {
    for (const plot of place.querySelectorAll(".drawing.js-plotly-plot")) {
      sizes.unobserve(plot);
      window.Plotly.purge(plot);
    }
  }

  function work() {
    const start = performance.now();
    frame = 0;
    for (const [card, changes] of window.Plotly ? waiting : []) {
      waiting.delete(card);
      if (card.isConnected) {
        draw(card, changes);
      }
      if (performance.now() - start > FRAME) {
        break;
      }
    }
    spent += performance.now() - start;
    if (waiting.size) {
      frame = window.requestAnimationFrame(work);
    }
  }

  /* What draws charts is loaded into the browser's cache as the page is built. A link that preloads it would have the
     browser complain of a page that is slow to start it. */
  const library = document.getElementById("plotly").content;
  window
    .fetch(library, { priority: "low" })
    .then((answer) => answer.blob())
    .catch(() => null); // it is loaded when it is started, then
  let started = false;

  /* Start what draws charts: that keeps the page busy for a third of a second. */
  function start() {
    if (!started) {
      started = true;
      const script = document.createElement("script");
      script.src = library;
      document.head.append(script);
    }
  }

  function take(card, news) {
    if (news.shown) {
      shown.set(card, news.shown);
    }
    if (news.scale) {
      card.dataset.scale = news.scale; // the one it has until the person chooses
    }
    for (const part of ["value", "words"]) {
      if (news[part]) {
        fill(card.querySelector("." + part), news[part]);
      }
    }
    if (KINDS.some((kind) => news[kind])) {
      waiting.set(card, (waiting.get(card) || []).concat(news));
      frame = frame || window.requestAnimationFrame(work);
    }
  }

  window.cockpit = Object.assign(window.cockpit || {}, {
    charts: {
      start,
      take,
      fill,
      element,
      clear,
      widthOf,
      shownOf: (card) => shown.get(card) || null,
      busy: () => waiting.size > 0,
      spent: function () {
        const took = spent;
        spent = 0;
        return took;
      },
    },
  });
})();
