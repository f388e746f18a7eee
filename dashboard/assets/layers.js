/* The page of layers: what of its map is asked for, and what the person does with it. The address restores it. */
(function () {
  "use strict";

  const TALL = 20; // pixels of a row, as in the style sheet
  const ICONS = { error: "✕", warning: "!", info: "i" };
  const DRAGGED = 6; // pixels, from which on a click is a drag
  const PATIENCE = 8000; // milliseconds until a request that was lost is made again
  const state = { quantity: null, cells: "greatest", find: "", layer: null, step: null };
  const maps = { whole: null, detail: null }; // of all steps, and of those that are zoomed to
  let rows = []; // the numbers of the layers that the search leaves
  let blamed = {}; // layers that findings name: [severity, title]
  let drawn = null; // what is on the canvas, for who points at it
  let told = ""; // the choice that the server knows
  let asked = 0;
  let waiting = 0;
  let ready = false;

  function part(id) {
    return document.getElementById(id);
  }

  function address() {
    return window.cockpit.address;
  }

  /* The steps that all charts are zoomed to, or null. */
  function zoomed() {
    return window.cockpit.view.state.range;
  }

  /* What is asked for of them: a little more, so that a range that follows the end is not another at every tick. */
  function wanted() {
    const range = zoomed();
    if (!range) {
      return null;
    }
    const grid = 2 ** Math.max(Math.ceil(Math.log2((range[1] - range[0]) / 8)), 0);
    return [Math.max(Math.floor(range[0] / grid) * grid, 0), Math.max(Math.ceil(range[1] / grid) * grid, 1)];
  }

  function map() {
    const range = zoomed();
    const close = maps.detail && range && maps.detail.window[0] <= range[0] && maps.detail.window[1] >= range[1];
    return close || !maps.whole ? maps.detail : maps.whole;
  }

  function range() {
    if (zoomed()) {
      return zoomed();
    }
    return [map().starts[0] ?? 0, Math.max(drawn ? drawn.ends.at(-1) || 1 : 1, (map().last ?? 0) + 1)];
  }

  /* The address ---------------------------------------------------------------------------------------------- */

  function recall() {
    const step = address().get("at");
    state.quantity = address().get("quantity");
    state.cells = address().get("cells") === "least" ? "least" : "greatest";
    state.find = address().get("find") || "";
    state.layer = address().get("layer");
    state.step = step !== null && /^\d+$/.test(step) ? Number(step) : null;
  }

  /* What is written anew takes the place of what was; with push "back" leads to the layer that was open before. */
  function remember(push) {
    address().set("quantity", state.quantity);
    address().set("cells", state.cells === "greatest" ? null : state.cells);
    address().set("find", state.find || null);
    address().set("layer", state.layer, push);
    address().set("at", state.layer === null || state.step === null ? null : String(state.step));
  }

  /* What the server is asked for ----------------------------------------------------------------------------- */

  function isShown() {
    return !document.hidden && address().page() === "layers";
  }

  function ask() {
    const busy = part("map").classList.contains("asked") && Date.now() - asked < PATIENCE;
    if (!isShown() || busy || window.cockpit.view.state.paused) {
      return window.dash_clientside.no_update;
    }
    begin();
    if (drawn && String(drawn.range) !== String(range())) {
      redraw(); // another chart was zoomed
    }
    asked = Date.now();
    const known = wanted() ? maps.detail : maps.whole;
    const fits = known && known.cells === state.cells && (!state.quantity || known.quantity === state.quantity);
    return {
      quantity: state.quantity,
      cells: state.cells,
      window: wanted(),
      stand: fits ? known.stand : maps.empty ? "" : null,
      tail: fits ? known.tail : { start: -1, crc: 0 },
    };
  }

  function askNow() {
    const request = ask();
    if (request !== window.dash_clientside.no_update) {
      window.dash_clientside.set_props("map-request", { data: request });
    }
  }

  function tellChoice() {
    const choice = JSON.stringify(chosen());
    if (choice !== told) {
      told = choice;
      window.cockpit.clock.ask();
    }
  }

  function chosen() {
    return { layer: state.layer, step: state.step };
  }

  /* What it answers ------------------------------------------------------------------------------------------ */

  function unpacked(news, layers) {
    const bytes = Uint8Array.from(atob(news.values), (letter) => letter.charCodeAt(0));
    const numbers = new Float32Array(bytes.buffer);
    return news.starts.map((_, index) => numbers.subarray(index * layers, (index + 1) * layers));
  }

  function take(news) {
    maps.empty = "empty" in news;
    part("map").hidden = maps.empty;
    part("map-empty").textContent = news.empty || "";
    if (maps.empty) {
      maps.whole = maps.detail = null;
      return;
    }
    if (news.names) {
      const before = maps.whole || maps.detail;
      const other = !before || before.identity !== news.identity || before.quantity !== news.quantity;
      if (other) {
        maps.whole = maps.detail = null;
      }
      const fresh = { cells: part("map-cells").value, columns: unpacked(news, news.names.length) };
      maps[news.window ? "detail" : "whole"] = Object.assign(fresh, news);
      offer(news);
      return;
    }
    const known = [maps.detail, maps.whole].find((each) => each && each.stand === news.stand);
    if (known) {
      const kept = known.starts.findIndex((start) => start >= (news.starts[0] ?? Infinity));
      const count = kept < 0 ? known.starts.length : kept;
      known.columns = known.columns.slice(0, count).concat(unpacked(news, known.names.length));
      known.starts = known.starts.slice(0, count).concat(news.starts);
      Object.assign(known, { tail: news.tail, last: news.last });
    }
  }

  function offer(news) {
    const select = part("map-quantity");
    const words = JSON.stringify(news.offered);
    if (select.dataset.offered !== words) {
      select.dataset.offered = words;
      select.replaceChildren(...news.offered.map(([name, title]) => new Option(title, name)));
    }
    select.value = news.quantity;
  }

  /* Rows ----------------------------------------------------------------------------------------------------- */

  function pattern(words) {
    const escaped = words.trim().split("*").map((each) => each.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(escaped.join(".*"), "i");
  }

  function renewRows() {
    const names = map() ? map().names : [];
    const wanted = pattern(state.find);
    rows = names.map((_, index) => index).filter((index) => wanted.test(names[index]));
    const list = part("map-rows");
    const key = JSON.stringify([rows.map((index) => names[index])]);
    if (list.dataset.rows !== key) {
      list.dataset.rows = key;
      list.replaceChildren(...rows.map((index) => row(names[index], index)));
      part("map-scroll").style.setProperty("--tall", rows.length * TALL + "px");
    }
    const words = rows.length === names.length ? names.length + " layers" : rows.length + " of " + names.length + " layers";
    if (part("map-count").textContent !== words) {
      part("map-count").textContent = words;
    }
    markRows();
  }

  function row(name, index) {
    const line = document.createElement("div");
    const words = document.createElement("bdi");
    line.id = "map-row-" + index;
    line.dataset.layer = name;
    line.setAttribute("role", "option");
    line.title = name;
    words.textContent = name;
    const sign = document.createElement("i");
    sign.setAttribute("aria-hidden", "true");
    const name_of = document.createElement("span");
    name_of.className = "name";
    name_of.replaceChildren(words);
    line.replaceChildren(sign, name_of);
    return line;
  }

  function markRows() {
    const list = part("map-rows");
    let active = "";
    for (const line of list.children) {
      const [severity, title] = blamed[line.dataset.layer] || ["", ""];
      line.className = severity;
      line.firstChild.textContent = ICONS[severity] || "";
      line.title = title ? line.dataset.layer + ": " + title : line.dataset.layer;
      if (title) {
        line.setAttribute("aria-description", title);
      } else {
        line.removeAttribute("aria-description");
      }
      const chosen = line.dataset.layer === state.layer;
      line.setAttribute("aria-selected", String(chosen));
      active = chosen ? line.id : active;
    }
    if (active) {
      list.setAttribute("aria-activedescendant", active);
    } else {
      list.removeAttribute("aria-activedescendant");
    }
  }

  /* The picture ---------------------------------------------------------------------------------------------- */

  function redraw() {
    if (!waiting) {
      waiting = window.requestAnimationFrame(function () {
        waiting = 0;
        paint();
      });
    }
  }

  function paint() {
    if (!map() || !map().starts.length || address().page() !== "layers") {
      drawn = null;
      return;
    }
    const now = map();
    drawn = { map: now, ends: window.cockpit.map.ends(now), scale: window.cockpit.map.scale(now) };
    Object.assign(drawn, { rows: rows, tall: TALL, range: range(), scrolled: part("map-scroll").scrollTop });
    drawn.chosen = { layer: now.names.indexOf(state.layer), column: columnAt(state.step) };
    window.cockpit.map.draw(part("map-canvas"), drawn);
    markEnd(part("map-scroll"));
    window.cockpit.map.axis(part("map-axis"), drawn.range);
    window.cockpit.map.bar(part("map-bar"), now, drawn.scale);
  }

  /* Where rows follow below, the last one in view fades. */
  function markEnd(scroll) {
    scroll.classList.toggle("goes-on", scroll.scrollTop + scroll.clientHeight < scroll.scrollHeight - 1);
  }

  /* The column that a step lies in, -1 for none. */
  function columnAt(step) {
    if (step === null || !drawn) {
      return -1;
    }
    return drawn.map.starts.findLastIndex((start, index) => start <= step && step < drawn.ends[index]);
  }

  function words() {
    const now = map();
    if (!drawn) {
      return "No map yet.";
    }
    const kind = now.cells === "least" ? "least" : "greatest";
    const odd = drawn.scale.odd ? " " + drawn.scale.odd + " cells hold values that are not finite." : "";
    const ends = drawn.scale.low <= drawn.scale.high
      ? ", from " + window.cockpit.map.number(drawn.scale.low) + " to " + window.cockpit.map.number(drawn.scale.high)
      : "";
    return now.title + " of " + now.names.length + " layers up to step " + now.last.toLocaleString("en") +
      ", the " + kind + " value of each cell" + ends + "." + odd;
  }

  function cellAt(event) {
    const box = part("map-canvas").getBoundingClientRect();
    const step = drawn.range[0] + ((event.clientX - box.left) / box.width) * (drawn.range[1] - drawn.range[0]);
    const place = Math.floor((event.clientY - box.top + drawn.scrolled) / TALL);
    return { step: step, layer: drawn.rows[place], column: columnAt(step), x: event.clientX - box.left };
  }

  function point(event) {
    const hover = part("map-hover");
    const cell = drawn && cellAt(event);
    const value = cell && cell.layer !== undefined && cell.column >= 0 ? drawn.map.columns[cell.column][cell.layer] : NaN;
    if (Number.isNaN(value)) {
      hover.style.display = "none";
      return;
    }
    const start = drawn.map.starts[cell.column], last = start + drawn.map.stretch - 1;
    const lines = [
      drawn.map.names[cell.layer],
      last > start ? "steps " + start.toLocaleString("en") + " to " + last.toLocaleString("en") : "step " + start.toLocaleString("en"),
      (last > start && Number.isFinite(value) ? drawn.map.cells + " " : "") +
        (Number.isFinite(value) ? window.cockpit.map.number(value) : "holds values that are not finite"),
    ];
    hover.replaceChildren(...lines.map(function (text) {
      const line = document.createElement("span");
      line.textContent = text;
      return line;
    }));
    hover.style.display = "grid";
    const box = part("map").getBoundingClientRect();
    hover.style.left = Math.min(Math.max(event.clientX - box.left + 14, 0), box.width - hover.offsetWidth) + "px";
    hover.style.top = event.clientY - box.top + 16 + "px";
  }

  /* What the person does ------------------------------------------------------------------------------------- */

  /* Choose a layer and a step of it. */
  function choose(layer, step, push) {
    state.layer = layer;
    state.step = step;
    remember(push);
    tellChoice();
    markRows();
    redraw();
  }

  function zoom(to) {
    maps.detail = null;
    if (to) {
      const range = [Math.max(Math.floor(to[0]), 0), Math.max(Math.ceil(to[1]), Math.floor(to[0]) + 2)];
      window.cockpit.view.change({ range: range, follow: 0 });
    } else {
      window.cockpit.zoom.reset();
    }
    redraw();
    askNow();
  }

  function zoomBy(factor) {
    const [low, high] = drawn.range;
    const middle = state.step !== null && state.step >= low && state.step <= high ? state.step : (low + high) / 2;
    const half = ((high - low) * factor) / 2;
    const whole = maps.whole ? [maps.whole.starts[0], maps.whole.last + 1] : [0, drawn.map.last + 1];
    const wanted = [Math.max(middle - half, whole[0]), Math.min(middle + half, whole[1])];
    zoom(wanted[0] <= whole[0] && wanted[1] >= whole[1] ? null : wanted);
  }

  function move(by) {
    const at = rows.indexOf(map().names.indexOf(state.layer)); // not what is drawn: keys come faster than pictures
    const place = Math.min(Math.max(at < 0 ? 0 : at + by, 0), rows.length - 1);
    if (rows.length) {
      choose(map().names[rows[place]], state.step);
      reveal(place);
    }
  }

  function reveal(place) {
    const scroll = part("map-scroll");
    const top = place * TALL;
    if (top < scroll.scrollTop || top + TALL > scroll.scrollTop + scroll.clientHeight) {
      scroll.scrollTop = top - scroll.clientHeight / 2;
    }
  }

  function moveStep(by) {
    if (!drawn || state.layer === null) {
      return;
    }
    const at = columnAt(state.step);
    const column = at < 0 ? drawn.map.starts.length - 1 : Math.min(Math.max(at + by, 0), drawn.map.starts.length - 1);
    choose(state.layer, middleOf(column));
  }

  function middleOf(column) {
    return drawn.map.starts[column] + (drawn.map.stretch >> 1);
  }

  const KEYS = {
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    PageDown: () => move(10),
    PageUp: () => move(-10),
    Home: () => move(-rows.length),
    End: () => move(rows.length),
    ArrowLeft: () => moveStep(-1),
    ArrowRight: () => moveStep(1),
    "+": () => zoomBy(0.5),
    "-": () => zoomBy(2),
  };

  function listen() {
    const canvas = part("map-canvas");
    let from = null; // where a drag began
    part("map-rows").addEventListener("keydown", function (event) {
      const act = !event.ctrlKey && !event.metaKey && !event.altKey && drawn && KEYS[event.key];
      if (act) {
        event.preventDefault();
        event.stopPropagation();
        act();
      }
    });
    part("map-rows").addEventListener("click", function (event) {
      const line = event.target.closest("[data-layer]");
      if (line) {
        choose(line.dataset.layer, state.step, true);
      }
    });
    canvas.addEventListener("pointerdown", function (event) {
      from = drawn && event.pointerType === "mouse" && event.button === 0 ? event.clientX : null;
    });
    canvas.addEventListener("pointermove", function (event) {
      point(event);
      if (from !== null && Math.abs(event.clientX - from) > DRAGGED) {
        canvas.setPointerCapture(event.pointerId);
        shade(from, event.clientX);
      }
    });
    canvas.addEventListener("pointerup", function (event) {
      const dragged = from !== null && Math.abs(event.clientX - from) > DRAGGED;
      const ends = dragged ? [from, event.clientX].map((x) => cellAt({ clientX: x, clientY: 0 }).step) : null;
      from = null;
      shade(0, 0);
      if (dragged) {
        zoom([Math.min(...ends), Math.max(...ends)]);
      } else if (drawn) {
        const cell = cellAt(event);
        if (cell.layer !== undefined && cell.column >= 0) {
          choose(drawn.map.names[cell.layer], middleOf(cell.column), true);
        }
      }
    });
    canvas.addEventListener("pointerleave", () => (part("map-hover").style.display = "none"));
    canvas.addEventListener("dblclick", () => zoom(null));
    part("map-scroll").addEventListener("scroll", redraw, { passive: true });
    part("map-quantity").addEventListener("change", function (event) {
      state.quantity = event.target.value;
      maps.detail = null;
      remember();
      askNow();
    });
    part("map-cells").addEventListener("change", function (event) {
      state.cells = event.target.value;
      remember();
      askNow();
    });
    part("map-find").addEventListener("input", function (event) {
      state.find = event.target.value;
      remember();
      renewRows();
      redraw();
    });
    new ResizeObserver(redraw).observe(part("map-scroll"));
    new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  /* The part of the map that a drag has passed over. */
  function shade(from, to) {
    const scroll = part("map-scroll");
    const left = scroll.getBoundingClientRect().left;
    scroll.classList.toggle("dragged", from !== to);
    scroll.style.setProperty("--drag-left", Math.min(from, to) - left + "px");
    scroll.style.setProperty("--drag-width", Math.abs(to - from) + "px");
  }

  /* At the first visit: the parts are there, and the choice is told. */
  function begin() {
    if (!ready) {
      ready = true;
      listen();
      recall();
      put();
    }
    if (state.layer !== null) {
      tellChoice();
    }
  }

  function put() {
    window.dash_clientside.set_props("map-find", { value: state.find });
    part("map-cells").value = state.cells;
  }

  /* The way from a finding to its layer. */
  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-to-layer]");
    if (button) {
      address().visit("layers");
      begin();
      const [quantity, layer, step] = [button.dataset.quantity, button.dataset.toLayer, Number(button.dataset.step)];
      Object.assign(state, { quantity: quantity, find: "" });
      window.cockpit.zoom.reset();
      put();
      choose(layer, Number.isFinite(step) && button.dataset.step !== "" ? step : null);
      renewRows();
      askNow();
      reveal(rows.indexOf(map() ? map().names.indexOf(layer) : -1));
      part("map-rows").focus({ preventScroll: true });
    }
  });

  /* What the menu of the map does --------------------------------------------------------------------------- */

  function fileName() {
    return window.cockpit.card.named([window.cockpit.card.runName(), "layers", map().quantity]);
  }

  function picture() {
    if (drawn) {
      const image = window.cockpit.mapPicture(part("map"), drawn, window.cockpit.card.runName());
      window.cockpit.card.save(image, fileName() + ".png");
    }
  }

  /* Every value in the range of steps that is shown, of the layers that the search leaves; the server sends them. */
  function numbers() {
    if (map()) {
      const query = new URLSearchParams({ run: address().get("run") || "", map: map().quantity });
      if (state.find) {
        query.set("find", state.find);
      }
      if (zoomed()) {
        query.set("from", String(Math.max(Math.ceil(zoomed()[0]), 0)));
        query.set("to", String(Math.max(Math.floor(zoomed()[1]), 0)));
      }
      window.cockpit.card.save("csv?" + query, fileName() + ".csv");
    }
  }

  function link(button) {
    window.cockpit.card.copy(new URL(window.location.href), button);
  }

  window.cockpit = Object.assign(window.cockpit || {}, { layers: { ask: askNow, chosen, picture, numbers, link } });

  window.cockpit.address.listen(function () {
    if (ready) {
      recall();
      put();
      maps.detail = null;
      tellChoice();
      renewRows();
      redraw();
      askNow();
    }
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    askForMap: ask,

    drawMap: function (news) {
      if (!news) {
        return "";
      }
      take(news);
      renewRows();
      paint();
      return words();
    },

    markRows: function (named) {
      blamed = named || {};
      markRows();
      return "";
    },
  });
})();
