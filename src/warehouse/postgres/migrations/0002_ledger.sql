-- Sales as Shopify's own reports count them. Columns are added with defaults, so that a program which does not know them
-- goes on loading; `orderstream rebuild` fills them in for what was loaded before.

DROP VIEW IF EXISTS {schema}.customer_orders;
DROP VIEW IF EXISTS {schema}.product_sales;
DROP VIEW IF EXISTS {schema}.daily_sales;
DROP VIEW IF EXISTS {schema}.sales;

ALTER TABLE {schema}.orders
    ADD COLUMN sale_gross        numeric,
    ADD COLUMN sale_discounts    numeric,
    ADD COLUMN sale_shipping     numeric,
    ADD COLUMN sale_shipping_tax numeric,
    ADD COLUMN sale_tax          numeric,
    ADD COLUMN sale_duties       numeric,
    ADD COLUMN sale_fees         numeric,
    ADD COLUMN sale_tips         numeric,
    ADD COLUMN sale_gift_cards   numeric,
    ADD COLUMN has_sale_rows     boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN {schema}.orders.sale_gross IS
    'Price times quantity of all lines but gift cards, before discounts, without tax, in the shop''s currency.';
COMMENT ON COLUMN {schema}.orders.sale_discounts IS 'Discounts of lines, without tax.';
COMMENT ON COLUMN {schema}.orders.sale_shipping IS 'After discounts, without tax.';
COMMENT ON COLUMN {schema}.orders.sale_tax IS 'On lines and shipping; sale_shipping_tax is the part on shipping.';
COMMENT ON COLUMN {schema}.orders.sale_gift_cards IS 'Gift cards sold, which are a liability and no sale.';
COMMENT ON COLUMN {schema}.orders.has_sale_rows IS
    'The order was changed after it was placed: order_sale_rows has its sales, each on its own day.';
CREATE INDEX orders_by_shop_day ON {schema}.orders (shop, local_date);
CREATE INDEX orders_with_sale_rows ON {schema}.orders (shop, order_id) WHERE has_sale_rows;
DROP INDEX {schema}.orders_by_day;

ALTER TABLE {schema}.order_items
    ADD COLUMN gift_card     boolean NOT NULL DEFAULT false,
    ADD COLUMN sale_gross    numeric,
    ADD COLUMN sale_discount numeric,
    ADD COLUMN sale_tax      numeric;
COMMENT ON COLUMN {schema}.order_items.sale_gross IS 'Price times quantity, before discounts, without tax.';
COMMENT ON COLUMN {schema}.order_items.sale_discount IS 'On the whole line, without tax.';

ALTER TABLE {schema}.order_refunds
    ADD COLUMN pending_amount        numeric,
    ADD COLUMN reversed_lines        numeric,
    ADD COLUMN reversed_lines_tax    numeric,
    ADD COLUMN reversed_gift_cards   numeric,
    ADD COLUMN reversed_shipping     numeric,
    ADD COLUMN reversed_shipping_tax numeric,
    ADD COLUMN reversed_duties       numeric,
    ADD COLUMN reversed_tax          numeric,
    ADD COLUMN adjustments           numeric;
COMMENT ON COLUMN {schema}.order_refunds.amount IS 'Money paid back, tax included: transactions that succeeded.';
COMMENT ON COLUMN {schema}.order_refunds.pending_amount IS 'Money on its way back: transactions that are pending.';
COMMENT ON COLUMN {schema}.order_refunds.tax IS 'Tax reversed, as the refund tells it.';
COMMENT ON COLUMN {schema}.order_refunds.reversed_lines IS
    'Lines returned, removed or cancelled, gift cards left out; with tax (reversed_lines_tax) where the order''s prices include it.';
COMMENT ON COLUMN {schema}.order_refunds.reversed_shipping IS
    'Shipping reversed; with tax (reversed_shipping_tax) where the order''s prices include it.';
COMMENT ON COLUMN {schema}.order_refunds.adjustments IS 'In the merchant''s favour: makes the reversal smaller.';
CREATE INDEX order_refunds_by_shop_day ON {schema}.order_refunds (shop, local_date);
DROP INDEX {schema}.order_refunds_by_day;

CREATE TABLE {schema}.order_refund_items (
    shop         text COLLATE "C" NOT NULL,
    refund_id    text COLLATE "C" NOT NULL,
    line_no      integer NOT NULL,
    line_id      text,
    qty          bigint NOT NULL,
    subtotal     numeric,
    tax          numeric,
    gift_card    boolean NOT NULL,
    restock_type text,
    location_id  text,
    PRIMARY KEY (shop, refund_id, line_no)
);
COMMENT ON TABLE {schema}.order_refund_items IS 'Lines of each refund, numbered from 1 as they were sent.';
COMMENT ON COLUMN {schema}.order_refund_items.subtotal IS 'After discounts; with tax where the order''s prices include it.';

