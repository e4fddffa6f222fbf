// What an operator does to the pipeline as a whole: pause and resume of the workers, replay, rebuild; and the audit log of
// what was done.

import { get, post } from "./api.js";
import { h, update } from "./dom.js";
import { count, time } from "./format.js";
import { openDialog, openHistoryRun } from "./history_run.js";
import { listen } from "./live.js";
import { badge, empty, fill, heading, table } from "./parts.js";

const NOTES = 200;
/** The last id of a millisecond. */
const LAST = "18446744073709551615";

export function openOperations() {
  const audit = h("div", { class: "results" });
  const load = () => fill(audit, async () => notes(await get("/api/audit", { count: NOTES })));
  const workers = openWorkers(load);
  load();
  const part = (id, title, ...content) => h("section", { "aria-labelledby": id }, h("h2", { id }, title), content);
  return {
    title: "Operations",
    close: workers.close,
    element: h(
      "div",
      { class: "page" },
      heading("Operations"),
      part("workers", "Workers", workers.element),
      part("replay", "Replay", replay(load)),
      part("rebuild", "Rebuild", rebuild(load)),
      part("audit", "Audit log", audit),
    ),
  };
}

/** Whether the group is paused, and the button that changes it. */
function openWorkers(reload) {
  const state = h("p", { role: "status" }, "Waiting for the first figures");
  const said = h("p", { class: "said bad", role: "alert" });
  const button = h("button", { type: "button", hidden: true, onclick: act }, "Pause…");
  let since = null;

  function show(paused) {
    since = paused ?? null;
    update(
      state,
      since
        ? [badge("warning", "paused"), " since ", time(since), ". Events are accepted and stay in the stream."]
        : [badge("healthy", "reading"), " Workers of all processes read and load."],
    );
    button.hidden = false;
    button.textContent = since ? "Resume" : "Pause…";
  }
  async function set(paused) {
    said.textContent = "";
    try {
      show((await post("/api/pause", { paused })).paused_since);
    } catch (error) {
      said.textContent = error.message;
    }
    reload();
  }
  function act() {
    if (since) return set(false);
    const dialog = openDialog();
    dialog.show(
      "Pause the workers?",
      h(
        "p",
        {},
        "Within seconds no process loads anything, until somebody resumes. Events are accepted and stay in the stream, up to its cap.",
      ),
      h("button", { type: "button", autofocus: true, onclick: dialog.close }, "Cancel"),
      h("button", { type: "button", class: "primary", onclick: () => (dialog.close(), set(true)) }, "Pause"),
    );
  }
  const close = listen(({ report }) => report && show(report.paused_since));
  return { element: h("div", { class: "panel" }, state, said, h("div", { class: "actions" }, button)), close };
}

function replay(reload) {
  const field = (name, label) =>
    h(
      "div",
      { class: "field" },
      h("label", { for: name }, label),
      h("input", { id: name, name, type: "datetime-local" }),
    );
  const submit = (event) => {
    event.preventDefault();
    const { from, to } = Object.fromEntries(new FormData(event.target));
    const request = {};
    if (from) request.from = `${new Date(from).getTime()}-0`;
    // To the end of the minute that was chosen.
    if (to) request.to = `${new Date(to).getTime() + 59_999}-${LAST}`;
    openHistoryRun("replay", request, reload);
  };
  return h(
    "div",
    { class: "panel" },
    h(
      "p",
      {},
      "Events received in a range of time are loaded again: the stream makes them pending, and what it no longer has comes from the warehouse. Nothing gets a second row, and the newest state of an order stands.",
    ),
    h(
      "form",
      { class: "filters", onsubmit: submit },
      field("from", "From (empty: the oldest)"),
      field("to", "To (empty: now)"),
      h("button", { type: "submit" }, "Preview…"),
    ),
  );
}

function rebuild(reload) {
  const ask = () => {
    const dialog = openDialog();
    dialog.show(
      "Rebuild the state tables?",
      h("p", {}, "Orders, their lines and refunds are computed again from all of order_events. Loading goes on beside."),
      h("button", { type: "button", autofocus: true, onclick: dialog.close }, "Cancel"),
      h(
        "button",
        { type: "button", class: "primary", onclick: () => (dialog.close(), openHistoryRun("rebuild", {}, reload)) },
        "Rebuild",
      ),
    );
  };
  return h(
    "div",
    { class: "panel" },
    h("p", {}, "The tables orders, order_items and order_refunds are computed again from order_events."),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: ask }, "Rebuild…")),
  );
}

function notes(found) {
  if (!found.length)
    return empty("No entry yet", h("p", {}, "What operators change is recorded here, from every node."));
  return table(
    "Audit log, newest first",
    [
      ["When", (note) => time(note.at), "tight"],
      ["Action", (note) => note.action],
      ["Scope", (note) => h("code", {}, note.what)],
      ["By", (note) => ({ cli: "command line", request: "privacy request", capture: "capture" })[note.by] ?? "dashboard or API"],
      ["Done", (note) => count(note.done), "number"],
      ["Kept", (note) => count(note.kept), "number"],
    ],
    found,
  );
}
