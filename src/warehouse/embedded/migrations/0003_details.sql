-- Money apart from sales, and what else an order says. All that is added to tables may be null, so that a program which
-- does not know it goes on loading; `orderstream rebuild` fills it in for what was loaded before. `DOUBLE` is 8 bytes
-- everywhere, where `REAL` is 4 in DuckDB.

-- Of the webhook, orders/create; a header, which nobody signed.
ALTER TABLE order_events ADD COLUMN topic TEXT;
-- Equal across Shopify's retries of one delivery.
ALTER TABLE order_events ADD COLUMN webhook_id TEXT;
-- Version of Shopify's API that the body has the form of, 2026-07.
ALTER TABLE order_events ADD COLUMN api_version TEXT;

ALTER TABLE orders ADD COLUMN order_number INTEGER;
ALTER TABLE orders ADD COLUMN cancel_reason TEXT;
ALTER TABLE orders ADD COLUMN closed_at TIMESTAMP;
-- Offset from UTC that the shop wrote the order's time with: created_at plus so many minutes is the shop's clock.
ALTER TABLE orders ADD COLUMN utc_offset_minutes INTEGER;
ALTER TABLE orders ADD COLUMN app_id TEXT;
ALTER TABLE orders ADD COLUMN location_id TEXT;
ALTER TABLE orders ADD COLUMN billing_country TEXT;
ALTER TABLE orders ADD COLUMN shipping_country TEXT;
-- Cash rounding of what was paid, and of what was paid back.
ALTER TABLE orders ADD COLUMN rounding TEXT;
ALTER TABLE orders ADD COLUMN refund_rounding TEXT;
-- After edits and returns; the amount as ordered where no other is told.
ALTER TABLE orders ADD COLUMN current_subtotal TEXT;
ALTER TABLE orders ADD COLUMN current_total_discounts TEXT;
ALTER TABLE orders ADD COLUMN current_total_shipping TEXT;
ALTER TABLE orders ADD COLUMN current_total_tax TEXT;
ALTER TABLE orders ADD COLUMN current_total_duties TEXT;
ALTER TABLE orders ADD COLUMN current_total_fees TEXT;
-- JSON, what else the newest state says: gateways, locale, weight (grams), tags, utm, discounts, tax_lines,
-- shipping_lines, fulfillments, note_attributes. order_discounts and its like lay it out.
ALTER TABLE orders ADD COLUMN details TEXT;

ALTER TABLE order_items ADD COLUMN variant_title TEXT;
ALTER TABLE order_items ADD COLUMN vendor TEXT;
ALTER TABLE order_items ADD COLUMN taxable BOOLEAN;
ALTER TABLE order_items ADD COLUMN requires_shipping BOOLEAN;
-- Units that may still be fulfilled.
ALTER TABLE order_items ADD COLUMN fulfillable_qty INTEGER;
-- The shop's day on which the line came into the order: the order's own, or that of the edit that added it.
ALTER TABLE order_items ADD COLUMN added_on DATE;
-- JSON, a list of {name, value}: those that ORDERSTREAM_KEEP_LINE_PROPERTIES names.
ALTER TABLE order_items ADD COLUMN properties TEXT;

CREATE TABLE order_transactions (
    -- Payments and refunds as the gateways told them, failed and pending ones included; from order_transactions/create,
    -- orders and refunds.
    shop                 TEXT NOT NULL,
    transaction_id       TEXT NOT NULL,
    -- The refund it belongs to, where one names it.
    refund_id            TEXT,
    order_id             TEXT NOT NULL,
    -- Of a capture its authorization, of a refund what it pays back.
    parent_id            TEXT,
    -- authorization, sale, capture, void, refund or change.
    kind                 TEXT,
    status               TEXT,
    gateway              TEXT,
    -- In the shop's currency where the delivery tells it, else in the one that was paid in: payments has all in the
    -- shop's.
    amount               TEXT,
    currency             TEXT,
    -- In paid_currency, where that is another currency than amount's.
    paid_amount          TEXT,
    paid_currency        TEXT,
    processed_at         TIMESTAMP NOT NULL,
    local_date           DATE NOT NULL,
    test                 BOOLEAN NOT NULL,
    -- The status is success, failure or error: nothing follows, so that an older status which comes late changes nothing.
    is_final             BOOLEAN NOT NULL,
    last_event_id        TEXT NOT NULL,
    version_at           TIMESTAMP NOT NULL,
    version_triggered_at TIMESTAMP NOT NULL,
    PRIMARY KEY (shop, transaction_id)
) WITHOUT ROWID;
CREATE INDEX order_transactions_by_order ON order_transactions (shop, order_id);
CREATE INDEX order_transactions_by_day ON order_transactions (shop, local_date);

