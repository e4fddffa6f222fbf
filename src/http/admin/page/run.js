// A replay or discard of dead letters, in a dialog: asks, naming the number; runs step by step; can be stopped between any
// two; shows the result. A dry run changes nothing. A discard offers a file of what it would remove, and asks once more.

import { post } from "./api.js";
import { h, put } from "./dom.js";
import { count, counted } from "./format.js";
import { add, reasons, saveDeadLetters } from "./run_parts.js";

const WORDS = {
  replay: {
    verb: "Replay",
    done: "replayed",
    would: "would be replayed",
    what: "Their events are converted by this release and appended to the stream again. Each is loaded once, however often it is replayed. One that is still refused comes back as a new dead letter.",
  },
  discard: {
    verb: "Discard",
    done: "discarded",
    would: "would be discarded",
    what: "They are removed for good, bodies included. This cannot be undone.",
  },
};

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

  /** A dialog's last line: what it does, behind a way out. */
  function choices(...more) {
    return h(
      "div",
      { class: "actions" },
      h("button", { type: "button", autofocus: true, onclick: close }, "Cancel"),
      more,
    );
  }

  function show(title, ...body) {
    put(dialog, h("h2", { id: "run-title" }, title), body);
    dialog.querySelector("[autofocus]").focus();
  }

  function ask() {
    const isDiscard = action === "discard";
    show(
      `${words.verb} ${letters}?`,
      h("p", {}, `${whose[0].toUpperCase()}${whose.slice(1)}. `, words.what),
      isDiscard && h("p", { class: "faint" }, "The file has their bodies, with personal fields."),
      isDiscard
        ? choices(
            h("button", { type: "button", onclick: () => confirm() }, "Discard without a file…"),
            h("button", { type: "button", class: "primary", onclick: download }, "Download, then discard…"),
          )
        : choices(h("button", { type: "button", class: "primary", onclick: () => go(false) }, `${words.verb} ${number}`)),
    );
  }

  /** The second question of a discard; of a file it discards no more than that holds. */
  function confirm(file) {
    const which = file ? counted(file.many, "dead letter") : letters;
    show(
      `Discard ${which} for good?`,
      h(
        "p",
        {},
        file ? ["Saved: ", h("code", {}, file.name), ". See that it is there. "] : "No file was saved. ",
        "This cannot be undone.",
      ),
      choices(
        h(
          "button",
          { type: "button", class: "danger", onclick: () => go(false, file?.rest) },
          `Discard ${file ? count(file.many) : number}`,
        ),
      ),
    );
  }

  async function download() {
    const said = h("p", { role: "status" }, "Starting");
    [running, stopped] = [true, false];
    show(`Download ${letters}`, said, choices());
    let file;
    try {
      file = await saveDeadLetters(
        scope,
        (held) => put(said, counted(held, "dead letter")),
        () => stopped || !dialog.open,
      );
    } catch (error) {
      running = false;
      return show("Not downloaded", h("p", { class: "said bad", role: "alert" }, error.message), choices());
    }
    running = false;
    if (!file) return close();
    if (!file.many) return show("None is left", h("p", {}, "They were replayed or discarded meanwhile."), choices());
    confirm(file);
  }

  async function go(isDryRun, rest = null) {
    const sum = { done: 0, kept: 0, reasons: new Map() };
    const progress = h("progress", { max: Math.max(many, 1), value: isAtLeast ? null : 0, "aria-label": "Dead letters" });
    const said = h("p", { role: "status" }, "Starting");
    const stop = h(
      "button",
      { type: "button", autofocus: true, onclick: () => ([stopped, stop.disabled] = [true, true]) },
      "Stop",
    );
    [running, stopped] = [true, false];
    show(
      isDryRun ? `Dry run: ${words.verb.toLowerCase()} ${letters}` : `${words.verb} ${letters}`,
      progress,
      said,
      h("div", { class: "actions" }, stop),
    );
    let next = rest;
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