CREATE TABLE {schema}.order_sale_rows (
    shop        text COLLATE "C" NOT NULL,
    order_id    text COLLATE "C" NOT NULL,
    sale_key    text COLLATE "C" NOT NULL,
    happened_at timestamptz NOT NULL,
    local_date  date NOT NULL,
    reason      text NOT NULL,
    line_type   text NOT NULL,
    line_id     text,
    quantity    bigint NOT NULL,
    gross       numeric NOT NULL,
    discount    numeric NOT NULL,
    tax         numeric NOT NULL,
    PRIMARY KEY (shop, order_id, sale_key)
);
COMMENT ON TABLE {schema}.order_sale_rows IS
    'Sales of orders that were changed after they were placed, worked out from all events of the order. Read order_sales instead: it has these and all others.';
CREATE INDEX order_sale_rows_by_day ON {schema}.order_sale_rows (shop, local_date);

CREATE VIEW {schema}.sales AS
SELECT shop, order_id, name, customer_id, status, currency, local_date, source_name, item_count AS units,
       sale_gross AS gross, sale_discounts AS discounts, sale_tax AS tax, sale_shipping AS shipping, total_amount AS total
FROM {schema}.orders
WHERE NOT test AND deleted_at IS NULL AND last_event_id IS NOT NULL;
COMMENT ON VIEW {schema}.sales IS
    'Orders that count, one row each, as they stand; reversals are not taken off. Left out: test orders, and deleted ones, which the merchant wants to be as if they had never been. Cancelled orders stay: they were sold on their day and are reversed on the day of the cancellation.';
COMMENT ON COLUMN {schema}.sales.gross IS 'Price times quantity of all lines but gift cards, before discounts, without tax.';
COMMENT ON COLUMN {schema}.sales.discounts IS 'Discounts of lines, without tax.';
COMMENT ON COLUMN {schema}.sales.shipping IS 'After discounts, without tax.';

CREATE VIEW {schema}.refund_reversals AS
SELECT r.shop, r.refund_id, r.order_id, COALESCE(o.currency, r.currency) AS currency, r.processed_at, r.local_date,
       r.reversed_lines - CASE WHEN o.taxes_included THEN r.reversed_lines_tax ELSE 0 END AS lines,
       r.adjustments,
       r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END AS shipping,
       r.reversed_tax AS tax, r.reversed_duties AS duties, r.reversed_gift_cards AS gift_cards
FROM {schema}.order_refunds r
LEFT JOIN {schema}.orders o USING (shop, order_id)
WHERE NOT r.test AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL));
COMMENT ON VIEW {schema}.refund_reversals IS
    'What each refund reverses, with or without money, without tax. daily_sales.reversals counts lines - adjustments.';

-- Adds up orders, not lines: three times fewer rows. That it equals the sum of order_sales is tested.
CREATE VIEW {schema}.daily_sales AS
SELECT shop, currency, local_date,
       sum(orders)::bigint AS orders,
       sum(gross) AS gross,
       sum(discounts) AS discounts,
       sum(reversals) AS reversals,
       sum(gross) - sum(discounts) - sum(reversals) AS net,
       sum(shipping) AS shipping,
       sum(tax) AS tax,
       sum(duties) AS duties,
       sum(fees) AS fees,
       sum(gross) - sum(discounts) - sum(reversals) + sum(shipping) + sum(tax) + sum(duties) + sum(fees) AS total,
       sum(tips) AS tips,
       sum(gift_cards) AS gift_cards
FROM (
    SELECT shop, currency, local_date, 1 AS orders, sale_gross AS gross, sale_discounts AS discounts,
           0::numeric AS reversals, sale_shipping AS shipping, sale_tax AS tax, sale_duties AS duties,
           sale_fees AS fees, sale_tips AS tips, sale_gift_cards AS gift_cards
    FROM {schema}.orders
    WHERE NOT has_sale_rows AND NOT test AND deleted_at IS NULL AND last_event_id IS NOT NULL
    UNION ALL
    SELECT shop, currency, local_date, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM {schema}.orders
    WHERE has_sale_rows AND NOT test AND deleted_at IS NULL AND last_event_id IS NOT NULL
    UNION ALL
    SELECT r.shop, o.currency, r.local_date, 0,
           CASE WHEN r.line_type = 'product' THEN r.gross ELSE 0 END,
           CASE WHEN r.line_type = 'product' THEN r.discount ELSE 0 END,
           0,
           CASE WHEN r.line_type = 'shipping' THEN r.gross ELSE 0 END,
           r.tax,
           CASE WHEN r.line_type = 'duty' THEN r.gross ELSE 0 END,
           CASE WHEN r.line_type = 'fee' THEN r.gross ELSE 0 END,
           CASE WHEN r.line_type = 'tip' THEN r.gross ELSE 0 END,
           CASE WHEN r.line_type = 'gift_card' THEN r.gross - r.discount ELSE 0 END
    FROM {schema}.order_sale_rows r JOIN {schema}.orders o USING (shop, order_id)
    WHERE o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL
    UNION ALL
    SELECT shop, currency, local_date, 0, 0, 0, lines - adjustments, -shipping, -tax, -duties, 0, 0, -gift_cards
    FROM {schema}.refund_reversals
) AS day
GROUP BY shop, currency, local_date;
COMMENT ON VIEW {schema}.daily_sales IS
    'Sales by shop, currency and the shop''s own day, as Shopify''s sales reports count them; currencies are never summed.';
