// The time line of an order, event by event: a bar of the way of each, what happened to it, and what it changed.

import { difference } from "./difference.js";
import { h, s } from "./dom.js";
import { known, span, time } from "./format.js";

/** Station → its word, and the kind of its mark. */
const STATIONS = {
  happened: ["Happened", "outside"],
  triggered: ["Triggered", "outside"],
  spooled: ["Spooled", "waits"],
  received: ["Received", "inside"],
  unread: ["Not read yet", "waits"],
  pending: ["Pending", "waits"],
  settled: ["Acked", "inside"],
  dead_lettered: ["Dead letter", "dead"],
  loaded: ["Loaded", "landed"],
};

/** Events that are shown in full without being asked for. */
const OPEN = 2;

/** Each event with what happened to it; events and moments by time. */
export function events(moments) {
  const groups = Map.groupBy(moments, (moment) => moment.event_id ?? `letter ${moment.stream_id}`);
  const hasShops = new Set(moments.map((moment) => moment.shop)).size > 1;
  const all = [...groups.values()];
  return h(
    "ol",
    { class: "traced" },
    all.map((found, at) => h("li", { class: "panel" }, event(found, at, all, hasShops))),
  );
}

function event(moments, at, all, hasShops) {
  const [{ event_type: type, shop }] = moments;
  const isDead = moments.some(({ what }) => what === "dead_lettered");
  return h(
    "details",
    { open: all.length <= OPEN || isDead },
    h(
      "summary",
      {},
      h("span", {}, `${at + 1}. ${type ?? "Event"}`),
      h("span", { class: "faint" }, hasShops && shop && `${shop} · `, moments[0].at ? time(moments[0].at) : "no time"),
      way(moments),
    ),
    h(
      "ol",
      { class: "line" },
      moments.map((moment, nth) => station(moment, moments[nth - 1])),
    ),
    at > 0 && difference(entryOf(all[at - 1]), entryOf(moments)),
  );
}

/** Where the event stands in the stream; null where it does not. */
const entryOf = (moments) =>
  moments.find(({ what, stands }) => what === "received" && stands !== false)?.stream_id ?? null;

/** From happened to received to loaded: a bar, and its times in words. Long times count by their logarithm. */
function way(moments) {
  const at = (step) => new Date(moments.find(({ what }) => what === step)?.at ?? NaN).getTime();
  const parts = [
    ["outside", at("happened"), at("received"), "to the stream"],
    ["landed", at("received"), at("loaded"), "to the warehouse"],
  ].filter(([, from, to]) => to >= from);
  const width = ([, from, to]) => 6 + Math.min(47, 9 * Math.log10(1 + to - from));
  let x = 0;
  const rects = parts.map((part) => {
    const rect = s("rect", { class: part[0], x, y: 0, width: width(part), height: 8 });
    x += width(part) + 1;
    return rect;
  });
  return [
    s("svg", { class: "way", viewBox: "0 0 108 8", width: 108, height: 8, "aria-hidden": "true" }, rects),
    h("span", { class: "faint" }, parts.map(([, from, to, where]) => `${span(to - from)} ${where}`).join(", ")),
  ];
}

function station(moment, before) {
  const [word, kind] = STATIONS[moment.what] ?? [moment.what, "outside"];
  const since = before && known(moment.at) && known(before.at) ? new Date(moment.at) - new Date(before.at) : 0;
  return h(
    "li",
    { class: kind },
    h(
      "p",
      { class: "when" },
      known(moment.at) ? time(moment.at) : "no time",
      since > 0 && h("span", { class: "faint" }, `+${span(since)}`),
    ),
    h(
      "div",
      { class: "what" },
      h(
        "p",
        {},
        h("strong", {}, word),
      ),
      h("p", {}, moment.detail, " ", place(moment)),
    ),
  );
}

/** The way to what still stands somewhere. */
function place({ what, stream_id, stands }) {
  if (!known(stream_id) || stands === false) return null;
  if (what === "received") return h("a", { href: `#/events/${stream_id}` }, "Open the entry");
  return what === "dead_lettered" && h("a", { href: `#/dead-letters/${stream_id}` }, "Open the letter");
}
