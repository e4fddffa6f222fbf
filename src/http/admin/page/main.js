// The dashboard's frame: who may look, which page stands there, and whether it is live. Each page is a module whose
// `open…` answers an element, with a title and how to close it.

import { onRefused } from "./api.js";
import { h, put, say } from "./dom.js";
import { openEntry } from "./entry.js";
import { openEvents } from "./events.js";
import { count } from "./format.js";
import { openDeadLetter } from "./dead_letter.js";
import { openCause, openDeadLetters } from "./dead_letters.js";
import { listenToKeys } from "./keys.js";
import * as live from "./live.js";
import { openLogin } from "./login.js";
import { openOperations } from "./operations.js";
import { openOverview } from "./overview.js";
import { adopt, forget, token } from "./session.js";
import { openSettings } from "./settings.js";
import { openTrace } from "./trace.js";

/** Place in the address → the page there; a star is whatever stands in its place. */
const PAGES = [
  ["", "overview", openOverview],
  ["events", "events", openEvents],
  ["events/*", "events", openEntry],
  ["dead-letters", "dead-letters", openDeadLetters],
  ["dead-letters/cause/*", "dead-letters", openCause],
  ["dead-letters/*", "dead-letters", openDeadLetter],
  ["trace", "trace", openTrace],
  ["operations", "operations", openOperations],
  ["settings", "settings", openSettings],
];

const PHASES = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", refused: "Not live" };

const main = document.getElementById("main");
const top = document.getElementById("top");
let page = null;

function show(next) {
  page?.close?.();
  page = next;
  document.title = `${next.title} · orderstream`;
  put(main, next.element);
}

/** Shows what the address says; `focus` for whoever came by a link of the page and reads with the ears. */
function follow(focus) {
  if (!token()) return signedOut();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/");
  const [, name, open] = PAGES.find(([pattern]) => matches(pattern.split("/"), parts)) ?? PAGES[0];
  for (const link of top.querySelectorAll("[data-page]")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  show(open(decodeURIComponent(parts.at(-1)), new URLSearchParams(query)));
  if (!focus) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function matches(pattern, parts) {
  return (
    pattern.length === parts.length && pattern.every((part, at) => part === parts[at] || (part === "*" && parts[at]))
  );
}

function signedIn() {
  top.hidden = false;
  live.start();
  follow(false);
}

function signedOut(why) {
  live.stop();
  forget();
  top.hidden = true;
  show(openLogin(why, signedIn));
}

function sayPhase({ phase, why, report }) {
  const link = document.getElementById("link");
  if (link.dataset.phase !== phase) {
    link.dataset.phase = phase;
    put(link, h("span", { class: "dot", "aria-hidden": "true" }), PHASES[phase]);
    link.title = why ?? "";
  }
  const letters = document.getElementById("letter-count");
  letters.hidden = !report?.dead_letters;
  say(letters, count(report?.dead_letters));
}

// Before anybody has signed in, the door itself says what it refuses.
onRefused(() => top.hidden || signedOut("The token is not accepted any more."));
live.listen(sayPhase);
document.getElementById("sign-out").addEventListener("click", () => signedOut());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
listenToKeys(() => !top.hidden);
addEventListener("hashchange", () => (adopt() ? signedIn() : follow(true)));
adopt();
if (token()) signedIn();
else signedOut();
