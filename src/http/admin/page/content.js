// An entry or a dead letter in full: its event, its fields as stored, its body.

import { h } from "./dom.js";
import { laidOut, write } from "./exact.js";
import { bytes, counted } from "./format.js";
import { table } from "./parts.js";

export function content({ event, undecodable, fields, body }) {
  return [
    h(
      "section",
      { "aria-labelledby": "event" },
      h("h2", { id: "event" }, "Event"),
      event
        ? h("pre", { tabindex: 0 }, write(event))
        : h("p", { class: "said bad" }, "Not decodable: ", undecodable),
    ),
    body !== null &&
      h(
        "details",
        { class: "panel" },
        h("summary", {}, "Original body", h("span", { class: "faint" }, "personal")),
        h("pre", { tabindex: 0 }, laidOut(body)),
      ),
    h(
      "details",
      { class: "panel" },
      h("summary", {}, "Raw fields", h("span", { class: "faint" }, counted(fields.length, "field"))),
      table(
        "Fields as stored",
        [
          ["Field", (field) => h("code", {}, field.name)],
          [
            "Value",
            (field) =>
              h("code", { class: "value" }, field.value, field.binary && h("span", { class: "faint" }, " (base64)")),
          ],
          ["Size", (field) => bytes(field.bytes), "number"],
        ],
        fields,
      ),
    ),
  ];
}
