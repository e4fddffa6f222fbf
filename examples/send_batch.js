// Sends orders of a system of your own to POST /events/batch. Sent again, they are answered `duplicate`.
//
// URL=http://127.0.0.1:8080 TOKEN=... node send_batch.js   (Node 18 or newer, no package)

const { URL: url, TOKEN: token } = process.env;
const events = [
  {
    event_type: "order.created",
    event_id: "node-1001", // yours, and the same whenever this event is sent
    timestamp: "2026-01-31T09:00:00+01:00",
    order_id: "1001", // a string: ids exceed 2^53
    customer_id: null,
    total_amount: 24.9,
    currency: "EUR",
    items: [{ sku: "TEA-50", qty: 2, price: 12.45 }],
  },
];

async function main() {
  const response = await fetch(`${url}/events/batch`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(events),
    signal: AbortSignal.timeout(30_000),
  });
  // 422: none is valid; 503: send it again after Retry-After seconds
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  for (const result of (await response.json()).results) console.log(result.event_id, result.status);
}

main();
