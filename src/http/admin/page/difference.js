// What one event of an order has otherwise than the one before, field by field.

import { get } from "./api.js";
import { h } from "./dom.js";
import { Digits, parseView, write } from "./exact.js";
import { fill, table } from "./parts.js";

/** Of every two events. */
const OTHERWISE = new Set(["event_id", "event_type", "timestamp"]);

/** A button that compares two entries; says so where one is not in the stream any more. */
export function difference(before, after) {
  if (!before || !after) return h("p", { class: "faint" }, "Not to be compared: the stream has not both events any more.");
  const place = h("div", { class: "results" });
  const show = () => {
    button.remove();
    fill(place, async () => {
      const view = (id) => get(`/api/events/${encodeURIComponent(id)}`, {}, parseView);
      const [old, now] = await Promise.all([before, after].map(view));
      return changes(old.content.event, now.content.event);
    });
  };
  const button = h("button", { type: "button", onclick: show }, "Compare with the event before");
  return [button, place];
}

function changes(old, now) {
  if (!old || !now) return h("p", { class: "faint" }, "One of the events is not decodable.");
  const [was, is] = [fields(old), fields(now)];
  const names = [...new Set([...was.keys(), ...is.keys()])].filter((name) => was.get(name) !== is.get(name));
  const cell = (side) => (name) => (side.has(name) ? h("code", { class: "value" }, side.get(name)) : "–");
  return names.length
    ? table(
        "Fields that differ from the event before",
        [
          ["Field", (name) => h("code", {}, name)],
          ["Before", cell(was)],
          ["After", cell(is)],
        ],
        names,
      )
    : h("p", { class: "faint" }, "No field differs.");
}

/** Path → value as it is written, of every value that is neither an object nor a list. */
export function fields(event) {
  const found = new Map();
  const walk = (value, path) => {
    if (value === null || typeof value !== "object" || value instanceof Digits) return found.set(path, write(value));
    for (const [name, inner] of Object.entries(value))
      walk(inner, Array.isArray(value) ? `${path}[${name}]` : path ? `${path}.${name}` : name);
  };
  for (const [name, value] of Object.entries(event)) if (!OTHERWISE.has(name)) walk(value, name);
  return found;
}
