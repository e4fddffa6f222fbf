// JSON whose numbers keep their digits: "0.10" stays so, and an id above 2^53 is not rounded. Where a browser does not
// hand out the source of a number, it is shown as that browser reads it.

/** A number that JavaScript would write otherwise. */
export class Digits {
  constructor(text) {
    this.text = text;
  }
}

/** The view of one entry or dead letter: figures about it as numbers, its event with all digits. */
export function parseView(text) {
  const view = JSON.parse(text);
  view.content.event = parse(text).content.event;
  return view;
}

/** As `JSON.parse`, but numbers that would not survive become `Digits`. */
function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const source = context?.source;
    return typeof value === "number" && source !== undefined && source !== String(value) ? new Digits(source) : value;
  });
}

/** Written out over lines, two blanks a level. */
export function write(value, indent = "") {
  if (value instanceof Digits) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}  `;
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((item) => write(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${write(item, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (parts.length === 0) return open + close;
  return `${open}\n${parts.map((part) => inner + part).join(",\n")}\n${indent}${close}`;
}

/** Text that is JSON, written out; any other as it is. */
export function laidOut(text) {
  try {
    return write(parse(text));
  } catch {
    return text;
  }
}
