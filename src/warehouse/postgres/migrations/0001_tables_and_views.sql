-- {schema} is replaced by the quoted schema. Runs in one transaction, which also holds the lock against other migrators.

CREATE TABLE {schema}.schema_migrations (
    version         integer PRIMARY KEY,
    name            text NOT NULL,
    compatible_from integer NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN {schema}.schema_migrations.compatible_from IS
    'Newest version that a program must know to load into a schema of this version: an older program may go on working.';

CREATE TABLE {schema}.order_events (
    event_id       text COLLATE "C" PRIMARY KEY,
    event_type     text NOT NULL,
    source         text,
    shop           text COLLATE "C" NOT NULL,
    order_id       text COLLATE "C" NOT NULL,
    customer_id    text,
    total_amount   numeric,
    currency       text,
    item_count     bigint,
    avg_item_price numeric GENERATED ALWAYS AS (total_amount / GREATEST(item_count, 1)) STORED,
    test           boolean NOT NULL,
    occurred_at    timestamptz NOT NULL,
    triggered_at   timestamptz,
    received_at    timestamptz NOT NULL,
    loaded_at      timestamptz NOT NULL DEFAULT now(),
    stream_id      text NOT NULL,
    payload        jsonb NOT NULL,
    raw            bytea
);
COMMENT ON TABLE {schema}.order_events IS 'Every event, once; only ever appended to.';
COMMENT ON COLUMN {schema}.order_events.raw IS
    'The original body, where ORDERSTREAM_KEEP_RAW kept it: one zstd frame (its first bytes are 28 b5 2f fd), which unpacks to the JSON of the webhook. Another producer''s raw stands here byte for byte as it wrote it.';
CREATE INDEX order_events_by_order ON {schema}.order_events (order_id, shop, occurred_at);
CREATE INDEX order_events_by_arrival ON {schema}.order_events (received_at);
-- Rows of one load share the value and stand at the end: about 8 bytes a row. BRIN would know nothing of rows that came
-- since the last vacuum, and those are the ones that are asked for.
CREATE INDEX order_events_by_load ON {schema}.order_events (loaded_at);

CREATE TABLE {schema}.orders (
    shop                     text COLLATE "C" NOT NULL,
    order_id                 text COLLATE "C" NOT NULL,
    name                     text,
    customer_id              text,
    status                   text,
    total_amount             numeric,
    currency                 text,
    item_count               bigint,
    avg_item_price           numeric GENERATED ALWAYS AS (total_amount / GREATEST(item_count, 1)) STORED,
    local_date               date,
    created_at               timestamptz,
    processed_at             timestamptz,
    updated_at               timestamptz,
    cancelled_at             timestamptz,
    financial_status         text,
    fulfillment_status       text,
    subtotal                 numeric,
    total_discounts          numeric,
    total_shipping           numeric,
    total_tax                numeric,
    taxes_included           boolean,
    current_total_amount     numeric,
    presentment_currency     text,
    presentment_total_amount numeric,
    source_name              text,
    test                     boolean NOT NULL DEFAULT false,
    deleted_at               timestamptz,
    last_event_id            text COLLATE "C",
    version_at               timestamptz NOT NULL DEFAULT '-infinity',
    version_triggered_at     timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (shop, order_id)
);
COMMENT ON TABLE {schema}.orders IS
    'The newest state each order ever had. An order that was deleted before anything else was known of it is a row with only deleted_at.';
COMMENT ON COLUMN {schema}.orders.status IS
    'cancelled, refunded, voided, fulfilled, partially_fulfilled, partially_refunded, paid, partially_paid, authorized, pending or open: the first of these that holds. A deletion shows in deleted_at alone.';
COMMENT ON COLUMN {schema}.orders.local_date IS
    'The day the order counts on, as written, in the shop''s offset: of processed_at, else created_at, else the event.';
COMMENT ON COLUMN {schema}.orders.deleted_at IS 'Earliest deletion; nothing clears it.';
COMMENT ON COLUMN {schema}.orders.version_at IS
    'With version_triggered_at and last_event_id: what a later event must reach to be the newer one.';
CREATE INDEX orders_by_name ON {schema}.orders (name) WHERE name IS NOT NULL;
CREATE INDEX orders_by_day ON {schema}.orders (local_date);
CREATE INDEX orders_by_customer ON {schema}.orders (customer_id) WHERE customer_id IS NOT NULL;

CREATE TABLE {schema}.order_items (
    shop        text COLLATE "C" NOT NULL,
    order_id    text COLLATE "C" NOT NULL,
    line_no     integer NOT NULL,
    line_id     text,
    sku         text,
    variant_id  text,
    product_id  text,
    title       text,
    qty         bigint NOT NULL,
    current_qty bigint,
    price       numeric NOT NULL,
    discount    numeric,
    tax         numeric,
    PRIMARY KEY (shop, order_id, line_no)
);
COMMENT ON TABLE {schema}.order_items IS 'Lines of each order''s newest state, numbered from 1 as they were sent.';
COMMENT ON COLUMN {schema}.order_items.price IS 'Of one unit, before discounts; with tax where the order says taxes_included.';
COMMENT ON COLUMN {schema}.order_items.discount IS 'On the whole line.';
COMMENT ON COLUMN {schema}.order_items.tax IS 'On the whole line.';

CREATE TABLE {schema}.order_refunds (
    shop                 text COLLATE "C" NOT NULL,
    refund_id            text COLLATE "C" NOT NULL,
    order_id             text COLLATE "C" NOT NULL,
    processed_at         timestamptz NOT NULL,
    local_date           date NOT NULL,
    amount               numeric NOT NULL,
    tax                  numeric,
    currency             text,
    test                 boolean NOT NULL DEFAULT false,
    last_event_id        text COLLATE "C" NOT NULL,
    version_at           timestamptz NOT NULL,
    version_triggered_at timestamptz NOT NULL,
    PRIMARY KEY (shop, refund_id)
);
COMMENT ON TABLE {schema}.order_refunds IS 'Newest statement about each refund, from refund events and from the orders themselves.';
COMMENT ON COLUMN {schema}.order_refunds.amount IS 'Money paid back, tax included.';
COMMENT ON COLUMN {schema}.order_refunds.tax IS 'Tax within amount.';
COMMENT ON COLUMN {schema}.order_refunds.test IS
    'Some event said that the order is a test; a refund event of its own cannot say, so nothing takes it back.';
CREATE INDEX order_refunds_by_order ON {schema}.order_refunds (shop, order_id);
CREATE INDEX order_refunds_by_day ON {schema}.order_refunds (local_date);

-- One row an order that counts. Tax stands apart from every other amount, whether prices contain it or not, so that
-- gross - discounts + shipping + tax is what the customer paid. Where no line tells its tax, all tax is the lines'.
CREATE VIEW {schema}.sales AS
SELECT o.shop, o.order_id, o.name, o.customer_id, o.status, o.currency, o.local_date, o.source_name,
       o.item_count AS units,
       COALESCE(l.gross, o.subtotal + COALESCE(o.total_discounts, 0), o.total_amount, 0)
           - CASE WHEN o.taxes_included THEN COALESCE(l.tax, o.total_tax, 0) ELSE 0 END AS gross,
       COALESCE(o.total_discounts, 0) AS discounts,
       COALESCE(o.total_tax, 0) AS tax,
       COALESCE(o.total_shipping, 0)
           - CASE WHEN o.taxes_included THEN COALESCE(o.total_tax - l.tax, 0) ELSE 0 END AS shipping,
       o.total_amount AS total
FROM {schema}.orders o
LEFT JOIN (
    SELECT shop, order_id, sum(price * qty) AS gross, sum(tax) AS tax
    FROM {schema}.order_items GROUP BY shop, order_id
) l USING (shop, order_id)
WHERE NOT o.test AND o.deleted_at IS NULL;
COMMENT ON VIEW {schema}.sales IS
    'Orders that count, one row each. Left out: test orders, and deleted ones, which the merchant wants to be as if they had never been. Cancelled orders stay: they were sold on their day, and what was paid back is a refund on its own.';
COMMENT ON COLUMN {schema}.sales.gross IS
    'Price times quantity of all lines, before discounts, without tax. Of an order without lines: subtotal + discounts.';
COMMENT ON COLUMN {schema}.sales.discounts IS 'All discounts of the order, those on shipping included.';
COMMENT ON COLUMN {schema}.sales.shipping IS 'Before discounts, without tax.';

CREATE VIEW {schema}.daily_sales AS
SELECT shop, currency, local_date,
       sum(orders)::bigint AS orders,
       sum(gross) AS gross,
       sum(discounts) AS discounts,
       sum(refunds) AS refunds,
       sum(gross) - sum(discounts) - sum(refunds) AS net,
       sum(tax) AS tax,
       sum(shipping) AS shipping
FROM (
    SELECT shop, currency, local_date, 1 AS orders, gross, discounts, 0::numeric AS refunds, tax, shipping
    FROM {schema}.sales
    UNION ALL
    SELECT r.shop, COALESCE(r.currency, o.currency), r.local_date, 0, 0, 0,
           r.amount - LEAST(COALESCE(r.tax, 0), r.amount), -LEAST(COALESCE(r.tax, 0), r.amount), 0
    FROM {schema}.order_refunds r
    LEFT JOIN {schema}.orders o USING (shop, order_id)
    WHERE NOT r.test AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL))
) AS day
GROUP BY shop, currency, local_date;
COMMENT ON VIEW {schema}.daily_sales IS
    'Sales by shop, currency and the shop''s own day; currencies are never summed. net + tax + shipping is what the day''s orders came to, paid or not, less what was paid back on it: a cancelled order that was never paid stays in.';