COMMENT ON COLUMN {schema}.daily_sales.orders IS 'Orders of the day, cancelled ones included; test and deleted orders left out.';
COMMENT ON COLUMN {schema}.daily_sales.gross IS 'Price times quantity of all lines but gift cards, before discounts, without tax.';
COMMENT ON COLUMN {schema}.daily_sales.discounts IS 'Discounts of lines, without tax.';
COMMENT ON COLUMN {schema}.daily_sales.reversals IS
    'Lines returned, removed or cancelled on this day, whenever they were ordered and whether or not money moved, without tax; order adjustments included.';
COMMENT ON COLUMN {schema}.daily_sales.net IS 'gross - discounts - reversals.';
COMMENT ON COLUMN {schema}.daily_sales.shipping IS 'After discounts, without tax, less what was refunded on this day.';
COMMENT ON COLUMN {schema}.daily_sales.tax IS 'On lines and shipping, less what was reversed on this day.';
COMMENT ON COLUMN {schema}.daily_sales.total IS 'net + shipping + tax + duties + fees.';
COMMENT ON COLUMN {schema}.daily_sales.tips IS 'No sales, and not in total.';
COMMENT ON COLUMN {schema}.daily_sales.gift_cards IS 'Gift cards sold less those taken back: a liability, and not in total.';

CREATE VIEW {schema}.order_sales AS
SELECT s.shop, s.order_id, s.sale_key, s.happened_at, s.local_date, s.reason, s.action, s.line_type, s.line_id,
       s.refund_id, s.quantity, s.gross, s.discount, s.tax, s.gross - s.discount + s.tax AS total, s.currency,
       'derived' AS origin
