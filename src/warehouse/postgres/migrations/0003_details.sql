-- Money apart from sales, and what else an order says. All that is added to tables may be null, so that a program which
-- does not know it goes on loading; `orderstream rebuild` fills it in for what was loaded before.

ALTER TABLE {schema}.order_events
    ADD COLUMN topic       text,
    ADD COLUMN webhook_id  text,
    ADD COLUMN api_version text;
COMMENT ON COLUMN {schema}.order_events.topic IS 'Of the webhook, orders/create; a header, which nobody signed.';
COMMENT ON COLUMN {schema}.order_events.webhook_id IS 'Equal across Shopify''s retries of one delivery.';
COMMENT ON COLUMN {schema}.order_events.api_version IS 'Version of Shopify''s API that the body has the form of, 2026-07.';
COMMENT ON COLUMN {schema}.order_events.received_at IS
    'When this service received it; where the entry does not say, when the stream took it.';

ALTER TABLE {schema}.orders
    ADD COLUMN order_number            bigint,
    ADD COLUMN cancel_reason           text,
    ADD COLUMN closed_at               timestamptz,
    ADD COLUMN utc_offset_minutes      bigint,
    ADD COLUMN app_id                  text,
    ADD COLUMN location_id             text,
    ADD COLUMN billing_country         text,
    ADD COLUMN shipping_country        text,
    ADD COLUMN rounding                numeric,
    ADD COLUMN refund_rounding         numeric,
    ADD COLUMN current_subtotal        numeric,
    ADD COLUMN current_total_discounts numeric,
    ADD COLUMN current_total_shipping  numeric,
    ADD COLUMN current_total_tax       numeric,
    ADD COLUMN current_total_duties    numeric,
    ADD COLUMN current_total_fees      numeric,
    ADD COLUMN details                 jsonb;
COMMENT ON COLUMN {schema}.orders.utc_offset_minutes IS
    'Offset from UTC that the shop wrote the order''s time with: created_at plus so many minutes is the shop''s clock.';
COMMENT ON COLUMN {schema}.orders.rounding IS 'Cash rounding of what was paid.';
COMMENT ON COLUMN {schema}.orders.refund_rounding IS 'Cash rounding of what was paid back.';
COMMENT ON COLUMN {schema}.orders.current_subtotal IS
    'As all current_ columns: after edits and returns; the amount as ordered where no other is told.';
COMMENT ON COLUMN {schema}.orders.details IS
    'What else the newest state says: gateways, locale, weight (grams), tags, utm, discounts, tax_lines, shipping_lines, fulfillments, note_attributes. order_discounts, order_tax_lines, order_shipping_lines, order_fulfillments and order_tags lay it out.';

ALTER TABLE {schema}.order_items
    ADD COLUMN variant_title     text,
    ADD COLUMN vendor            text,
    ADD COLUMN taxable           boolean,
    ADD COLUMN requires_shipping boolean,
    ADD COLUMN fulfillable_qty   bigint,
    ADD COLUMN added_on          date,
    ADD COLUMN properties        jsonb;
COMMENT ON COLUMN {schema}.order_items.fulfillable_qty IS 'Units that may still be fulfilled.';
COMMENT ON COLUMN {schema}.order_items.added_on IS
    'The shop''s day on which the line came into the order: the order''s own, or that of the edit that added it.';
COMMENT ON COLUMN {schema}.order_items.properties IS
    'List of {name, value}: those that ORDERSTREAM_KEEP_LINE_PROPERTIES names.';

CREATE TABLE {schema}.order_transactions (
    shop                 text COLLATE "C" NOT NULL,
    transaction_id       text COLLATE "C" NOT NULL,
    refund_id            text,
    order_id             text COLLATE "C" NOT NULL,
    parent_id            text,
    kind                 text,
    status               text,
    gateway              text,
    amount               numeric,
    currency             text,
    paid_amount          numeric,
    paid_currency        text,
    processed_at         timestamptz NOT NULL,
    local_date           date NOT NULL,
    test                 boolean NOT NULL,
    is_final             boolean NOT NULL,
    last_event_id        text COLLATE "C" NOT NULL,
    version_at           timestamptz NOT NULL,
    version_triggered_at timestamptz NOT NULL,
    PRIMARY KEY (shop, transaction_id)
);
COMMENT ON TABLE {schema}.order_transactions IS
    'Payments and refunds as the gateways told them, failed and pending ones included; from order_transactions/create, orders and refunds.';
