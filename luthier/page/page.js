"use strict";
// Small comforts: without this script all of the page is there too.
document.documentElement.classList.add("scripted");

// Click on a column's name: sort by it.
for (const table of document.querySelectorAll("table[id]")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const value = row.cells[column].dataset.v;
        return value === undefined ? row.cells[column].textContent : value === "" ? -Infinity : Number(value);
      };
      const sign = down ? -1 : 1;
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => sign * (typeof a === "string" ? a.localeCompare(b) : a === b ? 0 : a < b ? -1 : 1));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// Text in the box: only rows that contain it.
for (const box of document.querySelectorAll("input[data-filter]")) {
  const rows = document.getElementById(box.dataset.filter).tBodies[0].rows;
  const count = document.querySelector(`[data-count="${box.dataset.filter}"]`);
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(row.textContent + row.querySelector("a")?.title).toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = wanted ? ` ${shown} of ${rows.length}` : "";
  });
}

for (const button of document.querySelectorAll("[data-fold]")) {
  button.addEventListener("click", () => {
    for (const part of document.querySelectorAll("details.task")) part.open = Boolean(button.dataset.fold);
  });
}

// A link to a folded task unfolds it.
function unfold() {
  const part = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (part instanceof HTMLDetailsElement) {
    part.open = true;
    part.scrollIntoView();
  }
}
addEventListener("hashchange", unfold);
unfold();
