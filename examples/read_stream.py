"""Reads every event of the stream beside the warehouse's workers, at least once each, with redis-py.

pip install redis; REDIS_URL=redis://127.0.0.1:6379 python3 read_stream.py

Entries stay in the stream until this group, too, has acked them: destroy it when it is no longer read
(XGROUP DESTROY orders_stream reports), or the stream fills up.
"""

import json
import os

import redis

STREAM, GROUP, CONSUMER = "orders_stream", "reports", "reader-1"


def handle(order):
    print(order["event_type"], order["order_id"], order["total_amount"], order["currency"], flush=True)


client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
try:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
except redis.ResponseError as error:
    if "BUSYGROUP" not in str(error):
        raise
start = "0"  # first what this consumer read before and did not ack, then what is new
while True:
    batches = client.xreadgroup(GROUP, CONSUMER, {STREAM: start}, count=100, block=5000)
    entries = batches[0][1] if batches else []
    for entry_id, fields in entries:
        if fields:  # None where an entry was deleted meanwhile
            handle(json.loads(fields["payload"]))
        client.xack(STREAM, GROUP, entry_id)
    if not entries:
        start = ">"
