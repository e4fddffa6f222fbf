#!/bin/sh
# Sends orders of a system of your own to POST /events/batch, one JSON object a line. Sent again, they are answered
# `duplicate`. Fails where none was taken; then sends it again up to 5 times, as Retry-After says.
#
#   URL=http://127.0.0.1:8080 TOKEN=... sh send_batch.sh
set -eu
curl --fail-with-body --silent --show-error --retry 5 --max-time 30 "$URL/events/batch" \
  --header "Authorization: Bearer $TOKEN" --header 'Content-Type: application/x-ndjson' --data-binary @- <<'EVENTS'
{"event_type":"order.created","event_id":"curl-1001","timestamp":"2026-01-31T09:00:00+01:00","order_id":"1001","customer_id":null,"total_amount":24.90,"currency":"EUR","items":[{"sku":"TEA-50","qty":2,"price":12.45}]}
EVENTS
