/* The range of values that a chart shows: where it is zoomed to some steps that of its lines there, else that of all.
   A range that a person chose stays.

   cockpit.heights.put(plot, figure)      have a chart that is about to be drawn show it
   cockpit.heights.change(plot, steps)    what to change of a drawn one that is to show these steps, null for all
   cockpit.heights.own(plot)              the range that a person chose, or null
   cockpit.heights.renew(plot)            have a drawn one show it
   cockpit.heights.listen(plot)           show it anew where a person hides a line */
(function () {
  "use strict";

  const EDGE = 0.05; // of its height, which a chart leaves free beside its least and its greatest value
  const ALONE = { linear: 0.1, log: 0.3 }; // free on both sides of a single value: its share, or powers of ten
  const MARK = "evidence"; // the name of shapes that mark values (evidence.js)
  const ranges = new WeakMap(); // by plot: the range that was put here, and not chosen by a person

  function isChosen(plot, axis) {
    const last = ranges.get(plot);
    return axis.autorange === false && Boolean(axis.range) && String(axis.range) !== String(last);
  }

  function own(plot) {
    return isChosen(plot, plot.layout.yaxis) ? plot.layout.yaxis.range.slice() : null;
  }

  /* Whether a figure has lines over steps or times; a heat map shows all of its values. */
  function hasLines({ layout, data }) {
    const { xaxis, yaxis } = layout;
    const isLinear = !xaxis.type || xaxis.type === "linear";
    return isLinear && !yaxis.fixedrange && yaxis.type !== "category" && data.every((trace) => trace.type !== "heatmap");
  }

  /* The least and the greatest value of what a figure's lines show of these steps, as its axis counts them. */
  function extremes(figure, [low, high]) {
    const log = figure.layout.yaxis.type === "log";
    const place = (value) => (value === null || value === undefined ? NaN : log ? Math.log10(value) : value);
    const found = [Infinity, -Infinity];
    function see(value) {
      if (Number.isFinite(value)) {
        found[0] = Math.min(found[0], value);
        found[1] = Math.max(found[1], value);
      }
    }
    for (const trace of figure.data) {
      if (!trace.yaxis && trace.visible !== "legendonly") {
        along(trace, place, low, high, see);
      }
    }
    for (const shape of figure.layout.shapes || []) {
      if (shape.name === MARK && shape.yanchor !== undefined && low <= shape.xanchor && shape.xanchor <= high) {
        see(place(shape.yanchor));
      }
    }
    return found[0] > found[1] ? null : found;
  }

  /* The values of a line between two steps; where it crosses one of them, also the value there. */
  function along({ x, y }, place, low, high, see) {
    let [before, last] = [NaN, NaN];
    for (let index = 0; index < (x || []).length; index += 1) {
      const [step, value] = [x[index], place(y[index])];
      if (low <= step && step <= high) {
        see(value);
      }
      for (const edge of [low, high]) {
        if (before < edge && edge < step) {
          see(last + ((edge - before) / (step - before)) * (value - last));
        }
      }
      [before, last] = [step, value];
    }
  }

  function around([low, high], log) {
    const single = log ? ALONE.log : ALONE.linear * Math.abs(low) || 1;
    const free = low === high ? single : (EDGE / (1 - 2 * EDGE)) * (high - low);
    return [low - free, high + free];
  }

  /* The axis of values that a figure is to have, null where it stays as it is. */
  function wanted(plot, figure, steps) {
    const axis = figure.layout.yaxis;
    if (isChosen(plot, axis) || (!steps && axis.autorange !== false) || !hasLines(figure)) {
      return null;
    }
    const ends = steps && extremes(figure, steps);
    const range = ends && around(ends, axis.type === "log");
    const stays = range ? axis.autorange === false && String(range) === String(axis.range) : axis.autorange !== false;
    return stays ? null : range ? { range: range, autorange: false } : { range: undefined, autorange: true };
  }

  function put(plot, figure) {
    const { autorange, range } = figure.layout.xaxis;
    const axis = wanted(plot, figure, autorange === false && range ? range : null);
    if (axis) {
      Object.assign(figure.layout.yaxis, axis);
      ranges.set(plot, axis.range);
    }
  }

  /* With the labels of its values, or the chart would be drawn twice. */
  function change(plot, steps) {
    const axis = wanted(plot, plot, steps);
    if (!axis) {
      return {};
    }
    ranges.set(plot, axis.range);
    const range = axis.range ? { "yaxis.range": axis.range.slice() } : {};
    return Object.assign(range, { "yaxis.autorange": axis.autorange }, window.cockpit.labels.change(plot, axis));
  }

  function renew(plot) {
    const found = change(plot, window.cockpit.view.windowOf(plot));
    if (Object.keys(found).length) {
      window.Plotly.relayout(plot, found);
    }
  }

  function listen(plot) {
    plot.on("plotly_restyle", () => renew(plot));
  }

  window.cockpit = Object.assign(window.cockpit || {}, { heights: { put, change, own, renew, listen } });
})();
