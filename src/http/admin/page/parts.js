// What several pages show alike: a state by glyph, word and colour; a table; an empty place; an error; a way back.

import { h, put, s, update } from "./dom.js";

/** Worst last. */
const STATES = ["healthy", "warning", "critical"];

/** The worst of some states; null where there is none. */
export const worst = (states) => STATES.toReversed().find((state) => states.includes(state)) ?? null;

const GLYPHS = {
  healthy: "M3 6.5 5.2 8.7 9.3 3.8",
  warning: "M6 2.6v4M6 8.9v.2",
  critical: "M3.6 3.6l4.8 4.8M8.4 3.6 3.6 8.4",
};

/** The glyph of a state: its form says it, the colour only repeats it. */
export function glyph(state) {
  const mark = GLYPHS[state] ?? "M3.4 6h5.2";
  return s(
    "svg",
    { class: `glyph ${state ?? "unknown"}`, viewBox: "0 0 12 12", width: 14, height: 14, "aria-hidden": "true" },
    s("circle", { cx: 6, cy: 6, r: 6 }),
    s("path", { d: mark }),
  );
}

/** Glyph and word. */
export const badge = (state, word = state ?? "not known") =>
  h("span", { class: `badge ${state ?? "unknown"}` }, glyph(state), word);

/**
 * A table that becomes a list of cards on a phone. A column is `[heading, cell of a row, class]`; `kind` is a class
 * of the whole.
 */
export function table(caption, columns, rows, kind = "") {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: `rows ${kind}` },
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([heading, , shape]) => h("th", { scope: "col", class: shape }, heading)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            columns.map(([heading, cell, shape]) => h("td", { class: shape, "data-heading": heading }, cell(row))),
          ),
        ),
      ),
    ),
  );
}

/** Names and values. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return h(
    "dl",
    { class: "facts" },
    shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** Nothing is here, and what to do about it. */
export const empty = (title, ...what) => h("div", { class: "empty" }, h("p", { class: "title" }, title), what);

/** A command line to be copied. */
export const command = (line) => h("code", { class: "command" }, line);

/** What went wrong, with a way to try again. */
function failure(error, retry) {
  return h(
    "div",
    { class: "empty", role: "alert" },
    h("p", { class: "title" }, "This could not be loaded"),
    h("p", {}, error.message),
    h("button", { type: "button", onclick: retry }, "Try again"),
  );
}

/** Place → the newest call of `fill` for it. */
const newest = new WeakMap();

/** Fills `place` with what `load` answers, by `show`; says that it waits, and what went wrong. The newest call wins. */
export async function fill(place, load, show = put) {
  const call = {};
  newest.set(place, call);
  place.setAttribute("aria-busy", "true");
  if (!place.hasChildNodes()) put(place, h("p", { class: "waiting" }, "Loading"));
  let [found, say] = [null, show];
  try {
    found = await load();
  } catch (error) {
    // What is tried again and again fails aloud once.
    [found, say] = [failure(error, () => fill(place, load, show)), update];
  }
  if (newest.get(place) !== call) return;
  place.removeAttribute("aria-busy");
  say(place, found);
}

/**
 * Calls `load` now, and again so long after each call has settled: one that takes its time is not overtaken by the next.
 * Answers what ends it.
 */
export function again(after, load) {
  let timer;
  let isOver = false;
  const turn = async () => {
    await load();
    if (!isOver) timer = setTimeout(turn, after);
  };
  turn();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}

/** The heading of a page, with where it hangs and what can be done. */
export function heading(title, { back, note, actions } = {}) {
  return h(
    "div",
    { class: "heading" },
    h(
      "div",
      {},
      back && h("p", { class: "back" }, h("a", { href: back[0] }, "← ", back[1])),
      h("h1", {}, title),
      note && h("p", { class: "faint" }, note),
    ),
    actions && h("div", { class: "actions" }, actions),
  );
}