COMMENT ON COLUMN {schema}.order_transactions.refund_id IS 'The refund it belongs to, where one names it.';
COMMENT ON COLUMN {schema}.order_transactions.parent_id IS 'Of a capture its authorization, of a refund what it pays back.';
COMMENT ON COLUMN {schema}.order_transactions.kind IS 'authorization, sale, capture, void, refund or change.';
COMMENT ON COLUMN {schema}.order_transactions.amount IS
    'In the shop''s currency where the delivery tells it, else in the one that was paid in: payments has all in the shop''s.';
COMMENT ON COLUMN {schema}.order_transactions.paid_amount IS
    'In paid_currency, where that is another currency than amount''s.';
COMMENT ON COLUMN {schema}.order_transactions.is_final IS
    'The status is success, failure or error: nothing follows, so that an older status which comes late changes nothing.';
CREATE INDEX order_transactions_by_order ON {schema}.order_transactions (shop, order_id);
CREATE INDEX order_transactions_by_day ON {schema}.order_transactions (shop, local_date);

CREATE VIEW {schema}.payments AS
SELECT t.shop, t.transaction_id, t.order_id, t.refund_id, t.parent_id, t.kind, t.gateway, x.currency,
       CASE WHEN t.kind = 'refund' THEN -x.amount ELSE x.amount END AS amount,
       COALESCE(t.paid_currency, t.currency) AS paid_currency, t.processed_at, t.local_date
FROM {schema}.order_transactions t
LEFT JOIN {schema}.orders o USING (shop, order_id)
CROSS JOIN LATERAL (
    SELECT t.currency IS DISTINCT FROM o.currency AND t.currency = o.presentment_currency
           AND o.presentment_total_amount <> 0 AS is_converted
) c
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.is_converted THEN round(t.amount * o.total_amount / o.presentment_total_amount, 6)
                ELSE t.amount END AS amount,
           CASE WHEN c.is_converted OR t.currency IS NULL THEN o.currency ELSE t.currency END AS currency
) x
WHERE t.status = 'success' AND t.kind IN ('sale', 'capture', 'refund') AND t.amount IS NOT NULL AND NOT t.test
    AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL));
COMMENT ON VIEW {schema}.payments IS
    'Money that moved, one row a successful sale, capture or refund; test and deleted orders left out. Authorizations, and what failed or is pending, move none.';
COMMENT ON COLUMN {schema}.payments.amount IS
    'In the shop''s currency, negative where it was paid back. What only tells the customer''s currency is converted by the order''s total, which is told in both.';

