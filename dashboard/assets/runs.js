/* The table of runs: a click, or Enter on a cell, opens its run in the overview. */
(function () {
  "use strict";

  function open(part) {
    const row = part.closest(".runs-table .ag-row[row-id]");
    if (row && !part.closest(".ag-selection-checkbox, [col-id^='ag-Grid']") && !String(window.getSelection())) {
      window.cockpit.address.open(row.getAttribute("row-id"));
    }
  }

  /* Seconds as hours, minutes and seconds. */
  function spelled(seconds) {
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    const rest = String(seconds % 60).padStart(2, "0");
    return hours ? hours + ":" + String(minutes).padStart(2, "0") + ":" + rest : minutes + ":" + rest;
  }

  /* How the table writes numbers; a word in place of one, such as NaN, stays as it is. */
  window.dashAgGridFunctions = Object.assign(window.dashAgGridFunctions || {}, {
    number: (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : value),
    bySeverity: (one, other, oneNode, otherNode) =>
      oneNode.data.rank - otherNode.data.rank || String(one).localeCompare(String(other)),
    duration: (value) => (typeof value === "number" ? spelled(value) : value),
    count: (value) => (typeof value === "number" ? value.toLocaleString("en") : value),
  });

  document.addEventListener("click", (event) => open(event.target));

  document.addEventListener("keydown", function (event) {
    if (event.key === "Enter" && event.target.closest(".ag-cell")) {
      open(event.target);
    }
  });
})();
