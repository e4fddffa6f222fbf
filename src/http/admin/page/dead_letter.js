// One dead letter in full, with replay and discard.

import { get } from "./api.js";
import { content } from "./content.js";
import { h } from "./dom.js";
import { parseView } from "./exact.js";
import { count, known, time } from "./format.js";
import { about, buttons, origin } from "./dead_letters.js";
import { facts, fill, heading } from "./parts.js";

export function openDeadLetter(id) {
  const place = h("div", { class: "page" });
  fill(place, async () => view(await get(`/api/dead-letters/${encodeURIComponent(id)}`, {}, parseView)));
  return { title: `Dead letter ${id}`, element: place };
}

function view({ letter, entry_stands, content: held }) {
  const copies = letter.copies.length;
  const leave = () => {
    location.hash = `#/dead-letters/cause/${letter.fingerprint}`;
  };
  return [
    heading(about(letter), {
      back: [`#/dead-letters/cause/${letter.fingerprint}`, "Dead letters of this cause"],
      note: ["Dead letter ", h("code", {}, letter.id)],
      actions: buttons(
        { ids: letter.copies },
        { count: copies, isAtLeast: false },
        copies > 1 ? "this dead letter, in all its copies" : "this dead letter",
        leave,
      ),
    }),
    h("p", { class: "reason" }, letter.error),
    facts([
      ["Failed", time(letter.failed_at)],
      ["Origin", origin(letter)],
      ["Attempts", count(letter.attempts)],
      ["Consumer", letter.consumer],
      ["Topic", letter.topic],
      ["Event id", known(letter.event_id) ? h("code", {}, letter.event_id) : null],
      ["Entry", known(letter.original_id) ? original(letter.original_id, entry_stands) : null],
      ["Copies", copies > 1 ? count(copies) : null],
    ]),
    content(held),
  ];
}

/** Link to the entry that became the dead letter, where the stream still has it. */
function original(id, stands) {
  const name = h("code", {}, id);
  return stands ? h("a", { href: `#/events/${id}` }, name) : [name, ", no longer in the stream"];
}
