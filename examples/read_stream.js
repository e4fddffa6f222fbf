// Reads every event of the stream beside the warehouse's workers, at least once each, with ioredis.
//
// npm install ioredis; REDIS_URL=redis://127.0.0.1:6379 node read_stream.js
//
// Entries stay in the stream until this group, too, has acked them: destroy it when it is no longer read
// (XGROUP DESTROY orders_stream exports), or the stream fills up.

const Redis = require("ioredis");

const [STREAM, GROUP, CONSUMER] = ["orders_stream", "exports", "reader-1"];

function handle(order) {
  // JSON.parse makes a float of an amount: 0.10 is 0.1. Ids are strings.
  console.log(order.event_type, order.order_id, order.total_amount, order.currency);
}

async function main() {
  const client = new Redis(process.env.REDIS_URL);
  try {
    await client.xgroup("CREATE", STREAM, GROUP, "0", "MKSTREAM");
  } catch (error) {
    if (!error.message.includes("BUSYGROUP")) throw error;
  }
  let start = "0"; // first what this consumer read before and did not ack, then what is new
  for (;;) {
    const read = await client.xreadgroup("GROUP", GROUP, CONSUMER, "COUNT", 100, "BLOCK", 5000, "STREAMS", STREAM, start);
    const entries = read ? read[0][1] : [];
    for (const [id, fields] of entries) {
      if (fields) {
        // null where an entry was deleted meanwhile
        handle(JSON.parse(fields[fields.indexOf("payload") + 1]));
      }
      await client.xack(STREAM, GROUP, id);
    }
    if (entries.length === 0) start = ">";
  }
}

main();
