/* One range of steps for all charts: a zoom into one zooms all, and a double click shows all steps again.

   Charts that are off the screen get the range as they come onto it, or are drawn. */
(function () {
  "use strict";

  const AT_LEAST = 20; // steps that are kept in view at the end
  let board = null; // which board the range belongs to

  function same(one, other) {
    return one === other || (one && other && one[0] === other[0] && one[1] === other[1]);
  }

  function view() {
    return window.cockpit.view;
  }

  /* Whether the range of steps is one of a chart's axis. Of several runs neither times nor ends are the same. */
  function hasSteps(card) {
    const state = view().state;
    const kinds = card.classList;
    const alone = kinds.contains("overlay") && (state.axis !== "step" || state.follow);
    return !alone && !kinds.contains("joint") && !kinds.contains("scatter");
  }

  function listen(chart) {
    chart.on("plotly_relayout", function (change) {
      if (!("xaxis.range[0]" in change)) {
        return;
      }
      window.cockpit.heights.renew(chart); // after a drag across the chart
      if (hasSteps(chart.closest("[data-panel]"))) {
        took([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
      } else {
        view().change({}); // it is zoomed alone
      }
    });
    chart.on("plotly_doubleclick", function () {
      window.setTimeout(reset, 0);
    });
  }

  /* The range that the chart of a card is to have, null for all steps; one that shows evidence keeps its own. */
  function rangeOf(card) {
    return view().state.linked && hasSteps(card) && !("marked" in card.dataset) ? view().state.range : null;
  }

  /* A range that a person chose; one that reaches the end goes on to follow it, if that was wished before. */
  function took(range) {
    const state = view().state;
    const follows = state.follow && range[1] >= view().lastStep();
    view().change({ range: range, follow: follows ? range[1] - range[0] : 0 });
  }

  function reset() {
    view().change({ range: null, follow: 0 });
    for (const card of view().cards()) {
      const chart = view().chartOf(card);
      if (hasSteps(card) && !("marked" in card.dataset)) {
        show(chart, null, true);
      }
    }
  }

  /* Keep the last steps in view, as many as are in view now. */
  function follow() {
    const state = view().state;
    const last = view().lastStep();
    const width = state.range ? state.range[1] - state.range[0] : Math.max(0.2 * last, AT_LEAST);
    view().change(state.follow ? { follow: 0 } : { follow: width, linked: true, range: [last - width, last] });
  }

  function show(chart, range, whole) {
    const axis = chart.layout.xaxis;
    const change = {};
    if (range && !same(view().windowOf(chart), range)) {
      Object.assign(change, { "xaxis.range": range.slice(), "xaxis.autorange": false });
    } else if (!range && !axis.autorange) {
      change["xaxis.autorange"] = true;
    }
    if (whole && !chart.layout.yaxis.autorange && !chart.layout.yaxis.fixedrange) {
      change["yaxis.autorange"] = true;
    } else {
      Object.assign(change, window.cockpit.heights.change(chart, range));
    }
    if (Object.keys(change).length) {
      window.cockpit.steps.put(chart.layout);
      window.Plotly.relayout(chart, change);
    } else if (!view().state.paused) {
      window.cockpit.steps.renew(chart);
    }
  }

  /* Give the charts on the screen their range; one that shows evidence keeps its own. */
  function sync() {
    const state = view().state;
    for (const card of view().cards()) {
      const chart = view().chartOf(card);
      if (hasSteps(card) && !("marked" in card.dataset)) {
        show(chart, state.linked ? state.range : view().windowOf(chart), false);
      }
    }
  }

  /* With another run comes another range; that of the address belongs to the first. */
  function tick() {
    const state = view().state;
    const cursor = document.querySelector(".panels");
    const shown = cursor && cursor.dataset.identity;
    if (shown && shown !== board) {
      if (board && (state.range || state.follow)) {
        Object.assign(state, { range: null, follow: 0 });
        window.cockpit.address.set("steps", null);
        window.cockpit.address.set("last", null);
      }
      board = shown;
    }
    if (state.follow && !state.paused) {
      const last = view().lastStep();
      state.range = [last - state.follow, last];
    }
    sync();
  }

  window.cockpit = Object.assign(window.cockpit || {}, { zoom: { listen, hasSteps, rangeOf, sync, tick, reset, follow } });
})();
