/* How the table of runs is sorted and filtered: kept in the address, and restored from it.

   ?sort=-rate,run says by the learning rate, the largest first, and where that is the same by the name; "none" says not
   at all, and without it the table is sorted as it comes. ?filter=run:contains:large,steps:greaterThan:100 says which
   runs it shows; two conditions on a column stand with ; (both) or | (either) between them. Commas and colons that are
   part of a name are written as %2C and %3A. What the address does not spell rightly counts as not said. */
(function () {
  "use strict";

  const TABLE = { type: "table", index: "runs" };
  const UNSORTED = "none";
  const JOINTS = { AND: ";", OR: "|" };
  const EMPTY = ["blank", "notBlank"];
  const KINDS = {
    agTextColumnFilter: ["contains", "notContains", "equals", "notEqual", "startsWith", "endsWith", ...EMPTY],
    agNumberColumnFilter: [
      ...["equals", "notEqual", "lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "inRange"],
      ...EMPTY,
    ],
  };
  let grid = null; // what steers the table, once it shows what the address says
  let usual = ""; // how it is sorted as it comes

  function address() {
    return window.cockpit.address;
  }

  function spelled(text) {
    return String(text).replace(/[%,:;|]/g, (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase());
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch (error) {
      return text;
    }
  }

  /* The column of a name, or null where the table has none such. */
  function columnOf(name) {
    const column = grid.getColumn(name);
    return column && column.getColDef().field === name ? column : null;
  }

  /* Sorting --------------------------------------------------------------------------------------------------- */

  function sorting() {
    const columns = grid.getColumnState().filter((column) => column.sort);
    columns.sort((one, other) => one.sortIndex - other.sortIndex);
    return columns.map((column) => (column.sort === "desc" ? "-" : "") + spelled(column.colId)).join(",") || UNSORTED;
  }

  function sort(words) {
    const columns = words
      .split(",")
      .map((word) => ({ colId: decoded(word.replace(/^-/, "")), sort: word.startsWith("-") ? "desc" : "asc" }))
      .filter((column) => columnOf(column.colId));
    if (columns.length || words === UNSORTED) {
      columns.forEach((column, place) => Object.assign(column, { sortIndex: place }));
      grid.applyColumnState({ state: columns, defaultState: { sort: null } });
    }
  }

  /* Filters --------------------------------------------------------------------------------------------------- */

  function filters() {
    return Object.entries(grid.getFilterModel() || {})
      .map(function ([column, filter]) {
        const conditions = (filter.conditions || [filter]).map((condition) =>
          [condition.type, condition.filter, condition.filterTo]
            .filter((part) => part !== null && part !== undefined)
            .map(spelled)
            .join(":")
        );
        return spelled(column) + ":" + conditions.join(JOINTS[filter.operator]);
      })
      .join(",");
  }

  /* A condition as the table knows it, or null where a column of that kind has none such. */
  function condition(words, kind) {
    const [type, ...texts] = words.split(":").map(decoded);
    const numeric = kind === "agNumberColumnFilter";
    const values = numeric ? texts.map((text) => (text.trim() ? Number(text) : NaN)) : texts;
    const count = EMPTY.includes(type) ? 0 : type === "inRange" ? 2 : 1;
    const sound = values.every((value) => (numeric ? Number.isFinite(value) : value));
    if (!(KINDS[kind] || []).includes(type) || values.length !== count || !sound) {
      return null;
    }
    const found = { filterType: numeric ? "number" : "text", type: type };
    ["filter", "filterTo"].slice(0, count).forEach((name, place) => (found[name] = values[place]));
    return found;
  }

  function filter(words) {
    const model = {};
    for (const part of words.split(",").filter(Boolean)) {
      const cut = part.indexOf(":");
      const column = columnOf(decoded(part.slice(0, Math.max(cut, 0))));
      const operator = part.includes(JOINTS.OR) ? "OR" : "AND";
      const kind = column && column.getColDef().filter;
      const conditions = part.slice(cut + 1).split(JOINTS[operator]).map((each) => condition(each, kind));
      if (column && conditions.length <= 2 && conditions.every(Boolean)) {
        const one = conditions[0];
        model[column.getColId()] = conditions[1] ? { filterType: one.filterType, operator, conditions } : one;
      }
    }
    grid.setFilterModel(model);
  }

  /* The address ----------------------------------------------------------------------------------------------- */

  function remember() {
    const sorted = sorting();
    address().set("sort", sorted === usual ? null : sorted);
    address().set("filter", filters() || null);
  }

  function restore() {
    sort(usual);
    sort(address().get("sort") || "");
    filter(address().get("filter") || "");
    remember();
  }

  /* The person may have sorted it before what steers it is there: that stays where the address says nothing. */
  async function begin(columns) {
    const own = columns.find((column) => column.sort);
    usual = (own.sort === "desc" ? "-" : "") + spelled(own.field);
    grid = await window.dash_ag_grid.getApiAsync(TABLE);
    if (address().get("sort") !== null || address().get("filter") !== null) {
      restore();
    } else {
      remember();
    }
    grid.addEventListener("sortChanged", remember);
    grid.addEventListener("filterChanged", remember);
  }

  address().listen(function () {
    if (grid) {
      restore();
    }
  });

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.cockpit = Object.assign(window.dash_clientside.cockpit || {}, {
    /* The table has come. */
    keep: function (columns) {
      if (columns.length && !usual) {
        begin(columns[0]);
      }
      return columns.map(() => true);
    },
  });
})();
