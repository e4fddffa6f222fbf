-- {micros ...} is written out by `microseconds.rs`. The comments inside the statements are for
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
