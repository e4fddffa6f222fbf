// The newest entries of the stream, by type, shop and order. Follows them on demand.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, money, time } from "./format.js";
import { again, command, empty, fill, heading, table } from "./parts.js";

const FOLLOW_MS = 2_000;
const TYPES = ["created", "updated", "paid", "partially_fulfilled", "fulfilled", "cancelled", "deleted", "edited"]
  .map((type) => `order.${type}`)
  .concat("refund.created");

export function openEvents(_, query) {
  const place = h("div", { class: "results" });
  const filters = Object.fromEntries(["event_type", "shop", "order"].map((name) => [name, query.get(name) ?? ""]));
  const to = query.get("to");
  const load = () => fill(place, async () => list(await get("/api/events", { ...filters, to }), filters, to));
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
        actions: [!to && follow, h("button", { type: "button", onclick: load }, "Refresh")],
      }),
      form(filters),
      place,
    ),
  };
}

function form(filters) {
  const field = (name, label, attributes) =>
    h(
      "div",
      { class: "field" },
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
    { class: "filters", role: "search", onsubmit: submit },
    field("event_type", "Type", { list: "types", placeholder: "any" }),
    h(
      "datalist",
      { id: "types" },
      TYPES.map((type) => h("option", { value: type })),
    ),
    field("shop", "Shop", { placeholder: "example.myshopify.com" }),
    field("order", "Order", { placeholder: "id or #1042" }),
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
      ["Order", (entry) => entry.name ?? entry.order_id ?? h("span", { class: "faint" }, "unreadable")],
      ["Amount", (entry) => money(entry.total_amount, entry.currency), "number"],
      ["Shop", (entry) => entry.shop ?? h("span", { class: "faint" }, entry.source ?? "no shop"), "shop"],
      ["Entry", (entry) => h("code", { class: "faint" }, entry.id), "id"],
    ],
    entries,
    "entries",
  );
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
