// The real binary in a folder of its own, started as a newcomer does, and a client that signs as Shopify does.

import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const PROGRAM = process.env.ORDERSTREAM;
const PATIENCE_MS = 60_000;

/** Waits until `look` answers something; the deadline is far beyond what anything here takes. */
export async function eventually(what, look) {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end;) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`waited in vain until ${what}`);
}

export class Service {
  /** With nothing configured but free ports, in a new folder. */
  static async start() {
    const service = new Service();
    service.folder = await mkdtemp(join(tmpdir(), "orderstream-"));
    await service.run({ public: "127.0.0.1:0", private: "127.0.0.1:0" });
    return service;
  }

  /** Starts it at these addresses; at the same ones again after `kill`. */
  async run(at) {
    this.said = "";
    this.child = spawn(PROGRAM, ["run"], {
      cwd: this.folder,
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env.PATH, ORDERSTREAM_LISTEN_ADDR: at.public, ORDERSTREAM_ADMIN_ADDR: at.private },
    });
    this.child.stderr.on("data", (text) => {
      this.said += text;
    });
    const listeners = /public listener http:\/\/([^,\s]+), private listener http:\/\/([^,\s]+)/;
    [, this.public, this.private] = await eventually("it is up", () => listeners.exec(this.said));
    this.secrets = await readFile(join(this.folder, "data", "local-secrets.toml"), "utf8");
    this.token = /admin_token = "(.+)"/.exec(this.secrets)[1];
    this.link = `http://${this.private}/#token=${this.token}`;
  }

  async kill() {
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill("SIGKILL");
    await ended;
  }

  /** Its life is over. */
  async end() {
    await this.kill();
    await rm(this.folder, { recursive: true });
  }

  /** `orderstream send`, in its folder. Answers the process, and when it ends. */
  send(...args) {
    return promisify(execFile)(PROGRAM, ["send", ...args], { cwd: this.folder, env: { PATH: process.env.PATH } });
  }

  /** One webhook; answers what it was answered. */
  async deliver(topic, webhookId, order) {
    const body = JSON.stringify(order);
    const signature = createHmac("sha256", /shopify_secret = "(.+)"/.exec(this.secrets)[1])
      .update(body)
      .digest("base64");
    const answer = await fetch(`http://${this.public}/webhooks/orders`, {
      method: "POST",
      body,
      headers: {
        "x-shopify-hmac-sha256": signature,
        "x-shopify-topic": topic,
        "x-shopify-shop-domain": "tests.myshopify.com",
        "x-shopify-webhook-id": webhookId,
      },
    });
    return (await answer.json()).status;
  }
}

/** A whole order as Shopify sends it, as small as it gets; `total` in its last state. */
export function order(id, total, second) {
  return {
    id,
    name: `#${id}`,
    created_at: "2026-01-05T10:00:00-05:00",
    processed_at: "2026-01-05T10:00:00-05:00",
    updated_at: `2026-01-05T10:00:0${second}-05:00`,
    cancelled_at: null,
    currency: "EUR",
    total_price: total,
    subtotal_price: total,
    total_discounts: "0.00",
    total_tax: "0.00",
    taxes_included: true,
    financial_status: "paid",
    fulfillment_status: null,
    customer: null,
    line_items: [{ id, sku: "A-1", title: "Thing", quantity: 2, price: "10.25" }],
    refunds: [],
  };
}
