-- {...} is written out by `figures.rs`: exact arithmetic on decimal text. The comments inside the statements are for
-- whoever looks with `.schema`. Amounts are decimal text as it was sent; times are UTC, dates the shop's own day.
-- Only what SQLite 3.15 and DuckDB both understand: where one view does not parse, the whole file does not open.

CREATE TABLE schema_migrations (
    version         INTEGER PRIMARY KEY,
    name            TEXT NOT NULL,
    -- Newest version that a program must know to load into a file of this version: an older program may go on working.
    compatible_from INTEGER NOT NULL,
    applied_at      TIMESTAMP NOT NULL
);

CREATE TABLE order_events (
    -- Every event, once; only ever appended to.
    event_id       TEXT NOT NULL PRIMARY KEY,
    event_type     TEXT NOT NULL,
    source         TEXT,
    shop           TEXT NOT NULL,
    order_id       TEXT NOT NULL,
    customer_id    TEXT,
    total_amount   TEXT,
    currency       TEXT,
    item_count     INTEGER,
    avg_item_price TEXT,
    test           BOOLEAN NOT NULL,
    occurred_at    TIMESTAMP NOT NULL,
    triggered_at   TIMESTAMP,
    received_at    TIMESTAMP NOT NULL,
    loaded_at      TIMESTAMP NOT NULL,
    stream_id      TEXT NOT NULL,
    -- JSON.
    payload        TEXT NOT NULL,
    -- The original body, where ORDERSTREAM_KEEP_RAW kept it: one zstd frame (its first bytes are 28 b5 2f fd), which
    -- unpacks to the JSON of the webhook. Another producer's raw stands here byte for byte as it wrote it.
    raw            BLOB
);
CREATE INDEX order_events_by_order ON order_events (order_id, shop, occurred_at);
CREATE INDEX order_events_by_arrival ON order_events (received_at);

CREATE TABLE orders (
    -- The newest state each order ever had. An order that was deleted before anything else was known of it is a row
    -- with only deleted_at.
    shop                     TEXT NOT NULL,
    order_id                 TEXT NOT NULL,
    name                     TEXT,
    customer_id              TEXT,
    -- cancelled, refunded, voided, fulfilled, partially_fulfilled, partially_refunded, paid, partially_paid,
    -- authorized, pending or open: the first of these that holds. A deletion shows in deleted_at alone.
    status                   TEXT,
    total_amount             TEXT,
    currency                 TEXT,
    item_count               INTEGER,
    avg_item_price           TEXT,
    -- The day the order counts on, as written, in the shop's offset: of processed_at, else created_at, else the event.
    local_date               DATE,
    created_at               TIMESTAMP,
    processed_at             TIMESTAMP,
    updated_at               TIMESTAMP,
    cancelled_at             TIMESTAMP,
    financial_status         TEXT,
    fulfillment_status       TEXT,
    subtotal                 TEXT,
    total_discounts          TEXT,
    total_shipping           TEXT,
    total_tax                TEXT,
    taxes_included           BOOLEAN,
    current_total_amount     TEXT,
    presentment_currency     TEXT,
    presentment_total_amount TEXT,
    source_name              TEXT,
    test                     BOOLEAN NOT NULL DEFAULT 0,
    -- Earliest deletion; nothing clears it.
    deleted_at               TIMESTAMP,
    last_event_id            TEXT,
    -- With version_triggered_at and last_event_id: what a later event must reach to be the newer one.
    version_at               TIMESTAMP NOT NULL DEFAULT '-infinity',
    version_triggered_at     TIMESTAMP NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (shop, order_id)
) WITHOUT ROWID;
CREATE INDEX orders_by_name ON orders (name) WHERE name IS NOT NULL;
CREATE INDEX orders_by_day ON orders (local_date);
CREATE INDEX orders_by_customer ON orders (customer_id) WHERE customer_id IS NOT NULL;

CREATE TABLE order_items (
    -- Lines of each order's newest state, numbered from 1 as they were sent.
    shop        TEXT NOT NULL,
    order_id    TEXT NOT NULL,
    line_no     INTEGER NOT NULL,
    line_id     TEXT,
    sku         TEXT,
    variant_id  TEXT,
    product_id  TEXT,
    title       TEXT,
    qty         INTEGER NOT NULL,
    current_qty INTEGER,
    -- Of one unit, before discounts; with tax where the order says taxes_included.
    price       TEXT NOT NULL,
    -- On the whole line.
    discount    TEXT,
    -- On the whole line.
    tax         TEXT,
    PRIMARY KEY (shop, order_id, line_no)
) WITHOUT ROWID;