CREATE VIEW payments AS
-- Money that moved, one row a successful sale, capture or refund; test and deleted orders left out. Authorizations, and
-- what failed or is pending, move none. amount: in the shop's currency, negative where it was paid back; what only tells
-- the customer's currency is converted by the order's total, which is told in both.
SELECT shop, transaction_id, order_id, refund_id, parent_id, kind, gateway,
       CASE WHEN is_converted = 1 OR currency IS NULL THEN shop_currency ELSE currency END AS currency,
       round(CASE WHEN kind = 'refund' THEN 0.0 - shop_amount ELSE shop_amount END, 6) AS amount,
       paid_currency, processed_at, local_date
FROM (
    SELECT t.shop, t.transaction_id, t.order_id, t.refund_id, t.parent_id, t.kind, t.gateway, t.currency,
           o.currency AS shop_currency,
           CASE WHEN t.currency <> o.currency AND t.currency = o.presentment_currency
                     AND CAST(o.presentment_total_amount AS DOUBLE) <> 0 THEN 1 ELSE 0 END AS is_converted,
           CAST(t.amount AS DOUBLE)
               * CASE WHEN t.currency <> o.currency AND t.currency = o.presentment_currency
                           AND CAST(o.presentment_total_amount AS DOUBLE) <> 0
                      THEN CAST(o.total_amount AS DOUBLE) / CAST(o.presentment_total_amount AS DOUBLE) ELSE 1.0 END
               AS shop_amount,
           COALESCE(t.paid_currency, t.currency) AS paid_currency, t.processed_at, t.local_date
    FROM order_transactions t LEFT JOIN orders o ON o.shop = t.shop AND o.order_id = t.order_id
    WHERE t.status = 'success' AND t.kind IN ('sale', 'capture', 'refund') AND t.amount IS NOT NULL AND t.test = 0
        AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
) AS moved;

CREATE VIEW daily_payments AS
-- Money by shop, currency, the shop's own day and gateway: what came in (sales and captures) and what went back, on the
-- day it moved. net: paid - refunded. daily_sales says what was sold.
SELECT shop, currency, local_date, gateway,
       CAST(sum(CASE WHEN kind = 'refund' THEN 0 ELSE 1 END) AS BIGINT) AS payments,
       round(sum(CASE WHEN kind = 'refund' THEN 0.0 ELSE amount END), 6) AS paid,
       CAST(sum(CASE WHEN kind = 'refund' THEN 1 ELSE 0 END) AS BIGINT) AS refunds,
       round(sum(CASE WHEN kind = 'refund' THEN 0.0 - amount ELSE 0.0 END), 6) AS refunded,
       round(sum(amount), 6) AS net
FROM payments
GROUP BY shop, currency, local_date, gateway;

CREATE VIEW order_discounts AS
-- Discount codes, automatic, manual and scripted discounts (type) of each order's newest state. value: per cent or an
-- amount, as value_type says. amount: what it took off lines and shipping, as the body allocates it.
SELECT o.shop, o.order_id, CAST(d.key AS BIGINT) + 1 AS no, json_extract(d.value, '$.type') AS type,
       json_extract(d.value, '$.code') AS code, json_extract(d.value, '$.title') AS title,
       json_extract(d.value, '$.target_type') AS target_type,
       json_extract(d.value, '$.target_selection') AS target_selection,
       json_extract(d.value, '$.allocation_method') AS allocation_method,
       json_extract(d.value, '$.value_type') AS value_type,
       round(CAST(json_extract(d.value, '$.value') AS DOUBLE), 6) AS value,
       round(CAST(json_extract(d.value, '$.amount') AS DOUBLE), 6) AS amount, o.currency, o.local_date
