// Dead letters of a table, chosen one by one or all at once.

import { h, put } from "./dom.js";
import { table } from "./parts.js";

/**
 * A table of dead letters of which some, or all, can be chosen to be acted on. `columns` takes the cell of a
 * choice; `name` names one, and `act` makes the buttons for those that are chosen.
 */
export function selectable(letters, columns, { name, act }) {
  const actions = h("div", { class: "actions", role: "group", "aria-label": "Selected dead letters" });
  const all = h("input", { type: "checkbox", id: "all", onchange: () => choose(boxes.keys(), all.checked) });
  const boxes = new Map();
  const box = (letter) => {
    const input = h("input", { type: "checkbox", "aria-label": `Select ${name(letter)}, ${letter.id}`, onchange: show });
    boxes.set(input, letter);
    return input;
  };
  function choose(inputs, isChosen) {
    for (const input of inputs) input.checked = isChosen;
    show();
  }
  function show() {
    const chosen = [...boxes].filter(([input]) => input.checked).map(([, letter]) => letter);
    all.checked = chosen.length === boxes.size;
    all.indeterminate = chosen.length > 0 && !all.checked;
    put(actions, chosen.length ? act(chosen) : []);
  }
  const shown = table("Dead letters, newest first", columns(box), letters);
  return [
    h("div", { class: "selection" }, h("label", { for: "all" }, all, "Select all of this page"), actions),
    shown,
  ];
}
