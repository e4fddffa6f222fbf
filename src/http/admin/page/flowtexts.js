// What the picture of the flow says: the figure and the note of each box, its state by the health checks, the rate on
// each arrow.

import { count, known, rate, seconds, span, store, UNKNOWN } from "./format.js";
import { worst } from "./parts.js";

/** Samples for which the last known latency still stands. */
const LATELY = 60;
/** Samples that a rate is the mean of: a single one jumps where little comes in. */
const SMOOTHED = 5;

/** Box → the health checks that judge it. */
const JUDGED_BY = {
  sources: ["accepted", "unauthorized"],
  stream: ["stream", "stream_length", "eviction_policy", "trimming", "stream_ids"],
  workers: ["pending", "lag", "idle_consumers", "group"],
  warehouse: ["warehouse"],
  spool: ["spool"],
  letters: ["dead_letters"],
};

/** The worst of the checks that judge a box; `unknown` where there is none. */
export function stateOf(box, report) {
  const judged = report.checks.filter((check) => JUDGED_BY[box].includes(check.name));
  return worst(judged.map((check) => check.status)) ?? "unknown";
}

/** Figure, note and whether it is off, of each box. */
export function boxTexts({ report, samples, node }) {
  const lately = samples.slice(-LATELY);
  const loaded = lately.findLast((sample) => known(sample.latency_p50_ms));
  const idle = lately.some((sample) => known(sample.loaded_per_second)) ? "nothing loaded lately" : "not known";
  return {
    sources: [
      known(report.last_accepted_seconds)
        ? `${seconds(report.last_accepted_seconds)} ago`
        : known(report.stream_length)
          ? "none yet"
          : UNKNOWN,
      "last accepted",
    ],
    stream: [count(report.stream_length), `entries in ${store(node?.storage.stream)}`],
    workers: [
      count(report.consumers),
      `${report.consumers === 1 ? "consumer" : "consumers"}, ${count(report.pending_count)} pending`,
    ],
    warehouse:
      node?.has_warehouse === false
        ? [UNKNOWN, "not seen from this node", true]
        : [span(loaded?.latency_p50_ms), loaded ? `p50 · p99 ${span(loaded.latency_p99_ms)}` : idle],
    spool: spoolTexts(report, node),
    letters: [count(report.dead_letters), lettersNote(report.dead_letters)],
  };
}

function lettersNote(letters) {
  if (!known(letters)) return "not known";
  return letters ? "look at them" : "none";
}

function spoolTexts(report, node) {
  if (known(report.spool_depth))
    return [count(report.spool_depth), report.breaker === "open" ? "the stream is away" : "events"];
  if (node?.storage.stream === "embedded") return ["none", "the stream is a file", true];
  if (node?.command === "work") return ["none", "no webhooks come here", true];
  return ["off", "no folder is set", true];
}

/** Figure, word and whether anything moves, of each arrow. */
export function arrowTexts({ report, samples }) {
  const [accepted, loaded] = ["accepted_per_second", "loaded_per_second"].map((field) => mean(samples, field));
  const backlog = samples.at(-1)?.backlog;
  const drained = report.spool_drained_per_second;
  return {
    accepted: [rate(accepted), "accepted", accepted > 0],
    backlog: [count(backlog), "backlog", accepted > 0 || backlog > 0],
    loaded: [rate(loaded), "loaded", loaded > 0],
    spooled: ["", "", report.breaker === "open"],
    drained: [drained > 0 ? rate(drained) : "", drained > 0 ? "drained" : "", drained > 0],
    buried: ["", "", false],
  };
}

/** Mean of the newest samples that know the field; null where none does. */
function mean(samples, field) {
  const values = samples
    .slice(-SMOOTHED)
    .map((sample) => sample[field])
    .filter(known);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}
