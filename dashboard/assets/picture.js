/* A card as a picture, in the colours of the page and with letters that can be read on a slide: its gauge, where it has
   one, above its chart, and beside a heat map what its colours mean.

   cockpit.picture.of(card, title)  the address of the picture, promised */
(function () {
  "use strict";

  const WIDTH = 1200; // pixels
  const HEIGHT = 675; // of a chart
  const GAUGE = 330; // and of a gauge above it
  const SCALE = 2;
  const LARGER = 1.6; // what is written inside a chart
  const EMPTY = 2; // colours at the lower end of a heat map's scale, which stand for next to nothing

  function plotOf(card, kind) {
    return card.querySelector("." + kind + "-plot .js-plotly-plot");
  }

  function enlarged(part, names) {
    const found = Object.assign({}, part);
    for (const name of names.filter((name) => part[name])) {
      found[name] = Object.assign({}, part[name]);
      if (name === "label") {
        found.label.font = Object.assign({}, part.label.font, { size: LARGER * (part.label.font || { size: 10 }).size });
      } else if (typeof part[name].size === "number") {
        found[name].size = LARGER * part[name].size;
      }
    }
    return found;
  }

  /* What every part of a picture has. */
  function look(plot, card, height) {
    const style = getComputedStyle(card);
    return {
      paper_bgcolor: style.backgroundColor,
      plot_bgcolor: style.backgroundColor,
      font: { family: "sans-serif", size: 17, color: style.color },
      shapes: (plot.layout.shapes || []).map((shape) => enlarged(shape, ["label"])),
      autosize: false,
      width: WIDTH,
      height: height,
    };
  }

  function heading(card, words) {
    const ink = getComputedStyle(card).color;
    return { title: { text: words, font: { size: 22, color: ink }, x: 0.02, xanchor: "left", y: 0.97, yref: "container" } };
  }

  /* The names of runs that are laid over each other stay where they are. */
  function legendOf(card, words) {
    return card.closest("#comparison") ? {} : { y: words ? 0.9 : 0.98, x: 0.99 };
  }

  function chartOf(card, height, words) {
    const plot = plotOf(card, "chart");
    const { layout } = plot;
    const scale = plot.data.filter((trace) => trace.type === "heatmap").map(scaleOf);
    const large = Object.assign({}, layout, look(plot, card, height), words ? heading(card, words) : {}, {
      margin: { l: 90, r: scale.length ? 20 : 30, t: words ? 90 : 50, b: 60 },
      legend: Object.assign({}, layout.legend, { font: { size: 16 } }, legendOf(card, words)),
      xaxis: Object.assign({}, layout.xaxis, { tickfont: { size: 16 } }),
      yaxis: Object.assign({}, layout.yaxis, { tickfont: { size: 16 } }),
    });
    for (const axis of [large.xaxis, large.yaxis].filter((axis) => axis.title)) {
      axis.title = Object.assign({}, axis.title, { font: { size: 16 } });
    }
    return { data: plot.data.concat(scale), layout: large };
  }

  function gaugeOf(card, words) {
    const plot = plotOf(card, "gauge");
    const margin = { l: 30, r: 30, t: 80, b: 56 };
    const layout = Object.assign({}, plot.layout, look(plot, card, GAUGE), heading(card, words), { margin: margin });
    return { data: plot.data.map((trace) => enlarged(trace, ["textfont", "marker"])), layout: layout };
  }

  /* A trace that draws nothing but the scale of a heat map's colours, by powers of ten as the colours go. */
  function scaleOf(heat) {
    const stops = heat.colorscale.slice(EMPTY);
    const least = Math.log10(stops[0][0]);
    const powers = [];
    for (let power = Math.ceil(least); power <= 0; power += 1) {
      powers.push(power);
    }
    const colours = stops.map(([share, colour]) => [Math.min(Math.max(1 - Math.log10(share) / least, 0), 1), colour]);
    const bar = {
      title: { text: "share of the values", side: "right" },
      tickvals: powers,
      ticktext: powers.map((power) => (power < -3 ? "1e−" + -power : String(Number("1e" + power)))),
      thickness: 18,
      outlinewidth: 0,
    };
    const marker = { color: [least], cmin: least, cmax: 0, colorscale: colours, showscale: true, colorbar: bar };
    return { type: "scatter", mode: "markers", x: [null], y: [null], marker: marker, showlegend: false };
  }

  function drawn(figure) {
    const size = { width: figure.layout.width, height: figure.layout.height, scale: SCALE };
    return window.Plotly.toImage(figure, Object.assign({ format: "png" }, size));
  }

  function loaded(address) {
    const image = new Image();
    image.src = address;
    return image.decode().then(() => image);
  }

  function stacked(images) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(...images.map((image) => image.width));
    canvas.height = images.reduce((sum, image) => sum + image.height, 0);
    let top = 0;
    for (const image of images) {
      canvas.getContext("2d").drawImage(image, 0, top);
      top += image.height;
    }
    return canvas.toDataURL("image/png");
  }

  async function of(card, words) {
    if (!plotOf(card, "gauge")) {
      return drawn(chartOf(card, HEIGHT, words));
    }
    const parts = await Promise.all([gaugeOf(card, words), chartOf(card, HEIGHT, "")].map(drawn));
    return stacked(await Promise.all(parts.map(loaded)));
  }

  window.cockpit = Object.assign(window.cockpit || {}, { picture: { of } });
})();
