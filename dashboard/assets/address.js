/* The page's address, which restores it: the page that is shown, the run, and what other rooms keep in it.

   cockpit.address.get(name)               a parameter's text, or null
   cockpit.address.set(name, value, push)  set it, or remove it with null; with push "back" leads to what was before
   cockpit.address.visit(page)             show a page, as its link does
   cockpit.address.open(run)               show a run in the overview
   cockpit.address.page()                  the page that is shown
   cockpit.address.listen(heard)           call when the person has gone back or forward
   cockpit.address.arrive()                go to the part of the page that is named after #, once, as soon as it is there

   The rest of the address (a path prefix, the part after #) stays as it is. */
(function () {
  "use strict";

  const FIRST = "overview";
  const scrolled = {}; // how far down each page was left
  const listeners = [];
  let begun = false; // the address has been read once
  let goal = window.location.hash.slice(1); // the part of the page that is to be shown at first
  let arrived; // the run that was chosen by the address or because it is new, not by the person

  function get(name) {
    return new URLSearchParams(window.location.search).get(name);
  }

  function query(name, value) {
    const parameters = new URLSearchParams(window.location.search);
    if (value === null) {
      parameters.delete(name);
    } else {
      parameters.set(name, value);
    }
    return spelled(parameters);
  }

  /* Parameters with what may stand in an address as it is, for those who read it. */
  function spelled(parameters) {
    return parameters.toString().replace(/%(2C|2F|3A)/g, decodeURIComponent);
  }

  function set(name, value, push) {
    if (get(name) !== value) {
      const words = query(name, value);
      const address = window.location.pathname + (words && "?" + words) + window.location.hash;
      window.history[push ? "pushState" : "replaceState"](null, "", address);
    }
    renewLinks();
  }

  function links() {
    return [...document.querySelectorAll("a[data-page]")];
  }

  /* Links hold the whole address, for those who open them in another tab. */
  function renewLinks() {
    for (const link of links()) {
      link.setAttribute("href", "?" + query("page", link.dataset.page));
    }
  }

  function isPage(name) {
    return links().some((link) => link.dataset.page === name);
  }

  function page() {
    return document.documentElement.dataset.page || FIRST;
  }

  /* Show the sections of a page; all of them are there, so that no server is asked. */
  function show(name) {
    const root = document.documentElement;
    if (root.dataset.page !== name) {
      scrolled[page()] = window.scrollY;
      root.dataset.page = name;
      window.scrollTo({ top: scrolled[name] || 0, behavior: "instant" });
    }
    for (const link of document.querySelectorAll("nav a[data-page]")) {
      if (link.dataset.page === name) {
        link.setAttribute("aria-current", "page");
      } else {
        link.removeAttribute("aria-current");
      }
    }
  }

  function visit(name) {
    if (name !== page()) {
      set("page", name === FIRST ? null : name, true);
      show(name);
      tell();
    }
  }

  function open(run) {
    const parameters = new URLSearchParams(window.location.search);
    parameters.delete("page");
    parameters.delete("evidence");
    parameters.set("run", run);
    window.history.pushState(null, "", window.location.pathname + "?" + spelled(parameters));
    show(FIRST);
    tell();
  }

  function arrive() {
    const part = goal && document.getElementById(goal);
    if (part) {
      goal = "";
      part.scrollIntoView({ block: "center", behavior: "instant" });
    }
  }

  function tell() {
    if (begun) { // else the address is read as soon as the page stands
      window.dash_clientside.set_props("address", { data: Date.now() });
    }
  }

  document.addEventListener("click", function (event) {
    const link = event.target.closest("a[data-page]");
    const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0;
    if (link && !elsewhere) {
      event.preventDefault();
      visit(link.dataset.page);
    }
  });

  window.addEventListener("popstate", function () {
    tell();
    listeners.forEach((heard) => heard());
  });

  window.cockpit = Object.assign(window.cockpit || {}, {
    address: { get, set, visit, open, page, arrive, listen: (heard) => listeners.push(heard) },
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    /* Go where the address says; or on to a newer run, unless another one was picked since it was looked for, or
       nobody wishes to follow. Returns the run, the page, and a word on what the address asks in vain. */
    go: function (newest, moved, key, offered, following) {
      const same = window.dash_clientside.no_update;
      if (begun && window.dash_clientside.callback_context.triggered_id === "newest") {
        const unasked = newest.instead !== (key ?? null) || (key && following !== "true");
        arrived = unasked ? arrived : newest.key;
        return unasked ? [same, same, same] : [newest.key, same, ""];
      }
      begun = true;
      const [askedPage, askedRun] = [get("page") ?? FIRST, get("run")];
      const known = askedRun === null || offered.some((choice) => choice.value === askedRun);
      const words = [];
      if (!isPage(askedPage)) {
        words.push("There is no page “" + askedPage + "”: this is the overview.");
        set("page", null);
      }
      if (!known) {
        words.push("There is no run “" + askedRun + "” here" + (key ? ": another one is shown." : "."));
        set("run", key ?? null);
      }
      const shown = isPage(askedPage) ? askedPage : FIRST;
      show(shown);
      renewLinks();
      arrived = (known && askedRun) || key;
      const settled = moved && arrived === key; // the run would be drawn anew
      return [settled ? same : arrived, { page: shown }, words.join(" ")];
    },

    /* Keep the chosen run in the address; what a person picked can be left by going back. */
    note: function (key) {
      if (key) {
        const picked = key !== arrived;
        arrived = key;
        set("run", key, picked);
        if (picked) {
          window.dash_clientside.set_props("astray", { children: "" });
        }
      }
      window.setTimeout(window.cockpit.clock.begin, 0);
      return key;
    },
  });
})();
