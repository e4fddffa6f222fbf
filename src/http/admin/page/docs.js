// The API reference: this service's own OpenAPI description, rendered here and now.

import { h, put } from "./dom.js";
import { prose, resolve, schemaOf } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const LISTENERS = [
  ["Public listener", "public listener", "What Shopify, other services and load balancers ask."],
  ["Private listener", "private listener", "What operators and their tools ask. Not for the internet."],
];
const SECURITY = {
  shopifySignature: "signed by Shopify",
  apiToken: "bearer token, one of ORDERSTREAM_API_TOKENS",
  adminToken: "bearer token, ORDERSTREAM_ADMIN_TOKEN",
};

const answer = await fetch("/openapi.json");
render(await answer.json());

function render(description) {
  const operations = operationsOf(description);
  const groups = LISTENERS.map(([title, name, what]) => ({
    title,
    what,
    operations: operations.filter((one) => one.listener === name),
  }));
  put(
    document.getElementById("contents"),
    groups.map((group) => [
      h("h2", {}, group.title),
      h(
        "ul",
        {},
        group.operations.map(({ id, method, path }) =>
          h("li", {}, h("a", { href: `#${id}` }, h("span", { class: `method ${method}` }, method), path)),
        ),
      ),
    ]),
    h("h2", {}, "Schemas"),
    h(
      "ul",
      {},
      Object.keys(description.components.schemas).map((name) => h("li", {}, h("a", { href: `#${name}` }, name))),
    ),
  );
  put(
    document.getElementById("main"),
    h("h1", {}, `${description.info.title} ${description.info.version}`),
    h("div", { class: "prose" }, prose(description.info.description)),
    groups.map((group) =>
      h(
        "section",
        {},
        h("h2", { class: "part" }, group.title),
        h("p", { class: "faint" }, group.what),
        group.operations.map((one) => operation(description, one)),
      ),
    ),
    h(
      "section",
      {},
      h("h2", { class: "part" }, "Schemas"),
      Object.entries(description.components.schemas).map(([name, schema]) =>
        h("article", { class: "panel", id: name }, h("h3", {}, h("code", {}, name)), schemaOf(description, schema, 2)),
      ),
    ),
  );
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/** All operations in the order of the description; one that both listeners have stands with the first. */
function operationsOf(description) {
  return Object.entries(description.paths).flatMap(([path, item]) => {
    const [{ description: listener }] = item.servers ?? description.servers;
    return METHODS.filter((method) => item[method]).map((method) => ({
      ...item[method],
      method,
      path,
      listener,
      id: item[method].operationId,
      both: item.servers?.length > 1,
    }));
  });
}

function operation(
  description,
  { id, method, path, summary, description: text, security, parameters, requestBody, responses, both },
) {
  const needs = (security ?? []).flatMap(Object.keys).map((name) => SECURITY[name] ?? name);
  return h(
    "article",
    { class: "panel operation", id },
    h("h3", {}, h("span", { class: `method ${method}` }, method), h("code", {}, path)),
    h("p", { class: "title" }, summary),
    text && h("div", { class: "prose" }, prose(text)),
    h(
      "p",
      { class: "faint" },
      needs.length ? `Needs: ${needs.join(", ")}.` : "Needs no token.",
      both && " On both listeners.",
    ),
    parameters && [
      h("h4", {}, "Parameters"),
      h(
        "dl",
        { class: "fields" },
        parameters.map((one) => parameter(description, one)),
      ),
    ],
    requestBody && [h("h4", {}, "Body"), contents(description, requestBody.content)],
    h("h4", {}, "Answers"),
    Object.entries(responses).map(([status, response]) =>
      responseOf(description, status, resolve(description, response)),
    ),
  );
}

function parameter(description, { name, in: where, required, description: text, schema, example }) {
  return h(
    "div",
    {},
    h("dt", {}, h("code", {}, name), h("span", { class: "faint" }, ` in ${where}${required ? ", required" : ""}`)),
    h(
      "dd",
      {},
      text && h("div", {}, prose(text)),
      schemaOf(description, schema, 0),
      example && h("p", { class: "faint" }, "Such as ", h("code", {}, String(example))),
    ),
  );
}

function responseOf(description, status, { description: text, content, headers }) {
  return h(
    "details",
    {},
    h("summary", {}, h("code", {}, status === "default" ? "others" : status), h("span", {}, text)),
    h(
      "div",
      { class: "inside" },
      headers &&
        h(
          "p",
          { class: "faint" },
          "With ",
          Object.keys(headers).map((name) => [h("code", {}, name), " "]),
        ),
      contents(description, content ?? {}),
    ),
  );
}

function contents(description, content) {
  return Object.entries(content).map(([kind, { schema }]) =>
    h(
      "div",
      { class: "content" },
      h("p", { class: "faint" }, h("code", {}, kind)),
      schema && schemaOf(description, schema, 1),
    ),
  );
}
