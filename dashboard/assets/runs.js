/* The table of runs: a click, or Enter on a cell, opens its run in the overview. */
(function () {
  "use strict";

  function open(part) {
    const row = part.closest(".runs-table .ag-row[row-id]");
    if (row && !part.closest(".ag-selection-checkbox, [col-id^='ag-Grid']") && !String(window.getSelection())) {
      window.cockpit.address.open(row.getAttribute("row-id"));
    }
  }

  /* How the table writes numbers; a word in place of one, such as NaN, stays as it is. */
  window.dashAgGridFunctions = Object.assign(window.dashAgGridFunctions || {}, {
    number: (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : value),
    bySeverity: (one, other, oneNode, otherNode) =>
      oneNode.data.rank - otherNode.data.rank || String(one).localeCompare(String(other)),
    count: (value) => (typeof value === "number" ? value.toLocaleString("en") : value),
  });

  document.addEventListener("click", (event) => open(event.target));

  document.addEventListener("keydown", function (event) {
    if (event.key === "Enter" && event.target.closest(".ag-cell")) {
      open(event.target);
    }
  });
})();
