// Today's sales from the warehouse, beside those of the same weekday before; nothing on a node without a warehouse.

import { get } from "./api.js";
import { h, update } from "./dom.js";
import { count } from "./format.js";
import { again, fill, table } from "./parts.js";

const REFRESH_MS = 60_000;

/** Asked for each minute, where the node has a warehouse. */
export function openSales() {
  const place = h("div", { class: "results" });
  const element = h("section", { "aria-labelledby": "sales" }, h("h2", { id: "sales" }, "Today's sales"), place);
  element.hidden = true;
  let stop = null;
  return {
    element,
    show({ node }) {
      if (stop || !node?.storage.warehouse) return;
      element.hidden = false;
      stop = again(REFRESH_MS, () => fill(place, async () => sales(await get("/api/sales", { date: today() })), update));
    },
    close: () => stop?.(),
  };
}

/** The day of the reader's own clock: the API's is the shop's. */
function today() {
  const now = new Date();
  const two = (number) => String(number).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}

function sales({ date, week_before: before, currencies }) {
  if (!currencies.length) return h("p", { class: "faint" }, `No order of ${date}, and none of ${before}.`);
  return [
    table(
      "Today's sales by currency",
      [
        ["Currency", (of) => of.currency || "none"],
        [`Orders of ${date}`, (of) => count(of.day.orders), "number"],
        [`Net of ${date}`, (of) => amount(of.day.net, of.currency), "number"],
        [`Orders of ${before}`, (of) => count(of.week_before.orders), "number"],
        [`Net of ${before}`, (of) => amount(of.week_before.net, of.currency), "number"],
      ],
      currencies,
    ),
    h("p", { class: "faint" }, `Days are the shops' own. ${before} counts whole.`),
  ];
}

/** EUR 1,234.50, with the digits of its currency. */
function amount(net, currency) {
  if (!/^[A-Z]{3}$/.test(currency)) return net;
  return new Intl.NumberFormat("en", { style: "currency", currency, currencyDisplay: "code" }).format(net);
}
