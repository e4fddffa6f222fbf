-- Sales as Shopify's own reports count them. Columns are added with defaults, so that a program which does not know them
-- goes on loading; `orderstream rebuild` fills them in for what was loaded before. Base tables keep amounts as decimal
-- text. The views that this step made are step 4's, which makes them again.

DROP VIEW IF EXISTS customer_orders;
DROP VIEW IF EXISTS product_sales;
DROP VIEW IF EXISTS daily_sales;
DROP VIEW IF EXISTS sales;

ALTER TABLE orders ADD COLUMN sale_gross TEXT;
ALTER TABLE orders ADD COLUMN sale_discounts TEXT;
ALTER TABLE orders ADD COLUMN sale_shipping TEXT;
ALTER TABLE orders ADD COLUMN sale_shipping_tax TEXT;
ALTER TABLE orders ADD COLUMN sale_tax TEXT;
ALTER TABLE orders ADD COLUMN sale_duties TEXT;
ALTER TABLE orders ADD COLUMN sale_fees TEXT;
ALTER TABLE orders ADD COLUMN sale_tips TEXT;
ALTER TABLE orders ADD COLUMN sale_gift_cards TEXT;
ALTER TABLE orders ADD COLUMN has_sale_rows BOOLEAN NOT NULL DEFAULT 0;

CREATE INDEX orders_by_shop_day ON orders (shop, local_date);
DROP INDEX orders_by_day;

ALTER TABLE order_items ADD COLUMN gift_card BOOLEAN NOT NULL DEFAULT 0;
ALTER TABLE order_items ADD COLUMN sale_gross TEXT;
ALTER TABLE order_items ADD COLUMN sale_discount TEXT;
ALTER TABLE order_items ADD COLUMN sale_tax TEXT;

ALTER TABLE order_refunds ADD COLUMN pending_amount TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_lines TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_lines_tax TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_gift_cards TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_shipping TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_shipping_tax TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_duties TEXT;
ALTER TABLE order_refunds ADD COLUMN reversed_tax TEXT;
ALTER TABLE order_refunds ADD COLUMN adjustments TEXT;

CREATE INDEX order_refunds_by_shop_day ON order_refunds (shop, local_date);
DROP INDEX order_refunds_by_day;

CREATE TABLE order_refund_items (
    -- Lines of each refund, numbered from 1 as they were sent.
    shop         TEXT NOT NULL,
    refund_id    TEXT NOT NULL,
    line_no      INTEGER NOT NULL,
    line_id      TEXT,
    qty          INTEGER NOT NULL,
    -- After discounts; with tax where the order's prices include it.
    subtotal     TEXT,
    tax          TEXT,
    gift_card    BOOLEAN NOT NULL,
    restock_type TEXT,
    location_id  TEXT,
    PRIMARY KEY (shop, refund_id, line_no)
) WITHOUT ROWID;

CREATE TABLE order_sale_rows (
    -- Sales of orders that were changed after they were placed, worked out from all events of the order. Read order_sales
    -- instead: it has these and all others.
    shop        TEXT NOT NULL,
    order_id    TEXT NOT NULL,
    sale_key    TEXT NOT NULL,
    happened_at TIMESTAMP NOT NULL,
    local_date  DATE NOT NULL,
    reason      TEXT NOT NULL,
    line_type   TEXT NOT NULL,
    line_id     TEXT,
    quantity    INTEGER NOT NULL,
    gross       TEXT NOT NULL,
    discount    TEXT NOT NULL,
    tax         TEXT NOT NULL,
    PRIMARY KEY (shop, order_id, sale_key)
) WITHOUT ROWID;
