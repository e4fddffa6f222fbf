// What the picture of the flow says: the figure and the note of each box, its state by the health checks, the rate on
// each arrow.

import { captureOf } from "./capture.js";
import { bytes, count, known, percent, rate, seconds, span, store, UNKNOWN } from "./format.js";
import { otherSpools } from "./nodes.js";
import { worst } from "./parts.js";
import { column } from "./rates.js";

/** Samples for which the last known latency is shown. */
const LATELY = 60;
/** Samples that the newest rates are of. */
const NEWEST = 10;

/** Box → the health checks that judge it. */
const JUDGED_BY = {
  sources: ["accepted", "unauthorized", "api_version", "subscriptions"],
  stream: ["stream", "stream_length", "eviction_policy", "trimming", "stream_ids", "losses"],
  workers: ["workers", "backlog_age", "pending", "lag", "idle_consumers", "group"],
  warehouse: ["warehouse", "warehouse_loss", "privacy_requests", "reconcile"],
  spool: ["spool", "other_spools"],
  letters: ["dead_letters"],
  capture: ["capture", "capture_wal", "capture_query"],
};

/** The worst of the checks that judge a box; `unknown` where there is none. */
export function stateOf(box, report) {
  const judged = report.checks.filter((check) => JUDGED_BY[box].includes(check.name));
  return worst(judged.map((check) => check.status)) ?? "unknown";
}

/** Figure, note and whether it is off, of each box. */
export function boxTexts(now) {
  const { report, node } = now;
  const capture = captureOf(now);
  return {
    ...(capture && { capture: captureTexts(capture) }),
    sources: [
      known(report.last_accepted_seconds)
        ? `${seconds(report.last_accepted_seconds)} ago`
        : known(report.stream_length)
          ? "none yet"
          : UNKNOWN,
      "last accepted",
    ],
    stream: [count(report.stream_length), `entries in ${store(node?.storage.stream)}`],
    workers: [count(report.workers), `live, ${count(report.pending_count)} pending`],
    warehouse: warehouseTexts(now),
    spool: spoolTexts(now),
    letters: [count(report.dead_letters), deadLettersNote(report)],
  };
}

/** Of all workers, wherever they run. */
function warehouseTexts({ report, samples }) {
  const lately = samples.slice(-LATELY);
  const loaded = lately.findLast((sample) => known(sample.latency_p50_ms));
  const check = report.checks.find(({ name }) => name === "warehouse");
  if (check && check.known !== false && check.status !== "healthy") return ["away", "not reached by workers"];
  if (loaded) return [span(loaded.latency_p50_ms), `p50 · p99 ${span(loaded.latency_p99_ms)}`];
  return [UNKNOWN, lately.some((sample) => known(sample.loaded_per_second)) ? "nothing loaded lately" : "not known"];
}

function deadLettersNote({ dead_letters: letters, dead_letters_new: recent }) {
  if (!known(letters)) return "not known";
  if (!letters) return "none";
  return recent > 0 ? `${count(recent)} new` : "unresolved";
}

function spoolTexts(now) {
  const { report, node } = now;
  if (known(report.spool_depth))
    return [count(report.spool_depth), report.breaker === "open" ? "stream unavailable" : "events"];
  const others = otherSpools(now);
  if (others) return [count(others.events), "events on other nodes"];
  if (node?.storage.stream === "embedded") return ["none", "embedded stream", true];
  if (node?.command === "work") return ["none", "no intake on this node", true];
  return ["off", "no data folder set", true];
}

function captureTexts({ state, lag_seconds: lag, retained_bytes: retained, walk }) {
  const other = {
    connecting: ["connecting", "source unavailable"],
    standby: ["standby", "another process captures"],
    stopped: ["stopped", "action required"],
  }[state];
  if (other) return other;
  if (state === "waiting") return [seconds(lag), "no room in the stream"];
  if (walk) {
    const { done, estimate } = walk;
    if (!estimate) return [count(done), "orders read"];
    return [percent(Math.min(done / estimate, 1)), `${count(done)} orders read`];
  }
  return [lag > 0 ? seconds(lag) : "up to date", `${bytes(retained)} of WAL kept`];
}

/** Figure, word and whether anything moves, of each arrow. */
export function arrowTexts(now) {
  const { report, samples } = now;
  const capture = captureOf(now);
  const [accepted, loaded] = ["accepted_per_second", "loaded_per_second"].map((field) =>
    column(samples.slice(-NEWEST), field).at(-1),
  );
  const backlog = samples.at(-1)?.backlog;
  const drained = report.spool_drained_per_second;
  return {
    ...(capture && {
      captured: [rate(capture.events_per_second), "captured", capture.events_per_second > 0],
    }),
    accepted: [rate(accepted), "accepted", accepted > 0],
    backlog: [count(backlog), "backlog", accepted > 0 || backlog > 0],
    loaded: [rate(loaded), "loaded", loaded > 0],
    spooled: ["", "", report.breaker === "open"],
    drained: [drained > 0 ? rate(drained) : "", drained > 0 ? "drained" : "", drained > 0],
    buried: ["", "", false],
  };
}
