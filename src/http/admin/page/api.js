// Requests to `/api`. Owns the token's header and what a refusal means: 401 ends the session, everything else is an error
// with the sentence that the service gave.

import { token } from "./session.js";

const TIMEOUT_MS = 30_000;

/** A refusal, or no answer. `status` is 0 where there was none. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let refused = () => {};

/** Whom to tell that the token is not taken any more. */
export function onRefused(listener) {
  refused = listener;
}

/** A header's value is bytes, here those of UTF-8: a text beyond Latin-1 would not be sent at all. */
const bytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** A response that is ok. `signal` ends it. */
export async function request(path, { body, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { authorization: `Bearer ${bytes(token() ?? "")}` },
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const late = error.name === "TimeoutError";
    throw new ApiError(0, late ? "It did not answer in time." : "It does not answer. Is the process still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) refused();
  throw new ApiError(response.status, await sentence(response));
}

/** Asks, and reads the answer's text with `read`. */
export const get = (path, query = {}, read = JSON.parse) => answer(path + written(query), {}, read);

/** Acts, and reads the answer. */
export const post = (path, body) => answer(path, { body }, JSON.parse);

async function answer(path, options, read) {
  const response = await request(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  return read(await response.text());
}

/** `?a=b` of what is set. */
function written(query) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

async function sentence(response) {
  try {
    const problem = await response.json();
    return problem.detail || problem.title;
  } catch {
    return `It answered ${response.status}.`;
  }
}
