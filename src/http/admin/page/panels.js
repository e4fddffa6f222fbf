// The panels below the charts: current figures, consumers, secrets, all checks.

import { get } from "./api.js";
import { h, update } from "./dom.js";
import { bytes, count, counted, known, percent, rate, seconds, time, UNKNOWN } from "./format.js";
import { otherSpools } from "./nodes.js";
import { again, badge, command, empty, facts, fill, glyph, table, worst } from "./parts.js";

const SECRETS_MS = 10_000;
/** Hours for which Shopify sends a refused delivery again. */
const RETRY_HOURS = 4;

export function figures(now) {
  const { report, node } = now;
  // Null is none only where the stream, and our group, were seen.
  const since = (value, seen, none) => (known(value) ? seconds(value) : seen ? none : UNKNOWN);
  const [stream, group] = [known(report.stream_length), known(report.pending_count)];
  const letters = known(report.dead_letters);
  return [
    facts([
      ["Oldest pending", since(report.oldest_pending_seconds, group, "none")],
      ["Oldest in backlog", since(report.oldest_backlog_seconds, group, "none")],
      ["Live workers", count(report.workers)],
      ["New dead letters", count(report.dead_letters_new)],
      ["Oldest dead letter", since(report.oldest_dead_letter_seconds, letters, "none")],
      ["Stream full in", since(report.seconds_until_full, stream, "not expected")],
      ["Trimming held by", report.trim_held_by ?? (stream ? "none" : UNKNOWN)],
      ...spool(report, node),
      ["Spools of other nodes", elsewhere(otherSpools(now))],
    ]),
    node?.command !== "work" && budget(report),
  ];
}

function spool(report, node) {
  if (!known(report.spool_depth)) return [["Spool", noSpool(node)]];
  return [
    ["Spool", `${counted(report.spool_depth, "event")}, ${bytes(report.spool_bytes)}`],
    ["Oldest in spool", known(report.spool_oldest_seconds) ? seconds(report.spool_oldest_seconds) : "none"],
    ["Drained from spool", report.spool_drained_per_second > 0 ? rate(report.spool_drained_per_second) : null],
    ["Lost from spool", report.spool_lost ? counted(report.spool_lost, "event") : null],
  ];
}

const elsewhere = (spools) => spools && `${counted(spools.events, "event")} on ${counted(spools.nodes, "node")}`;

function noSpool(node) {
  if (node?.storage.stream === "embedded") return "not used with an embedded stream";
  if (node?.command === "work") return "not used: no intake on this node";
  return "off: ORDERSTREAM_DATA_DIR is not set";
}

/** Share of Shopify's four hours of retries that the present outage has used. */
function budget({ retry_budget_used: used, checks }) {
  if (!known(used))
    return h("p", { class: "faint" }, "Shopify retry budget used: not known on this node.");
  const isRefusing = checks.some(({ name, status }) => name === "stream" && status === "critical");
  return h(
    "div",
    { class: "budget" },
    h("p", {}, h("label", { for: "budget" }, "Shopify retry budget used"), h("strong", {}, percent(used))),
    h("meter", { id: "budget", min: 0, max: 1, low: 0.25, high: 0.5, optimum: 0, value: used }),
    h("p", { class: "faint" }, budgetNote(used, isRefusing)),
  );
}

function budgetNote(used, isRefusing) {
  if (!used && !isRefusing)
    return `Webhooks are accepted. Shopify retries refused deliveries for ${RETRY_HOURS} hours.`;
  const refused = isRefusing ? "are refused" : "were refused, and none has arrived since";
  const left = seconds(RETRY_HOURS * 3_600 * (1 - used));
  return `Webhooks ${refused}. Shopify retries for about ${left} more; then deliveries are lost.`;
}

/** The consumer groups of the stream; null where ours is the only one. */
export function groups(found) {
  if (!found?.some((group) => !group.ours)) return null;
  return table(
    "Consumer groups",
    [
      ["Group", (group) => [h("code", {}, group.name), group.ours && h("span", { class: "faint" }, " ours")]],
      ["Pending", (group) => count(group.pending), "number"],
      ["Lag", (group) => count(group.lag), "number"],
    ],
    found,
  );
}

export function consumers(found) {
  if (!found) return empty("Not known", h("p", {}, "The stream does not answer."));
  if (!found.length)
    return empty(
      "No consumer",
      h("p", {}, "Entries stay in the stream until a worker reads them. Start one:"),
      command("orderstream work"),
    );
  return table(
    "Consumers of our group",
    [
      ["Consumer", (consumer) => h("code", {}, consumer.name)],
      ["In flight", (consumer) => count(consumer.pending), "number"],
      ["Idle", (consumer) => seconds(consumer.idle_seconds), "number"],
    ],
    found,
  );
}

/** How many deliveries each secret verified; asked every ten seconds. */
export function openSecrets() {
  const element = h("div", { class: "results" });
  const load = () => fill(element, async () => secrets(await get("/api/secrets")), update);
  return { element, close: again(SECRETS_MS, load) };
}

function secrets({ since, secrets: found, note }) {
  if (!found.length) return h("p", { class: "faint" }, note);
  const isOne = found.every((secret) => !known(secret.shop));
  return [
    table(
      "Secrets, newest first",
      [
        !isOne && ["Shop", (secret) => secret.shop ?? "any"],
        [
          "Secret",
          (secret) => (secret.index === 0 ? "newest" : `previous${secret.index > 1 ? ` (${secret.index})` : ""}`),
        ],
        ["Verified", (secret) => count(secret.deliveries), "number"],
        [
          "Last used",
          (secret) =>
            known(secret.last_used_at) ? time(secret.last_used_at) : `unused for ${seconds(secret.unused_seconds)}`,
          "number",
        ],
        ["Removable", (secret) => (secret.removable ? badge("healthy", "yes") : "no")],
      ].filter(Boolean),
      found,
    ),
    h("p", { class: "faint" }, "Since ", time(since), note && `; ${note}`, "."),
  ];
}

/** All checks; whether they are shown in full stays as it is. */
export function openChecks() {
  const summary = h("summary");
  const list = h("ul", { class: "lines" });
  return {
    element: h("details", { class: "panel checks" }, summary, list),
    show(checks) {
      const bad = checks.filter((check) => check.status !== "healthy").length;
      update(
        summary,
        glyph(worst(checks.map((check) => check.status))),
        h("span", {}, "All checks"),
        h(
          "span",
          { class: "faint" },
          bad ? `${bad} of ${checks.length} are not healthy` : `${checks.length}, all healthy`,
        ),
      );
      update(list, lines(checks));
    },
  };
}

/** State, name and finding of each check, as items of a list. */
export const lines = (checks) =>
  checks.map((check) =>
    h("li", { class: "check" }, state(check), h("strong", {}, check.name.replaceAll("_", " ")), h("span", {}, check.detail)),
  );

/** What is not known is a dash, and never green. */
const state = ({ status, known: isKnown }) => (isKnown === false ? badge(null) : badge(status));
