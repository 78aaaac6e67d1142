// Search, threshold and groups of the report. No library, no request.
"use strict";
const sheet = document.getElementById("sheet"), cards = [...sheet.children];
const search = document.getElementById("search"), threshold = document.getElementById("threshold");
const grouped = document.getElementById("grouped");

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), lowest = Number(threshold.value);
  let count = 0;
  for (const card of cards) {
    const fits = Number(card.dataset.score) >= lowest && words.every((word) => card.dataset.words.includes(word));
    card.hidden = !fits;
    count += fits;
  }
  for (const title of sheet.querySelectorAll(".group")) {
    let next = title.nextElementSibling;
    while (next && next.hidden && !next.classList.contains("group")) next = next.nextElementSibling;
    title.hidden = !next || next.classList.contains("group");
  }
  document.getElementById("shown-threshold").textContent = lowest.toFixed(2).replace("-", "−");
  document.getElementById("count").textContent = `${count.toLocaleString("en")} of ${cards.length.toLocaleString("en")}`;
}

function arrange() {
  const groups = new Map();  // in the order of their best picture
  for (const card of cards) {
    const prompt = grouped.checked ? card.dataset.prompt : "";
    if (!groups.has(prompt)) groups.set(prompt, []);
    groups.get(prompt).push(card);
  }
  const content = document.createDocumentFragment();
  for (const [prompt, members] of groups) {
    if (grouped.checked) {
      const title = document.createElement("li");
      title.className = "group";
      title.textContent = prompt || "without prompt";
      content.append(title);
    }
    for (const card of members) content.append(card);
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
    sheet.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  });
show();
