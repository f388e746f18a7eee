/* Whether the server answers. While it does not, the page says so, keeps what it had received, and keeps asking. */
(function () {
  "use strict";

  const PATIENCE = 8000; // milliseconds without an answer before the page says so
  const AWAY = [502, 503, 504]; // what a proxy answers in place of a server that is gone
  const ASKED = /(^|\/)(tick|_dash-update-component)(\?|$)/; // what is asked again and again
  let lastAnswer = Date.now();
  let lastTry = lastAnswer;

  function said() {
    const root = document.documentElement.classList;
    return root.contains("silent") || root.contains("refused");
  }

  function say(word) {
    const was = said();
    for (const name of ["silent", "refused"]) {
      document.documentElement.classList.toggle(name, name === word);
    }
    if (was && !word) {
      window.dash_clientside.set_props("address", { data: lastAnswer }); // what was asked for meanwhile is asked again
    }
  }

  /* The slow clock stands still while a request is under way; after one that is lost it must be set going again. */
  function watch() {
    const now = Date.now();
    if (!document.hidden && now - lastAnswer > PATIENCE) {
      if (!said()) {
        say("silent");
      }
      if (now - lastTry > PATIENCE) {
        lastTry = now;
        window.dash_clientside.set_props("slow-tick", { disabled: false });
      }
    }
  }

  window.setInterval(watch, 1000);
  document.addEventListener("visibilitychange", function () {
    lastAnswer = Date.now(); // nothing was asked while nobody looked
  });

  /* An answer that never comes changes nothing on the page, as one without content does. */
  function nothing(word) {
    say(word);
    return new Response(null, { status: 204 });
  }

  /* Whether somebody else has answered, such as the login of a network. */
  function isDamaged(response) {
    const type = response.headers.get("Content-Type") || "";
    return response.status === 200 && !type.includes("json");
  }

  const ask = window.fetch;
  window.fetch = function (address) {
    const answer = ask.apply(window, arguments);
    if (!ASKED.test(String(address))) {
      return answer;
    }
    return answer.then(
      function (response) {
        if (response.status === 403) {
          return nothing("refused");
        }
        if (AWAY.includes(response.status) || isDamaged(response)) {
          return nothing("silent");
        }
        lastAnswer = Date.now();
        say(null);
        return response;
      },
      () => nothing("silent"),
    );
  };
})();