COMMENT ON COLUMN {schema}.daily_sales.orders IS 'Orders of the day, cancelled ones included; test and deleted orders left out.';
COMMENT ON COLUMN {schema}.daily_sales.gross IS 'Price times quantity of all lines, before discounts, without tax.';
COMMENT ON COLUMN {schema}.daily_sales.discounts IS 'All discounts on the day''s orders.';
COMMENT ON COLUMN {schema}.daily_sales.refunds IS 'Money paid back on this day, whenever it was ordered, without tax.';
COMMENT ON COLUMN {schema}.daily_sales.net IS 'gross - discounts - refunds.';
COMMENT ON COLUMN {schema}.daily_sales.tax IS 'Tax on the day''s orders less the tax within the day''s refunds.';
COMMENT ON COLUMN {schema}.daily_sales.shipping IS 'Charged on the day''s orders, before discounts, without tax.';

CREATE VIEW {schema}.product_sales AS
SELECT s.shop, s.currency, i.product_id, i.variant_id, i.sku, max(i.title) AS title,
       count(DISTINCT i.order_id) AS orders,
       sum(i.qty)::bigint AS units,
       sum(i.price * i.qty) AS amount,
       sum(COALESCE(i.discount, 0)) AS discounts,
       min(s.local_date) AS first_sold, max(s.local_date) AS last_sold
