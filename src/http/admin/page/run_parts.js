// Parts of a run over dead letters: its sums, why some stay, and the file that a discard offers.

import { post } from "./api.js";
import { h } from "./dom.js";
import { ndjson, save } from "./download.js";
import { count } from "./format.js";

/** Reasons listed at the end. */
const REASONS = 8;

/** Saves them whole, step by step; null where `isOver` said so. `rest` is what a discard of the same may take away. */
export async function saveDeadLetters(scope, progress, isOver) {
  const texts = [];
  let [many, next, last] = [0, null, null];
  do {
    const step = await post("/api/dead-letters/export", { ...scope, next });
    texts.push(ndjson(step.letters));
    many += step.letters.length;
    last = step.letters.at(-1)?.id ?? last;
    progress(many);
    next = step.next;
  } while (next && !isOver());
  if (isOver()) return null;
  if (!many) return { many };
  // What became a dead letter since is not in the file.
  return { name: save("dead-letters", "NDJSON", texts), many, rest: { from: "0-0", to: last } };
}

/** Adds a step to the sums of a run. */
export function add(sum, step) {
  sum.done += step.done;
  sum.kept += step.kept;
  for (const { reason } of step.letters) {
    if (reason) sum.reasons.set(reason, (sum.reasons.get(reason) ?? 0) + 1);
  }
}

/** Why letters stay, the most frequent reason first. */
export function reasons(found) {
  if (!found.size) return null;
  const most = [...found].sort(([, a], [, b]) => b - a);
  return h(
    "ul",
    { class: "reasons" },
    most.slice(0, REASONS).map(([reason, number]) => h("li", {}, h("strong", {}, count(number)), reason)),
    most.length > REASONS && h("li", {}, `and ${count(most.length - REASONS)} other reasons`),
  );
}
