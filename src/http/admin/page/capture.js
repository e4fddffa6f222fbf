// The capture of a shop's own database: which process has it, its figures, and the request to read all orders again.

import { post } from "./api.js";
import { h, put, update } from "./dom.js";
import { bytes, count, counted, known, percent, rate, seconds, UNKNOWN } from "./format.js";
import { badge, facts } from "./parts.js";

/** State → how it is, and its words. */
const STATES = {
  streaming: ["healthy", "streaming"],
  walking: ["healthy", "reading orders"],
  standby: ["healthy", "standby"],
  connecting: ["warning", "connecting"],
  waiting: ["warning", "waiting for room"],
  stopped: ["critical", "stopped"],
};

/** Why a walk reads orders; every other reason is that of a gap. */
const WALKS = { snapshot: "first read of all orders", resync: "resync" };

/** The capture beside the stream, that of this process first; of several the one that is no standby. Null: none. */
export function captureOf({ report, nodes, node_id: own }) {
  const live = (nodes ?? []).filter((node) => !node.stale && node.capture);
  // The report is newer than the record of this node, which has the rate.
  const figures = (node) => ({
    ...(node.id === own && report.capture ? report.capture : node.capture),
    events_per_second: node.captured_per_second,
  });
  const all = live.toSorted((a, b) => (b.id === own) - (a.id === own)).map(figures);
  return all.find(({ state }) => state !== "standby") ?? all[0] ?? report.capture;
}

/** The panel; hidden while there is no capture. */
export function openCapture() {
  const told = h("div");
  let source = null;
  const button = h("button", { type: "button", onclick: () => ask(source) }, "Read all orders again…");
  const element = h(
    "section",
    { "aria-labelledby": "capture", hidden: true },
    h("h2", { id: "capture" }, "Capture"),
    h("div", { class: "panel" }, told, h("div", { class: "actions" }, button)),
  );
  return {
    element,
    show(now) {
      const capture = captureOf(now);
      element.hidden = !capture;
      if (!capture) return;
      source = capture.source;
      button.disabled = !source || capture.state === "stopped";
      update(told, figures(capture));
    },
  };
}

function figures(capture) {
  const { walk } = capture;
  return [
    facts([
      ["State", badge(...(STATES[capture.state] ?? [null, capture.state]))],
      ["Source", h("code", {}, capture.source || UNKNOWN)],
      ["Behind", known(capture.lag_seconds) ? (capture.lag_seconds > 0 ? seconds(capture.lag_seconds) : "up to date") : UNKNOWN],
      ["Captured", rate(capture.events_per_second)],
      ["WAL kept by the source", bytes(capture.retained_bytes)],
      ["WAL until a loss", known(capture.safe_bytes) ? bytes(capture.safe_bytes) : null],
      ["Slot on a standby", known(capture.failover_synced) ? (capture.failover_synced ? "synced" : "not synced") : null],
      ["Last test message", known(capture.canary_seconds) ? `${seconds(capture.canary_seconds)} ago` : null],
      ["Gaps", capture.gaps ? counted(capture.gaps, "gap") : "none"],
    ]),
    walk && progress(walk),
  ];
}

function progress({ reason, done, estimate }) {
  const share = estimate ? Math.min(done / estimate, 1) : null;
  return h(
    "div",
    { class: "walk" },
    h(
      "p",
      {},
      h("label", { for: "walk" }, `Reading orders: ${WALKS[reason] ?? `changes were lost (${reason.replaceAll("_", " ")})`}`),
      h("strong", {}, share === null ? count(done) : percent(share)),
    ),
    h("progress", { id: "walk", max: 1, value: share }),
    h("p", { class: "faint" }, estimate ? `${count(done)} of about ${counted(estimate, "order")}` : counted(done, "order")),
  );
}

/** Asks, then has the running capture read all orders again. */
function ask(source) {
  const dialog = h("dialog", { class: "run", "aria-labelledby": "resync-title" });
  const close = () => dialog.close();
  const show = (title, what, ...buttons) =>
    put(dialog, h("h2", { id: "resync-title" }, title), what, h("div", { class: "actions" }, buttons));
  dialog.addEventListener("close", () => dialog.remove());

  async function go(event) {
    event.target.disabled = true;
    const done = h("button", { type: "button", onclick: close }, "Close");
    try {
      await post("/api/capture/resync", { source });
      show("Requested", h("p", { role: "status" }, "The capture begins within seconds. Its progress is shown here."), done);
    } catch (error) {
      show("Not requested", h("p", { class: "said bad", role: "alert" }, error.message), done);
    }
    done.focus();
  }

  show(
    "Read all orders again?",
    h("p", {}, "Each order is read from the database and stored in the stream as it is now. Changes go on beside."),
    h("button", { type: "button", autofocus: true, onclick: close }, "Cancel"),
    h("button", { type: "button", class: "primary", onclick: go }, "Read all orders"),
  );
  document.body.append(dialog);
  dialog.showModal();
}
