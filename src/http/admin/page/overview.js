// The overview: the overall state, the flow, minutes or hours in four charts, today's sales, the capture, the nodes, current
// figures, consumers, secrets and all checks. Everything here follows live.js, but for sales and secrets.

import { get } from "./api.js";
import { openCapture } from "./capture.js";
import { openCharts, RANGES } from "./charts.js";
import { h, put, say, update } from "./dom.js";
import { openFlow } from "./flow.js";
import { store } from "./format.js";
import { listen } from "./live.js";
import { nodes } from "./nodes.js";
import { consumers, figures, groups, lines, openChecks, openSecrets } from "./panels.js";
import { again, command, empty, glyph } from "./parts.js";
import { openSales } from "./sales.js";

const MINUTE_S = 60;
const TITLES = { healthy: "Healthy", warning: "Warning", critical: "Action required" };

export function openOverview() {
  const title = h("h1");
  const troubles = h("ul", { class: "lines troubles" });
  const node = h("p", { class: "faint" });
  const first = h("div");
  const flow = openFlow();
  const charts = openCharts();
  const ranges = openRanges(() => charts.show(ranges.samples(), ranges.seconds()));
  const checks = openChecks();
  const capture = openCapture();
  const sales = openSales();
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
    h("section", { "aria-label": "History" }, ranges.element, charts.element),
    sales.element,
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
    ranges.hear(now.samples);
    capture.show(now);
    sales.show(now);
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
      ranges.close();
      sales.close();
      secrets.close();
    },
  };
}

/** Which range the charts show: the last minutes as they are heard, or hours of one-minute figures, asked for each minute. */
function openRanges(show) {
  let [seconds, heard, minutes, stop] = [RANGES[0][1], [], [], null];
  const trouble = h("p", { class: "faint", role: "status" });
  const load = async () => {
    try {
      minutes = withGaps((await get("/api/history")).minutes);
      if (!stop) return;
      say(trouble, minutes.length ? "" : "No minute is kept yet: the first one is, once it was observed and is over.");
      show();
    } catch (error) {
      if (stop) say(trouble, `The history is not known: ${error.message} It is asked for again in a minute.`);
    }
  };
  const choose = (chosen) => {
    seconds = chosen;
    for (const [button, many] of buttons) button.setAttribute("aria-pressed", String(many === seconds));
    stop?.();
    say(trouble, "");
    stop = seconds === RANGES[0][1] ? null : again(MINUTE_S * 1_000, load);
    show();
  };
  const buttons = RANGES.map(([name, many]) => [
    h("button", { type: "button", "aria-pressed": String(many === seconds), onclick: () => choose(many) }, name),
    many,
  ]);
  return {
    element: h(
      "div",
      {},
      h(
        "div",
        { class: "actions", role: "group", "aria-label": "Range of the charts" },
        buttons.map(([button]) => button),
      ),
      trouble,
    ),
    seconds: () => seconds,
    samples: () => (stop ? minutes.slice(-seconds / MINUTE_S) : heard),
    hear(samples) {
      heard = samples;
      if (!stop) show();
    },
    close: () => stop?.(),
  };
}

/** With one that knows nothing for each minute that is absent, so that no line leads across. */
function withGaps(minutes) {
  const all = [];
  for (const minute of minutes) {
    while (all.length && all.at(-1).at + MINUTE_S * 1_000 < minute.at) all.push({ at: all.at(-1).at + MINUTE_S * 1_000 });
    all.push(minute);
  }
  return all;
}

const isUnused = (report) =>
  report.stream_length === 0 && report.last_accepted_seconds === null && !report.dead_letters && !report.spool_depth;

function about({ node }) {
  if (!node) return "";
  const { stream, warehouse } = node.storage;
  return `orderstream ${node.version} · ${node.command} · stream in ${store(stream)}${warehouse ? ` · warehouse in ${store(warehouse)}` : ""}`;
}
