// Material's search is a dialog without a name for those who listen to a page.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");

// What is wider than its place can be scrolled by keys, too.
const scrolls = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
const WIDE = "div.result, pre.result, .result pre, .microgrid-report, .md-typeset__scrollwrap, .highlight-ipynb, .jp-OutputArea-output, .jp-OutputArea-output pre";
addEventListener("load", () => document.querySelectorAll(WIDE).forEach((part) => scrolls.observe(part))); // after Material has wrapped the tables
