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
