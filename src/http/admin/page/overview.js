// The overview: the overall state, the flow, fifteen minutes in four charts, the capture, the nodes, current figures, consumers, secrets
// and all checks. Everything here follows live.js, but for the secrets.

import { openCapture } from "./capture.js";
import { openCharts } from "./charts.js";
import { h, put, say, update } from "./dom.js";
import { openFlow } from "./flow.js";
import { store } from "./format.js";
import { listen } from "./live.js";
import { nodes } from "./nodes.js";
import { consumers, figures, groups, lines, openChecks, openSecrets } from "./panels.js";
import { command, empty, glyph } from "./parts.js";

const TITLES = { healthy: "Healthy", warning: "Warning", critical: "Action required" };

export function openOverview() {
  const title = h("h1");
  const troubles = h("ul", { class: "lines troubles" });
  const node = h("p", { class: "faint" });
  const first = h("div");
  const flow = openFlow();
  const charts = openCharts();
  const checks = openChecks();
  const capture = openCapture();
  const secrets = openSecrets();
  const [figuresPlace, consumersPlace] = [h("div", { class: "panel" }), h("div", { class: "results" })];
  const nodesPlace = h("div", { class: "results" });

  const waiting = h("p", { class: "waiting" });
  const refusal = h("p", { class: "reason", role: "status" });
  const root = h(
    "div",
    { class: "page overview" },
    h("h1", {}, "Overview"),
    waiting,
  );
  const parts = [
    h("div", { class: "heading" }, h("div", {}, title, node, refusal, troubles)),
    first,
    h("section", { class: "panel flow", "aria-label": "Flow" }, flow.element),
    h("section", { "aria-label": "The last fifteen minutes" }, charts.element),
    capture.element,
    h("section", { "aria-labelledby": "nodes" }, h("h2", { id: "nodes" }, "Nodes"), nodesPlace),
    h(
      "div",
      { class: "halves" },
      h("section", { "aria-labelledby": "figures" }, h("h2", { id: "figures" }, "Current figures"), figuresPlace),
      h(
        "section",
        { "aria-labelledby": "consumers" },
        h("h2", { id: "consumers" }, "Consumers"),
        consumersPlace,
        h("h2", {}, "Secrets"),
        secrets.element,
      ),
    ),
    checks.element,
  ];

  const stop = listen((now) => {
    const { report, phase, why } = now;
    say(waiting, why ?? "Waiting for the first figures");
    if (!report) return;
    if (!root.contains(parts[0])) put(root, parts);
    update(title, glyph(report.status), TITLES[report.status]);
    update(troubles, lines(report.checks.filter((check) => check.status !== "healthy")));
    say(node, about(now));
    say(refusal, why ?? "");
    refusal.hidden = !why;
    update(
      first,
      isUnused(report) &&
        empty(
          "No orders received yet",
          h("p", {}, "Send a first order, from the folder that the service runs in:"),
          command("orderstream send --count 100 --rate 10"),
        ),
    );
    flow.show(now);
    charts.show(now.samples);
    capture.show(now);
    update(nodesPlace, nodes(now));
    update(figuresPlace, figures(now));
    update(consumersPlace, consumers(now.consumers), groups(now.groups));
    checks.show(report.checks);
    root.classList.toggle("stale", phase !== "live");
  });

  return {
    title: "Overview",
    element: root,
    close() {
      stop();
      flow.close();
      charts.close();
      secrets.close();
    },
  };
}

const isUnused = (report) =>
  report.stream_length === 0 && report.last_accepted_seconds === null && !report.dead_letters && !report.spool_depth;

function about({ node }) {
  if (!node) return "";
  const { stream, warehouse } = node.storage;
  return `orderstream ${node.version} · ${node.command} · stream in ${store(stream)}${warehouse ? ` · warehouse in ${store(warehouse)}` : ""}`;
}
