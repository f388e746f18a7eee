/* What keys do, but never while a person writes in a field. */
(function () {
  "use strict";

  const PAGES = { o: "overview", l: "layers", d: "diagnosis", r: "runs" };
  const PATIENCE = 1500; // milliseconds between g and the letter of a page
  const FIELDS =
    "input, textarea, select, [contenteditable], [role=combobox], [role=listbox], [role=textbox], .ag-root, .dash-dropdown";
  const RUNS = ".runs-table .ag-floating-filter[col-id=run] input"; // the table's filter by names
  const ACTS_ITSELF = "button, summary, a, [role=button]"; // on space
  let gone = 0; // when g was pressed
  let held = null; // the key that led to a field, which does not write in it when it is let go of

  function sheet() {
    return document.getElementById("shortcuts");
  }

  /* The field one searches with on this page; on the overview the choice of a run. */
  function search() {
    const fields = [...document.querySelectorAll(RUNS + ", input[type=search]")];
    const field = fields.find((each) => each.getClientRects().length) || document.getElementById("picker");
    field.focus();
    if (field.id === "picker") {
      field.click();
    }
  }

  /* Close what is unfolded over the charts; without any show all steps. */
  function escape() {
    const open = [...document.querySelectorAll("details.menu[open], details.help[open]")];
    open.forEach((part) => (part.open = false));
    if (open.length) {
      open[0].querySelector("summary").focus();
    } else {
      window.cockpit.zoom.reset();
    }
  }

  function act(event) {
    if (Date.now() - gone < PATIENCE && PAGES[event.key]) {
      gone = 0;
      window.cockpit.address.visit(PAGES[event.key]);
    } else if (event.key === "g") {
      gone = Date.now();
    } else if (event.key === "/") {
      held = event.code;
      search();
    } else if (event.key === "?") {
      sheet().showModal();
    } else if (event.key === "Escape") {
      escape();
    } else if (event.key === " " && !event.target.closest(ACTS_ITSELF)) {
      window.cockpit.view.pause();
    } else {
      return;
    }
    event.preventDefault();
  }

  document.addEventListener("keydown", function (event) {
    const elsewhere = event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented;
    const range = event.target.type === "range" && event.key !== " "; // a slider is no field to write in
    const writes = event.target.closest && event.target.closest(FIELDS) && !range;
    if (!elsewhere && !writes && !(sheet() && sheet().open)) {
      act(event);
    }
  });

  document.addEventListener(
    "keyup",
    function (event) {
      const opens = event.key === " " && event.target.matches("button.dash-dropdown"); // as on every button, by a click
      if (event.code === held || opens) {
        held = null;
        event.stopPropagation();
      }
    },
    true // before the field hears of it
  );

  document.addEventListener("click", function (event) {
    if (event.target.closest("[data-do=shortcuts]")) {
      sheet().showModal();
    } else if (event.target.closest("#shortcuts [data-do=close]") || event.target === sheet()) {
      sheet().close();
    }
  });
})();
