/* The map of layers as a picture for a file: all rows that the search leaves, with their names, steps and colours.

   cockpit.mapPicture(part, drawn, run)  what is drawn in that part of the page, as the address of an image */
(function () {
  "use strict";

  const [WIDTH, EDGE, HEAD, FOOT, RATIO] = [1200, 24, 64, 92, 2]; // pixels of the page; each is RATIO of the picture's
  const [TALL, LOW, TALLEST] = [20, 12, 7000]; // of a row, of one whose name can be read, and of all rows
  const NAMES = 320;

  function colour(part, name) {
    const probe = document.createElement("i");
    probe.style.color = "var(" + name + ")"; // a canvas does not know light-dark()
    part.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  /* The end of a name tells layers apart. */
  function fitted(pen, name, width) {
    let words = name;
    while (words.length > 1 && pen.measureText("…" + words).width > width) {
      words = words.slice(1);
    }
    return words === name ? name : "…" + words;
  }

  /* The cells alone, drawn on a canvas that the page has for a moment. */
  function cells(part, drawn, width, tall) {
    const canvas = document.createElement("canvas");
    const height = Math.max(drawn.rows.length, 1) * tall;
    Object.assign(canvas.style, { position: "absolute", visibility: "hidden", width: width + "px", height: height + "px" });
    part.append(canvas);
    window.cockpit.map.draw(canvas, Object.assign({}, drawn, { ratio: RATIO, scrolled: 0, tall: tall }));
    canvas.remove();
    return canvas;
  }

  function write(pen, words, x, y, align) {
    pen.textAlign = align;
    pen.fillText(words, x, y);
  }

  function bar(pen, drawn, left, top, muted) {
    const scaled = drawn.scale;
    const width = 380;
    let x = left;
    if (scaled.ticks.length) {
      const colours = pen.createLinearGradient(left, 0, left + width, 0);
      scaled.shades.forEach((shade, index) => colours.addColorStop(index / (scaled.shades.length - 1), shade));
      pen.fillStyle = colours;
      pen.fillRect(left, top, width, 12);
      pen.fillStyle = muted;
      for (const value of window.cockpit.map.apart(scaled)) {
        const share = scaled.place(value);
        const align = share < 0.04 ? "left" : share > 0.96 ? "right" : "center";
        write(pen, window.cockpit.map.number(value), left + share * width, top + 28, align);
      }
      x += width + 24;
    }
    pen.fillStyle = muted;
    const signs = [scaled.odd ? "× not finite" : "", scaled.under ? "○ at or below 0" : ""];
    write(pen, signs.filter(Boolean).join("   "), x, top + 11, "left");
  }

  function mapPicture(part, drawn, run) {
    const { map, rows, range, scale } = drawn;
    const tall = Math.max(Math.min(TALL, TALLEST / Math.max(rows.length, 1)), 1);
    const sheet = document.createElement("canvas");
    const pen = sheet.getContext("2d");
    const font = (size, weight) => `${weight || 400} ${size}px sans-serif`;
    const [ink, muted, paper] = ["--ink", "--muted", "--surface"].map((name) => colour(part, name));
    pen.font = font(13);
    const widest = Math.max(...rows.map((row) => pen.measureText(map.names[row]).width), 60);
    const left = EDGE + Math.min(Math.ceil(widest), NAMES) + 10;
    const width = WIDTH - left - EDGE;
    const height = HEAD + rows.length * tall + FOOT;
    sheet.width = WIDTH * RATIO;
    sheet.height = Math.ceil(height * RATIO);
    pen.scale(RATIO, RATIO);
    pen.fillStyle = paper;
    pen.fillRect(0, 0, WIDTH, height);
    pen.fillStyle = ink;
    pen.font = font(22, 600);
    const end = map.stretch > 1 ? "the " + map.cells + " of " + map.stretch.toLocaleString("en") + " steps" : "";
    write(pen, [window.cockpit.map.titleOf(map, scale), run, end].filter(Boolean).join(" · "), EDGE, 40, "left");
    pen.font = font(13);
    const every = Math.ceil(LOW / tall);
    rows.forEach(function (row, index) {
      if (index % every === 0) {
        write(pen, fitted(pen, map.names[row], NAMES), left - 10, HEAD + index * tall + Math.min(tall, TALL) * 0.7, "right");
      }
    });
    if (rows.length) {
      pen.drawImage(cells(part, drawn, width, tall), left, HEAD, width, rows.length * tall);
    }
    pen.fillStyle = muted;
    for (const [words, share] of window.cockpit.map.stops(range, width)) {
      const align = share < 0.04 ? "left" : share > 0.96 ? "right" : "center";
      write(pen, words, left + share * width, height - FOOT + 18, align);
    }
    bar(pen, drawn, left, height - FOOT + 42, muted);
    return sheet.toDataURL("image/png");
  }

  window.cockpit = Object.assign(window.cockpit || {}, { mapPicture });
})();
