// One order from webhook to row, as a time line of each of its events, with the limits of what was searched.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, known, money, time } from "./format.js";
import { empty, fill, heading } from "./parts.js";
import { events } from "./timeline.js";

export function openTrace(_, query) {
  const asked = { order: query.get("order") ?? "", shop: query.get("shop") ?? "" };
  const place = h("div", { class: "results" });
  if (asked.order) fill(place, async () => view(await get("/api/trace", asked)));
  else
    place.append(
      empty(
        "Which order?",
        h(
          "p",
          {},
          "Enter its id, or its name such as #1042. Orders on the other pages link here.",
        ),
      ),
    );
  return {
    title: asked.order ? `Trace of ${asked.order}` : "Trace",
    element: h(
      "div",
      { class: "page" },
      heading("Trace", { note: "One order, from webhook to row" }),
      form(asked),
      place,
    ),
  };
}

function form(asked) {
  const field = (name, label, attributes) =>
    h(
      "div",
      { class: "field" },
      h("label", { for: name }, label),
      h("input", { id: name, name, value: asked[name], autocomplete: "off", spellcheck: "false", ...attributes }),
    );
  const submit = (event) => {
    event.preventDefault();
    const set = [...new FormData(event.target)]
      .map(([name, value]) => [name, value.trim()])
      .filter(([, value]) => value);
    location.hash = `#/trace?${new URLSearchParams(set)}`;
  };
  return h(
    "form",
    { class: "filters", role: "search", onsubmit: submit },
    field("order", "Order", { placeholder: "id or #1042", required: true }),
    field("shop", "Shop", { placeholder: "any" }),
    h("button", { class: "primary", type: "submit" }, "Trace"),
  );
}

function view({ orders, moments, unknown, ...looked }) {
  return [
    orders.length > 0 &&
      h(
        "ul",
        { class: "orders" },
        orders.map((order) => h("li", { class: "panel" }, row(order, orders.length === 1))),
      ),
    h(
      "section",
      { "aria-labelledby": "line" },
      h("h2", { id: "line" }, "Time line"),
      moments.length
        ? events(moments)
        : empty(
            "No trace of this order",
            h(
              "p",
              {},
              "Not found where it was searched. Check the shop and the spelling.",
            ),
          ),
    ),
    h(
      "section",
      { class: "unknown", "aria-labelledby": "unknown" },
      h("h2", { id: "unknown" }, "Limits of this trace"),
      h(
        "ul",
        {},
        unknown.map((sentence) => h("li", {}, sentence)),
      ),
      h(
        "p",
        { class: "faint" },
        `Searched ${count(looked.entries_looked_at)} entries`,
        looked.looked_back_to && [", back to ", time(looked.looked_back_to)],
        `, and ${count(looked.letters_looked_at)} dead letters`,
        looked.letters_looked_back_to && [", back to ", time(looked.letters_looked_back_to)],
        known(looked.spooled_looked_at) && `, and ${count(looked.spooled_looked_at)} events of the spool`,
        looked.spooled_looked_back_to && [", back to ", time(looked.spooled_looked_back_to)],
        ".",
      ),
    ),
  ];
}

/** An order as the warehouse has it; where a name is that of several, a link to its own trace. */
function row(order, isOne) {
  const name = order.name ?? order.order_id;
  const own = `#/trace?${new URLSearchParams({ order: order.order_id, shop: order.shop })}`;
  return [
    h(
      "p",
      { class: "title" },
      isOne ? name : h("a", { href: own }, name),
      h("span", { class: "faint" }, order.shop || "no shop"),
    ),
    h(
      "p",
      {},
      h("strong", {}, money(order.total_amount, order.currency)),
      ` · ${order.deleted_at ? "deleted" : (order.status ?? "no status")}`,
    ),
    h("p", { class: "faint" }, "Row in ", h("code", {}, "orders"), ", id ", h("code", {}, order.order_id)),
  ];
}
