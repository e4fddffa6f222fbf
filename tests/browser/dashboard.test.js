// The dashboard as an operator uses it. Whatever a test does, no page may write an error to its console or ask another host.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";
import { eventually, order, Service } from "./service.js";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;
let service;
let context;
let page;
let troubles;

before(async () => {
  service = await Service.start();
  // Root, which a container often is, has no sandbox to give.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
});

after(async () => {
  await browser?.close();
  await service?.end();
});

beforeEach(async () => {
  context = await browser.newContext();
  page = await context.newPage();
  page.setDefaultTimeout(60_000);
  troubles = [];
  page.on("pageerror", (error) => troubles.push(String(error)));
  page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
  context.on("request", (request) => {
    if (new URL(request.url()).host !== service.private) troubles.push(`asked ${request.url()}`);
  });
});

afterEach(async () => {
  await context.close();
  assert.deepEqual(troubles, []);
});

/** Forgives what the browser itself writes about an answer that the test wants. */
const forgive = (what) => {
  troubles = troubles.filter((trouble) => !trouble.includes(what));
};

const enter = (place) =>
  page.goto(`http://${service.private}/`).then(async () => {
    await page.evaluate((token) => sessionStorage.setItem("orderstream-token", token), service.token);
    // Else a place on the same page would not be loaded anew; a reload would cut off what the page just asked for.
    await page.goto("about:blank");
    await page.goto(`http://${service.private}/${place}`);
  });

/** The first number in a text: 1,257 entries → 1257. */
const number = async (locator) => Number((await locator.textContent()).replaceAll(",", "").match(/[\d.]+/)?.[0] ?? NaN);

test("without a token nothing can be read or changed", async () => {
  await page.goto(`http://${service.private}/`);
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByRole("navigation").count(), 0);
  await page.getByLabel("Admin token").fill("a guess");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("That token is not accepted.").waitFor();
  // A character that no header can carry is no sign of a dead process.
  await page.getByLabel("Admin token").fill("a guess…");
  const tried = page.waitForResponse("**/api/status");
  await page.getByRole("button", { name: "Sign in" }).click();
  await tried;
  await page.getByText("That token is not accepted.").waitFor();
  const answers = await page.evaluate(async () => {
    const { paths } = await (await fetch("/openapi.json")).json();
    const asked = Object.entries(paths).filter(([path]) => path.startsWith("/api/"));
    const ask = ([path, item]) =>
      Object.keys(item)
        .filter((key) => ["get", "post"].includes(key))
        .map(async (method) => {
          const body = method === "post" ? "{}" : undefined;
          const answer = await fetch(path.replace("{id}", "1-1"), { method, body });
          return [method, path, answer.status];
        });
    return Promise.all(asked.flatMap(ask));
  });
  assert.ok(answers.length > 10, "the API was not found");
  assert.deepEqual(
    answers.filter(([, , status]) => status !== 401),
    [],
  );
  forgive("401");
});

