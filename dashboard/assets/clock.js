/* The page's clock: at each tick the server is asked what is new of the run and of the charts on the screen.

   cockpit.clock.begin()  the page knows which run it shows
   cockpit.clock.ask()    ask at once, or as soon as the last answer has come and is drawn */
(function () {
  "use strict";

  const TICK = 1000; // milliseconds
  const SHARE = 11; // drawing gets one part of so many of the time; where it takes more, ticks come less often
  const SOON = 100; // milliseconds until the next few charts off the screen are drawn
  const LOST = 60000; // milliseconds after which an answer does not come any more
  let begun = false;
  let asks = 0;
  let asking = false;
  let again = false;
  let timer = 0;

  function charts() {
    return window.cockpit.charts;
  }

  function run() {
    return document.getElementById("page").dataset.run || null;
  }

  function isLayers() {
    return window.cockpit.address.page() === "layers";
  }

  /* Where the board is that is shown. */
  function place() {
    return document.getElementById(window.cockpit.view.place());
  }

  /* Which board that is, or null. */
  function board() {
    const part = place().querySelector("[data-identity]");
    return part && part.dataset.identity;
  }

  /* The page knows which run it shows. */
  function begin() {
    begun = true;
    ask();
  }

  /* Nothing is asked while nobody looks. */
  async function ask() {
    if (document.hidden || !document.getElementById("page") || !begun) {
      return later(TICK);
    }
    if (asking || charts().busy()) {
      again = true;
      return later(SOON);
    }
    const start = Date.now();
    [asking, again] = [true, false];
    if (isLayers()) {
      window.cockpit.layers.ask();
    }
    const asked = Object.assign(
      {
        run: run(),
        page: window.cockpit.address.page(),
        board: board(),
        cards: window.cockpit.view.board().length,
        marks: document.getElementById("legend").dataset.marks || null,
        layer: window.cockpit.layers.chosen(),
        compared: window.cockpit.address.page() === "runs" ? window.cockpit.compared.chosen() : null,
      },
      window.cockpit.view.request()
    );
    let fresh = 0;
    try {
      const answer = await answerTo(asked);
      if (answer) {
        fresh = take(answer, asked);
      }
    } finally {
      asking = false;
      const pause = Math.max(TICK, SHARE * charts().spent()) - (Date.now() - start);
      const goesOn = fresh && !window.cockpit.view.isComplete();
      later(again ? 0 : goesOn ? SOON : Math.max(pause, SOON));
    }
  }

  /* What the server says, or null where there is no answer, which server.js tells. */
  async function answerTo(asked) {
    try {
      const answer = window.fetch("tick", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(asked),
        signal: AbortSignal.timeout(LOST),
      });
      asks += 1;
      if (Object.keys(asked.charts).length || asks > 1) {
        charts().start(); // while the server prepares them; on a page without charts a little later
      }
      return await (await answer).json();
    } catch (error) {
      return null;
    }
  }

  function later(pause) {
    window.clearTimeout(timer);
    timer = window.setTimeout(ask, pause);
  }

  /* What the server answered ----------------------------------------------------------------------------------- */

  /* Put it on the page; return how many cards are drawn for the first time. */
  function take(answer, asked) {
    for (const [id, part] of Object.entries(answer.frame)) {
      charts().fill(document.getElementById(id), part);
    }
    document.documentElement.classList.toggle("before-the-first-run", !asked.run);
    if (asked.page !== window.cockpit.address.page() || asked.run !== run()) {
      return 0;
    }
    if ("steps" in answer) {
      window.cockpit.steps.take(answer.steps);
    }
    if (answer.board) {
      const vital = document.getElementById("vital");
      for (const [part, cards] of [[place(), answer.board]].concat("vital" in answer ? [[vital, answer.vital]] : [])) {
        charts().clear(part);
        charts().fill(part, cards);
      }
      window.cockpit.view.look();
      window.cockpit.address.arrive();
    }
    if (answer.legend) {
      takeLegend(answer);
    }
    const cards = window.cockpit.view.board();
    const told = cards.filter((card) => answer.charts && answer.charts[card.dataset.panel]);
    const fresh = told.filter((card) => !charts().shownOf(card));
    for (const card of told) {
      charts().take(card, answer.charts[card.dataset.panel]);
    }
    window.cockpit.steps.tell(cards);
    for (const [group, added] of Object.entries(answer.more || {})) {
      place().querySelector('[data-group="' + group + '"]').append(...added.map(charts().element));
    }
    return fresh.length;
  }

  /* What the marks on the charts mean; it stays unfolded where it was. */
  function takeLegend(answer) {
    const legend = document.getElementById("legend");
    const unfolded = legend.querySelector("details[open]");
    charts().fill(legend, answer.legend);
    legend.dataset.marks = answer.marks;
    const list = legend.querySelector("details");
    if (list && unfolded) {
      list.open = true;
    }
  }

  document.addEventListener("visibilitychange", function () {
    if (!document.hidden) {
      ask();
    }
  });

  window.cockpit = Object.assign(window.cockpit || {}, { clock: { ask, begin } });

})();
