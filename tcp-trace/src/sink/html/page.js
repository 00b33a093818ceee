"use strict";
// The page is complete without this: it sorts tables, filters long ones, and switches between dark and light.

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  table.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.title = "Sort by this column; a third time restores the order";
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(table, body, original, head, column));
  });
  if (original.length > 15) {
    addFilter(table, original);
  }
}

function sort(table, body, original, head, column) {
  const isNumber = head.classList.contains("n");
  // What one wants first of numbers are the greatest, of texts the first.
  const orders = isNumber ? ["descending", "ascending"] : ["ascending", "descending"];
  const next = { [orders[0]]: orders[1], [orders[1]]: null }[head.getAttribute("aria-sort")];
  const order = next === undefined ? orders[0] : next;
  table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  if (order === null) {
    body.append(...original);
    return;
  }
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    const value = cell.dataset.v;
    if (value !== undefined) return Number(value);
    return isNumber ? null : cell.textContent;
  };
  const compare = ([a], [b]) => {
    // What is not known comes last, whichever way.
    if (a === null || b === null) return (a === null) - (b === null);
    const difference = typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
    return sign * difference;
  };
  const rows = original.map((row) => [key(row), row]);
  body.append(...rows.sort(compare).map(([, row]) => row));
}

function addFilter(table, rows) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  label.className = "filter";
  input.type = "search";
  input.placeholder = "Show rows with …";
  input.setAttribute("aria-label", "Show only rows that contain this");
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  label.append(input);
  table.before(label);
}

const toggle = document.getElementById("theme");
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const show = () => {
  toggle.textContent = dark() ? "Light" : "Dark";
  toggle.setAttribute("aria-label", dark() ? "Switch to light colours" : "Switch to dark colours");
};
toggle.hidden = false;
toggle.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  show();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
