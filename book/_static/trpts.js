// What scrolls sideways can be reached by keyboard: wide tables, code and formulas, at the width that the page has now.
(() => {
  const reach = () => document.querySelectorAll("article table, article pre, article mjx-container, article div").forEach(box => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
    if (scrolls && box.tabIndex < 0) { box.tabIndex = 0; box.dataset.reached = ""; }
    else if (!scrolls && "reached" in box.dataset) { box.removeAttribute("tabindex"); delete box.dataset.reached; }
  });
  // docutils calls the bibliography a list, and puts links among its items.
  const unlist = () => document.querySelectorAll(".citation-list[role=list]").forEach(list => list.removeAttribute("role"));
  const later = () => window.MathJax?.startup?.promise ? MathJax.startup.promise.then(reach) : reach();
  window.addEventListener("load", () => { reach(); unlist(); later(); });
  window.addEventListener("resize", reach);
})();
