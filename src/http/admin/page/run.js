// A replay or discard of dead letters, in a dialog: asks, naming the number; runs step by step; can be stopped between any
// two; shows the result. A dry run changes nothing.

import { post } from "./api.js";
import { h, put } from "./dom.js";
import { count, counted } from "./format.js";

const WORDS = {
  replay: {
    verb: "Replay",
    done: "replayed",
    would: "would be replayed",
    what: "Their events are converted by this release and appended to the stream again. Each is loaded once, however often it is replayed.",
  },
  discard: {
    verb: "Discard",
    done: "discarded",
    would: "would be discarded",
    what: "They are removed for good, bodies included. This cannot be undone.",
  },
};
/** Reasons listed at the end. */
const REASONS = 8;

/**
 * `scope` says which letters, `count` how many, or at least how many, `whose` in words; `done` is called after something
 * may have changed.
 */
export function openRun({ action, scope, count: many, isAtLeast, whose, isDry, done }) {
  const words = WORDS[action];
  const dialog = h("dialog", { class: "run", "aria-labelledby": "run-title" });
  let stopped = false;
  let running = false;
  let changed = false;

  dialog.addEventListener("cancel", (event) => {
    if (!running) return;
    event.preventDefault();
    stopped = true;
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (changed) done();
  });
  document.body.append(dialog);
  dialog.showModal();
  const atLeast = isAtLeast ? "at least " : "";
  const number = `${atLeast}${count(many)}`;
  const letters = `${atLeast}${counted(many, "dead letter")}`;
  if (isDry) go(true);
  else ask();

  function show(title, ...body) {
    put(dialog, h("h2", { id: "run-title" }, title), body);
    dialog.querySelector("[autofocus]").focus();
  }

  function ask() {
    show(
      `${words.verb} ${letters}?`,
      h("p", {}, `${whose[0].toUpperCase()}${whose.slice(1)}. `, words.what),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", autofocus: true, onclick: close }, "Cancel"),
        h(
          "button",
          { type: "button", class: action === "discard" ? "danger" : "primary", onclick: () => go(false) },
          `${words.verb} ${number}`,
        ),
      ),
    );
  }

  async function go(isDryRun) {
    const sum = { done: 0, kept: 0, reasons: new Map() };
    const progress = h("progress", { max: Math.max(many, 1), value: isAtLeast ? null : 0, "aria-label": "Dead letters" });
    const said = h("p", { role: "status" }, "Starting");
    const stop = h(
      "button",
      {
        type: "button",
        autofocus: true,
        onclick: () => {
          stopped = true;
          stop.disabled = true;
        },
      },
      "Stop",
    );
    [running, stopped] = [true, false];
    show(
      isDryRun ? `Dry run: ${words.verb.toLowerCase()} ${letters}` : `${words.verb} ${letters}`,
      progress,
      said,
      h("div", { class: "actions" }, stop),
    );
    let next = null;
    let trouble = null;
    try {
      do {
        // A step that fails may have done a part.
        changed ||= !isDryRun;
        const step = await post(`/api/dead-letters/${action}`, { ...scope, dry_run: isDryRun, next });
        add(sum, step);
        if (!isAtLeast) progress.value = Math.min(sum.done + sum.kept, many);
        const sofar = sum.done + sum.kept;
        // Copies of a letter are one where letters are counted, and gone through one by one.
        put(said, sofar > many ? counted(sofar, "dead letter") : `${count(sofar)} of ${number}`);
        next = step.next;
      } while (next && !stopped);
    } catch (error) {
      trouble = error.message;
    }
    running = false;
    end(sum, { isDryRun, trouble, isCut: Boolean(next || trouble) });
  }

  function end(sum, { isDryRun, trouble, isCut }) {
    const goesOn = isDryRun && sum.done > 0 && !isCut;
    show(
      isDryRun ? "Preview" : isCut ? "Stopped" : "Done",
      h(
        "p",
        {},
        h("strong", {}, counted(sum.done, "dead letter")),
        ` ${isDryRun ? words.would : words.done}`,
        sum.kept > 0 && [", ", h("strong", {}, count(sum.kept)), isDryRun ? " would stay" : " stay"],
        ".",
      ),
      trouble &&
        h(
          "p",
          { class: "said bad", role: "alert" },
          "Interrupted: ",
          trouble,
          " Completed steps stay; start again to continue.",
        ),
      !isAtLeast &&
        sum.done + sum.kept > many &&
        h("p", { class: "faint" }, "Some have copies: each copy is counted."),
      isCut && !trouble && h("p", { class: "faint" }, "Completed steps stay. Start again to continue."),
      reasons(sum.reasons),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", autofocus: true, onclick: close }, "Close"),
        goesOn &&
          h("button", { type: "button", class: "primary", onclick: ask }, `${words.verb} ${number}…`),
      ),
    );
  }

  function close() {
    dialog.close();
  }
}

function add(sum, step) {
  sum.done += step.done;
  sum.kept += step.kept;
  for (const { reason } of step.letters) {
    if (reason) sum.reasons.set(reason, (sum.reasons.get(reason) ?? 0) + 1);
  }
}

/** Why letters stay, the most frequent reason first. */
function reasons(found) {
  if (!found.size) return null;
  const most = [...found].sort(([, a], [, b]) => b - a);
  return h(
    "ul",
    { class: "reasons" },
    most.slice(0, REASONS).map(([reason, number]) => h("li", {}, h("strong", {}, count(number)), reason)),
    most.length > REASONS && h("li", {}, `and ${count(most.length - REASONS)} other reasons`),
  );
}
