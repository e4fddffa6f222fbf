// The nodes of the service: one row a process, from the record that each keeps of itself beside the stream.

import { h } from "./dom.js";
import { bytes, count, counted, known, rate, seconds, span } from "./format.js";
import { badge, command, empty, table } from "./parts.js";

const WORKS = ["run", "work"];

/** The table; live nodes first, then by role and host. `now.nodes` is null where they are not known. */
export function nodes({ nodes: found, node_id: own }) {
  if (!found) return empty("Not known", h("p", {}, "The stream does not tell which nodes there are."));
  if (!found.length)
    return empty("No node", h("p", {}, "Each process writes its record every five seconds. None has."));
  const sorted = found.toSorted(
    (a, b) => a.stale - b.stale || a.role.localeCompare(b.role) || a.id.localeCompare(b.id),
  );
  return [
    table(
      "Nodes",
      [
        ["Node", (node) => name(node, own), "name"],
        ["State", (node) => (node.stale ? badge("warning", "stale") : badge("healthy", "live"))],
        ["Heartbeat", (node) => heartbeat(node.heartbeat_age_seconds), "number"],
        ["Uptime", (node) => uptime(node), "number"],
        ["Version", (node) => version(node), "tight"],
        ["Accepted", (node) => node.intake && figure(node, rate(node.intake.accepted_per_second)), "number"],
        sorted.some((node) => node.capture) && [
          "Captured",
          (node) => node.capture && figure(node, rate(node.captured_per_second)),
          "number",
        ],
        ["Loaded", (node) => node.loading && figure(node, rate(node.loading.loaded_per_second)), "number"],
        ["p99", (node) => node.loading && figure(node, span(node.loading.latency?.p99_ms)), "number"],
        ["Warehouse", (node) => node.loading && figure(node, warehouse(node.loading.warehouse))],
        ["Spool", (node) => node.intake?.spool && spool(node.intake.spool), "number"],
      ].filter(Boolean),
      sorted,
      "nodes",
    ),
    !sorted.some((node) => WORKS.includes(node.role) && !node.stale) &&
      h("p", { class: "said bad" }, "No live worker. Start one: ", command("orderstream work")),
  ];
}

function name({ id, role, host, pid, admin_addr: admin }, own) {
  const where = [host !== id && host, known(pid) && `pid ${pid}`, admin && `private listener ${admin}`];
  return h(
    "span",
    {},
    h("span", { class: "lead" }, role),
    " ",
    h("code", { title: where.filter(Boolean).join(", ") }, id),
    id === own && h("span", { class: "faint" }, " this node"),
  );
}

/** In whole seconds, since it is sent every five. */
const heartbeat = (age) => `${age < 60 ? `${count(age)} s` : seconds(age)} ago`;

/** A figure of a node that is gone is one of before. */
const figure = (node, value) => (node.stale ? h("span", { class: "faint" }, "–") : value);

function uptime({ started_at: started, heartbeat_age_seconds: age, stale }) {
  const at = new Date(started ?? NaN).getTime();
  if (Number.isNaN(at)) return "–";
  const ended = stale ? Date.now() - age * 1_000 : Date.now();
  return h("span", { title: started }, span(Math.max(0, ended - at)));
}

const version = ({ version: number, commit }) => h("span", { title: commit ? `commit ${commit}` : null }, number || "–");

function warehouse(state) {
  if (!known(state)) return badge(null);
  if (state.state === "reached") return badge("healthy", "reached");
  const since = seconds((Date.now() - new Date(state.since)) / 1_000);
  return h("span", { title: state.why }, badge("critical", `away for ${since}`));
}

function spool({ depth, bytes: size, breaker }) {
  const held = depth > 0 ? `${counted(depth, "event")}, ${bytes(size)}` : depth === 0 ? "empty" : count(depth);
  return breaker === "open" ? badge("warning", `${held}, open`) : held;
}

/** What the spools of other nodes hold; null where none of them has one. */
export function otherSpools({ nodes: found, node_id: own }) {
  const spools = (found ?? []).filter(({ id }) => id !== own).flatMap(({ intake }) => intake?.spool ?? []);
  if (!spools.length) return null;
  return { events: spools.reduce((sum, { depth }) => sum + (depth ?? 0), 0), nodes: spools.length };
}
