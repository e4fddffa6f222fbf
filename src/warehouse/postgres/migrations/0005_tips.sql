-- Tips that stand among the lines, gift cards that only the order knows as such, and change given back at a till.
-- A line of an order is a tip where it says so; `orderstream rebuild` fills that in for what was loaded before.

ALTER TABLE {schema}.order_items ADD COLUMN tip boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN {schema}.order_items.tip IS 'A tip, which is no sale: its sale_ columns are zero, orders.sale_tips has it.';

-- A refund need not say which of its lines are gift cards or tips, the order does. Few orders have any.
CREATE OR REPLACE VIEW {schema}.refund_reversals AS
SELECT r.shop, r.refund_id, r.order_id, COALESCE(o.currency, r.currency) AS currency, r.processed_at, r.local_date,
       r.reversed_lines - CASE WHEN o.taxes_included THEN r.reversed_lines_tax ELSE 0 END - x.gift_cards - x.tips AS lines,
       r.adjustments,
       r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END AS shipping,
       r.reversed_tax AS tax, r.reversed_duties AS duties, r.reversed_gift_cards + x.gift_cards AS gift_cards, x.tips
FROM {schema}.order_refunds r
LEFT JOIN {schema}.orders o USING (shop, order_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.sale_gift_cards <> 0 THEN (
               SELECT COALESCE(sum(n.subtotal - CASE WHEN o.taxes_included THEN COALESCE(n.tax, 0) ELSE 0 END), 0)
               FROM {schema}.order_refund_items n
               WHERE n.shop = r.shop AND n.refund_id = r.refund_id AND NOT n.gift_card
                   AND EXISTS (SELECT FROM {schema}.order_items i
                               WHERE i.shop = r.shop AND i.order_id = r.order_id AND i.line_id = n.line_id AND i.gift_card))
           ELSE 0 END AS gift_cards,
           CASE WHEN o.sale_tips <> 0 THEN (
               SELECT COALESCE(sum(n.subtotal - CASE WHEN o.taxes_included THEN COALESCE(n.tax, 0) ELSE 0 END), 0)
               FROM {schema}.order_refund_items n
               WHERE n.shop = r.shop AND n.refund_id = r.refund_id
                   AND EXISTS (SELECT FROM {schema}.order_items i
                               WHERE i.shop = r.shop AND i.order_id = r.order_id AND i.line_id = n.line_id AND i.tip))
           ELSE 0 END AS tips
) x
WHERE NOT r.test AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL));

CREATE OR REPLACE VIEW {schema}.daily_sales AS
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
    SELECT shop, currency, local_date, count(*) AS orders,
           COALESCE(sum(sale_gross) FILTER (WHERE NOT has_sale_rows), 0) AS gross,
           COALESCE(sum(sale_discounts) FILTER (WHERE NOT has_sale_rows), 0) AS discounts, 0::numeric AS reversals,
           COALESCE(sum(sale_shipping) FILTER (WHERE NOT has_sale_rows), 0) AS shipping,
           COALESCE(sum(sale_tax) FILTER (WHERE NOT has_sale_rows), 0) AS tax,
           COALESCE(sum(sale_duties) FILTER (WHERE NOT has_sale_rows), 0) AS duties,
           COALESCE(sum(sale_fees) FILTER (WHERE NOT has_sale_rows), 0) AS fees,
           COALESCE(sum(sale_tips) FILTER (WHERE NOT has_sale_rows), 0) AS tips,
           COALESCE(sum(sale_gift_cards) FILTER (WHERE NOT has_sale_rows), 0) AS gift_cards
    FROM {schema}.orders
    WHERE NOT test AND deleted_at IS NULL AND last_event_id IS NOT NULL
    GROUP BY shop, currency, local_date
    UNION ALL
    SELECT r.shop, o.currency, r.local_date, 0,
           COALESCE(sum(r.gross) FILTER (WHERE r.line_type = 'product'), 0),
           COALESCE(sum(r.discount) FILTER (WHERE r.line_type = 'product'), 0),
           0,
           COALESCE(sum(r.gross) FILTER (WHERE r.line_type = 'shipping'), 0),
           sum(r.tax),
           COALESCE(sum(r.gross) FILTER (WHERE r.line_type = 'duty'), 0),
           COALESCE(sum(r.gross) FILTER (WHERE r.line_type = 'fee'), 0),
           COALESCE(sum(r.gross) FILTER (WHERE r.line_type = 'tip'), 0),
           COALESCE(sum(r.gross - r.discount) FILTER (WHERE r.line_type = 'gift_card'), 0)
    FROM {schema}.order_sale_rows r
    JOIN {schema}.orders o USING (shop, order_id)
    WHERE o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL
    GROUP BY r.shop, o.currency, r.local_date
    UNION ALL
    SELECT shop, currency, local_date, 0, 0, 0, sum(lines - adjustments), -sum(shipping), -sum(tax), -sum(duties), 0,
           -sum(tips), -sum(gift_cards)
    FROM {schema}.refund_reversals
    GROUP BY shop, currency, local_date
) AS day
GROUP BY shop, currency, local_date;
COMMENT ON COLUMN {schema}.daily_sales.tips IS 'Tips less those paid back: no sales, and not in total.';