CREATE TABLE order_refunds (
    -- Newest statement about each refund, from refund events and from the orders themselves.
    shop                 TEXT NOT NULL,
    refund_id            TEXT NOT NULL,
    order_id             TEXT NOT NULL,
    processed_at         TIMESTAMP NOT NULL,
    local_date           DATE NOT NULL,
    -- Money paid back, tax included.
    amount               TEXT NOT NULL,
    -- Tax within amount.
    tax                  TEXT,
    currency             TEXT,
    -- Some event said that the order is a test; a refund event of its own cannot say, so nothing takes it back.
    test                 BOOLEAN NOT NULL DEFAULT 0,
    last_event_id        TEXT NOT NULL,
    version_at           TIMESTAMP NOT NULL,
    version_triggered_at TIMESTAMP NOT NULL,
    PRIMARY KEY (shop, refund_id)
) WITHOUT ROWID;
CREATE INDEX order_refunds_by_order ON order_refunds (shop, order_id);
CREATE INDEX order_refunds_by_day ON order_refunds (local_date);

CREATE VIEW sales AS
-- Orders that count, one row each. Left out: test orders, and deleted ones, which the merchant wants to be as if they
-- had never been. Cancelled orders stay: they were sold on their day, and what was paid back is a refund on its own.
-- gross: price times quantity of all lines, before discounts, without tax; of an order without lines: subtotal +
-- discounts. discounts: all of the order, those on shipping included. shipping: before discounts, without tax.
-- gross - discounts + shipping + tax is what the customer paid. Where no line tells its tax, all tax is the lines'.
WITH line AS (
    SELECT shop, order_id, qty, {limbs price}, {limbs tax} FROM order_items
), line_sum AS (
    SELECT shop, order_id, {each sum(#price * qty) AS gross}, {each sum(#tax) AS tax}
    FROM line GROUP BY shop, order_id
), counted AS (
    SELECT shop, order_id, name, customer_id, status, currency, local_date, source_name, item_count, taxes_included,
           {limbs total_amount}, {limbs subtotal}, {limbs total_discounts}, {limbs total_shipping}, {limbs total_tax}
    FROM orders WHERE test = 0 AND deleted_at IS NULL
), figure AS (
    SELECT o.shop, o.order_id, o.name, o.customer_id, o.status, o.currency, o.local_date, o.source_name, o.item_count,
           {each COALESCE(l.#gross, o.#subtotal + COALESCE(o.#total_discounts, 0), o.#total_amount, 0)
               - CASE WHEN o.taxes_included = 1 THEN COALESCE(l.#tax, o.#total_tax, 0) ELSE 0 END AS gross},
           {each COALESCE(o.#total_discounts, 0) AS discounts},
           {each COALESCE(o.#total_tax, 0) AS tax},
           {each COALESCE(o.#total_shipping, 0)
               - CASE WHEN o.taxes_included = 1 THEN COALESCE(o.#total_tax - l.#tax, 0) ELSE 0 END AS shipping},
           {each o.#total_amount AS total}
    FROM counted o LEFT JOIN line_sum l ON l.shop = o.shop AND l.order_id = o.order_id
    {once}
), carried AS (
    SELECT shop, order_id, name, customer_id, status, currency, local_date, source_name, item_count,
           {carry gross}, {carry discounts}, {carry tax}, {carry shipping}, {carry total}
    FROM figure WHERE shop IS NOT NULL
)
SELECT shop, order_id, name, customer_id, status, currency, local_date, source_name, item_count AS units,
       {text gross}, {text discounts}, {text tax}, {text shipping}, {text total}
FROM carried;

CREATE VIEW daily_sales AS
-- Sales by shop, currency and the shop's own day; currencies are never summed. net + tax + shipping is what the day's
-- orders came to, paid or not, less what was paid back on it: a cancelled order that was never paid stays in.
-- orders: cancelled ones included; test and deleted orders left out. refunds: money paid back on this day, whenever it
-- was ordered, without tax. net: gross - discounts - refunds. tax: on the day's orders less that within its refunds.
WITH sale AS (
    SELECT shop, currency, local_date, gross, discounts, tax, shipping FROM sales {once}
), sold AS (
    SELECT shop, currency, local_date, {limbs gross}, {limbs discounts}, {limbs tax}, {limbs shipping}
    FROM sale WHERE shop IS NOT NULL
), refund AS (
    SELECT r.shop, COALESCE(r.currency, o.currency) AS currency, r.local_date,
           {limbs r.amount AS amount}, {limbs COALESCE(r.tax, '0') AS tax}
    FROM order_refunds r LEFT JOIN orders o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE r.test = 0 AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
), refunded AS (
    SELECT shop, currency, local_date, {each #amount AS amount},
           {each CASE WHEN (tax_1, tax_2, tax_3) < (amount_1, amount_2, amount_3) THEN #tax ELSE #amount END AS tax}
    FROM refund
), term AS (
    SELECT shop, currency, local_date, 1 AS orders, {each #gross AS gross}, {each #discounts AS discounts},
           {each 0 AS refunds}, {each #tax AS tax}, {each #shipping AS shipping}
    FROM sold
    UNION ALL
    SELECT shop, currency, local_date, 0, {each 0 AS gross}, {each 0 AS discounts},
           {each #amount - #tax AS refunds}, {each -#tax AS tax}, {each 0 AS shipping}
    FROM refunded
), figure AS (
    SELECT shop, currency, local_date, sum(orders) AS orders, {each sum(#gross) AS gross},
           {each sum(#discounts) AS discounts}, {each sum(#refunds) AS refunds},
           {each sum(#gross) - sum(#discounts) - sum(#refunds) AS net},
           {each sum(#tax) AS tax}, {each sum(#shipping) AS shipping}
    FROM term GROUP BY shop, currency, local_date
), carried AS (
    SELECT shop, currency, local_date, orders, {carry gross}, {carry discounts}, {carry refunds}, {carry net},
           {carry tax}, {carry shipping}
    FROM figure
)
SELECT shop, currency, local_date, CAST(orders AS BIGINT) AS orders, {text gross}, {text discounts}, {text refunds},
       {text net}, {text tax}, {text shipping}
FROM carried;

CREATE VIEW product_sales AS
-- What sells: as ordered, returns not taken off. amount is price times quantity before discounts, tax as the shop's
-- prices have it.
WITH line AS (
    SELECT o.shop, o.currency, o.local_date, i.product_id, i.variant_id, i.sku, i.title, i.order_id, i.qty,
           {limbs i.price AS price}, {limbs COALESCE(i.discount, '0') AS discount}
    FROM order_items i JOIN orders o ON o.shop = i.shop AND o.order_id = i.order_id
    WHERE o.test = 0 AND o.deleted_at IS NULL
), figure AS (
    SELECT shop, currency, product_id, variant_id, sku, max(title) AS title, count(DISTINCT order_id) AS orders,
           sum(qty) AS units, {each sum(#price * qty) AS amount}, {each sum(#discount) AS discounts},
           min(local_date) AS first_sold, max(local_date) AS last_sold
    FROM line GROUP BY shop, currency, product_id, variant_id, sku
), carried AS (
    SELECT shop, currency, product_id, variant_id, sku, title, orders, units, first_sold, last_sold,
           {carry amount}, {carry discounts}
    FROM figure
)
SELECT shop, currency, product_id, variant_id, sku, title, orders, CAST(units AS BIGINT) AS units, {text amount},
       {text discounts}, first_sold, last_sold
FROM carried;

CREATE VIEW customer_orders AS
-- Customers who come back and what they spent, tax and shipping included; guests left out.
WITH sold AS (
    SELECT shop, customer_id, currency, local_date, {limbs total_amount AS total}
    FROM orders WHERE test = 0 AND deleted_at IS NULL AND customer_id IS NOT NULL
), figure AS (
    SELECT shop, customer_id, currency, count(*) AS orders, {each sum(#total) AS total_amount},
           min(local_date) AS first_order, max(local_date) AS last_order
    FROM sold GROUP BY shop, customer_id, currency
), carried AS (
    SELECT shop, customer_id, currency, orders, {carry total_amount}, first_order, last_order FROM figure
)
SELECT shop, customer_id, currency, orders, {text total_amount}, first_order, last_order FROM carried;

CREATE VIEW hourly_arrivals AS
-- Is it all here, and how fresh: events by hour of arrival (UTC), with the longest way, in seconds, from happening to
-- here and from here to the table.
WITH arrival AS (
    SELECT replace(substr(CAST(received_at AS TEXT), 1, 13), ' ', 'T') || ':00:00.000000Z' AS hour, source, event_type,
           {micros occurred_at AS occurred}, {micros received_at AS received}, {micros loaded_at AS loaded}
    FROM order_events WHERE test = 0
)
SELECT hour, source, event_type, count(*) AS events,
       max(received - occurred) / 1000000.0 AS slowest_arrival,
       max(loaded - received) / 1000000.0 AS slowest_load
FROM arrival GROUP BY hour, source, event_type;
