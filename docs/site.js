// Material's search is a dialog without a name for those who listen to a page.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
