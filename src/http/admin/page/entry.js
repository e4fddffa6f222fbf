// One entry of the stream: its state in each consumer group, and its content.

import { get } from "./api.js";
import { content } from "./content.js";
import { h } from "./dom.js";
import { parseView } from "./exact.js";
import { bytes, count, known, money, seconds, time } from "./format.js";
import { badge, facts, fill, heading } from "./parts.js";

/** What a group has done with an entry → state and word. */
export const STAGES = { settled: ["healthy", "done"], pending: ["warning", "pending"], unread: [null, "unread"] };

export function openEntry(id) {
  const place = h("div", { class: "page" });
  fill(place, async () => {
    try {
      return view(await get(`/api/events/${encodeURIComponent(id)}`, {}, parseView));
    } catch (error) {
      if (error.status !== 404) throw error;
      return gone(id, await get(`/api/loaded/${encodeURIComponent(id)}`).catch((why) => why));
    }
  });
  return { title: `Entry ${id}`, element: place };
}

/** An entry that is not in the stream; `loaded` is what the warehouse has of it, or the error that says why that is not known. */
function gone(id, loaded) {
  const isLoaded = !(loaded instanceof Error);
  return [
    heading("Not in the stream", { back: ["#/events", "Events"], note: h("code", {}, id) }),
    h(
      "p",
      {},
      "There never was an entry of that id, or it was trimmed: entries are, some time after every group has read and acked them.",
    ),
    isLoaded
      ? facts([
          ["In the warehouse", badge("healthy", "loaded")],
          ["Type", loaded.event_type],
          ["Received", time(loaded.received_at)],
          ["Loaded", time(loaded.loaded_at)],
          ["Order", h("a", { href: traceOf(loaded) }, loaded.order_id)],
          ["Shop", loaded.shop || null],
          ["Event id", h("code", {}, loaded.event_id)],
        ])
      : h(
          "p",
          { class: "faint" },
          loaded.status === 404
            ? "The warehouse has no event that was loaded from it, among those received within 10 s of it."
            : `What the warehouse has of it is not known: ${loaded.message}`,
        ),
  ];
}

function view({ entry, content: held, groups, loaded_at }) {
  const order = entry.name ?? entry.order_id;
  return [
    heading(entry.event_type ?? "Entry without a type", {
      back: ["#/events", "Events"],
      note: [order && `Order ${order} · `, h("code", {}, entry.id)],
      actions: known(entry.order_id) && [
        h("a", { class: "button primary", href: traceOf(entry) }, "Trace this order"),
        h("a", { class: "button", href: `#/events?order=${encodeURIComponent(entry.order_id)}` }, "Entries of this order"),
      ],
    }),
    facts([
      ["Received", time(entry.received_at)],
      ["Loaded", known(loaded_at) ? time(loaded_at) : "not known on this node, or not yet"],
      ["Amount", money(entry.total_amount, entry.currency)],
      ["Shop", entry.shop],
      ["Source", [entry.source, entry.topic].filter(known).join(" · ") || null],
      ["Event id", known(entry.event_id) ? h("code", {}, entry.event_id) : null],
      ["Size", bytes(entry.bytes)],
    ]),
    h(
      "section",
      { "aria-labelledby": "groups" },
      h("h2", { id: "groups" }, "Consumer groups"),
      h("ul", { class: "lines" }, groups.map(group)),
    ),
    content(held),
  ];
}

function group({ group: name, ours, stage, consumer, deliveries, idle_seconds }) {
  const [state, word] = STAGES[stage] ?? [null, stage];
  const held =
    stage === "pending" &&
    (known(consumer)
      ? `consumer ${consumer}, delivered ${count(deliveries)} times, last ${seconds(idle_seconds)} ago`
      : "made pending again by a replay; not claimed yet");
  return h(
    "li",
    {},
    badge(state, word),
    h("strong", {}, name),
    ours && h("span", { class: "faint" }, "loads the warehouse"),
    held,
  );
}

/** The trace of the order that an entry is about. */
function traceOf({ order_id, shop }) {
  const query = { order: order_id };
  if (shop) query.shop = shop;
  return `#/trace?${new URLSearchParams(query)}`;
}