FROM orders o, json_each(o.details, '$.discounts') d
WHERE o.test = 0 AND o.deleted_at IS NULL;

CREATE VIEW order_tax_lines AS
-- Taxes of each order's newest state, as ordered: of the line line_id, of the shipping line shipping_line_id, or, in old
-- bodies, of the whole order.
SELECT o.shop, o.order_id, CAST(t.key AS BIGINT) + 1 AS no, json_extract(t.value, '$.line_id') AS line_id,
       json_extract(t.value, '$.shipping_line_id') AS shipping_line_id, json_extract(t.value, '$.title') AS title,
       round(CAST(json_extract(t.value, '$.rate') AS DOUBLE), 9) AS rate,
       round(CAST(json_extract(t.value, '$.amount') AS DOUBLE), 6) AS amount,
       CASE WHEN CAST(json_extract(t.value, '$.channel_liable') AS BOOLEAN) THEN 1 ELSE 0 END AS channel_liable,
       o.currency, o.local_date
FROM orders o, json_each(o.details, '$.tax_lines') t
WHERE o.test = 0 AND o.deleted_at IS NULL;

CREATE VIEW order_shipping_lines AS
-- Shipping lines of each order's newest state; amounts with tax where the order says taxes_included. removed: an edit took
-- the line off the order.
SELECT shop, order_id, no, line_id, title, code, source, round(price, 6) AS price,
       round(price - discounted, 6) AS discount, round(discounted, 6) AS discounted_price, round(tax, 6) AS tax, removed,
       currency, local_date
FROM (
    SELECT o.shop, o.order_id, CAST(s.key AS BIGINT) + 1 AS no, json_extract(s.value, '$.line_id') AS line_id,
           json_extract(s.value, '$.title') AS title,
           COALESCE(json_extract(s.value, '$.code'), json_extract(s.value, '$.title')) AS code,
           json_extract(s.value, '$.source') AS source, CAST(json_extract(s.value, '$.price') AS DOUBLE) AS price,
           CAST(COALESCE(json_extract(s.value, '$.discounted_price'), json_extract(s.value, '$.price')) AS DOUBLE)
               AS discounted,
           CAST(json_extract(s.value, '$.tax') AS DOUBLE) AS tax,
           CASE WHEN CAST(json_extract(s.value, '$.removed') AS BOOLEAN) THEN 1 ELSE 0 END AS removed,
           o.currency, o.local_date
    FROM orders o, json_each(o.details, '$.shipping_lines') s
    WHERE o.test = 0 AND o.deleted_at IS NULL
) AS line;

CREATE VIEW order_fulfillments AS
-- Fulfillments of each order's newest state, without tracking numbers.
SELECT o.shop, o.order_id, json_extract(f.value, '$.fulfillment_id') AS fulfillment_id,
       json_extract(f.value, '$.status') AS status, json_extract(f.value, '$.shipment_status') AS shipment_status,
       json_extract(f.value, '$.service') AS service, json_extract(f.value, '$.carrier') AS carrier,
       json_extract(f.value, '$.location_id') AS location_id, json_extract(f.value, '$.created_at') AS created_at,
       json_extract(f.value, '$.updated_at') AS updated_at
FROM orders o, json_each(o.details, '$.fulfillments') f
WHERE o.test = 0 AND o.deleted_at IS NULL;

CREATE VIEW order_tags AS
-- Tags of each order's newest state.
SELECT o.shop, o.order_id, CAST(t.key AS BIGINT) + 1 AS no, t.value AS tag
FROM orders o, json_each(o.details, '$.tags') t
WHERE o.test = 0 AND o.deleted_at IS NULL;
