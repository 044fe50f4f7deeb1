"use strict";
// Tables that sort and filter, a hint where they scroll, folds that open for links and for printing. Without this the page is
// whole, only not as handy.
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return "";
    const text = (cell.firstChild ? cell.firstChild.textContent : "").trim();
    const number = parseFloat(text.replace(/[−–]/g, "-").replace(/[^\d.eE+-]/g, ""));
    return /^[<>×+−]?\s*[+−]?\d/.test(text) && Number.isFinite(number) ? number : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a < b ? -1 : a > b ? 1 : 0;
  };
  // Rows are sorted between headings, so that they stay with theirs.
  const sort = (table, column, descending) => {
    for (const body of table.tBodies) {
      const groups = [[]];
      for (const row of [...body.rows]) {
        if (row.classList.contains("heading")) groups.push([row], []);
        else groups[groups.length - 1].push(row);
      }
      for (const group of groups) {
        if (group.length > 1) {
          const keyed = group.map((row) => [value(row, column), row]);
          keyed.sort((a, b) => (descending ? -1 : 1) * compare(a[0], b[0]));
          group.splice(0, group.length, ...keyed.map((pair) => pair[1]));
        }
        body.append(...group);
      }
    }
  };
  const filter = (table, text, cell) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const body of table.tBodies) {
      let heading = null;
      for (const row of body.rows) {
        if (row.classList.contains("heading")) {
          heading = row;
          row.hidden = words.length > 0;
          continue;
        }
        const content = `${heading ? heading.textContent : ""} ${row.textContent}`.toLowerCase();
        row.hidden = Boolean(cell && row.dataset.cell !== cell)
          || !words.every((word) => content.includes(word));
        if (!row.hidden && heading) heading.hidden = false;
      }
    }
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, column, descending);
      });
    });
    if (table.tBodies[0].rows.length < 8 || table.closest(".first")) continue;
    const label = document.createElement("label");
    const box = document.createElement("input");
    label.className = "filter";
    box.type = "search";
    box.placeholder = "all rows";
    label.append("Filter ", box);
    box.addEventListener("input", () => filter(table, box.value));
    table.parentElement.before(label);
  }
  // A link to the runs of a cell shows these runs alone, until the filter is changed.
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target.dataset.cell) {
      const table = target.closest("table");
      const box = table.parentElement.previousElementSibling.querySelector("input");
      if (box) box.value = target.cells[0].textContent;
      filter(table, "", target.dataset.cell);
    }
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  follow();
  const folds = document.querySelectorAll("details");
  for (const button of document.querySelectorAll("button.all")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const open = ![...folds].every((fold) => fold.open);
      for (const fold of folds) fold.open = open;
    });
  }
  // What is wider than its frame says so, and fades where it goes on.
  const hint = (frame) => {
    const rest = frame.scrollWidth - frame.clientWidth;
    frame.classList.toggle("wide", rest > 1);
    frame.classList.toggle("more", rest - frame.scrollLeft > 1);
  };
  // In the next frame: a hint changes the height of what is observed.
  const frames = new ResizeObserver((entries) => requestAnimationFrame(() => {
    for (const entry of entries) hint(entry.target.closest(".scroll"));
  }));
  for (const frame of document.querySelectorAll(".scroll")) {
    frames.observe(frame);
    if (frame.firstElementChild) frames.observe(frame.firstElementChild);
    frame.addEventListener("scroll", () => hint(frame), { passive: true });
  }
  const closed = new Set();
  window.addEventListener("beforeprint", () => {
    for (const fold of folds) if (!fold.open) { closed.add(fold); fold.open = true; }
  });
  window.addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
    closed.clear();
  });
})();
