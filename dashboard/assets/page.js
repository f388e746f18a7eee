/* What the browser does by itself: the theme, and telling the server which charts are on the screen. */
(function () {
  "use strict";

  const THEMES = ["system", "light", "dark"];
  const KEY = "cockpitlite-theme";

  function storedTheme() {
    try {
      const stored = window.localStorage.getItem(KEY);
      return THEMES.includes(stored) ? stored : "system";
    } catch (error) {
      return "system"; // storage is switched off: the choice lasts as long as the page
    }
  }

  let theme = storedTheme();

  function applyTheme() {
    if (theme === "system") {
      document.documentElement.removeAttribute("data-theme");
    } else {
      document.documentElement.setAttribute("data-theme", theme);
    }
  }

  function nextTheme() {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      window.localStorage.setItem(KEY, theme);
    } catch (error) {
      /* see storedTheme */
    }
  }

  /* The range of steps a chart is zoomed to, or null while it shows all. */
  function windowOf(axis) {
    return axis.autorange ? null : [axis.range[0], axis.range[1]];
  }

  /* Dropdowns hold a field that is hidden from screen readers and yet reached by the tab key. */
  function hideFocusTargets() {
    for (const field of document.querySelectorAll(".dash-dropdown-focus-target")) {
      field.tabIndex = -1;
    }
  }

  function isOnScreen(card) {
    const box = card.getBoundingClientRect();
    return box.bottom > -100 && box.top < window.innerHeight + 100 && box.width > 0;
  }

  const PATIENCE = 8000; // milliseconds without an answer before the page says so
  let lastAnswer = Date.now();
  let lastTry = lastAnswer;

  /* Clocks stand still while a request is under way; after one that was lost they must be set going again. */
  function watchServer() {
    const now = Date.now();
    const silent = now - lastAnswer > PATIENCE;
    document.documentElement.classList.toggle("silent", silent);
    if (silent && now - lastTry > PATIENCE) {
      lastTry = now;
      window.dash_clientside.set_props("tick", { disabled: false });
      window.dash_clientside.set_props("slow-tick", { disabled: false });
    }
  }

  applyTheme();
  window.setInterval(function () {
    if (!document.hidden) {
      watchServer();
    }
  }, 1000);
  document.addEventListener("visibilitychange", function () {
    lastAnswer = Date.now(); // nothing was asked while nobody looked
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    /* Each visible panel's width in pixels and its zoom; nothing at all while nobody looks, nor while the board is
       being drawn: it would be asked for again and again, and never come. */
    measure: function () {
      hideFocusTargets();
      if (document.hidden || document.querySelector("#board[data-dash-is-loading]")) {
        return window.dash_clientside.no_update;
      }
      const views = {};
      for (const card of document.querySelectorAll("[data-panel]")) {
        const chart = card.querySelector(".chart-plot .js-plotly-plot");
        if (isOnScreen(card) && chart && chart.layout) {
          views[card.dataset.panel] = [chart.clientWidth, windowOf(chart.layout.xaxis)];
        }
      }
      return views;
    },

    /* Look for runs and judge the chosen one, unless the last judgement is still on its way: asked again it would
       be dropped when it came, and on a machine slower than the clock none would ever be shown. */
    awake: function (ticks) {
      const busy = document.hidden || document.querySelector("#verdict[data-dash-is-loading]");
      return busy ? window.dash_clientside.no_update : ticks;
    },

    answered: function () {
      lastAnswer = Date.now();
      watchServer();
      return "";
    },

    /* Following is turned on and off by its button; it ends when an older run is picked. */
    follows: function (clicks, key, following, offered) {
      const triggered = window.dash_clientside.callback_context.triggered_id;
      if (triggered === "follow") {
        return following === "true" ? "false" : "true";
      }
      return offered.length && key !== offered[0].value ? "false" : window.dash_clientside.no_update;
    },

    theme: function (clicks) {
      if (clicks) {
        nextTheme();
        applyTheme();
      }
      return "Theme: " + theme;
    },

    title: function (words) {
      document.title = words ? words + " · Cockpitlite" : "Cockpitlite";
      return "";
    },
  });
})();
