// The picture of the flow: sources → stream → workers → warehouse, the spool, the dead letters and the capture of a
// database (where there is one) beside it. Owns where everything stands, on a wide screen and on a phone; what is said there, flowtexts.js knows, is written into it in place.

import { h, put, s, say } from "./dom.js";
import { captureOf } from "./capture.js";
import { arrowTexts, boxTexts, stateOf } from "./flowtexts.js";
import { glyph } from "./parts.js";

const WIDTH = 176;
const HEIGHT = 92;

/** Where boxes stand, and how arrows run: path, then where its figure and its word stand. */
const WIDE = {
  size: [1040, 276],
  boxes: {
    sources: [2, 22],
    stream: [290, 22],
    workers: [576, 22],
    warehouse: [862, 22],
    spool: [146, 178],
    letters: [576, 178],
  },
  arrows: {
    accepted: ["M178 68H284", 231, 52, "middle"],
    backlog: ["M466 68H570", 518, 52, "middle"],
    loaded: ["M752 68H856", 804, 52, "middle"],
    spooled: ["M90 114V210Q90 224 104 224H140", 80, 176, "end"],
    drained: ["M322 224H364Q378 224 378 210V120", 390, 176, "start"],
    buried: ["M664 114V172", 676, 150, "start"],
  },
};
const NARROW = {
  size: [372, 560],
  boxes: {
    sources: [2, 2],
    stream: [2, 156],
    workers: [2, 310],
    warehouse: [2, 464],
    spool: [194, 79],
    letters: [194, 387],
  },
  arrows: {
    accepted: ["M90 94V150", 102, 120, "start"],
    backlog: ["M90 248V304", 102, 274, "start"],
    loaded: ["M90 402V458", 102, 430, "start"],
    spooled: ["M178 48H268Q282 48 282 62V73", 290, 44, "start"],
    drained: ["M282 171V188Q282 202 268 202H184", 290, 206, "start"],
    buried: ["M178 356H268Q282 356 282 370V381", 290, 350, "start"],
  },
};
/** The same with a capture. */
const WIDE_CAPTURE = {
  size: [1040, 394],
  boxes: { ...WIDE.boxes, capture: [2, 300] },
  arrows: { ...WIDE.arrows, captured: ["M178 346H406Q420 346 420 332V120", 300, 330, "middle"] },
};
const NARROW_CAPTURE = {
  size: [372, 598],
  boxes: { ...NARROW.boxes, capture: [194, 246], workers: [2, 350], warehouse: [2, 504], letters: [194, 427] },
  arrows: {
    ...NARROW.arrows,
    backlog: ["M90 248V344", 78, 292, "end"],
    loaded: ["M90 442V498", 102, 470, "start"],
    buried: ["M178 396H268Q282 396 282 410V421", 290, 390, "start"],
    captured: ["M194 292H150Q136 292 136 278V254", 186, 314, "end"],
  },
};

const BOXES = {
  sources: "Sources",
  stream: "Stream",
  workers: "Workers",
  warehouse: "Warehouse",
  spool: "Spool",
  letters: "Dead letters",
  capture: "Capture",
};
/** Where a box leads. */
const LINKS = { stream: "#/events", letters: "#/dead-letters", warehouse: "#/trace" };

export function openFlow() {
  const element = h("div");
  const narrow = matchMedia("(max-width: 700px)");
  let drawn = null;
  let latest = null;
  let hasCapture = false;

  function draw() {
    const [wide, phone] = hasCapture ? [WIDE_CAPTURE, NARROW_CAPTURE] : [WIDE, NARROW];
    drawn = picture(narrow.matches ? phone : wide);
    put(element, drawn.root);
    if (latest) write(drawn, latest);
  }

  narrow.addEventListener("change", draw);
  draw();
  return {
    element,
    show(now) {
      latest = now;
      if (hasCapture === Boolean(captureOf(now))) return write(drawn, now);
      hasCapture = !hasCapture;
      draw();
    },
    close: () => narrow.removeEventListener("change", draw),
  };
}

function picture({ size: [width, height], boxes, arrows }) {
  const parts = { boxes: {}, arrows: {} };
  const arrow = ([name, [path, x, y, anchor]]) => {
    const figure = s("text", { x, y, "text-anchor": anchor, class: "figure" });
    const word = s("text", { x, y: y + (anchor === "middle" ? 34 : 16), "text-anchor": anchor, class: "word" });
    const line = s("path", { d: path, "marker-end": "url(#tip)" });
    const group = s("g", { class: `arrow ${name}` }, line, figure, word);
    parts.arrows[name] = { group, figure, word };
    return group;
  };
  const box = ([name, [x, y]]) => {
    const [figure, note] = [s("text", { x: 16, y: 56, class: "figure" }), s("text", { x: 16, y: 77, class: "note" })];
    const state = s("g", { transform: `translate(${WIDTH - 30} 13)` });
    const inside = [
      s("rect", { width: WIDTH, height: HEIGHT, rx: 10 }),
      s("text", { x: 16, y: 27, class: "name" }, BOXES[name]),
      state,
      figure,
      note,
    ];
    const group = s(
      "g",
      { class: `box ${name}`, transform: `translate(${x} ${y})` },
      LINKS[name] ? s("a", { href: LINKS[name] }, inside) : inside,
    );
    parts.boxes[name] = { group, figure, note, state };
    return group;
  };
  parts.root = s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Flow of events" },
    s(
      "defs",
      {},
      s(
        "marker",
        {
          id: "tip",
          viewBox: "0 0 8 8",
          refX: 5,
          refY: 4,
          markerWidth: 8,
          markerHeight: 8,
          orient: "auto-start-reverse",
          markerUnits: "userSpaceOnUse",
        },
        s("path", { d: "M1 1 6 4 1 7", class: "tip" }),
      ),
    ),
    Object.entries(arrows).map(arrow),
    Object.entries(boxes).map(box),
  );
  return parts;
}

function write({ boxes, arrows }, now) {
  for (const [name, [words, below, isOff]] of Object.entries(boxTexts(now))) {
    const { group, figure, note, state } = boxes[name];
    const status = stateOf(name, now.report);
    say(figure, words);
    say(note, below);
    group.setAttribute("class", `box ${name} ${status}${isOff ? " off" : ""}`);
    if (state.getAttribute("data-state") === status) continue;
    state.setAttribute("data-state", status);
    put(state, status !== "unknown" && [s("title", {}, status), glyph(status)]);
  }
  for (const [name, [figure, word, moves]] of Object.entries(arrowTexts(now))) {
    const { group, figure: text, word: below } = arrows[name];
    say(text, figure);
    say(below, word);
    group.setAttribute("class", `arrow ${name}${moves ? " moves" : ""}`);
  }
}
