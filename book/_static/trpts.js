// What scrolls sideways can be reached by keyboard: wide tables, code and formulas, at the width that the page has now.
(() => {
  const reach = () => document.querySelectorAll("article table, article pre, article mjx-container, article div").forEach(box => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
    if (scrolls && box.tabIndex < 0) { box.tabIndex = 0; box.dataset.reached = ""; }
    else if (!scrolls && "reached" in box.dataset) { box.removeAttribute("tabindex"); delete box.dataset.reached; }
  });
  // A long text in a narrow column makes rows of a screen's height: its cell takes a third of its length, if not too wide.
  const widen = () => document.querySelectorAll("article table.table td").forEach(cell => {
    cell.style.minWidth = `${Math.min(28, Math.ceil(cell.textContent.trim().length / 3))}ch`;
  });
  // docutils calls the bibliography a list, and puts links among its items.
  const unlist = () => document.querySelectorAll(".citation-list[role=list]").forEach(list => list.removeAttribute("role"));
  const later = () => window.MathJax?.startup?.promise ? MathJax.startup.promise.then(reach) : reach();
  window.addEventListener("load", () => { widen(); reach(); unlist(); later(); });
  window.addEventListener("resize", reach);
})();
