/* The list of findings is drawn anew when one of them changes: what was open stays open, what was closed closed, and the
   focus where it was. On the page of the diagnosis the first few are open until a person closes them. */
(function () {
  "use strict";

  const FIRST = 3; // findings that are open at first, where there is nothing else
  const chosen = new Map(); // by key: whether a person has it open
  let focused = null; // the key of the part that has the focus, or had when it was drawn anew
  let watched = null;

  function keyOf(part) {
    return part.dataset.evidence ? "show " + part.dataset.evidence : part.parentElement.dataset.key;
  }

  function isOpen(part, list) {
    const first = [...list.querySelectorAll(":scope > .finding")].slice(0, FIRST);
    const alone = document.documentElement.dataset.page === "diagnosis";
    return chosen.get(part.dataset.key) ?? (alone && first.includes(part));
  }

  function watch(list) {
    if (list && list !== watched) {
      watched = list;
      const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ["data-key"] };
      new MutationObserver(() => restore(list)).observe(list, changes);
      restore(list);
    }
    return Boolean(list);
  }

  function restore(list) {
    for (const part of list.querySelectorAll("details[data-key]")) {
      if (part.open !== isOpen(part, list)) {
        part.open = !part.open;
      }
    }
    if (focused !== null && document.activeElement === document.body) {
      const parts = [...list.querySelectorAll("summary, [data-evidence]")];
      const again = parts.find((part) => keyOf(part) === focused);
      if (again) {
        again.focus({ preventScroll: true });
      }
    }
  }

  /* The list is there as soon as the page is. */
  const coming = new MutationObserver(function () {
    if (watch(document.getElementById("findings"))) {
      coming.disconnect();
    }
  });
  coming.observe(document.body, { childList: true, subtree: true });

  const turning = new MutationObserver(() => watched && restore(watched));
  turning.observe(document.documentElement, { attributes: true, attributeFilter: ["data-page"] });

  document.addEventListener(
    "toggle",
    function (event) {
      const part = event.target;
      const list = part.dataset.key && part.closest("#findings");
      if (list && part.open !== isOpen(part, list)) {
        chosen.set(part.dataset.key, part.open);
      }
    },
    true // toggle events do not bubble
  );

  document.addEventListener("focusin", function (event) {
    const part = event.target.closest("#findings summary, #findings [data-evidence]");
    focused = part ? keyOf(part) : null;
  });

  document.addEventListener("focusout", function (event) {
    queueMicrotask(function () {
      if (event.target.isConnected && document.activeElement === document.body) {
        focused = null; // it was left, not drawn anew
      }
    });
  });
})();
