"""What the report does in the browser: search, threshold, groups. No library, no request."""

from __future__ import annotations

REPORT_STYLE = """
h2 { display: inline; font-size: 1.05rem; font-weight: 650; }
section { margin-bottom: 1.3rem; }
summary { cursor: pointer; }
.histogram { display: block; width: 100%; max-height: 11rem; margin-top: .5rem; }
.histogram rect { fill: var(--accent); } .histogram text { fill: var(--soft); font-size: 13px; }
.averages { border-collapse: collapse; margin-top: .5rem; font-variant-numeric: tabular-nums; }
.averages th, .averages td { text-align: right; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); }
.averages th:first-child, .averages td:first-child { text-align: left; max-width: 36rem; overflow-wrap: anywhere; }
.averages th { color: var(--soft); font-weight: 500; }
.averages button { all: unset; cursor: pointer; } .averages button:hover { text-decoration: underline; }
.averages button:focus-visible { outline: 2px solid var(--accent); }
.controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .6rem 1.6rem; align-items: center;
  padding: .7rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }
.controls label { display: flex; gap: .5rem; align-items: center; }
#search { width: min(20rem, 60vw); padding: .3rem .5rem; font: inherit; }
#threshold { width: 14rem; } #shown-threshold { min-width: 4.5rem; font-variant-numeric: tabular-nums; }
#count, .made { color: var(--soft); } .made { font-size: .8rem; overflow-wrap: anywhere; }
.group { grid-column: 1 / -1; margin: .6rem 0 -.3rem; font-weight: 600; overflow-wrap: anywhere; }
.card[hidden] { display: none; }
"""

REPORT_SCRIPT = """
"use strict";
const sheet = document.getElementById("sheet"), cards = [...sheet.children];
const search = document.getElementById("search"), threshold = document.getElementById("threshold");
const grouped = document.getElementById("grouped");

function show() {
  const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean), least = Number(threshold.value);
  let count = 0;
  for (const card of cards) {
    const fits = Number(card.dataset.score) >= least && words.every((word) => card.dataset.words.includes(word));
    card.hidden = !fits;
    count += fits;
  }
  for (const title of sheet.querySelectorAll(".group")) {
    let next = title.nextElementSibling;
    while (next && next.hidden && !next.classList.contains("group")) next = next.nextElementSibling;
    title.hidden = !next || next.classList.contains("group");
  }
  document.getElementById("shown-threshold").textContent = least.toFixed(2);
  document.getElementById("count").textContent = `${count} of ${cards.length}`;
}

function arrange() {
  const groups = new Map();
  for (const card of cards) {
    const key = grouped.checked ? card.dataset.prompt : "";
    groups.set(key, [...(groups.get(key) || []), card]);
  }
  const content = document.createDocumentFragment();
  for (const [prompt, members] of groups) {  // in the order of their best picture
    if (grouped.checked) {
      const title = document.createElement("li");
      title.className = "group";
      title.textContent = prompt || "without prompt";
      content.append(title);
    }
    content.append(...members);
  }
  sheet.replaceChildren(content);
  show();
}

search.addEventListener("input", show);
threshold.addEventListener("input", show);
grouped.addEventListener("change", arrange);
for (const button of document.querySelectorAll("[data-search]"))
  button.addEventListener("click", () => {
    search.value = button.dataset.search;
    show();
    sheet.scrollIntoView({ behavior: "smooth" });
  });
show();
"""
