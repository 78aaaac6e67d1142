// Scores on the thumbnails of a WebUI's gallery, read from the texts of its images.
(() => {
  "use strict";
  if (typeof onAfterUiUpdate !== "function") return;

  // The server says under which names it writes scores, in whatever panel of ours the page has.
  function pattern() {
    const names = gradioApp().querySelector("[data-ir-titles]")?.dataset.irTitles;
    return names && new RegExp(`(?:^|, )(?:${names.replace(/[.*+?^${}()[\]\\]/g, "\\$&")}): (-?\\d+\\.\\d+)(?=,|$)`);
  }

  function scores(text) {
    const wanted = pattern();
    if (!wanted) return [];
    try {
      const lines = JSON.parse(text || "{}").infotexts ?? [];
      return lines.map((infotext) => wanted.exec(infotext.trim().split("\n").at(-1))?.[1]);
    } catch {
      return []; // another text than the host's
    }
  }

  function mark(tab) {
    const info = gradioApp().querySelector(`#generation_info_${tab} textarea, #generation_info_${tab} input`);
    const thumbnails = gradioApp().querySelectorAll(`#${tab}_gallery .thumbnail-item`);
    if (!info || !thumbnails.length) return;
    const found = scores(info.value);
    thumbnails.forEach((thumbnail) => {
      // The gallery has them twice: in a strip below the chosen image, and as a grid.
      const i = [...thumbnail.parentElement.querySelectorAll(":scope > .thumbnail-item")].indexOf(thumbnail);
      if (found[i]) thumbnail.dataset.irScore = Number(found[i]).toFixed(2);
      else delete thumbnail.dataset.irScore;
    });
  }

  onAfterUiUpdate(() => ["txt2img", "img2img"].forEach(mark));
})();
