/* Search results show the text of pages, where formulas would stand as TeX: short ones become text, others "…". */
"use strict";

// Before the listener of Sphinx's searchtools.js, which comes later in the page and begins the search.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return; // not the search page
  const greek = { alpha: "α", beta: "β", gamma: "γ", ell: "ℓ", eta: "η", lambda: "λ", mu: "μ", pi: "π", sigma: "σ" };
  const signs = { ge: "≥", le: "≤", ll: "≪", gg: "≫", infty: "∞", log: "log" };
  const plain = (tex) => {
    const text = tex.replace(/^\\[(\[]|\\[)\]]$/g, "").replace(/\\([a-z]+)/g, (all, name) => greek[name] ?? signs[name] ?? all);
    return /[\\{}&]/.test(text) ? "…" : text.trim();
  };
  const toText = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(".math").forEach((formula) => formula.replaceWith(plain(formula.textContent.trim())));
    return toText(page.documentElement.outerHTML, anchor);
  };
});
