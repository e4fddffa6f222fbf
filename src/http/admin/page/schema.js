// A JSON Schema, for a person: type, limits, fields. What it refers to is a link that can be expanded.

import { h } from "./dom.js";

/** Follows a `$ref`. */
export function resolve(description, value) {
  if (!value.$ref) return value;
  return value.$ref
    .slice(2)
    .split("/")
    .reduce((found, key) => found[key], description);
}

/** `depth`: how many levels of references are expanded. */
export function schemaOf(description, schema, depth) {
  if (schema.$ref) return reference(description, schema.$ref, depth);
  const [how, several] = ["allOf", "anyOf", "oneOf"].map((key) => [key, schema[key]]).find(([, list]) => list) ?? [];
  return h(
    "div",
    { class: "schema" },
    h("p", {}, h("span", { class: "type" }, typeOf(schema)), limits(schema)),
    schema.description && h("div", {}, prose(schema.description)),
    several &&
      h(
        "div",
        { class: "inside" },
        h("p", { class: "faint" }, how === "allOf" ? "all of" : "one of"),
        several.map((one) => schemaOf(description, one, depth)),
      ),
    schema.properties && fields(description, schema, depth),
    schema.items &&
      h(
        "div",
        { class: "inside" },
        h("p", { class: "faint" }, "each item"),
        schemaOf(description, schema.items, depth),
      ),
  );
}

function reference(description, path, depth) {
  const name = path.split("/").at(-1);
  const target = resolve(description, { $ref: path });
  const link = h("a", { href: `#${name}` }, name);
  const isPlain = !target.properties && !target.items && !target.allOf && !target.anyOf;
  if (isPlain)
    return h(
      "div",
      { class: "schema" },
      h("p", {}, link, " ", h("span", { class: "type" }, typeOf(target)), limits(target)),
      target.description && h("div", {}, prose(target.description)),
    );
  return depth > 0
    ? h("div", { class: "schema" }, h("p", {}, link), schemaOf(description, target, depth - 1))
    : h("p", {}, link);
}

function fields(description, { properties, required = [] }, depth) {
  return h(
    "dl",
    { class: "fields" },
    Object.entries(properties).map(([name, field]) =>
      h(
        "div",
        {},
        h("dt", {}, h("code", {}, name), required.includes(name) && h("span", { class: "faint" }, " required")),
        h("dd", {}, schemaOf(description, field, depth - 1)),
      ),
    ),
  );
}

function typeOf({ type, enum: values, properties, format }) {
  const types = [type ?? (properties ? "object" : values ? "string" : "any of")].flat().join(" or ");
  return format ? `${types} (${format})` : types;
}

function limits(schema) {
  const said = [
    schema.enum && ["one of ", schema.enum.map((value) => [h("code", {}, String(value)), " "])],
    schema.default !== undefined && ["default ", h("code", {}, String(schema.default))],
    schema.minimum !== undefined && `at least ${schema.minimum}`,
    schema.maximum !== undefined && `at most ${schema.maximum}`,
    schema.maxLength && `at most ${schema.maxLength} characters`,
    schema.maxItems && `at most ${schema.maxItems} items`,
    schema.pattern && ["matches ", h("code", {}, schema.pattern)],
    schema.example !== undefined && ["such as ", h("code", {}, String(schema.example))],
  ].filter(Boolean);
  return (
    said.length > 0 &&
    h(
      "span",
      { class: "faint" },
      said.map((one) => [" · ", one]),
    )
  );
}

/** Paragraphs of text in which `…` is code. */
export function prose(text) {
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) =>
      h(
        "p",
        {},
        paragraph.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part)),
      ),
    );
}
