// What a page lists, as a file.

import { h } from "./dom.js";

/** Saves texts as one file of that kind; answers its name. */
export function save(what, kind, texts) {
  const url = URL.createObjectURL(new Blob(texts, { type: "text/plain" }));
  const at = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  const name = `orderstream-${what}-${at}.${kind.toLowerCase()}`;
  h("a", { href: url, download: name }).click();
  // Not at once: the browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  return name;
}

/** A button that saves the events that `text` answers. */
export const saved = (kind, text) =>
  h(
    "button",
    { type: "button", class: "quiet", onclick: () => save("events", kind, [text()]) },
    `Download ${kind}`,
  );

export const ndjson = (rows) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** RFC 4180, with a heading. */
export const csv = (columns, rows) =>
  [columns, ...rows.map((row) => columns.map((name) => row[name]))].map((line) => `${line.map(cell).join(",")}\r\n`).join("");

/** A spreadsheet would run a text that begins like a formula: an apostrophe before it keeps it a text. */
function cell(value) {
  const text = String(value ?? "");
  const plain = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}
