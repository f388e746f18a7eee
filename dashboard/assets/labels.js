/* The labels of a chart's values: few, round and short. Plotly's own are too long for the room beside a chart, and leave
   a low chart with a logarithmic axis without any.

   cockpit.labels.put(plot, figure)   label a chart that is about to be drawn
   cockpit.labels.change(plot, axis)  what to change of the labels of a drawn one whose axis of values is to be such
   cockpit.labels.listen(plot)        label it anew where a person changes what of its values is in view */
(function () {
  "use strict";

  const APART = 18; // pixels between labels, at least
  const [FEWEST, MOST] = [2, 7];
  const EDGE = 0.05; // of its height, which a chart leaves free beside its least and its greatest value
  const LIMIT = 1000; // more than there are powers of ten
  const ROUND = [1, 2, 5];

  /* The range of values in view where a person chose it, of a logarithmic axis that of powers of ten. */
  function zoomed({ autorange, range }) {
    return autorange === false && range ? [Math.min(...range), Math.max(...range)] : null;
  }

  /* The least and the greatest value of a chart, null where it has none. */
  function extremes(figure) {
    const log = figure.layout.yaxis.type === "log";
    let [low, high] = [Infinity, -Infinity];
    function see(value) {
      if (Number.isFinite(value) && (!log || value > 0)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    for (const trace of figure.data) {
      if (!trace.yaxis && trace.visible !== "legendonly") {
        (trace.y || []).forEach(see);
      }
    }
    for (const shape of figure.layout.shapes || []) {
      [shape.y0, shape.y1].forEach(see);
    }
    return low > high ? null : [low, high];
  }

  /* What a chart with these extremes shows of its axis. */
  function around([low, high]) {
    const free = low === high ? 1 : (EDGE / (1 - 2 * EDGE)) * (high - low);
    return [low - free, high + free];
  }

  /* Multiples of a distance. */
  function every(distance, [low, high]) {
    const first = Math.ceil(low / distance);
    const count = Math.min(Math.max(Math.floor(high / distance) - first + 1, 0), LIMIT) || 0;
    return Array.from({ length: count }, (_, place) => Number(((first + place) * distance).toPrecision(12)));
  }

  function* linear(ends) {
    const power = Math.floor(Math.log10(ends[1] - ends[0]));
    for (const exponent of [power, power - 1]) {
      for (const digit of [5, 2, 1]) {
        yield every(digit * Math.pow(10, exponent), ends);
      }
    }
  }

  function* logarithmic(ends) {
    for (const powers of [10, 5, 3, 2, 1]) {
      yield every(powers, ends).map((power) => Number("1e" + power));
    }
    for (const digits of [[1, 3], ROUND]) {
      const powers = every(1, [ends[0] - 1, ends[1]]);
      const all = powers.flatMap((power) => digits.map((digit) => Number(digit + "e" + power)));
      yield all.filter((value) => Math.log10(value) >= ends[0] && Math.log10(value) <= ends[1]);
    }
  }

  /* As many as there is room for, and at least two. */
  function chosen(candidates, room) {
    let best = [];
    for (const values of candidates) {
      if (values.length > room && best.length >= FEWEST) {
        break;
      }
      best = values.length > best.length ? values : best;
      if (best.length >= room) {
        break;
      }
    }
    return best;
  }

  /* Over less than a power of ten there may be no such value, or one. */
  function within(ends, room) {
    const found = chosen(logarithmic(ends), room);
    return found.length < FEWEST ? chosen(linear(ends.map((power) => Math.pow(10, power))), room) : found;
  }

  function written(value, digits) {
    const size = Math.abs(value);
    const short = Number(value.toPrecision(digits));
    const text = size >= 1e5 || (size && size < 1e-3) ? short.toExponential().replace("+", "") : String(short);
    return text.replaceAll("-", "−");
  }

  /* Labels by their values; values that only more digits would tell apart get one label. */
  function labels(values) {
    const found = new Map();
    for (const value of values) {
      const text = written(value, 4);
      if (![...found.values()].includes(text)) {
        found.set(value, text);
      }
    }
    return found;
  }

  function ticks(plot, figure) {
    const margin = figure.layout.margin;
    const height = (plot._fullLayout ? plot._fullLayout.height : plot.clientHeight) - margin.t - margin.b;
    const room = Math.min(Math.max(Math.floor(height / APART), FEWEST), MOST);
    const found = labels(values(figure, room));
    return { tickmode: "array", tickvals: [...found.keys()], ticktext: [...found.values()] };
  }

  function values(figure, room) {
    const log = figure.layout.yaxis.type === "log";
    const [range, ends] = [zoomed(figure.layout.yaxis), extremes(figure)];
    if (range) {
      return log ? within(range, room) : chosen(linear(range), room);
    }
    if (!ends || log) {
      return ends ? within(around(ends.map(Math.log10)), room) : [];
    }
    return ends[0] === ends[1] ? [ends[0]] : chosen(linear(around(ends)), room);
  }

  function hasOwn(figure) {
    return figure.layout.yaxis.type === "category";
  }

  function put(plot, figure) {
    if (!hasOwn(figure)) {
      Object.assign(figure.layout.yaxis, ticks(plot, figure));
    }
  }

  function change(plot, axis) {
    const layout = Object.assign({}, plot.layout, { yaxis: Object.assign({}, plot.layout.yaxis, axis) });
    const wanted = ticks(plot, { data: plot.data, layout: layout });
    const stay = JSON.stringify(wanted.ticktext) === JSON.stringify(plot.layout.yaxis.ticktext);
    return stay ? {} : { "yaxis.tickvals": wanted.tickvals, "yaxis.ticktext": wanted.ticktext };
  }

  function renew(plot) {
    const wanted = change(plot, {});
    if (Object.keys(wanted).length) {
      window.Plotly.relayout(plot, wanted);
    }
  }

  function listen(plot) {
    if (hasOwn(plot)) {
      return;
    }
    plot.on("plotly_restyle", () => renew(plot)); // a line is hidden, or shown again
    plot.on("plotly_relayout", function (change) {
      if (Object.keys(change).some((name) => /^yaxis\.(auto)?range/.test(name))) {
        renew(plot);
      }
    });
  }

  window.cockpit = Object.assign(window.cockpit || {}, { labels: { put, change, listen } });
})();
