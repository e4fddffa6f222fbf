// One dead letter laid open, with what can be done with it.

import { get } from "./api.js";
import { content } from "./content.js";
import { h } from "./dom.js";
import { parseView } from "./exact.js";
import { count, known, time } from "./format.js";
import { about, buttons, origin } from "./letters.js";
import { facts, fill, heading } from "./parts.js";

export function openLetter(id) {
  const place = h("div", { class: "page" });
  fill(place, async () => view(await get(`/api/dead-letters/${encodeURIComponent(id)}`, {}, parseView)));
  return { title: `Dead letter ${id}`, element: place };
}

function view({ letter, content: held }) {
  const leave = () => {
    location.hash = `#/dead-letters/cause/${letter.fingerprint}`;
  };
  return [
    heading(about(letter), {
      back: [`#/dead-letters/cause/${letter.fingerprint}`, "Letters of this cause"],
      note: ["Dead letter ", h("code", {}, letter.id)],
      actions: buttons({ ids: letter.copies }, { count: 1, isAtLeast: false }, "this letter", leave),
    }),
    h("p", { class: "reason" }, letter.error),
    facts([
      ["Failed", time(letter.failed_at)],
      ["Where", origin(letter)],
      ["Attempts", count(letter.attempts)],
      ["Consumer", letter.consumer],
      ["Topic", letter.topic],
      ["Event id", known(letter.event_id) ? h("code", {}, letter.event_id) : null],
      [
        "Its entry",
        known(letter.original_id)
          ? h("a", { href: `#/events/${letter.original_id}` }, h("code", {}, letter.original_id))
          : null,
      ],
      ["Copies", letter.copies.length > 1 ? count(letter.copies.length) : null],
    ]),
    content(held),
  ];
}