FROM {schema}.order_items i
JOIN {schema}.sales s USING (shop, order_id)
GROUP BY s.shop, s.currency, i.product_id, i.variant_id, i.sku;
COMMENT ON VIEW {schema}.product_sales IS
    'What sells: as ordered, returns not taken off. amount is price times quantity before discounts, tax as the shop''s prices have it.';

CREATE VIEW {schema}.customer_orders AS
SELECT shop, customer_id, currency,
       count(*) AS orders,
       sum(total) AS total_amount,
       min(local_date) AS first_order, max(local_date) AS last_order
FROM {schema}.sales
WHERE customer_id IS NOT NULL
GROUP BY shop, customer_id, currency;
COMMENT ON VIEW {schema}.customer_orders IS 'Customers who come back and what they spent, tax and shipping included; guests left out.';

CREATE VIEW {schema}.hourly_arrivals AS
SELECT date_trunc('hour', received_at) AS hour, source, event_type,
       count(*) AS events,
       max(received_at - occurred_at) AS slowest_arrival,
       max(loaded_at - received_at) AS slowest_load
FROM {schema}.order_events
WHERE NOT test
GROUP BY 1, 2, 3;
COMMENT ON VIEW {schema}.hourly_arrivals IS
    'Is it all here, and how fresh: events by hour of arrival, with the longest way from happening to here and from here to the table.';
