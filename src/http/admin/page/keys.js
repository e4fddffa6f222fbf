// Keys for whoever keeps the hands on them: `/` searches, `g` and a letter goes to a page, `?` says which there are.

import { h } from "./dom.js";

/** Letter after `g` → page and its name. */
const PLACES = {
  o: ["#/", "Overview"],
  e: ["#/events", "Events"],
  d: ["#/dead-letters", "Dead letters"],
  t: ["#/trace", "Trace"],
  p: ["#/operations", "Operations"],
  s: ["#/settings", "Settings"],
};
/** How long a letter may follow. */
const PAUSE_MS = 1_500;

let since = -Infinity;

/** Listens to them while `isIn()`. */
export function listenToKeys(isIn) {
  addEventListener("keydown", (event) => {
    if (!isIn() || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const follows = event.timeStamp - since < PAUSE_MS;
    since = -Infinity;
    if (follows && PLACES[event.key]) [location.hash] = PLACES[event.key];
    else if (event.key === "g") since = event.timeStamp;
    else if (event.key === "/") search();
    else if (event.key === "?") help();
    else return;
    event.preventDefault();
  });
}

const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable], dialog") !== null;

/** The page's own search, else that of the events. */
function search() {
  const own = document.querySelector("main [role=search] input");
  if (own) {
    own.focus();
    own.select?.();
    return;
  }
  addEventListener("hashchange", () => document.querySelector("main [role=search] input")?.focus(), { once: true });
  location.hash = "#/events";
}

function help() {
  const rows = [["/", "Search"], ...Object.entries(PLACES).map(([key, [, name]]) => [`g ${key}`, name]), ["?", "These keys"]];
  const dialog = h(
    "dialog",
    { class: "keys", "aria-labelledby": "keys-title", onclose: () => dialog.remove() },
    h("h2", { id: "keys-title" }, "Keys"),
    h(
      "dl",
      { class: "keys" },
      rows.map(([keys, what]) =>
        h("div", {}, h("dt", {}, keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, what)),
      ),
    ),
    h("form", { method: "dialog" }, h("button", { type: "submit" }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
