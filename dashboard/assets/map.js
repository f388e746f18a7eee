/* Drawing the map of layers: colours, cells, the axis of steps and the bar of colours. Nothing here knows of the
   server or of the address.

   cockpit.map.scale(map)            what puts a value into [0, 1], with the labels of its bar
   cockpit.map.draw(canvas, picture) the cells that are on the screen
   cockpit.map.axis / bar            the labels below the map, and what its colours mean
   cockpit.map.ends(map)             where each column ends
   cockpit.map.stops / apart         the steps and the values that are labelled there
   cockpit.map.number(value)         a number for people */
(function () {
  "use strict";

  // Viridis, for all kinds of colour vision; and for values on both sides of 0 from blue over grey to orange.
  const ONE_SIDED = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
  const TWO_SIDED = ["#08519c", "#3182bd", "#6baed6", "#b5cfe3", "#d5d5d5", "#f0c9a0", "#e9973f", "#cc6a10", "#8c3d04"];
  const SHADES = 256;
  const FAULT = "#d55e00";
  const PAUSE = 5; // a column does not reach over a pause that is so many times as long as the usual distance
  const LEAST = 3; // pixels, so that a single odd value among a million steps is seen
  const APART = 11; // pixels between signs

  function mixed(stops, share) {
    const place = share * (stops.length - 1);
    const below = Math.min(Math.floor(place), stops.length - 2);
    const part = (stop, at) => parseInt(stop.slice(at, at + 2), 16);
    const blend = (at) => Math.round(part(stops[below], at) + (place - below) * (part(stops[below + 1], at) - part(stops[below], at)));
    return "rgb(" + blend(1) + "," + blend(3) + "," + blend(5) + ")";
  }

  function shades(stops) {
    return Array.from({ length: SHADES }, (_, index) => mixed(stops, index / (SHADES - 1)));
  }

  const SHADES_OF = { one: shades(ONE_SIDED), two: shades(TWO_SIDED) };

  function number(value) {
    if (!Number.isFinite(value)) {
      return Number.isNaN(value) ? "NaN" : "not finite";
    }
    const size = Math.abs(value);
    const words =
      size !== 0 && (size < 1e-3 || size >= 1e6)
        ? value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e")
        : Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
    return words.replaceAll("-", "−");
  }

  /* Return what puts values into [0, 1]: by their logarithm where the quantity is drawn so; where it has both signs,
     with 0 in the middle, by a curve that is straight near the median size and a logarithm far from it. */
  function scale(map) {
    let low = Infinity, high = -Infinity, odd = 0, under = 0;
    const sizes = [];
    const log = map.scale === "log";
    for (const column of map.columns) {
      for (const value of column) {
        if (Number.isNaN(value)) {
          continue;
        } else if (!Number.isFinite(value)) {
          odd += 1;
        } else if (log && value <= 0) {
          under += 1;
        } else {
          low = Math.min(low, value);
          high = Math.max(high, value);
          sizes.push(Math.abs(value));
        }
      }
    }
    const found = { odd: odd, under: under, low: low, high: high, log: log, shades: SHADES_OF.one };
    if (low > high) {
      return Object.assign(found, { place: () => 0, ticks: [] });
    }
    if (log) {
      const [start, span] = [Math.log(low), Math.log(high) - Math.log(low) || 1];
      found.place = (value) => (Math.log(value) - start) / span;
      found.ticks = powers(low, high);
    } else if (low < 0 && high > 0) {
      const usual = sizes.sort((one, other) => one - other)[sizes.length >> 1] || 1;
      const end = Math.asinh(Math.max(-low, high) / usual);
      found.place = (value) => 0.5 + Math.asinh(value / usual) / (2 * end);
      found.ticks = [-usual * Math.sinh(end), -usual * Math.sinh(end / 2), 0, usual * Math.sinh(end / 2), usual * Math.sinh(end)];
      found.shades = SHADES_OF.two;
    } else {
      found.place = (value) => (value - low) / (high - low || 1);
      found.ticks = high > low ? [low, (low + high) / 2, high] : [low];
    }
    return found;
  }

  /* The ends of a log scale and the powers of ten between them, few enough to be read. */
  function powers(low, high) {
    const first = Math.ceil(Math.log10(low) + 0.15), last = Math.floor(Math.log10(high) - 0.15);
    const every = Math.max(Math.ceil((last - first + 1) / 4), 1);
    const found = [low];
    for (let power = first; power <= last; power += every) {
      found.push(Number("1e" + power));
    }
    return high > low ? found.concat(high) : found;
  }

  /* A column reaches to the next one, or as far as columns usually do, and none beyond the run. */
  function ends(map) {
    const whole = (map.last ?? Infinity) + 1;
    const gaps = map.starts.slice(1).map((start, index) => start - map.starts[index]);
    const usual = Math.max(gaps.slice().sort((one, other) => one - other)[gaps.length >> 1] || 1, map.stretch);
    return map.starts.map(function (start, index) {
      const next = index < gaps.length ? map.starts[index + 1] : start + Math.max(Math.min(usual, gaps.at(-1) || 1), map.stretch);
      return Math.min(next, start + PAUSE * usual, Math.max(whole, start + 1));
    });
  }

  /* Draw the rows that are on the screen. A picture has the map, its scale and ends, the numbers of its rows, their
     height and how far they are scrolled, the range of steps, and what is chosen; one for a file has a ratio. */
  function draw(canvas, picture) {
    const ratio = picture.ratio || window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const first = Math.max(Math.floor(picture.scrolled / picture.tall), 0);
    const last = Math.min(Math.ceil((picture.scrolled + height) / picture.tall), picture.rows.length);
    const at = (step) => ((step - picture.range[0]) / (picture.range[1] - picture.range[0])) * width;
    const pixel = (step) => Math.round(at(step) * ratio) / ratio; // no seams between cells
    const spans = picture.map.starts.map((start, index) => [pixel(start), pixel(picture.ends[index])]);
    for (let row = first; row < last; row += 1) {
      drawRow(pen, picture, picture.rows[row], spans, row * picture.tall - picture.scrolled, width);
    }
    drawChosen(pen, picture, at, width);
  }

  function drawRow(pen, picture, layer, spans, top, width) {
    const { map, scale: scaled } = picture;
    const tall = picture.tall - 1;
    const signs = { odd: [], under: [] };
    map.columns.forEach(function (column, index) {
      const [from, to] = spans[index];
      const value = column[layer];
      if (to < 0 || from > width || value === undefined || Number.isNaN(value)) {
        return;
      }
      if (!Number.isFinite(value)) {
        signs.odd.push([from, Math.max(to, from + LEAST)]);
      } else if (scaled.log && value <= 0) {
        signs.under.push([from, Math.max(to, from + LEAST)]);
      } else {
        const shade = Math.round(Math.min(Math.max(scaled.place(value), 0), 1) * (SHADES - 1));
        pen.fillStyle = scaled.shades[shade];
        pen.fillRect(from, top, Math.max(to - from, 1), tall);
      }
    });
    drawSigns(pen, signs.under, top, tall, colourOf(pen.canvas, "--line"), circle, colourOf(pen.canvas, "--muted"));
    drawSigns(pen, signs.odd, top, tall, FAULT, cross, "#ffffff"); // last: never hidden by their neighbours
  }

  /* A colour of the page as a canvas takes it: a canvas does not know light-dark(). */
  function colourOf(canvas, name) {
    canvas.style.color = `var(${name})`;
    return getComputedStyle(canvas).color;
  }

  /* Fill cells that have no place on the scale, and put a sign on them as often as there is room. */
  function drawSigns(pen, spans, top, tall, fill, sign, ink) {
    let free = -Infinity;
    pen.fillStyle = fill;
    for (const [from, to] of spans) {
      pen.fillRect(from, top, to - from, tall);
    }
    pen.strokeStyle = ink;
    pen.lineWidth = 1.4;
    for (const [from, to] of spans) {
      const middle = (from + to) / 2;
      if (middle >= free) {
        pen.beginPath();
        sign(pen, middle, top + tall / 2, fill);
        pen.stroke();
        free = middle + APART;
      }
    }
  }

  function cross(pen, x, y, fill) {
    pen.fillStyle = fill;
    pen.fillRect(x - 5, y - 5, 10, 10); // a sign that is wider than its cell
    pen.moveTo(x - 3, y - 3);
    pen.lineTo(x + 3, y + 3);
    pen.moveTo(x - 3, y + 3);
    pen.lineTo(x + 3, y - 3);
  }

  function circle(pen, x, y) {
    pen.arc(x, y, 2.5, 0, 2 * Math.PI);
  }

  function drawChosen(pen, picture, at, width) {
    const row = picture.rows.indexOf(picture.chosen.layer);
    if (row < 0) {
      return;
    }
    const top = row * picture.tall - picture.scrolled;
    pen.strokeStyle = colourOf(pen.canvas, "--ink");
    pen.lineWidth = 1.5;
    pen.strokeRect(0.75, top - 0.5, width - 1.5, picture.tall);
    const cell = picture.chosen.column;
    if (cell >= 0) {
      const [from, to] = [at(picture.map.starts[cell]), at(picture.ends[cell])];
      pen.lineWidth = 3;
      pen.strokeStyle = colourOf(pen.canvas, "--surface");
      pen.strokeRect(from - 2, top - 1, Math.max(to - from, LEAST) + 4, picture.tall + 1);
      pen.lineWidth = 1.5;
      pen.strokeStyle = colourOf(pen.canvas, "--ink");
      pen.strokeRect(from - 2, top - 1, Math.max(to - from, LEAST) + 4, picture.tall + 1);
    }
  }

  function label(words, share) {
    const part = document.createElement("span");
    part.textContent = words;
    part.style.left = 100 * share + "%";
    part.className = share < 0.04 ? "first" : share > 0.96 ? "last" : "";
    return part;
  }

  function axis(part, range) {
    part.replaceChildren(...stops(range, part.clientWidth).map(([words, share]) => label(words, share)));
  }

  /* The labels of a range of steps that is so many pixels wide, each with its place in [0, 1]. */
  function stops(range, width) {
    const distance = round((range[1] - range[0]) / Math.max(Math.floor(width / 110), 2));
    const found = [];
    for (let step = Math.ceil(range[0] / distance) * distance; step < range[1]; step += distance) {
      const words = (found.length ? "" : "step ") + step.toLocaleString("en");
      found.push([words, (step - range[0]) / (range[1] - range[0])]);
    }
    return found;
  }

  /* A round distance of steps: 1, 2 or 5 times a power of ten. */
  function round(wanted) {
    const power = 10 ** Math.floor(Math.log10(Math.max(wanted, 1)));
    return power * [1, 2, 5, 10].find((nice) => nice * power >= wanted * (1 - 1e-9));
  }

  function titleOf(map, scaled) {
    return map.title + (map.unit ? " (" + map.unit + ")" : "") + (scaled.log ? ", logarithmic" : "");
  }

  function bar(part, map, scaled) {
    const title = document.createElement("span");
    title.className = "quantity";
    title.textContent = titleOf(map, scaled);
    const colours = document.createElement("span");
    colours.className = "colours";
    const stops = scaled.shades.filter((_, index) => index % 15 === 0);
    colours.style.background = "linear-gradient(to right, " + stops.join(",") + ")";
    const ticks = document.createElement("span");
    ticks.className = "ticks";
    ticks.replaceChildren(...apart(scaled).map((value) => label(number(value), scaled.place(value))));
    const signs = [];
    if (scaled.odd) {
      signs.push(sign("odd", "×", "not finite"));
    }
    if (scaled.under) {
      signs.push(sign("under", "○", "at or below 0"));
    }
    const gauge = document.createElement("span");
    gauge.className = "gauge";
    gauge.replaceChildren(colours, ticks);
    part.replaceChildren(title, ...(scaled.ticks.length ? [gauge] : []), ...signs);
  }

  /* Leave out labels that would run into each other. */
  function apart(scaled) {
    const ticks = scaled.ticks, last = ticks.at(-1);
    return ticks.filter(function (value, index) {
      const place = scaled.place(value);
      const inner = index > 0 && value !== last;
      return !inner || (place > 0.2 && place < 0.8);
    });
  }

  function sign(kind, mark, words) {
    const part = document.createElement("span");
    const icon = document.createElement("i");
    part.className = "sign";
    icon.className = kind;
    icon.textContent = mark;
    part.replaceChildren(icon, words);
    return part;
  }

  window.cockpit = Object.assign(window.cockpit || {}, { map: { scale, draw, axis, bar, ends, number, stops, apart, titleOf } });
})();