FROM (
    SELECT o.shop, o.order_id, 'line:' || COALESCE(i.line_id, i.line_no::text) AS sale_key,
           COALESCE(o.processed_at, o.created_at, o.version_at) AS happened_at, o.local_date, 'order' AS reason,
           'order' AS action, CASE WHEN i.gift_card THEN 'gift_card' ELSE 'product' END AS line_type, i.line_id,
           NULL::text AS refund_id, i.qty AS quantity, i.sale_gross AS gross, i.sale_discount AS discount,
           i.sale_tax AS tax, o.currency
    FROM {schema}.orders o JOIN {schema}.order_items i USING (shop, order_id)
    WHERE NOT o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL
    UNION ALL
    -- What is told of the order as a whole; of an order that came without lines, that is all.
    SELECT o.shop, o.order_id, x.line_type, COALESCE(o.processed_at, o.created_at, o.version_at), o.local_date, 'order',
           'order', x.line_type, NULL, NULL, 0, x.gross, x.discount, x.tax, o.currency
    FROM {schema}.orders o
    CROSS JOIN LATERAL (VALUES
        ('shipping', o.sale_shipping, 0, o.sale_shipping_tax),
        ('tip', o.sale_tips, 0, 0),
        ('duty', o.sale_duties, 0, 0),
        ('fee', o.sale_fees, 0, 0)
    ) AS x (line_type, gross, discount, tax)
    WHERE NOT o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL AND (x.gross <> 0 OR x.tax <> 0)
    UNION ALL
    SELECT o.shop, o.order_id, 'order', COALESCE(o.processed_at, o.created_at, o.version_at), o.local_date, 'order',
           'order', 'product', NULL, NULL, 0, o.sale_gross, o.sale_discounts, o.sale_tax - o.sale_shipping_tax, o.currency
    FROM {schema}.orders o
    WHERE NOT o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL AND o.item_count = 0
        AND NOT EXISTS (SELECT FROM {schema}.order_items i WHERE i.shop = o.shop AND i.order_id = o.order_id)
    UNION ALL
    SELECT r.shop, r.order_id, r.sale_key, r.happened_at, r.local_date, r.reason,
           CASE WHEN r.gross < 0 THEN 'update' ELSE 'order' END, r.line_type, r.line_id, NULL, r.quantity, r.gross,
           r.discount, r.tax, o.currency
    FROM {schema}.order_sale_rows r JOIN {schema}.orders o USING (shop, order_id)
    WHERE o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL
    UNION ALL
    SELECT r.shop, r.order_id, 'refund:' || r.refund_id || ':' || i.line_no, r.processed_at, r.local_date, 'refund',
           'return', CASE WHEN i.gift_card THEN 'gift_card' ELSE 'product' END, i.line_id, r.refund_id, -i.qty,
           -(COALESCE(i.subtotal, 0) - CASE WHEN o.taxes_included THEN COALESCE(i.tax, 0) ELSE 0 END), 0,
           -COALESCE(i.tax, 0), COALESCE(o.currency, r.currency)
    FROM {schema}.order_refunds r
    JOIN {schema}.order_refund_items i USING (shop, refund_id)
    LEFT JOIN {schema}.orders o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE NOT r.test AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL))
    UNION ALL
    SELECT r.shop, r.order_id, 'refund:' || r.refund_id || ':' || x.line_type, r.processed_at, r.local_date, 'refund',
           'return', x.line_type, NULL, r.refund_id, 0, x.gross, 0, x.tax, COALESCE(o.currency, r.currency)
    FROM {schema}.order_refunds r
    LEFT JOIN {schema}.orders o ON o.shop = r.shop AND o.order_id = r.order_id
    CROSS JOIN LATERAL (VALUES
        ('shipping', -(r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END),
                     -r.reversed_shipping_tax),
        ('adjustment', r.adjustments, -(r.reversed_tax - r.reversed_lines_tax - r.reversed_shipping_tax)),
        ('duty', -r.reversed_duties, 0)
    ) AS x (line_type, gross, tax)
    WHERE NOT r.test AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL)) AND (x.gross <> 0 OR x.tax <> 0)
) AS s;
COMMENT ON VIEW {schema}.order_sales IS
    'The ledger: one row a sale or reversal, as Shopify''s sales agreements, in the shop''s currency. Its sum by day is daily_sales.';
COMMENT ON COLUMN {schema}.order_sales.reason IS 'order, edit or refund.';
COMMENT ON COLUMN {schema}.order_sales.line_type IS 'product, gift_card, shipping, tip, duty, fee or adjustment.';

CREATE VIEW {schema}.product_sales AS
SELECT o.shop, o.currency, i.product_id, i.variant_id, i.sku, max(i.title) AS title,
       count(DISTINCT i.order_id) AS orders,
       (sum(i.qty) - sum(COALESCE(r.qty, 0)))::bigint AS units,
       sum(i.sale_gross) AS gross,
       sum(i.sale_discount) AS discounts,
       sum(COALESCE(r.net, 0)) AS reversals,
       sum(i.sale_gross) - sum(i.sale_discount) - sum(COALESCE(r.net, 0)) AS net,
       sum(i.sale_tax) - sum(COALESCE(r.tax, 0)) AS tax,
       min(o.local_date) AS first_sold, max(o.local_date) AS last_sold
FROM {schema}.order_items i
JOIN {schema}.orders o USING (shop, order_id)
LEFT JOIN (
    SELECT f.shop, f.order_id, n.line_id, sum(n.qty) AS qty,
           sum(COALESCE(n.subtotal, 0) - CASE WHEN o.taxes_included THEN COALESCE(n.tax, 0) ELSE 0 END) AS net,
           sum(COALESCE(n.tax, 0)) AS tax
    FROM {schema}.order_refund_items n
    JOIN {schema}.order_refunds f USING (shop, refund_id)
    JOIN {schema}.orders o USING (shop, order_id)
    GROUP BY f.shop, f.order_id, n.line_id
) r ON r.shop = i.shop AND r.order_id = i.order_id AND r.line_id = i.line_id
WHERE NOT o.test AND o.deleted_at IS NULL AND NOT i.gift_card
GROUP BY o.shop, o.currency, i.product_id, i.variant_id, i.sku;
COMMENT ON VIEW {schema}.product_sales IS
    'What sells, returned and removed units taken off; gift cards left out. Amounts are without tax.';

CREATE VIEW {schema}.customer_orders AS
SELECT shop, customer_id, currency,
       count(*) AS orders,
       sum(total) AS total_amount,
       min(local_date) AS first_order, max(local_date) AS last_order
FROM {schema}.sales
WHERE customer_id IS NOT NULL
GROUP BY shop, customer_id, currency;
COMMENT ON VIEW {schema}.customer_orders IS 'Customers who come back and what they were charged, tax and shipping included; guests left out.';
