/* What a card's own buttons do: another scale, a picture, the numbers, a link; and which lines are hidden. */
(function () {
  "use strict";

  const hidden = new Map(); // uids of hidden lines by the name of their panel, as it is spelled in the address

  function view() {
    return window.cockpit.view;
  }

  function titleOf(card) {
    return card.querySelector("h3").textContent;
  }

  function runName() {
    return (window.cockpit.address.get("run") || "").replace(/\.cockpit$/, "");
  }

  /* The layer whose readings a card shows, on the page of layers. */
  function layerOf(card) {
    const head = card.closest("#layer-board") && document.querySelector("#layer-board h2 code");
    return head ? head.textContent : "";
  }

  function isCompared(card) {
    return Boolean(card.closest("#comparison"));
  }

  /* Of which run a card is, or of how many. */
  function ownerOf(card) {
    const runs = window.cockpit.compared.chosen().runs.length;
    return isCompared(card) ? (runs === 1 ? "1 run" : runs + " runs") : runName();
  }

  function fileName(card) {
    return named([ownerOf(card), layerOf(card), card.dataset.name]);
  }

  function named(parts) {
    return parts.filter(Boolean).join("-").replace(/[^\p{L}\p{N}._-]+/gu, "_");
  }

  function save(href, name) {
    const link = document.createElement("a");
    link.href = href;
    link.download = name;
    link.click();
  }

  function escaped(words) {
    return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  }

  function picture(card) {
    const words = [titleOf(card), ownerOf(card)].filter(Boolean).map(escaped).join(" · ");
    window.cockpit.picture.of(card, words).then((image) => save(image, fileName(card) + ".png"));
  }

  /* All values in the range of steps that a chart shows, which the server sends. */
  function numbers(card) {
    const range = view().windowOf(view().chartOf(card));
    const query = isCompared(card)
      ? window.cockpit.compared.query(card)
      : new URLSearchParams({ run: window.cockpit.address.get("run") || "", panel: card.dataset.name });
    if (layerOf(card)) {
      query.set("layer", layerOf(card));
    }
    if (range && window.cockpit.zoom.hasSteps(card)) {
      query.set("from", String(Math.max(Math.ceil(range[0]), 0)));
      query.set("to", String(Math.max(Math.floor(range[1]), 0)));
    }
    save("csv?" + query, fileName(card) + ".csv");
  }

  function link(card, button) {
    copy(linkOf(card), button);
  }

  function linkOf(card) {
    const address = new URL(window.location.href);
    const range = view().windowOf(view().chartOf(card));
    if (range && !view().state.follow && window.cockpit.zoom.hasSteps(card)) {
      address.searchParams.set("steps", range.map((step) => Number(step.toFixed(2))).join("~"));
      address.searchParams.delete("linked");
    }
    address.hash = card.id;
    return address;
  }

  function copy(address, button) {
    const words = button.textContent;
    function say(answer) {
      button.textContent = answer;
      window.setTimeout(() => (button.textContent = words), 2000);
    }
    if (navigator.clipboard) {
      navigator.clipboard.writeText(address.href).then(() => say("Copied"), () => inBar(address, say));
    } else {
      inBar(address, say);
    }
  }

  function inBar(address, say) {
    window.history.replaceState(null, "", address.href);
    say("It is in the address bar");
  }

  function rescale(card) {
    const [name, own] = [card.dataset.name, card.dataset.scale];
    const wanted = view().scaleOf(card) === "log" ? "linear" : "log";
    const scales = Object.assign({}, view().state.scales);
    delete scales[name];
    if (wanted !== own) {
      scales[name] = wanted;
    }
    const chart = view().chartOf(card);
    if (chart && !chart.layout.yaxis.autorange) {
      window.Plotly.relayout(chart, { "yaxis.autorange": true }); // a range of values is another on another scale
    }
    view().change({ scales: scales });
  }

  /* Hidden lines ---------------------------------------------------------------------------------------------- */

  function remember() {
    const words = [...hidden].filter(([, uids]) => uids.length);
    const text = words.map(([name, uids]) => name + ":" + uids.join(".")).join(",");
    window.cockpit.address.set("hidden", text || null);
  }

  function recall() {
    hidden.clear();
    for (const part of (window.cockpit.address.get("hidden") || "").split(",")) {
      const [name, uids] = part.split(":");
      if (uids) {
        hidden.set(name, uids.split("."));
      }
    }
  }

  /* Which lines are hidden is kept where they are drawn anew, and as the person changes it. */
  function hide(card, traces) {
    const uids = hidden.get(encodeURIComponent(card.dataset.name)) || [];
    for (const trace of traces.filter((trace) => uids.includes(trace.uid))) {
      trace.visible = "legendonly";
    }
  }

  function listen(card, chart) {
    chart.on("plotly_restyle", function () {
      const lines = chart.data.filter((trace) => trace.visible === "legendonly");
      hidden.set(encodeURIComponent(card.dataset.name), lines.map((trace) => trace.uid));
      remember();
    });
  }

  /* The address says otherwise. */
  function renew() {
    recall();
    for (const card of view().board().filter(view().chartOf)) {
      const chart = view().chartOf(card);
      const lines = chart.data.filter((trace) => trace.visible === "legendonly");
      lines.forEach((trace) => delete trace.visible);
      hide(card, chart.data);
      if (lines.length || chart.data.some((trace) => trace.visible === "legendonly")) {
        window.Plotly.redraw(chart);
      }
    }
  }

  const DO = { scale: rescale, picture: picture, numbers: numbers, link: link };

  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-panel] [data-do], #map-card [data-do]");
    const card = button && button.closest("[data-panel], #map-card");
    if (card && card.id === "map-card") {
      window.cockpit.layers[button.dataset.do](button);
    } else if (card && view().chartOf(card)) {
      DO[button.dataset.do](card, button);
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target) || (button && button.dataset.do !== "link")) {
        menu.open = false;
      }
    }
  });

  window.cockpit = Object.assign(window.cockpit || {}, { card: { hide, listen, save, copy, runName, named } });

  recall();
  window.cockpit.address.listen(renew);
})();
