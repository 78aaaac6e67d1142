// The ImageReward gallery: clicks and keys become messages in a hidden text field that the server reads.
(() => {
  "use strict";
  const root = () => (typeof gradioApp === "function" ? gradioApp() : document);

  function send(what) {
    const field = root().querySelector("#ir_gallery_wire textarea, #ir_gallery_wire input");
    if (!field) return;
    const prototype = field.tagName === "TEXTAREA" ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
    // Through the prototype's setter, so that the framework notices; the time makes every message a new value.
    const message = JSON.stringify({ ...what, all: everything(), at: Date.now() });
    Object.getOwnPropertyDescriptor(prototype, "value").set.call(field, message);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // Whether the threshold stands at its lower end, where every picture passes.
  function everything() {
    const slider = root().querySelector("#ir_gallery_least input[type=range]");
    return !slider || Number(slider.value) <= Number(slider.min);
  }

  document.addEventListener("click", (event) => {
    const card = event.composedPath().find((element) => element.dataset && element.dataset.irDo);
    if (card) send({ do: card.dataset.irDo, id: card.dataset.irId });
  });

  // One request when typing or dragging pauses: a request for each value would lose the last one, or be answered after it.
  let pause;
  document.addEventListener("input", (event) => {
    if (!event.composedPath().some((element) => /^ir_gallery_(least|search)$/.test(element.id))) return;
    clearTimeout(pause);
    pause = setTimeout(() => send({ do: "show" }), 300);
  });

  // The page comes without pictures and asks for them each time it comes into view: new ones may have been saved. The first
  // time it asks until it is answered, as Gradio draws a page before it listens.
  let seconds = 0; // in view
  setInterval(() => {
    const grid = root().querySelector("#ir_gallery_grid");
    if (!grid || !grid.offsetParent) seconds = 0;
    else {
      const answered = grid.querySelector(".ir-note");
      if (seconds === 0 || (!answered && [2, 5, 10, 20].includes(seconds))) send({ do: "seen" });
      seconds += 1;
    }
  }, 1000);

  document.addEventListener("keydown", (event) => {
    const target = event.composedPath()[0];
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable;
    const grid = root().querySelector("#ir_gallery_grid");
    if (typing || event.ctrlKey || event.altKey || event.metaKey || !grid || !grid.offsetParent) return;
    const button = { ArrowLeft: "#ir_gallery_previous", ArrowRight: "#ir_gallery_next" }[event.key];
    const card = /^[1-9]$/.test(event.key) && grid.querySelector(`[data-ir-do][data-ir-key="${event.key}"]`);
    if (button) root().querySelector(button).click();
    else if (card) send({ do: card.dataset.irDo, id: card.dataset.irId });
    else return;
    event.preventDefault();
  });
})();
