"""Sends orders of a system of your own to POST /events/batch. Sent again, they are answered `duplicate`.

URL=http://127.0.0.1:8080 TOKEN=... python3 send_batch.py
"""

import json
import os
import sys
import urllib.error
import urllib.request

events = [
    {
        "event_type": "order.created",
        "event_id": "python-1001",  # yours, and the same whenever this event is sent
        "timestamp": "2026-01-31T09:00:00+01:00",
        "order_id": "1001",
        "customer_id": None,
        "total_amount": 24.9,
        "currency": "EUR",
        "items": [{"sku": "TEA-50", "qty": 2, "price": 12.45}],
    },
]
request = urllib.request.Request(
    os.environ["URL"] + "/events/batch",
    data=json.dumps(events).encode(),
    headers={"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"},
)
try:
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
except urllib.error.HTTPError as refusal:  # 422: none is valid; 503: send it again after Retry-After seconds
    sys.exit(f"{refusal.code}: {refusal.read().decode()}")
for result in answer["results"]:
    print(result["event_id"], result["status"])
