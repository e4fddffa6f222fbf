// What the service says by itself, about once a second. Owns the connection (fetch, since an EventSource cannot send a
// token), its renewal, and the last fifteen minutes of samples; everybody who shows something live listens here.

import { ApiError, request } from "./api.js";

const KEPT = 900;
/** The service says something at least every 15 s. */
const SILENCE_MS = 40_000;
const PAUSES_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];

/** `phase` is `connecting`, `live`, `reconnecting` or `refused`; `why` is what the service said to that; the others are null until the first message. */
export const now = { phase: "connecting", why: null, samples: [], ...unknown() };

function unknown() {
  return { report: null, groups: null, consumers: null, node: null, nodes: null, node_id: null };
}

const listeners = new Set();
let connection = null;

/** Calls `listener` on every change, and at once; answers how to end it. */
export function listen(listener) {
  listeners.add(listener);
  listener(now);
  return () => listeners.delete(listener);
}

/** Begins, with the token there is. */
export function start() {
  stop();
  connection = new AbortController();
  run(connection.signal);
}

/** Ends. */
export function stop() {
  connection?.abort();
  connection = null;
}

async function run(signal) {
  change({ phase: "connecting", why: null, samples: [], ...unknown() });
  for (let failures = 0; !signal.aborted; failures += 1) {
    let why = null;
    try {
      await read(signal, () => {
        failures = 0;
      });
    } catch (error) {
      // The session has ended; whoever signs in again starts anew.
      if (error instanceof ApiError && error.status === 401) return;
      // It answers, and all viewers' places are taken.
      if (error instanceof ApiError && error.status > 0) why = error.message;
    }
    if (signal.aborted) return;
    change({ phase: why ? "refused" : "reconnecting", why });
    const pause = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
    await new Promise((done) => setTimeout(done, pause * (0.75 + Math.random() / 2)));
  }
}

/** One connection, until it ends, errs or falls silent. */
async function read(signal, answered) {
  const silence = new AbortController();
  let alarm = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const response = await request("/api/live", { signal: AbortSignal.any([signal, silence.signal]) });
    const chunks = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await chunks.read();
      if (done) return;
      answered();
      clearTimeout(alarm);
      alarm = setTimeout(() => silence.abort(), SILENCE_MS);
      const messages = (text + value).split("\n\n");
      text = messages.pop();
      messages.forEach(take);
    }
  } finally {
    clearTimeout(alarm);
    // An answer that is left unread would hold its place.
    silence.abort();
  }
}

/** One message of the event stream; a comment has neither name nor content. */
function take(message) {
  const field = (name) =>
    message
      .split("\n")
      .find((line) => line.startsWith(`${name}: `))
      ?.slice(name.length + 2);
  const [event, content] = [field("event"), field("data")];
  if (event === "history") change({ phase: "live", why: null, samples: JSON.parse(content).samples.slice(-KEPT) });
  if (event !== "now") return;
  const { sample, ...told } = JSON.parse(content);
  change({ phase: "live", why: null, samples: [...now.samples, sample].slice(-KEPT), ...unknown(), ...told });
}

function change(what) {
  Object.assign(now, what);
  listeners.forEach((listener) => listener(now));
}