CREATE VIEW {schema}.daily_payments AS
SELECT shop, currency, local_date, gateway,
       count(*) FILTER (WHERE kind <> 'refund') AS payments,
       COALESCE(sum(amount) FILTER (WHERE kind <> 'refund'), 0) AS paid,
       count(*) FILTER (WHERE kind = 'refund') AS refunds,
       COALESCE(-sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded,
       sum(amount) AS net
FROM {schema}.payments
GROUP BY shop, currency, local_date, gateway;
COMMENT ON VIEW {schema}.daily_payments IS
    'Money by shop, currency, the shop''s own day and gateway: what came in (sales and captures) and what went back, on the day it moved. daily_sales says what was sold.';
COMMENT ON COLUMN {schema}.daily_payments.net IS 'paid - refunded.';

CREATE VIEW {schema}.order_discounts AS
SELECT o.shop, o.order_id, d.no, d.value->>'type' AS type, d.value->>'code' AS code, d.value->>'title' AS title,
       d.value->>'target_type' AS target_type, d.value->>'target_selection' AS target_selection,
       d.value->>'allocation_method' AS allocation_method, d.value->>'value_type' AS value_type,
       (d.value->>'value')::numeric AS value, (d.value->>'amount')::numeric AS amount, o.currency, o.local_date
FROM {schema}.orders o
CROSS JOIN LATERAL jsonb_array_elements(o.details->'discounts') WITH ORDINALITY AS d (value, no)
WHERE NOT o.test AND o.deleted_at IS NULL;
COMMENT ON VIEW {schema}.order_discounts IS
    'Discount codes, automatic, manual and scripted discounts of each order''s newest state.';
COMMENT ON COLUMN {schema}.order_discounts.type IS 'discount_code, automatic, manual or script.';
COMMENT ON COLUMN {schema}.order_discounts.value IS 'Per cent or an amount, as value_type says.';
COMMENT ON COLUMN {schema}.order_discounts.amount IS 'What it took off lines and shipping, as the body allocates it.';

CREATE VIEW {schema}.order_tax_lines AS
SELECT o.shop, o.order_id, t.no, t.value->>'line_id' AS line_id, t.value->>'shipping_line_id' AS shipping_line_id,
       t.value->>'title' AS title, (t.value->>'rate')::numeric AS rate, (t.value->>'amount')::numeric AS amount,
       COALESCE((t.value->>'channel_liable')::boolean, false) AS channel_liable, o.currency, o.local_date
FROM {schema}.orders o
CROSS JOIN LATERAL jsonb_array_elements(o.details->'tax_lines') WITH ORDINALITY AS t (value, no)
WHERE NOT o.test AND o.deleted_at IS NULL;
COMMENT ON VIEW {schema}.order_tax_lines IS
    'Taxes of each order''s newest state, as ordered: of the line line_id, of the shipping line shipping_line_id, or, in old bodies, of the whole order.';

CREATE VIEW {schema}.order_shipping_lines AS
SELECT o.shop, o.order_id, s.no, s.value->>'line_id' AS line_id, s.value->>'title' AS title,
       COALESCE(s.value->>'code', s.value->>'title') AS code, s.value->>'source' AS source, x.price,
       x.price - x.discounted AS discount, x.discounted AS discounted_price, (s.value->>'tax')::numeric AS tax,
       COALESCE((s.value->>'removed')::boolean, false) AS removed, o.currency, o.local_date
FROM {schema}.orders o
CROSS JOIN LATERAL jsonb_array_elements(o.details->'shipping_lines') WITH ORDINALITY AS s (value, no)
CROSS JOIN LATERAL (
    SELECT (s.value->>'price')::numeric AS price,
           COALESCE(s.value->>'discounted_price', s.value->>'price')::numeric AS discounted
) x
WHERE NOT o.test AND o.deleted_at IS NULL;
COMMENT ON VIEW {schema}.order_shipping_lines IS
    'Shipping lines of each order''s newest state; amounts with tax where the order says taxes_included.';
COMMENT ON COLUMN {schema}.order_shipping_lines.removed IS 'An edit took the line off the order.';

CREATE VIEW {schema}.order_fulfillments AS
SELECT o.shop, o.order_id, f.value->>'fulfillment_id' AS fulfillment_id, f.value->>'status' AS status,
       f.value->>'shipment_status' AS shipment_status, f.value->>'service' AS service,
       f.value->>'carrier' AS carrier, f.value->>'location_id' AS location_id,
       (f.value->>'created_at')::timestamptz AS created_at, (f.value->>'updated_at')::timestamptz AS updated_at
FROM {schema}.orders o
CROSS JOIN LATERAL jsonb_array_elements(o.details->'fulfillments') AS f (value)
WHERE NOT o.test AND o.deleted_at IS NULL;
COMMENT ON VIEW {schema}.order_fulfillments IS 'Fulfillments of each order''s newest state, without tracking numbers.';

CREATE VIEW {schema}.order_tags AS
SELECT o.shop, o.order_id, t.no, t.value AS tag
FROM {schema}.orders o
CROSS JOIN LATERAL jsonb_array_elements_text(o.details->'tags') WITH ORDINALITY AS t (value, no)
WHERE NOT o.test AND o.deleted_at IS NULL;
COMMENT ON VIEW {schema}.order_tags IS 'Tags of each order''s newest state.';
