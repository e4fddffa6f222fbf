// The newest entries of the stream, by time, type, topic, shop, order and customer, each with how far the workers came with it.
// Follows them on demand; what is listed can be downloaded.

import { get } from "./api.js";
import { h, put } from "./dom.js";
import { csv, ndjson, saved } from "./download.js";
import { STAGES } from "./entry.js";
import { count, known, money, time } from "./format.js";
import { again, badge, command, empty, fill, heading, table } from "./parts.js";

const FOLLOW_MS = 2_000;
const FILTERS = ["order", "customer", "event_type", "topic", "shop", "since", "until"];
/** What became of an entry that was read and acked → state and word. */
const OUTCOMES = { loaded: ["healthy", "loaded"], dead_lettered: ["critical", "dead-lettered"] };
/** Of a downloaded table. */
const COLUMNS = [
  ...["id", "received_at", "event_type", "event_id", "topic", "source", "shop", "order_id", "name"],
  ...["total_amount", "currency", "bytes"],
];
const TYPES = ["created", "updated", "paid", "partially_fulfilled", "fulfilled", "cancelled", "deleted", "edited"]
  .map((type) => `order.${type}`)
  .concat("refund.created");

export function openEvents(_, query) {
  const place = h("div", { class: "results" });
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const to = query.get("to");
  const downloads = h("span", { class: "actions", hidden: true });
  const load = () =>
    fill(place, async () => {
      const page = await get("/api/events", { ...asked(filters, to), states: true });
      downloads.hidden = !page.entries.length;
      put(downloads, saved("CSV", () => csv(COLUMNS, page.entries)), saved("NDJSON", () => ndjson(page.entries)));
      return list(page, filters, to);
    });
  const follow = h("button", { type: "button", "aria-pressed": "false", onclick: toggle }, "Follow");
  let stop = null;

  function toggle() {
    const isOn = stop !== null;
    follow.setAttribute("aria-pressed", String(!isOn));
    stop?.();
    stop = isOn ? null : again(FOLLOW_MS, load);
  }

  load();
  return {
    title: "Events",
    close: () => stop?.(),
    element: h(
      "div",
      { class: "page" },
      heading("Events", {
        note: to ? "Older entries" : "The newest entries of the stream",
        actions: [downloads, !to && follow, h("button", { type: "button", onclick: load }, "Refresh")],
      }),
      form(filters),
      place,
    ),
  };
}

/** Times as the ids of entries, which begin with a time; `to` is where an older page begins. */
function asked({ since, until, ...others }, to) {
  const at = (written) => (written ? new Date(written).getTime() : NaN);
  const [from, last] = [at(since), at(until)];
  return {
    ...others,
    from: Number.isNaN(from) ? null : `${from}-0`,
    // To the end of the minute that was chosen.
    to: to ?? (Number.isNaN(last) ? null : `${last + 60_000}-0`),
  };
}

function form(filters) {
  const field = (name, label, attributes) =>
    h(
      "div",
      { class: attributes.type === "datetime-local" ? "field moment" : "field" },
      h("label", { for: name }, label),
      h("input", { id: name, name, value: filters[name], autocomplete: "off", spellcheck: "false", ...attributes }),
    );
  const submit = (event) => {
    event.preventDefault();
    go(Object.fromEntries(new FormData(event.target)));
  };
  const isSet = Object.values(filters).some(Boolean);
  return h(
    "form",
    { class: "filters many", role: "search", onsubmit: submit },
    field("order", "Order", { type: "search", placeholder: "id or #1042" }),
    field("customer", "Customer", { placeholder: "id" }),
    field("event_type", "Type", { list: "types", placeholder: "any" }),
    h(
      "datalist",
      { id: "types" },
      TYPES.map((type) => h("option", { value: type })),
    ),
    field("topic", "Topic", { placeholder: "orders/paid" }),
    field("shop", "Shop", { placeholder: "example.myshopify.com" }),
    field("since", "Since", { type: "datetime-local" }),
    field("until", "Until", { type: "datetime-local" }),
    h("button", { type: "submit" }, "Filter"),
    isSet && h("a", { class: "button quiet", href: "#/events" }, "Clear"),
  );
}

function go(filters) {
  const set = Object.entries(filters)
    .map(([name, value]) => [name, value.trim()])
    .filter(([, value]) => value);
  location.hash = `#/events${set.length ? `?${new URLSearchParams(set)}` : ""}`;
}

function list({ entries, looked_at, looked_back_to, next }, filters, to) {
  const looked = h(
    "p",
    { class: "faint" },
    `${count(looked_at)} entries searched`,
    looked_back_to && [", back to ", time(looked_back_to)],
    ".",
  );
  const older =
    next &&
    h("a", { class: "button", href: `#/events?${new URLSearchParams({ ...filters, to: next })}` }, "Older entries");
  const shown = entries.length ? rows(entries) : nothing(filters, next, to);
  return [shown, h("div", { class: "foot" }, looked, older)];
}

function rows(entries) {
  return table(
    "Entries of the stream, newest first",
    [
      ["Received", (entry) => time(entry.received_at), "tight"],
      [
        "Type",
        (entry) => h("a", { href: `#/events/${entry.id}`, class: "lead" }, entry.event_type ?? "no type"),
        "type",
      ],
      ["State", stage, "tight"],
      ["Order", (entry) => entry.name ?? entry.order_id ?? h("span", { class: "faint" }, "unreadable")],
      ["Amount", (entry) => money(entry.total_amount, entry.currency), "number"],
      ["Shop", (entry) => entry.shop ?? h("span", { class: "faint" }, entry.source ?? "no shop"), "shop"],
      ["Entry", (entry) => h("code", { class: "faint" }, entry.id), "id"],
    ],
    entries,
    "entries",
  );
}

/** How far the workers came; none where their group is not there yet. */
function stage({ state, outcome }) {
  if (!state) return h("span", { class: "faint" }, "–");
  if (OUTCOMES[outcome]) return badge(...OUTCOMES[outcome]);
  const [level, word] = STAGES[state.stage] ?? [null, state.stage];
  const isRepeated = known(state.deliveries) && state.deliveries > 1;
  return badge(level, isRepeated ? `${word}, delivery ${count(state.deliveries)}` : word);
}

function nothing(filters, next, to) {
  if (next) return empty("No match in these entries", h("p", {}, "Search older ones."));
  if (to) return empty("No older entry is left");
  if (Object.values(filters).some(Boolean))
    return empty(
      "No matching entry in the stream",
      h(
        "p",
        {},
        "Entries that every group has acked are trimmed after a while. ",
        h("a", { href: "#/trace" }, "Trace"),
        " an order to see what was loaded of it.",
      ),
    );
  return empty(
    "The stream is empty",
    h("p", {}, "Send a first order, from the folder that the service runs in:"),
    command("orderstream send"),
  );
}
