/* What the browser does by itself: the theme, the slow clock and following the newest run. */
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

  /* The tab key reaches a dropdown's button, and not the field before it, which is hidden from screen readers. */
  function passFocusTargets() {
    for (const field of document.querySelectorAll(".dash-dropdown-focus-target")) {
      field.tabIndex = -1;
      field.nextElementSibling.tabIndex = 0;
    }
  }

  applyTheme();
  window.setInterval(passFocusTargets, 1000);
  document.addEventListener("focusout", passFocusTargets); // as a dropdown is left, its field can be reached again

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    /* Look for runs, judge the chosen one and let a comparison grow, unless the last judgement or comparison is still
       on its way: asked again it would be dropped when it came, and on a machine slower than the clock none would ever
       be shown. */
    awake: function (ticks) {
      const coming = "#verdict[data-dash-is-loading], #runs-page [data-dash-is-loading]";
      const busy = document.hidden || document.querySelector(coming);
      return busy ? window.dash_clientside.no_update : ticks;
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
