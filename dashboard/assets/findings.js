/* The list of findings is drawn anew when one of them changes: what was open stays open, and the focus where it was. */
(function () {
  "use strict";

  const open = new Set(); // keys of what is unfolded
  let focused = null; // the key of the part that has the focus, or had when it was drawn anew
  let watched = null;

  function keyOf(part) {
    return part.dataset.evidence ? "show " + part.dataset.evidence : part.parentElement.dataset.key;
  }

  function watch(part) {
    const list = part.closest("#findings");
    if (list && list !== watched) {
      watched = list;
      new MutationObserver(() => restore(list)).observe(list, { childList: true, subtree: true });
    }
    return Boolean(list);
  }

  function restore(list) {
    for (const part of list.querySelectorAll("details[data-key]")) {
      if (open.has(part.dataset.key) && !part.open) {
        part.open = true;
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

  document.addEventListener(
    "toggle",
    function (event) {
      const part = event.target;
      if (part.dataset.key && part.isConnected && watch(part)) {
        open[part.open ? "add" : "delete"](part.dataset.key);
      }
    },
    true // toggle events do not bubble
  );

  document.addEventListener("focusin", function (event) {
    const part = event.target.closest("#findings summary, #findings [data-evidence]");
    focused = part && watch(part) ? keyOf(part) : null;
  });

  document.addEventListener("focusout", function (event) {
    queueMicrotask(function () {
      if (event.target.isConnected && document.activeElement === document.body) {
        focused = null; // it was left, not drawn anew
      }
    });
  });
})();