test("the link signs in, and the token leaves the address", async () => {
  await page.goto(service.link);
  await page.getByRole("link", { name: "Overview" }).waitFor();
  assert.equal(page.url(), `http://${service.private}/#/`);
  await page.getByText("No orders received yet").waitFor();
  await page.reload();
  await page.getByRole("status").filter({ hasText: "Live" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Admin token").fill(service.token);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "Overview" }).waitFor();
});

test("live numbers move under load", async () => {
  await page.goto(service.link);
  const sending = service.send("--count", "400", "--rate", "40");
  const accepted = page.locator(".arrow.accepted .figure");
  const loaded = page.locator(".arrow.loaded .figure");
  const entries = page.locator(".box.stream .figure");
  await eventually(
    "events are accepted and loaded",
    async () => (await number(accepted)) > 5 && (await number(loaded)) > 5,
  );
  const [flow, charts] = await page.evaluate(() => {
    const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
    return [texts(".arrow.accepted .figure, .arrow.loaded .figure"), texts(".chart figcaption strong").slice(0, 2)];
  });
  assert.deepEqual(flow, charts, "one figure of one rate");
  const levelled = await page.evaluate(async () => {
    const { column } = await import("/assets/rates.js");
    const samples = [null, 10, 30, ...Array(9).fill(0), 5].map((accepted_per_second) => ({ accepted_per_second }));
    return [0, 1, 2, 12].map((at) => column(samples, "accepted_per_second")[at]);
  });
  assert.deepEqual(levelled, [null, 10, 20, 0.5]);
  await page.getByRole("link", { name: "Trace" }).click();
  await page.getByRole("link", { name: "Overview" }).click();
  const before = await number(entries);
  await eventually("the stream grows", async () => (await number(entries)) > before);
  await eventually("a latency is known", async () =>
    / (ms|s)$/.test(await page.locator(".box.warehouse .figure").textContent()),
  );
  assert.equal(await page.locator(".plot canvas").count(), 4);
  await sending;
  await eventually("all 400 are there", async () => (await number(entries)) === 400);
});

test("charts show hours of the history that is kept beside the stream", async () => {
  const minute = Math.floor(Date.now() / 60_000) * 60_000;
  const minutes = Array.from({ length: 1_440 }, (_, at) => ({ at: minute - (1_440 - at) * 60_000, backlog: at }));
  await enter("#/");
  const backlog = page.locator(".chart").filter({ hasText: "Backlog" }).locator(".plot");
  await page.locator(".plot canvas").first().waitFor();
  // That the service answers such a list; a day of it would take a day.
  assert.deepEqual(
    await page.evaluate(async () => {
      const { get } = await import("/assets/api.js");
      return Object.keys(await get("/api/history"));
    }),
    ["minutes"],
  );
  await page.route("**/api/history", (route) => route.fulfill({ json: { minutes } }));
  await page.getByRole("button", { name: "3 h" }).click();
  await eventually("three hours are drawn", async () =>
    (await backlog.getAttribute("aria-label")) === "Backlog, last 3 h; highest 1,439",
  );
  await page.getByRole("button", { name: "24 h" }).click();
  await eventually("a day is drawn", async () => (await backlog.getAttribute("aria-label")).includes("last 24 h"));
  await page.getByRole("button", { name: "15 min" }).click();
  await eventually("what is heard is drawn", async () => (await backlog.getAttribute("aria-label")).includes("last 15 min"));
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

test("today's sales are those of the warehouse", async () => {
  await enter("#/");
  const row = page.getByRole("table", { name: "Today's sales by currency" }).locator("tbody tr").first();
  await row.waitFor();
  const [date, asked] = await page.evaluate(async () => {
    const { get } = await import("/assets/api.js");
    const date = new Date().toLocaleDateString("sv");
    return [date, await get("/api/sales", { date })];
  });
  const [{ currency, day, week_before: before }] = asked.currencies;
  assert.ok(day.orders > 0, JSON.stringify(asked));
  const cells = await row.locator("td").allTextContents();
  assert.equal(cells[0], currency);
  assert.deepEqual(
    cells.slice(1).map((written) => Number(written.replace(/[^\d.-]/g, ""))),
    [day.orders, day.net, before.orders, before.net].map(Number),
  );
  assert.match(cells[2], new RegExp(`^${currency}\\s[\\d,]+(\\.\\d\\d)?$`));
  assert.equal(await row.locator("td").nth(1).getAttribute("data-heading"), `Orders of ${date}`);
});

test("a selection and what was scrolled outlive the figures that come in", async () => {
  await page.goto(service.link);
  const heard = page.locator(".nodes td[data-heading='Uptime']").first();
  await heard.waitFor();
  const shown = await page.evaluateHandle(() => [...document.querySelectorAll("h1, .facts dt, .scroll, .checks li")]);
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector(".facts dt")));
  const first = await heard.textContent();
  await eventually("a figure changes", async () => (await heard.textContent()) !== first);
  assert.ok(await shown.evaluate((elements) => elements.every((element) => element.isConnected)));
  assert.equal(await page.evaluate(() => String(getSelection())), "Oldest pending");
});

test("a process that takes no webhooks misses no spool", async () => {
  await page.goto(service.link);
  const said = await page.evaluate(async () => {
    const { boxTexts } = await import("/assets/flowtexts.js");
    const { figures } = await import("/assets/panels.js");
    const { h } = await import("/assets/dom.js");
    const node = { command: "work", storage: { stream: "redis", warehouse: "postgres" } };
    const now = { report: { checks: [], retry_budget_used: 0 }, samples: [], node, nodes: null };
    return [boxTexts(now).spool.join(), h("div", {}, figures(now)).textContent];
  });
  assert.equal(said[0], "none,no intake on this node,true");
  assert.match(said[1], /no intake on this node/);
  assert.doesNotMatch(said[1], /DATA_DIR|Shopify/);
});

test("what is not known is not called none", async () => {
  await page.goto(service.link);
  const [unknown, quiet, away] = await page.evaluate(async () => {
    const { boxTexts } = await import("/assets/flowtexts.js");
    const { figures } = await import("/assets/panels.js");
    const { h } = await import("/assets/dom.js");
    const node = { command: "serve", has_warehouse: true, storage: { stream: "redis", warehouse: "postgres" } };
    const look = (report, sample) => {
      const now = { report, samples: [sample], node, nodes: null };
      const { sources, workers, warehouse, letters } = boxTexts(now);
      const values = [...h("div", {}, figures(now)).querySelectorAll("dd")].map((value) => value.textContent);
      return [...values.slice(0, 7), sources[0], workers[0], warehouse[1], letters[1]];
    };
    const known = {
      checks: [],
      stream_length: 12,
      pending_count: 0,
      dead_letters: 0,
      dead_letters_new: 0,
      workers: 2,
      retry_budget_used: 0,
    };
    return [
      look({ checks: [], retry_budget_used: 0 }, {}),
      look(known, { loaded_per_second: 0 }),
      look({ ...known, pending_count: null }, { loaded_per_second: null }),
    ];
  });
  assert.deepEqual(unknown, [...Array(9).fill("–"), "not known", "not known"]);
  const rest = ["2", "0", "none", "not expected", "none", "none yet", "2"];
  assert.deepEqual(quiet, ["none", "none", ...rest, "nothing loaded lately", "none"]);
  assert.deepEqual(away, ["–", "–", ...rest, "not known", "none"]);
});

test("a node is listed with its figures, and one without a heartbeat is marked", async () => {
  await page.goto(service.link);
  const own = page.locator(".nodes tbody tr");
  await own.getByText("this node").waitFor();
  assert.equal(await own.count(), 1);
  await own.getByText("live", { exact: true }).waitFor();
  await own.getByText("reached").waitFor();
  const rows = await page.evaluate(async () => {
    const { nodes } = await import("/assets/nodes.js");
    const { h } = await import("/assets/dom.js");
    const since = new Date(Date.now() - 90_000).toISOString();
    const loading = { loaded_per_second: 12.5, latency: { p99_ms: 340 }, warehouse: { state: "reached", since } };
    const away = { ...loading, loaded_per_second: null, warehouse: { state: "away", since, why: "refused" } };
    const spool = { depth: 3, bytes: 2048, breaker: "open" };
    const node = (id, role, age, more) => ({
      ...{ id, role, host: "h", pid: 1, version: "1.2.3", started_at: since, stale: age > 15 },
      heartbeat_age_seconds: age,
      ...more,
    });
    const found = [
      node("gone", "work", 40, { loading }),
      node("away", "work", 2, { loading: away }),
      node("well", "work", 2, { loading }),
      node("front", "serve", 2, { intake: { accepted_per_second: 40, spool } }),
    ];
    const table = h("div", {}, nodes({ nodes: found, node_id: "front" }));
    return [...table.querySelectorAll("tbody tr")].map((row) =>
      [...row.cells].map((cell) => cell.textContent.trim()).join("|"),
    );
  });
  assert.deepEqual(rows, [
    "serve front this node|live|2 s ago|1.5 min|1.2.3|40/s||||3 events, 2.0 KiB, open",
    "work away|live|2 s ago|1.5 min|1.2.3||–|340 ms|away for 1.5 min|",
    "work well|live|2 s ago|1.5 min|1.2.3||13/s|340 ms|reached|",
    "work gone|stale|40 s ago|50 s|1.2.3||–|–|–|",
  ]);
});

/** What `/api/live` says of a process that captures, beside what this one says of itself. */
async function captures(capture, check) {
  const watched = await fetch(`http://${service.private}/api/live`, {
    headers: { authorization: `Bearer ${service.token}` },
  });
  let said = "";
  for await (const chunk of watched.body.pipeThrough(new TextDecoderStream())) {
    said += chunk;
    if (/event: now\n.*\n\n/.test(said)) break;
  }
  const messages = said.split("\n\n").filter(Boolean);
  const at = messages.findIndex((message) => message.includes("event: now"));
  const now = JSON.parse(/^data: (.*)$/m.exec(messages[at])[1]);
  now.report.capture = capture;
  now.report.checks.push(check);
  now.nodes = now.nodes?.map((node) => ({ ...node, capture, captured_per_second: 42 }));
  const body = messages.slice(0, at).concat(`event: now\ndata: ${JSON.stringify(now)}`, "").join("\n\n");
  await page.route("**/api/live", (route) => route.fulfill({ contentType: "text/event-stream", body }));
}

test("a capture has its box, its panel and a way to read all orders again", async () => {
  const well = {
    ...{ source: "shopdb", state: "streaming", lag_seconds: 1.5, events: 900, gaps: 0 },
    ...{ retained_bytes: 3 << 20, safe_bytes: 1 << 30, wal_status: "reserved", failover_synced: null },
    ...{ canary_seconds: 12, walk: null },
  };
  const healthy = { name: "capture", status: "healthy", detail: "it streams changes", known: true };
  await page.goto(service.link);
  await page.getByRole("heading", { name: "Nodes" }).waitFor();
  assert.equal(await page.locator(".box.capture").count(), 0);
  assert.equal(await page.getByRole("heading", { name: "Capture" }).count(), 0);

  await captures(well, healthy);
  await page.reload();
  const box = page.locator(".box.capture");
  await box.getByText("1.5 s").waitFor();
  await box.getByText("3.0 MiB of WAL kept").waitFor();
  assert.match(await box.getAttribute("class"), /healthy/);
  assert.equal(await page.locator(".arrow.captured .figure").textContent(), "42/s");
  await page.getByRole("heading", { name: "Capture" }).waitFor();
  await page.getByText("1.0 GiB").waitFor();
  const asked = page.waitForRequest("**/api/capture/resync");
  await page.getByRole("button", { name: "Read all orders again…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Read all orders", exact: true }).click();
  assert.deepEqual((await asked).postDataJSON(), { source: "shopdb" });
  // This process has no capture: the service says so.
  await dialog.getByRole("alert").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  forgive("404");

  const walk = { reason: "slot_lost", done: 12_000, estimate: 30_000 };
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await captures({ ...well, state: "walking", gaps: 1, walk }, healthy);
  for (const [colorScheme, width] of [
    ["light", 1440],
    ["dark", 360],
  ]) {
    await page.setViewportSize({ width, height: 844 });
    await page.emulateMedia({ colorScheme });
    await page.reload();
    await box.getByText("40 %").waitFor();
    await page.getByText("changes were lost (slot lost)").waitFor();
    await page.getByText("12,000 of about 30,000 orders").waitFor();
    await page.evaluate(axe);
    // This feed ends at once, and a page that is cut off is pale.
    const options = { rules: { "color-contrast": { enabled: false } } };
    const { violations } = await page.evaluate((options) => globalThis.axe.run(options), options);
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
    assert.deepEqual(told, [], `${colorScheme} ${width}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `wider than ${width}`);
  }

  const problem = { ...healthy, status: "critical", detail: "it waits for an operator: GRANT SELECT" };
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await captures({ ...well, state: "stopped" }, problem);
  await page.reload();
  await box.getByText("action required").waitFor();
  assert.match(await box.getAttribute("class"), /critical/);
  await page.getByRole("button", { name: "Read all orders again…" }).and(page.locator(":disabled")).waitFor();
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

test("the words and the state follow the health report, and what is not known is never green", async () => {
  await page.goto(service.link);
  await page.getByRole("heading", { level: 1, name: /Healthy|Warning|Action required/ }).waitFor();
  const said = await page.evaluate(async () => {
    const { lines } = await import("/assets/panels.js");
    const { stateOf } = await import("/assets/flowtexts.js");
    const checks = [
      { name: "workers", status: "critical", detail: "no live worker, and 9 entries wait", known: true },
      { name: "warehouse", status: "warning", detail: "not known: no live worker reports it", known: false },
    ];
    const shown = lines(checks).map((line) => `${line.querySelector(".badge").className}: ${line.textContent}`);
    return [...shown, stateOf("workers", { checks }), stateOf("warehouse", { checks })];
  });
  assert.deepEqual(said, [
    "badge critical: criticalworkersno live worker, and 9 entries wait",
    "badge unknown: not knownwarehousenot known: no live worker reports it",
    "critical",
    "warning",
  ]);
});

test("a pointer over a chart outlives a history that is shorter", async () => {
  await page.goto(service.link);
  await page.locator(".plot canvas").first().waitFor();
  const said = await page.evaluate(async () => {
    const { openCharts } = await import("/assets/charts.js");
    const charts = openCharts();
    document.getElementById("main").append(charts.element);
    const samples = (many) => Array.from({ length: many }, (_, index) => ({ at: 1e12 + index * 1e3, backlog: index }));
    charts.show(samples(900));
    const drawn = () => charts.element.querySelectorAll("canvas").length === 4;
    while (!drawn()) await new Promise((done) => requestAnimationFrame(done));
    const { left, width, top } = charts.element.querySelector(".u-over").getBoundingClientRect();
    const over = charts.element.querySelector(".u-over");
    const pointer = { clientX: left + width * 0.95, clientY: top + 9, bubbles: true };
    for (const kind of ["mouseenter", "mousemove"]) over.dispatchEvent(new MouseEvent(kind, pointer));
    const when = charts.element.querySelector(".when");
    while (!when.textContent) await new Promise((done) => requestAnimationFrame(done));
    const backlog = charts.element.querySelectorAll(".series strong")[2];
    charts.show(samples(3));
    const newest = backlog.textContent;
    charts.show([...samples(3), { at: 1e12 + 3e3 }]);
    charts.close();
    return [newest, backlog.textContent];
  });
  assert.deepEqual(said, ["2", "–"]);
});

test("a chart has room for the label below its newest sample", async () => {
  await page.goto(service.link);
  await page.locator(".plot canvas").first().waitFor();
  const [room, half] = await page.evaluate(() => {
    const plot = document.querySelector(".plot");
    const pen = plot.querySelector("canvas").getContext("2d");
    pen.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    const right = (part) => plot.querySelector(part).getBoundingClientRect().right;
    return [right("canvas") - right(".u-over"), pen.measureText("00:00").width / devicePixelRatio / 2];
  });
  assert.ok(room >= half, `${room} px, of ${half}`);
});

test("entries are found and shown in full, digits as they came", async () => {
  assert.equal(
    await service.deliver("orders/create", "w-exact", order(9007199254740993n.toString(), "20.50", 1)),
    "accepted",
  );
  await enter("#/events");
  await page.getByLabel("Order").fill("#9007199254740993");
  await page.getByRole("button", { name: "Filter" }).click();
  await eventually("only that one is listed", async () => (await page.locator("tbody tr").count()) === 1);
  await page.getByRole("link", { name: "order.created" }).click();
  await page.getByText('"total_amount": 20.50').waitFor();
  await page.getByText("9007199254740993", { exact: false }).first().waitFor();
  await page.getByText("Raw fields").click();
  await page.getByRole("cell", { name: "w-exact" }).waitFor();
  await page.getByRole("link", { name: "Trace this order" }).click();
  await page.getByRole("heading", { name: "Time line" }).waitFor();
});

test("an entry that is not in the stream says so, and what the warehouse has of it", async () => {
  assert.equal(await service.deliver("orders/create", "w-trimmed", order(5100, "5.10", 1)), "accepted");
  await eventually("it is loaded", async () => {
    await enter("#/events?order=5100");
    await page.locator("tbody tr").waitFor();
    return (await page.locator("tbody tr").getByText("loaded").count()) === 1;
  });
  await page.route(/\/api\/events\/\d/, (route) => route.fulfill({ status: 404, json: { detail: "there is no such entry" } }));
  await page.getByRole("link", { name: "order.created" }).click();
  await page.getByRole("heading", { name: "Not in the stream" }).waitFor();
  await page.getByRole("link", { name: "5100" }).waitFor();
  await enter("#/events/1-1");
  await page.getByText("The warehouse has no event that was loaded from it").waitFor();
  await page.unrouteAll({ behavior: "ignoreErrors" });
  forgive("404");
});

test("entries have a state, are found by time, and are saved as they are listed", async () => {
  const since = new Date(Date.now() - 3_600_000 - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  await service.deliver("orders/paid", "w-timed", order(777, "7.10", 1));
  await enter("#/events");
  await page.getByLabel("Order").fill("777");
  await page.getByLabel("Topic").fill("orders/paid");
  await page.getByLabel("Since").fill(since);
  await page.getByRole("button", { name: "Filter" }).click();
  const row = page.locator("tbody tr").filter({ hasText: "777" });
  await eventually("it is done", async () => {
    await page.getByRole("button", { name: "Refresh" }).click();
    return (await row.getByText("loaded").count()) === 1;
  });
  assert.equal(await page.locator("tbody tr").count(), 1);
  const saved = async (kind) => {
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: `Download ${kind}` }).click();
    return readFile(await (await download).path(), "utf8");
  };
  const [entry] = (await saved("NDJSON")).trimEnd().split("\n").map(JSON.parse);
  assert.deepEqual([entry.order_id, entry.total_amount, entry.topic], ["777", "7.10", "orders/paid"]);
  const [heading, line] = (await saved("CSV")).split("\r\n");
  assert.equal(line.split(",")[heading.split(",").indexOf("total_amount")], "7.10");
  const written = await page.evaluate(async () => {
    const { csv } = await import("/assets/download.js");
    return csv(["a"], [{ a: "=1+1" }, { a: '"x", y' }, { a: "-5.20" }, { a: null }]);
  });
  assert.equal(written, 'a\r\n\'=1+1\r\n"""x"", y"\r\n-5.20\r\n\r\n');
  await page.getByLabel("Until").fill("2026-01-01T00:00");
  await page.getByLabel("Since").fill("");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.getByText("No matching entry in the stream").waitFor();
});

test("settings say what holds and where it comes from, and no secret", async () => {
  await enter("#/settings");
  const address = page.locator("tr").filter({ hasText: "ORDERSTREAM_LISTEN_ADDR" });
  await address.getByText("127.0.0.1:0").waitFor();
  await address.getByText("environment").waitFor();
  await page.locator("tr").filter({ hasText: "ORDERSTREAM_ADMIN_TOKEN" }).getByText("not set").waitFor();
  await page.getByText("Local mode: no secret is configured").waitFor();
  await page.getByLabel("Only those that are set").check();
  await eventually("only these are shown", async () => (await page.locator("tbody tr").count()) === 2);
});

test("workers are paused and resumed, and a range of time is previewed and replayed", async () => {
  assert.equal(await service.deliver("orders/create", "w-before", order(5001, "5.00", 1)), "accepted");
  await enter("#/operations");
  await page.getByRole("button", { name: "Pause…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Pause…" }).click();
  await dialog.getByRole("button", { name: "Pause", exact: true }).click();
  await page.getByText("paused", { exact: true }).waitFor();
  await page.getByRole("cell", { name: "pause", exact: true }).waitFor();
  await page.getByRole("link", { name: "Overview" }).click();
  await page.locator(".troubles").getByText("paused by an operator since").waitFor();
  await page.getByRole("link", { name: "Operations" }).click();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText("Workers of all processes read and load.").waitFor();

  const local = (at) => new Date(at - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  await page.getByLabel("From").fill(local(Date.now() - 3_600_000));
  await page.getByLabel("To").fill(local(Date.now()));
  await eventually("all of the stream would be replayed", async () => {
    await page.getByRole("button", { name: "Preview…" }).click();
    await dialog.getByRole("heading", { name: "Preview", exact: true }).waitFor();
    if (/entr(y|ies) of the stream would be made pending again/.test(await dialog.textContent())) return true;
    await dialog.getByRole("button", { name: "Close" }).click();
    return false;
  });
  await dialog.getByRole("button", { name: "Replay" }).click();
  await dialog.getByRole("heading", { name: "Done" }).waitFor();
  await dialog.getByText(/of the stream made pending again/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByRole("cell", { name: "replay", exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Rebuild…" }).click();
  await dialog.getByRole("button", { name: "Rebuild", exact: true }).click();
  await dialog.getByText(/of order_events applied again/).waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByRole("cell", { name: "rebuild", exact: true }).first().waitFor();
});

test("keys go to pages and searches, and type where somebody types", async () => {
  await enter("#/");
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("d");
  await page.getByRole("heading", { level: 1, name: "Dead letters" }).waitFor();
  await page.keyboard.press("/");
  const order = page.getByLabel("Order");
  await eventually("the search has the focus", () => order.evaluate((input) => input === document.activeElement));
  await page.keyboard.type("g?/");
  assert.equal(await order.inputValue(), "g?/");
  await order.blur();
  await page.keyboard.press("?");
  const keys = page.getByRole("dialog", { name: "Keys" });
  await keys.getByText("Overview").waitFor();
  await page.keyboard.press("Escape");
  await keys.waitFor({ state: "detached" });
  await page.keyboard.press("x");
  await page.keyboard.press("e");
  assert.ok(page.url().endsWith("#/events"));
});

test("what a replay made pending is not dated a week back", async () => {
  assert.equal(await service.deliver("orders/create", "w-pending", order(4712, "20.50", 1)), "accepted");
  const fate = { group: "pipeline_workers", ours: true, stage: "pending" };
  let deliveries = 0;
  await page.route(/\/api\/events\/\d/, async (route) => {
    const answer = await (await route.fetch()).json();
    // The consumer that a replay makes up is not told.
    const claimed = { consumer: "replay", deliveries, idle_seconds: 3 };
    const groups = [{ ...fate, ...(deliveries ? claimed : { consumer: null, deliveries, idle_seconds: null }) }];
    await route.fulfill({ json: { ...answer, groups } });
  });
  await enter("#/events?order=4712");
  await page.getByRole("link", { name: "order.created" }).click();
  await page.getByText("made pending again by a replay").waitFor();
  assert.equal(await page.getByText("delivered").count(), 0);
  // A consumer may be called so.
  deliveries = 1;
  await page.reload();
  await page.getByText("consumer replay, delivered 1 times").waitFor();
});

test("the stream is followed, however long an answer takes", async () => {
  await enter("#/events?to=1-1");
  await page.getByText("No older entry is left").waitFor();
  await enter("#/events");
  await page.route(
    (url) => url.pathname === "/api/events",
    async (route) => {
      await new Promise((done) => setTimeout(done, 3_000));
      await route.continue();
    },
  );
  await page.getByRole("button", { name: "Follow" }).click();
  assert.equal(await service.deliver("orders/create", "w-followed", order(4711, "20.50", 1)), "accepted");
  await page.getByRole("cell", { name: "#4711" }).waitFor();
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

test("a dead letter is replayed by clicking and lands in the warehouse", async () => {
  assert.equal(await service.deliver("orders/updated", "w-twice", order(1042, "20.50", 1)), "accepted");
  assert.equal(await service.deliver("orders/updated", "w-twice", order(1042, "31.90", 2)), "quarantined");
  await eventually("it is loaded", async () => {
    await enter("#/trace?order=%231042");
    await page.getByRole("heading", { name: "Time line" }).waitFor();
    return (await page.getByText("20.50 EUR").count()) > 0;
  });
  await page.getByText("the webhook id was used for another body").waitFor();

  await page.getByRole("link", { name: /^Dead letters/ }).click();
  await page.getByRole("link", { name: "the webhook id was used for another body" }).click();
  await page.getByRole("button", { name: "Dry run" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("1 dead letter would be replayed").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Replay 1" }).click();
  await dialog.getByRole("heading", { name: "Replay 1 dead letter?" }).waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("1 dead letter of this cause").waitFor();
  await page.getByRole("button", { name: "Replay 1" }).click();
  await dialog.getByRole("button", { name: "Replay 1" }).click();
  await dialog.getByText("1 dead letter replayed").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("No dead letter of this cause is left").waitFor();

  await page.getByRole("link", { name: "Operations" }).click();
  await page.getByRole("cell", { name: "dead-letters replay" }).waitFor();
  await eventually("the order's row is that of the letter", async () => {
    await page.goto(`http://${service.private}/#/trace?order=%231042&shop=tests.myshopify.com`);
    await page.reload();
    await page.getByRole("heading", { name: "Time line" }).waitFor();
    return (await page.getByText("31.90 EUR").count()) === 1;
  });
  // A cause without dead letters is not found.
  forgive("404");
});

test("letters are discarded only after a question that names their number", async () => {
  for (const id of [1, 2, 3])
    assert.equal(await service.deliver("products/create", `w-unknown-${id}`, { id }), "quarantined");
  await enter("#/dead-letters");
  await page.getByRole("button", { name: "Discard 3" }).first().click();
  await page.getByRole("heading", { name: "Discard 3 dead letters?" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Discard 3" }).first().click();
  const dialog = page.getByRole("dialog");
  const download = page.waitForEvent("download");
  await dialog.getByRole("button", { name: "Download, then discard…" }).click();
  const file = await readFile(await (await download).path(), "utf8");
  const saved = file.trimEnd().split("\n").map(JSON.parse);
  assert.deepEqual(
    saved.map(({ body }) => body),
    ['{"id":1}', '{"id":2}', '{"id":3}'],
  );
  // One that comes now is in no file, and stays.
  assert.equal(await service.deliver("products/create", "w-unknown-4", { id: 4 }), "quarantined");
  await dialog.getByRole("heading", { name: "Discard 3 dead letters for good?" }).waitFor();
  await dialog.getByRole("button", { name: "Discard 3" }).click();
  await page.getByText("3 dead letters discarded").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Discard 1" }).first().waitFor();
  await page.locator(".causes").getByRole("link", { name: "tests.myshopify.com" }).click();
  await page.getByText('"id": 4').waitFor();
  await page.getByText("No personal field was kept.").waitFor();
  await page.getByRole("button", { name: "Discard 1" }).click();
  await discardWithoutFile(1);
  await page.getByText("1 dead letter discarded").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await enter("#/dead-letters");
  await page.getByText("No dead letters", { exact: true }).waitFor();
  // A cause without dead letters is not found.
  forgive("404");
});

/** In the dialog of a discard of so many. */
async function discardWithoutFile(many) {
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Discard without a file…" }).click();
  await dialog.getByText("No file was saved.").waitFor();
  await dialog.getByRole("button", { name: `Discard ${many}`, exact: true }).click();
}

test("some dead letters of a cause are chosen, and only they are discarded", async () => {
  for (const id of [1, 2, 3])
    assert.equal(await service.deliver("products/create", `w-chosen-${id}`, { id }), "quarantined");
  await enter("#/dead-letters");
  await page.locator(".cause h2 a").click();
  const rows = page.locator("tbody tr");
  await eventually("three are listed", async () => (await rows.count()) === 3);
  await page.getByLabel("Select all of this page").check();
  await page.getByRole("button", { name: "Replay 3 selected" }).waitFor();
  await rows.nth(1).getByRole("checkbox").uncheck();
  assert.equal(await page.getByLabel("Select all of this page").evaluate((all) => all.indeterminate), true);
  const request = page.waitForRequest("**/api/dead-letters/export");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Discard 2 selected" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("The selected dead letters.").waitFor();
  await dialog.getByRole("button", { name: "Download, then discard…" }).click();
  assert.equal((await request).postDataJSON().ids.length, 2);
  const file = await readFile(await (await download).path(), "utf8");
  assert.deepEqual(
    file.trimEnd().split("\n").map((line) => JSON.parse(line).body),
    ['{"id":1}', '{"id":3}'],
  );
  await dialog.getByRole("button", { name: "Discard 2", exact: true }).click();
  await dialog.getByText("2 dead letters discarded").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await eventually("one is left", async () => (await rows.count()) === 1);
  await page.getByRole("button", { name: "Discard 1", exact: true }).click();
  await discardWithoutFile(1);
  await dialog.getByText("1 dead letter discarded").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("No dead letter of this cause is left").waitFor();
  // A cause without dead letters is not found.
  forgive("404");
});

test("a kept body is shown without personal fields until asked for them", async () => {
  await page.goto(service.link);
  await page.getByRole("link", { name: "Overview" }).waitFor();
  await page.evaluate(async () => {
    const { content } = await import("/assets/content.js");
    const { h } = await import("/assets/dom.js");
    const bodies = { body: '{"id":1,"email":"x@example.com"}', body_redacted: '{"id":1}' };
    const shown = content({ event: null, undecodable: "no reason", fields: [], ...bodies });
    document.getElementById("main").replaceChildren(h("div", {}, ...shown));
  });
  assert.equal(await page.getByText("x@example.com").count(), 0);
  await page.getByText('"id": 1').waitFor();
  await page.getByRole("button", { name: "Show personal fields" }).click();
  await page.getByText("x@example.com").waitFor();
});

test("a run that fails says so, and the list is read again", async () => {
  assert.equal(await service.deliver("products/create", "w-fails", { id: 4 }), "quarantined");
  await enter("#/dead-letters");
  await page.route("**/api/dead-letters/discard", async (route) => {
    await route.fetch();
    await route.fulfill({ status: 503, contentType: "application/problem+json", body: '{"detail":"the stream is away"}' });
  });
  await page.getByRole("button", { name: "Discard 1" }).first().click();
  const dialog = page.getByRole("dialog");
  await discardWithoutFile(1);
  await dialog.getByRole("heading", { name: "Stopped" }).waitFor();
  await dialog.getByRole("alert").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("No dead letters", { exact: true }).waitFor();
  forgive("503");
});

test("copies of a letter are said to be gone through one by one", async () => {
  assert.equal(await service.deliver("products/create", "w-copies", { id: 6 }), "quarantined");
  await page.route("**/api/dead-letters/replay", async (route) => {
    const step = await (await route.fetch()).json();
    await route.fulfill({ json: { ...step, done: 3, kept: 0, letters: [] } });
  });
  await enter("#/dead-letters");
  await page.getByRole("button", { name: "Dry run" }).first().click();
  await page.getByText("3 dead letters would be replayed").waitFor();
  await page.getByText("each copy is counted").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Discard 1" }).first().click();
  await discardWithoutFile(1);
  await page.getByText("1 dead letter discarded").waitFor();
});

test("where not all letters and causes are known, it says at least how many", async () => {
  assert.equal(await service.deliver("products/create", "w-many", { id: 5 }), "quarantined");
  let isKnown = true;
  await page.route("**/api/dead-letters/groups", async (route) => {
    const answer = await (await route.fetch()).json();
    const groups = isKnown ? answer.groups : [];
    await route.fulfill({ json: { ...answer, groups, complete: false } });
  });
  await page.route("**/api/dead-letters?*", async (route) => {
    const answer = await (await route.fetch()).json();
    await route.fulfill({ json: { ...answer, next: "1-1" } });
  });
  await enter("#/dead-letters");
  await page.getByText("Incomplete: the newest").waitFor();
  await page.getByRole("button", { name: "Discard at least 1" }).first().click();
  await page.getByRole("heading", { name: "Discard at least 1 dead letter?" }).waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  const cause = await page.locator(".cause h2 a").getAttribute("href");
  isKnown = false;
  await enter(cause);
  await page.getByText("At least 1 dead letter of this cause").waitFor();
  await page.getByRole("button", { name: "Discard at least 1" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "Older dead letters" }).getAttribute("href"), `${cause}?to=1-1`);
});

test("trace shows the whole way of an order, and what it cannot know", async () => {
  assert.equal(await service.deliver("orders/create", "w-way", order(2001, "12.00", 1)), "accepted");
  const stations = await eventually("it is loaded and acked", async () => {
    await enter("#/trace?order=%232001");
    await page.getByRole("heading", { name: "Time line" }).waitFor();
    const shown = await page.locator(".line strong").allTextContents();
    return shown.includes("Loaded") && shown.includes("Acked") && shown;
  });
  assert.deepEqual(stations, ["Happened", "Received", "Loaded", "Acked"]);
  assert.equal(await page.locator(".line .landed").count(), 1);
  await page.getByText("it is the order's newest state").waitFor();
  await page.getByText("Deliveries that were refused, or answered as duplicates, leave no trace.").waitFor();
  await page.getByRole("link", { name: "Open the entry" }).click();
  await page.getByRole("heading", { name: "order.created" }).waitFor();
});

test("a trace groups what happened by event, and compares two of them field by field", async () => {
  const states = [
    ["orders/create", "w-first", order(2002, "12.00", 1)],
    ["orders/updated", "w-second", order(2002, "15.50", 2)],
    ["orders/paid", "w-third", order(2002, "15.50", 3)],
  ];
  for (const [topic, id, body] of states) assert.equal(await service.deliver(topic, id, body), "accepted");
  await eventually("all three are loaded", async () => {
    await enter("#/trace?order=%232002");
    await page.getByRole("heading", { name: "Time line" }).waitFor();
    return (await page.locator(".traced summary").filter({ hasText: "to the warehouse" }).count()) === 3;
  });
  assert.deepEqual(await page.locator(".traced details[open]").count(), 0);
  assert.equal(await page.locator(".way .landed").count(), 3);
  const second = page.locator(".traced > li").nth(1);
  await second.locator("summary").click();
  await second.getByText("Acked").waitFor();
  await second.getByRole("button", { name: "Compare with the event before" }).click();
  const row = second.locator("tr").filter({ hasText: "total_amount" }).filter({ hasNotText: "current" });
  assert.deepEqual(await row.locator("td").allTextContents(), ["total_amount", "12.00", "15.50"]);
  assert.equal(await second.locator("tr").filter({ hasText: "order_id" }).count(), 0, "what is the same is left out");
});

test("the reference renders every operation", async () => {
  await page.goto(`http://${service.private}/docs`);
  await page.getByRole("heading", { name: "/webhooks/orders" }).waitFor();
  const operations = await page.evaluate(async () => {
    const { paths } = await (await fetch("/openapi.json")).json();
    return Object.values(paths).flatMap((item) => ["get", "post"].filter((method) => item[method])).length;
  });
  assert.equal(await page.locator(".operation").count(), operations);
});

test("every page is accessible, in light and dark, wide and on a phone", async () => {
  await service.deliver("products/create", "w-axe-letter", { id: 5 });
  await service.deliver("orders/create", "w-axe-order", order(1042, "20.50", 1));
  for (const [colorScheme, width] of [
    ["light", 1440],
    ["dark", 360],
  ]) {
    await page.setViewportSize({ width, height: 844 });
    await page.emulateMedia({ colorScheme });
    await enter("#/dead-letters");
    const cause = await page.locator(".cause h2 a").first().getAttribute("href");
    const letter = await page.locator(".cause p a").first().getAttribute("href");
    for (const place of [cause, letter, "#/", "#/events", "#/dead-letters", "#/trace?order=%231042", "#/operations", "#/settings", "docs"]) {
      await enter(place);
      await page.locator("canvas, tbody tr, .causes, .traced, .operation, .facts, #replay").first().waitFor();
      await eventually("nothing is waited for", async () => (await page.locator("[aria-busy]").count()) === 0);
      await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
      assert.deepEqual(told, [], `${place} ${colorScheme} ${width}`);
      assert.ok(
        await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
        `${place} is wider than ${width}`,
      );
    }
  }
});

test("who finds all places taken is told so, and gets in when one is free", async () => {
  const viewers = new AbortController();
  const watch = () =>
    fetch(`http://${service.private}/api/live`, {
      headers: { authorization: `Bearer ${service.token}` },
      signal: viewers.signal,
    });
  // An answer that nobody holds may be ended by the garbage collector.
  const answers = [];
  await eventually("all places are taken", async () => {
    answers.push(await watch());
    return answers.at(-1).status === 503;
  });
  await page.goto(service.link);
  await page.getByText("Too many live views are open on this process. Close one, or use another process.").waitFor();
  await page.getByRole("status").filter({ hasText: "Not live" }).waitFor();
  viewers.abort();
  await page.getByRole("status").filter({ hasText: /^Live$/ }).waitFor();
  await page.getByText("Too many live views are open on this process. Close one, or use another process.").waitFor({ state: "hidden" });
  forgive("503");
});

test("it says when it is cut off, comes back, and asks again for a token that is not taken any more", async () => {
  await page.goto(service.link);
  const link = page.getByRole("status").filter({ hasText: /Live|Reconnecting/ });
  await link.filter({ hasText: "Live" }).waitFor();
  await service.kill();
  await link.filter({ hasText: "Reconnecting" }).waitFor();
  await service.run(service);
  await link.filter({ hasText: "Live" }).waitFor();
  await service.kill();
  await rm(join(service.folder, "data", "local-secrets.toml"));
  await service.run(service);
  await page.getByText("The token is not accepted any more.").waitFor();
  forgive("401");
  forgive("ERR_CONNECTION_REFUSED");
  forgive("ERR_INCOMPLETE_CHUNKED_ENCODING");
  forgive("ERR_CONNECTION_RESET");
  // A process that is killed before it answers closes the connection without a word.
  forgive("ERR_EMPTY_RESPONSE");
});
