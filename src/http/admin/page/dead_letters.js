// Dead letters by cause, and those of one cause. Replaying and discarding them is in run.js.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, counted, time } from "./format.js";
import { empty, fill, heading } from "./parts.js";
import { openRun } from "./run.js";
import { selectable } from "./selection.js";

/** The causes. */
export function openDeadLetters() {
  const list = h("div", { class: "results" });
  const all = h("div", { class: "actions" });
  const load = () => fill(list, async () => causes(await get("/api/dead-letters/groups"), all, load));
  load();
  return {
    title: "Dead letters",
    element: h(
      "div",
      { class: "page" },
      heading("Dead letters", {
        note: "Deliveries that could not be converted and entries that could not be loaded, by cause. Each is kept until it is replayed or discarded.",
        actions: all,
      }),
      list,
    ),
  };
}

/** The dead letters of one cause. */
export function openCause(fingerprint, query) {
  const place = h("div", { class: "page" });
  const to = query.get("to");
  const load = () =>
    fill(place, async () => {
      const [letters, all] = await Promise.all([
        get("/api/dead-letters", { fingerprint, to }).catch(noneLeft),
        get("/api/dead-letters/groups"),
      ]);
      return cause(fingerprint, letters, all, load);
    });
  load();
  return { title: "Dead letters of one cause", element: place };
}

/** Of a cause whose last dead letter is gone there is none. */
function noneLeft(error) {
  if (error.status !== 404) throw error;
  return { letters: [], next: null };
}

function causes({ groups: found, looked_at, complete }, all, reload) {
  all.replaceChildren(
    ...(found.length
      ? buttons(
          { all: true },
          { count: found.reduce((sum, group) => sum + group.count, 0), isAtLeast: !complete },
          "all dead letters",
          reload,
        )
      : []),
  );
  if (!found.length) {
    return empty(
      "No dead letters",
      h(
        "p",
        {},
        "Every event so far was converted and loaded. What no retry can fix is kept here with its reason and body, until you replay or discard it.",
      ),
    );
  }
  return [
    h(
      "ul",
      { class: "causes" },
      found.map((group) => h("li", { class: "panel" }, row(group, !complete, reload))),
    ),
    !complete &&
      h(
        "p",
        { class: "faint" },
        `Incomplete: the newest ${counted(looked_at, "dead letter")} were searched, and ${counted(found.length, "cause")} distinguished.`,
      ),
  ];
}

function row(group, isAtLeast, reload) {
  const { sample } = group;
  return [
    h(
      "div",
      { class: "cause" },
      h("p", { class: "many" }, h("strong", {}, count(group.count)), group.count === 1 ? "dead letter" : "dead letters"),
      h(
        "div",
        {},
        h("h2", {}, h("a", { href: `#/dead-letters/cause/${group.fingerprint}` }, group.pattern)),
        h(
          "p",
          { class: "faint" },
          "First ",
          time(group.first_seen),
          " · last ",
          time(group.last_seen),
          ` · ${origin(sample)}`,
        ),
        h(
          "p",
          { class: "faint" },
          "Sample: ",
          h("a", { href: `#/dead-letters/${sample.id}` }, about(sample)),
          group.pattern !== sample.error && ` — ${sample.error}`,
        ),
      ),
    ),
    h(
      "div",
      { class: "actions" },
      buttons({ fingerprint: group.fingerprint }, { count: group.count, isAtLeast }, "this cause", reload),
    ),
  ];
}

/** Of very many causes, this one may not be among those that are listed. */
function cause(fingerprint, { letters, looked_at, next }, { groups, complete, looked_at: all }, reload) {
  const group = groups.find((one) => one.fingerprint === fingerprint);
  const many = { count: group?.count ?? letters.length, isAtLeast: !complete };
  return [
    heading(group?.pattern ?? "Dead letters of one cause", {
      back: ["#/dead-letters", "Dead letters"],
      note: many.count > 0 && `${many.isAtLeast ? "At least " : ""}${counted(many.count, "dead letter")} of this cause`,
      actions: many.count > 0 && buttons({ fingerprint }, many, "this cause", reload),
    }),
    letters.length
      ? selectable(
          letters,
          (box) => [
            ["Select", box, "tight"],
            ["Failed", (letter) => time(letter.failed_at), "tight"],
            ["Dead letter", (letter) => h("a", { class: "lead", href: `#/dead-letters/${letter.id}` }, about(letter))],
            ["Order", (letter) => letter.order_id ?? "–"],
            ["Shop", (letter) => letter.shop ?? "–"],
            ["Reason", (letter) => letter.error],
            ["Attempts", (letter) => count(letter.attempts), "number"],
          ],
          { name: about, act: (chosen) => ofChosen(chosen, reload) },
        )
      : empty(
          next ? "None of those searched has this cause" : "No dead letter of this cause is left",
          h("p", {}, h("a", { href: "#/dead-letters" }, "Other causes")),
        ),
    h(
      "div",
      { class: "foot" },
      h("p", { class: "faint" }, `${counted(looked_at ?? all, "dead letter")} searched.`),
      next && h("a", { class: "button", href: `#/dead-letters/cause/${fingerprint}?to=${next}` }, "Older dead letters"),
    ),
  ];
}

function ofChosen(chosen, reload) {
  const ids = chosen.flatMap((letter) => letter.copies);
  const many = { count: chosen.length, isAtLeast: false };
  return buttons({ ids }, many, "the selected dead letters", reload, " selected");
}

/** Type and shop of a dead letter. */
export const about = (letter) =>
  [letter.event_type ?? letter.topic ?? "a delivery", letter.shop].filter(Boolean).join(" of ");

/** Where it became a dead letter. */
export const origin = (letter) => (letter.origin === "door" ? "rejected at intake" : "failed in a worker");

/**
 * Buttons to replay and discard these dead letters. `scope` goes into the request; `many` says how many there are, `whose`
 * names them, and so does `which` on the buttons.
 */
export function buttons(scope, many, whose, reload, which = "") {
  const run = (action, isDry) => () => openRun({ action, scope, ...many, whose, isDry, done: reload });
  const number = `${many.isAtLeast ? "at least " : ""}${count(many.count)}`;
  return [
    h("button", { type: "button", onclick: run("replay", true) }, `Dry run${which && ` of ${number}${which}`}`),
    h("button", { type: "button", onclick: run("replay", false) }, `Replay ${number}${which}`),
    h("button", { type: "button", class: "danger", onclick: run("discard", false) }, `Discard ${number}${which}`),
  ];
}