CREATE OR REPLACE VIEW {schema}.order_sales AS
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
    WHERE NOT o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL AND NOT i.tip
    UNION ALL
    -- What is known of the order as a whole; of an order that came without lines, that is all.
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
           CASE WHEN r.sale_key LIKE '%:changed:%' OR r.gross < 0 THEN 'update' ELSE 'order' END, r.line_type, r.line_id, NULL, r.quantity, r.gross,
           r.discount, r.tax, o.currency
    FROM {schema}.order_sale_rows r JOIN {schema}.orders o USING (shop, order_id)
    WHERE o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL
    UNION ALL
    SELECT r.shop, r.order_id, 'refund:' || r.refund_id || ':' || i.line_no, r.processed_at, r.local_date, 'refund',
           'return', CASE WHEN i.gift_card OR (o.sale_gift_cards <> 0 AND EXISTS (
                              SELECT FROM {schema}.order_items l WHERE l.shop = r.shop AND l.order_id = r.order_id
                                  AND l.line_id = i.line_id AND l.gift_card)) THEN 'gift_card'
                          WHEN o.sale_tips <> 0 AND EXISTS (
                              SELECT FROM {schema}.order_items l WHERE l.shop = r.shop AND l.order_id = r.order_id
                                  AND l.line_id = i.line_id AND l.tip) THEN 'tip'
                          ELSE 'product' END, i.line_id, r.refund_id, -i.qty,
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

CREATE OR REPLACE VIEW {schema}.product_sales AS
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
WHERE NOT o.test AND o.deleted_at IS NULL AND NOT i.gift_card AND NOT i.tip
GROUP BY o.shop, o.currency, i.product_id, i.variant_id, i.sku;
COMMENT ON VIEW {schema}.product_sales IS
    'What sells, returned and removed units taken off; gift cards and tips left out. Amounts are without tax.';

CREATE OR REPLACE VIEW {schema}.payments AS
SELECT t.shop, t.transaction_id, t.order_id, t.refund_id, t.parent_id, t.kind, t.gateway, x.currency,
       CASE WHEN t.kind IN ('refund', 'change') THEN -x.amount ELSE x.amount END AS amount,
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
WHERE t.status = 'success' AND t.kind IN ('sale', 'capture', 'refund', 'change') AND t.amount IS NOT NULL AND NOT t.test
    AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL));
COMMENT ON VIEW {schema}.payments IS
    'Money that moved, one row a successful sale, capture, refund or change; test and deleted orders left out. Authorizations, and what failed or is pending, move none. Change is what a customer who paid too much in cash got back at once.';
COMMENT ON COLUMN {schema}.payments.amount IS
    'In the shop''s currency, negative where it was paid back or given as change. What is only known in the customer''s currency is converted by the order''s total, which is known in both.';

CREATE OR REPLACE VIEW {schema}.daily_payments AS
SELECT shop, currency, local_date, gateway,
       count(*) FILTER (WHERE kind NOT IN ('refund', 'change')) AS payments,
       COALESCE(sum(amount) FILTER (WHERE kind <> 'refund'), 0) AS paid,
       count(*) FILTER (WHERE kind = 'refund') AS refunds,
       COALESCE(-sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded,
       sum(amount) AS net
FROM {schema}.payments
GROUP BY shop, currency, local_date, gateway;
COMMENT ON COLUMN {schema}.daily_payments.paid IS 'Sales and captures, less the change that was given back.';
