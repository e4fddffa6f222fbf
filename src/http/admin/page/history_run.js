// A replay or rebuild in a dialog: previewed, run step by step, stopped between any two, and its result.

import { post } from "./api.js";
import { h, put } from "./dom.js";
import { count, counted, known, time } from "./format.js";

/** A dialog whose content is shown anew. */
export function openDialog() {
  const dialog = h("dialog", { class: "run", "aria-labelledby": "operation", onclose: () => dialog.remove() });
  document.body.append(dialog);
  dialog.showModal();
  return {
    element: dialog,
    close: () => dialog.close(),
    show(title, what, ...buttons) {
      put(dialog, h("h2", { id: "operation" }, title), what, h("div", { class: "actions" }, buttons));
      dialog.querySelector("[autofocus]")?.focus();
    },
  };
}

/** A replay, previewed first, or a rebuild: step by step, until its end or until it is stopped. */
export function openHistoryRun(action, request, done) {
  const isReplay = action === "replay";
  const verb = isReplay ? "Replay" : "Rebuild";
  const dialog = openDialog();
  let [running, stopped, changed] = [false, false, false];
  dialog.element.addEventListener("cancel", (event) => {
    if (!running) return;
    event.preventDefault();
    stopped = true;
  });
  dialog.element.addEventListener("close", () => changed && done());
  go(isReplay);

  async function go(isDry) {
    const sum = { pending: 0, applied: 0, left: 0, missing: null };
    const said = h("p", { role: "status" }, "Starting");
    const progress = h("progress", { "aria-label": verb });
    const stop = h(
      "button",
      { type: "button", autofocus: true, onclick: () => ([stopped, stop.disabled] = [true, true]) },
      "Stop",
    );
    [running, stopped] = [true, false];
    dialog.show(isDry ? "Preview of the replay" : `${verb} under way`, [progress, said], stop);
    let [next, trouble] = [null, null];
    const step = (more) => post(`/api/${action}`, { ...request, ...(isReplay && { dry_run: isDry }), next, ...more });
    try {
      do {
        changed ||= !isDry;
        const found = await step({});
        if (!next) sum.missing = found.missing;
        if (!isReplay && !next && known(found.stored)) progress.max = Math.max(found.stored, 1);
        for (const name of ["pending", "applied", "left"]) sum[name] += found[name];
        if (progress.max > 1) progress.value = sum.applied;
        put(said, `${counted(sum.pending + sum.applied + sum.left, "event")} so far`);
        next = found.next;
      } while (next && !stopped);
      if (next && !isDry) await step({ stop: true });
    } catch (error) {
      trouble = error.message;
    }
    running = false;
    const isCut = Boolean(next || trouble);
    const goesOn = isDry && !isCut && sum.pending + sum.applied > 0;
    dialog.show(
      isDry ? "Preview" : isCut ? "Stopped" : "Done",
      [
        result(sum, isDry),
        trouble && h("p", { class: "said bad", role: "alert" }, "Interrupted: ", trouble),
        isCut && h("p", { class: "faint" }, "Completed steps stay. Starting again begins anew, which is harmless."),
      ],
      h("button", { type: "button", autofocus: true, onclick: dialog.close }, "Close"),
      goesOn && h("button", { type: "button", class: "primary", onclick: () => go(false) }, verb),
    );
  }
}

function result({ pending, applied, left, missing }, isDry) {
  const would = isDry ? "would be " : "";
  const lines = [
    pending > 0 && `${counted(pending, "entry", "entries")} of the stream ${would}made pending again`,
    applied > 0 && `${counted(applied, "event")} of order_events ${would}applied again`,
    left > 0 && `${count(left)} left as they are: unread or pending already, or unreadable`,
    missing && ["Missing: ", time(missing.from), " to ", time(missing.to), ` (${missing.reason})`],
  ].filter(Boolean);
  return h("ul", { class: "reasons" }, (lines.length ? lines : ["Nothing to do"]).map((line) => h("li", {}, h("span", {}, line))));
}
