// Unfolds what an address points at, and tables on paper.
// Sorts a table by the column whose title is pressed: numbers by value, what is missing last.
"use strict";

function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1).split("?")[0]));
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  if (target?.tagName === "DETAILS") target.scrollIntoView();
}
window.addEventListener("hashchange", unfold);
unfold();

// On paper nothing unfolds: tables that a page keeps folded stand there.
const tables = [...document.querySelectorAll("details.folded:not(.line)")];
window.addEventListener("beforeprint", () => {
  for (const fold of tables) fold.open = true;
});

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const key = (row) => {
      const { order } = row.cells[column].dataset;
      return order === undefined ? row.cells[column].textContent : Number(order);
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    };
    const missing = (row) => row.cells[column].textContent.trim() === "—";
    head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => missing(a) - missing(b) || sign * compare(a, b)));
    });
  });
}
