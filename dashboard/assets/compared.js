/* The runs that are laid over each other, and what they are compared by: kept in the address, told to the server.

   cockpit.compared.chosen()     the keys of the runs, in the order in which they were selected, and the readings
   cockpit.compared.query(card)  what the server is asked for to give the numbers of a chart of them

   The address names the runs while their names are short together; of more it holds a mark of each, five letters long,
   of no more than MOST runs: they take at most 1,600 characters of it, whatever is selected. */
(function () {
  "use strict";

  const TABLE = { type: "table", index: "runs" };
  const [SUFFIX, MARKS] = [".cockpit", "~"];
  const NAMES = 900; // characters of names in the address
  const MOST = 300; // marks in the address
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const state = { runs: [], readings: [] };
  let restored = false; // the table shows what the address says
  let restoring = null; // a promise, while the table is not there yet
  let awaited = false; // the choice of instruments does not show yet what the address says

  function address() {
    return window.cockpit.address;
  }

  /* Five letters that tell a run from others, by the hash FNV-1a. */
  function mark(key) {
    let hash = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(key)) {
      hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    }
    return [0, 6, 12, 18, 24].map((shift) => LETTERS[(hash >>> shift) & 63]).join("");
  }

  /* A name without what separates names or begins marks; all else of it stays as it is. */
  function encoded(name) {
    return name.replace(/[%,~]/g, (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase());
  }

  function nameOf(key) {
    return key.endsWith(SUFFIX) ? key.slice(0, -SUFFIX.length) : key;
  }

  function spelled(keys) {
    const words = keys.map((key) => encoded(nameOf(key))).join(",");
    return new URLSearchParams({ words }).toString().length <= NAMES ? words : MARKS + keys.slice(0, MOST).map(mark).join("");
  }

  /* Which of the keys an address names, in its order. */
  function named(words, keys) {
    const found = new Map();
    for (const key of keys) {
      found.set(words.startsWith(MARKS) ? mark(key) : nameOf(key), key);
    }
    const names = words.startsWith(MARKS) ? words.slice(1).match(/.{1,5}/g) || [] : words.split(",").map(decoded);
    return names.map((name) => found.get(name)).filter((key) => key !== undefined);
  }

  function remember() {
    address().set("compare", state.runs.length ? spelled(state.runs) : null);
    address().set("by", state.runs.length && state.readings.length ? state.readings.map(encoded).join(",") : null);
    const left = spelled(state.runs).startsWith(MARKS) ? state.runs.length - MOST : 0;
    const words = left > 0 ? "The address holds the first " + MOST + " of " + state.runs.length + " runs." : "";
    document.getElementById("compared-note").textContent = words;
  }

  function decoded(name) {
    try {
      return decodeURIComponent(name);
    } catch (error) {
      return name;
    }
  }

  /* Select in the table what the address names; says which of it is not here. */
  async function restore() {
    const words = address().get("compare") || "";
    const grid = await window.dash_ag_grid.getApiAsync(TABLE);
    const all = [];
    grid.forEachNode((node) => all.push(node.id));
    const keys = words ? named(words, all) : [];
    const readings = (address().get("by") || "").split(",").filter(Boolean).map(decoded);
    const count = words.startsWith(MARKS) ? Math.floor((words.length - 1) / 5) : words ? words.split(",").length : 0;
    if (keys.length < count) {
      const lost = count - keys.length;
      const said = lost === 1 ? "One run that the address compares is not here." : lost + " runs that the address compares are not here.";
      window.dash_clientside.set_props("astray", { children: said });
    }
    Object.assign(state, { runs: keys, readings: readings });
    [restored, awaited] = [true, readings.length > 0];
    window.dash_clientside.set_props(TABLE, { selectedRows: { ids: keys } });
  }

  function chosen() {
    return state;
  }

  function query(card) {
    const asked = new URLSearchParams({ panel: card.dataset.name });
    state.runs.forEach((key) => asked.append("run", key));
    (state.readings.length ? state.readings : [""]).forEach((name) => asked.append("by", name));
    return asked;
  }

  window.cockpit = Object.assign(window.cockpit || {}, { compared: { chosen, query } });

  address().listen(function () {
    if (restored && (address().get("compare") || "") !== (state.runs.length ? spelled(state.runs) : "")) {
      restore();
    }
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    /* The selection in the table has changed, or the instruments: the runs keep the order in which they came, as it
       gives them their colours. */
    compare: function (selected, readings) {
      if (!selected.length) {
        return []; // the page of runs was not visited yet
      }
      restored = restored || address().get("compare") === null;
      if (!restored) {
        restoring = restoring || restore();
        return [null];
      }
      const rows = selected[0] || [];
      const keys = rows.ids || rows.map((row) => row.key);
      const runs = state.runs.filter((key) => keys.includes(key));
      state.runs = runs.concat(keys.filter((key) => !runs.includes(key)));
      if (!awaited || (readings[0] || []).length) {
        [state.readings, awaited] = [readings[0] || [], false];
      }
      remember();
      window.cockpit.clock.ask();
      window.dash_clientside.set_props({ type: "compared", index: "runs" }, { data: Object.assign({}, state) });
      return [keys.length];
    },
  });
})();
