/* What a card's own buttons do: another scale, a picture, the numbers, a link; and which lines are hidden. */
(function () {
  "use strict";

  const SIZE = { width: 1200, height: 675, scale: 2 }; // of a picture, in pixels
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

  function fileName(card) {
    return [runName(), layerOf(card), card.dataset.name].filter(Boolean).join("-").replace(/[^\p{L}\p{N}._-]+/gu, "_");
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

  /* A card's main chart as a picture, in the colours of the page and with letters that can be read on a slide. */
  function picture(card) {
    const chart = view().chartOf(card);
    const style = getComputedStyle(card);
    const [ink, paper] = [style.color, style.backgroundColor];
    const text = [titleOf(card), runName()].filter(Boolean).map(escaped).join(" · ");
    const layout = Object.assign({}, chart.layout, {
      title: { text: text, font: { size: 22, color: ink }, x: 0.02, xanchor: "left", y: 0.97 },
      paper_bgcolor: paper,
      plot_bgcolor: paper,
      font: { family: "sans-serif", size: 17, color: ink },
      margin: { l: 90, r: 30, t: 90, b: 60 },
      legend: Object.assign({}, chart.layout.legend, { font: { size: 16, color: ink }, y: 0.9, x: 0.99 }),
      xaxis: Object.assign({}, chart.layout.xaxis, { tickfont: { size: 16 } }),
      yaxis: Object.assign({}, chart.layout.yaxis, { tickfont: { size: 16 } }),
      autosize: false,
    });
    const figure = { data: chart.data, layout: layout };
    window.Plotly.toImage(figure, Object.assign({ format: "png" }, SIZE)).then(function (image) {
      save(image, fileName(card) + ".png");
    });
  }

  /* All values in the range of steps that a chart shows, which the server sends. */
  function numbers(card) {
    const range = view().windowOf(view().chartOf(card));
    const query = new URLSearchParams({ run: window.cockpit.address.get("run") || "", panel: card.dataset.name });
    if (layerOf(card)) {
      query.set("layer", layerOf(card));
    }
    if (range && !card.classList.contains("joint")) {
      query.set("from", String(Math.max(Math.ceil(range[0]), 0)));
      query.set("to", String(Math.max(Math.floor(range[1]), 0)));
    }
    save("csv?" + query, fileName(card) + ".csv");
  }

  function link(card, button) {
    const address = new URL(window.location.href);
    const range = view().windowOf(view().chartOf(card));
    if (range && !view().state.follow && !card.classList.contains("joint")) {
      address.searchParams.set("steps", range.map((step) => Number(step.toFixed(2))).join("~"));
      address.searchParams.delete("linked");
    }
    address.hash = card.id;
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
    const button = event.target.closest("[data-panel] [data-do]");
    if (button && view().chartOf(button.closest("[data-panel]"))) {
      DO[button.dataset.do](button.closest("[data-panel]"), button);
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target) || (button && button.dataset.do !== "link")) {
        menu.open = false;
      }
    }
  });

  window.cockpit = Object.assign(window.cockpit || {}, { card: { hide, listen } });

  recall();
  window.cockpit.address.listen(renew);
})();
