// An entry or a dead letter in full: its event, its fields as stored, its body.

import { h, put } from "./dom.js";
import { laidOut, write } from "./exact.js";
import { bytes, counted } from "./format.js";
import { table } from "./parts.js";

/** The body; its personal fields on demand. */
function original(body, redacted) {
  const text = h("pre", { tabindex: 0 }, redacted === null ? "Not JSON: its personal parts cannot be told from others." : laidOut(redacted));
  const show = h(
    "button",
    {
      type: "button",
      onclick() {
        put(text, laidOut(body));
        show.replaceWith(h("p", { class: "faint" }, "With personal fields"));
      },
    },
    redacted === null ? "Show the body" : "Show personal fields",
  );
  return h(
    "section",
    { "aria-labelledby": "body" },
    h("h2", { id: "body" }, "Original body"),
    text,
    redacted === body
      ? h("p", { class: "faint" }, "No personal field was kept.")
      : h("div", { class: "actions" }, show),
  );
}

export function content({ event, undecodable, fields, body, body_redacted: redacted }) {
  return [
    h(
      "section",
      { "aria-labelledby": "event" },
      h("h2", { id: "event" }, "Event"),
      event
        ? h("pre", { tabindex: 0 }, write(event))
        : h("p", { class: "said bad" }, "Not decodable: ", undecodable),
    ),
    body !== null && original(body, redacted),
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
