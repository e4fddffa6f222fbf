-- Tips that stand among the lines, gift cards that only the order knows as such, and change given back at a till.
-- A line of an order is a tip where it says so; `orderstream rebuild` fills that in for what was loaded before.

DROP VIEW IF EXISTS daily_payments;
DROP VIEW IF EXISTS payments;
DROP VIEW IF EXISTS product_sales;
DROP VIEW IF EXISTS order_sales;
DROP VIEW IF EXISTS daily_sales;
DROP VIEW IF EXISTS refund_reversals;

ALTER TABLE order_items
    -- A tip, which is no sale: its sale_ columns are zero, orders.sale_tips has it.
    ADD COLUMN tip INTEGER NOT NULL DEFAULT 0;

CREATE VIEW refund_reversals AS
-- What each refund reverses, with or without money, without tax. daily_sales.reversals counts lines - adjustments. A
-- refund need not say which of its lines are gift cards or tips, the order does; few orders have any.
SELECT shop, refund_id, order_id, currency, processed_at, local_date,
       round(lines - more_gift_cards - tips, 6) AS lines, adjustments, shipping, tax, duties,
       round(gift_cards + more_gift_cards, 6) AS gift_cards, round(tips, 6) AS tips
FROM (
    SELECT r.shop, r.refund_id, r.order_id, COALESCE(o.currency, r.currency) AS currency, r.processed_at, r.local_date,
           CAST(r.reversed_lines AS DOUBLE)
               - CASE WHEN o.taxes_included = 1 THEN CAST(r.reversed_lines_tax AS DOUBLE) ELSE 0 END AS lines,
           round(CAST(r.adjustments AS DOUBLE), 6) AS adjustments,
           round(CAST(r.reversed_shipping AS DOUBLE)
               - CASE WHEN o.taxes_included = 1 THEN CAST(r.reversed_shipping_tax AS DOUBLE) ELSE 0 END, 6) AS shipping,
           round(CAST(r.reversed_tax AS DOUBLE), 6) AS tax, round(CAST(r.reversed_duties AS DOUBLE), 6) AS duties,
           CAST(r.reversed_gift_cards AS DOUBLE) AS gift_cards,
           CASE WHEN CAST(o.sale_gift_cards AS DOUBLE) <> 0 THEN (
               SELECT COALESCE(sum(CAST(n.subtotal AS DOUBLE)
                          - CASE WHEN o.taxes_included = 1 THEN CAST(COALESCE(n.tax, '0') AS DOUBLE) ELSE 0 END), 0.0)
               FROM order_refund_items n
               WHERE n.shop = r.shop AND n.refund_id = r.refund_id AND n.gift_card = 0
                   AND EXISTS (SELECT 1 FROM order_items i WHERE i.shop = r.shop AND i.order_id = r.order_id
                                   AND i.line_id = n.line_id AND i.gift_card = 1))
           ELSE 0.0 END AS more_gift_cards,
           CASE WHEN CAST(o.sale_tips AS DOUBLE) <> 0 THEN (
               SELECT COALESCE(sum(CAST(n.subtotal AS DOUBLE)
                          - CASE WHEN o.taxes_included = 1 THEN CAST(COALESCE(n.tax, '0') AS DOUBLE) ELSE 0 END), 0.0)
               FROM order_refund_items n
               WHERE n.shop = r.shop AND n.refund_id = r.refund_id
                   AND EXISTS (SELECT 1 FROM order_items i WHERE i.shop = r.shop AND i.order_id = r.order_id
                                   AND i.line_id = n.line_id AND i.tip = 1))
           ELSE 0.0 END AS tips
    FROM order_refunds r LEFT JOIN orders o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE r.test = 0 AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
) AS refund;

CREATE VIEW daily_sales AS
-- Sales by shop, currency and the shop's own day, as Shopify's sales reports count them; currencies are never summed.
-- orders: of the day, cancelled ones included; test and deleted orders left out. gross: price times quantity of all lines
-- but gift cards, before discounts, without tax. discounts: of lines, without tax. reversals: lines returned, removed or
-- cancelled on this day, whenever they were ordered and whether or not money moved, without tax; order adjustments
-- included. net: gross - discounts - reversals. shipping: after discounts, without tax, less what was refunded on this
-- day. tax: on lines and shipping, less what was reversed. total: net + shipping + tax + duties + fees. tips and
-- gift_cards are no sales, and not in total.
-- It adds up orders, not lines: three times fewer rows. That it equals the sum of order_sales is tested.
SELECT shop, currency, local_date, CAST(sum(orders) AS BIGINT) AS orders,
       round(sum(gross), 6) AS gross, round(sum(discounts), 6) AS discounts, round(sum(reversals), 6) AS reversals,
       round(sum(gross) - sum(discounts) - sum(reversals), 6) AS net,
       round(sum(shipping), 6) AS shipping, round(sum(tax), 6) AS tax, round(sum(duties), 6) AS duties,
       round(sum(fees), 6) AS fees,
       round(sum(gross) - sum(discounts) - sum(reversals) + sum(shipping) + sum(tax) + sum(duties) + sum(fees), 6) AS total,
       round(sum(tips), 6) AS tips, round(sum(gift_cards), 6) AS gift_cards
FROM (
    SELECT shop, currency, local_date, 1 AS orders, CAST(sale_gross AS DOUBLE) AS gross,
           CAST(sale_discounts AS DOUBLE) AS discounts, 0.0 AS reversals, CAST(sale_shipping AS DOUBLE) AS shipping,
           CAST(sale_tax AS DOUBLE) AS tax, CAST(sale_duties AS DOUBLE) AS duties, CAST(sale_fees AS DOUBLE) AS fees,
           CAST(sale_tips AS DOUBLE) AS tips, CAST(sale_gift_cards AS DOUBLE) AS gift_cards
    FROM orders
    WHERE has_sale_rows = 0 AND test = 0 AND deleted_at IS NULL AND last_event_id IS NOT NULL
    UNION ALL
    SELECT shop, currency, local_date, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    FROM orders
    WHERE has_sale_rows = 1 AND test = 0 AND deleted_at IS NULL AND last_event_id IS NOT NULL
    UNION ALL
    SELECT r.shop, o.currency, r.local_date, 0,
           CASE WHEN r.line_type = 'product' THEN CAST(r.gross AS DOUBLE) ELSE 0.0 END,
           CASE WHEN r.line_type = 'product' THEN CAST(r.discount AS DOUBLE) ELSE 0.0 END,
           0.0,
           CASE WHEN r.line_type = 'shipping' THEN CAST(r.gross AS DOUBLE) ELSE 0.0 END,
           CAST(r.tax AS DOUBLE),
           CASE WHEN r.line_type = 'duty' THEN CAST(r.gross AS DOUBLE) ELSE 0.0 END,
           CASE WHEN r.line_type = 'fee' THEN CAST(r.gross AS DOUBLE) ELSE 0.0 END,
           CASE WHEN r.line_type = 'tip' THEN CAST(r.gross AS DOUBLE) ELSE 0.0 END,
           CASE WHEN r.line_type = 'gift_card' THEN CAST(r.gross AS DOUBLE) - CAST(r.discount AS DOUBLE) ELSE 0.0 END
    FROM order_sale_rows r JOIN orders o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE o.has_sale_rows = 1 AND o.test = 0 AND o.deleted_at IS NULL
    UNION ALL
    SELECT shop, currency, local_date, 0, 0.0, 0.0, lines - adjustments, -shipping, -tax, -duties, 0.0, -tips,
           -gift_cards
    FROM refund_reversals
) AS day
GROUP BY shop, currency, local_date;

CREATE VIEW order_sales AS
-- The ledger: one row a sale or reversal, as Shopify's sales agreements, in the shop's currency. Its sum by day is
-- daily_sales. reason: order, edit or refund. line_type: product, gift_card, shipping, tip, duty, fee or adjustment.
WITH counted AS (
    SELECT shop, order_id, COALESCE(processed_at, created_at, version_at) AS happened_at, local_date, currency,
           item_count, has_sale_rows, CAST(sale_gross AS DOUBLE) AS gross, CAST(sale_discounts AS DOUBLE) AS discounts,
           CAST(sale_tax AS DOUBLE) AS tax, CAST(sale_shipping AS DOUBLE) AS shipping,
           CAST(sale_shipping_tax AS DOUBLE) AS shipping_tax, CAST(sale_tips AS DOUBLE) AS tips,
           CAST(sale_duties AS DOUBLE) AS duties, CAST(sale_fees AS DOUBLE) AS fees
    FROM orders WHERE test = 0 AND deleted_at IS NULL AND last_event_id IS NOT NULL
), refund AS (
    SELECT r.shop, r.order_id, r.refund_id, r.processed_at, r.local_date, COALESCE(o.currency, r.currency) AS currency,
           COALESCE(o.taxes_included, 0) AS taxes_included, CAST(r.reversed_shipping AS DOUBLE) AS shipping,
           CAST(r.reversed_shipping_tax AS DOUBLE) AS shipping_tax, CAST(r.adjustments AS DOUBLE) AS adjustments,
           CAST(r.reversed_tax AS DOUBLE) - CAST(r.reversed_lines_tax AS DOUBLE) - CAST(r.reversed_shipping_tax AS DOUBLE)
               AS other_tax,
           CAST(r.reversed_duties AS DOUBLE) AS duties, CAST(o.sale_gift_cards AS DOUBLE) AS gift_cards,
           CAST(o.sale_tips AS DOUBLE) AS tips
    FROM order_refunds r LEFT JOIN orders o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE r.test = 0 AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
), sale AS (
    SELECT o.shop, o.order_id, 'line:' || COALESCE(i.line_id, CAST(i.line_no AS TEXT)) AS sale_key, o.happened_at,
           o.local_date, 'order' AS reason, 'order' AS action,
           CASE WHEN i.gift_card = 1 THEN 'gift_card' ELSE 'product' END AS line_type, i.line_id, NULL AS refund_id,
           i.qty AS quantity, CAST(i.sale_gross AS DOUBLE) AS gross, CAST(i.sale_discount AS DOUBLE) AS discount,
           CAST(i.sale_tax AS DOUBLE) AS tax, o.currency
    FROM counted o JOIN order_items i ON i.shop = o.shop AND i.order_id = o.order_id
    WHERE o.has_sale_rows = 0 AND i.tip = 0
    UNION ALL
    SELECT shop, order_id, 'shipping', happened_at, local_date, 'order', 'order', 'shipping', NULL, NULL, 0, shipping, 0.0,
           shipping_tax, currency
    FROM counted WHERE has_sale_rows = 0 AND (shipping <> 0 OR shipping_tax <> 0)
    UNION ALL
    SELECT shop, order_id, 'tip', happened_at, local_date, 'order', 'order', 'tip', NULL, NULL, 0, tips, 0.0, 0.0, currency
    FROM counted WHERE has_sale_rows = 0 AND tips <> 0
    UNION ALL
    SELECT shop, order_id, 'duty', happened_at, local_date, 'order', 'order', 'duty', NULL, NULL, 0, duties, 0.0, 0.0,
           currency
    FROM counted WHERE has_sale_rows = 0 AND duties <> 0
    UNION ALL
    SELECT shop, order_id, 'fee', happened_at, local_date, 'order', 'order', 'fee', NULL, NULL, 0, fees, 0.0, 0.0, currency
    FROM counted WHERE has_sale_rows = 0 AND fees <> 0
    UNION ALL
    -- Of an order that came without lines, its sums are all that is known.
    SELECT o.shop, o.order_id, 'order', o.happened_at, o.local_date, 'order', 'order', 'product', NULL, NULL, 0, o.gross,
           o.discounts, o.tax - o.shipping_tax, o.currency
    FROM counted o
    WHERE o.has_sale_rows = 0 AND o.item_count = 0
        AND NOT EXISTS (SELECT 1 FROM order_items i WHERE i.shop = o.shop AND i.order_id = o.order_id)
    UNION ALL
    SELECT r.shop, r.order_id, r.sale_key, r.happened_at, r.local_date, r.reason,
           CASE WHEN r.sale_key LIKE '%:changed:%' OR CAST(r.gross AS DOUBLE) < 0 THEN 'update' ELSE 'order' END, r.line_type, r.line_id, NULL, r.quantity,
           CAST(r.gross AS DOUBLE), CAST(r.discount AS DOUBLE), CAST(r.tax AS DOUBLE), o.currency
    FROM order_sale_rows r JOIN counted o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE o.has_sale_rows = 1
    UNION ALL
    SELECT r.shop, r.order_id, 'refund:' || r.refund_id || ':' || CAST(i.line_no AS TEXT), r.processed_at, r.local_date,
           'refund', 'return',
           CASE WHEN i.gift_card = 1 OR (r.gift_cards <> 0 AND EXISTS (
                    SELECT 1 FROM order_items l WHERE l.shop = r.shop AND l.order_id = r.order_id
                        AND l.line_id = i.line_id AND l.gift_card = 1)) THEN 'gift_card'
                WHEN r.tips <> 0 AND EXISTS (
                    SELECT 1 FROM order_items l WHERE l.shop = r.shop AND l.order_id = r.order_id
                        AND l.line_id = i.line_id AND l.tip = 1) THEN 'tip'
                ELSE 'product' END, i.line_id, r.refund_id,
           -i.qty,
           -(CAST(COALESCE(i.subtotal, '0') AS DOUBLE)
               - CASE WHEN r.taxes_included = 1 THEN CAST(COALESCE(i.tax, '0') AS DOUBLE) ELSE 0 END),
           0.0, -CAST(COALESCE(i.tax, '0') AS DOUBLE), r.currency
    FROM refund r JOIN order_refund_items i ON i.shop = r.shop AND i.refund_id = r.refund_id
    UNION ALL
    SELECT shop, order_id, 'refund:' || refund_id || ':shipping', processed_at, local_date, 'refund', 'return', 'shipping',
           NULL, refund_id, 0, -(shipping - CASE WHEN taxes_included = 1 THEN shipping_tax ELSE 0 END), 0.0, -shipping_tax,
           currency
    FROM refund WHERE shipping <> 0 OR shipping_tax <> 0
    UNION ALL
    SELECT shop, order_id, 'refund:' || refund_id || ':adjustment', processed_at, local_date, 'refund', 'return',
           'adjustment', NULL, refund_id, 0, adjustments, 0.0, -other_tax, currency
    FROM refund WHERE adjustments <> 0 OR other_tax <> 0
    UNION ALL
    SELECT shop, order_id, 'refund:' || refund_id || ':duty', processed_at, local_date, 'refund', 'return', 'duty', NULL,
           refund_id, 0, -duties, 0.0, 0.0, currency
    FROM refund WHERE duties <> 0
)
SELECT shop, order_id, sale_key, happened_at, local_date, reason, action, line_type, line_id, refund_id, quantity,
       round(gross, 6) AS gross, round(discount, 6) AS discount, round(tax, 6) AS tax,
       round(gross - discount + tax, 6) AS total, currency, 'derived' AS origin
FROM sale;

CREATE VIEW product_sales AS
-- What sells, returned and removed units taken off; gift cards and tips left out. Amounts are without tax.
WITH returned AS (
    SELECT f.shop, f.order_id, n.line_id, sum(n.qty) AS qty,
           sum(CAST(COALESCE(n.subtotal, '0') AS DOUBLE)
               - CASE WHEN o.taxes_included = 1 THEN CAST(COALESCE(n.tax, '0') AS DOUBLE) ELSE 0 END) AS net,
           sum(CAST(COALESCE(n.tax, '0') AS DOUBLE)) AS tax
    FROM order_refund_items n
    JOIN order_refunds f ON f.shop = n.shop AND f.refund_id = n.refund_id
    JOIN orders o ON o.shop = f.shop AND o.order_id = f.order_id
    GROUP BY f.shop, f.order_id, n.line_id
)
SELECT o.shop, o.currency, i.product_id, i.variant_id, i.sku, max(i.title) AS title,
       count(DISTINCT i.order_id) AS orders,
       CAST(sum(i.qty) - sum(COALESCE(r.qty, 0)) AS BIGINT) AS units,
       round(sum(CAST(i.sale_gross AS DOUBLE)), 6) AS gross,
       round(sum(CAST(i.sale_discount AS DOUBLE)), 6) AS discounts,
       round(sum(COALESCE(r.net, 0)), 6) AS reversals,
       round(sum(CAST(i.sale_gross AS DOUBLE)) - sum(CAST(i.sale_discount AS DOUBLE)) - sum(COALESCE(r.net, 0)), 6) AS net,
       round(sum(CAST(i.sale_tax AS DOUBLE)) - sum(COALESCE(r.tax, 0)), 6) AS tax,
       min(o.local_date) AS first_sold, max(o.local_date) AS last_sold
FROM order_items i
JOIN orders o ON o.shop = i.shop AND o.order_id = i.order_id
LEFT JOIN returned r ON r.shop = i.shop AND r.order_id = i.order_id AND r.line_id = i.line_id
WHERE o.test = 0 AND o.deleted_at IS NULL AND i.gift_card = 0 AND i.tip = 0
GROUP BY o.shop, o.currency, i.product_id, i.variant_id, i.sku;

CREATE VIEW payments AS
-- Money that moved, one row a successful sale, capture, refund or change; test and deleted orders left out.
-- Authorizations, and what failed or is pending, move none. Change is what a customer who paid too much in cash got back
-- at once. amount: in the shop's currency, negative where it was paid back or given as change; what is only known in the
-- customer's currency is converted by the order's total, which is known in both.
SELECT shop, transaction_id, order_id, refund_id, parent_id, kind, gateway,
       CASE WHEN is_converted = 1 OR currency IS NULL THEN shop_currency ELSE currency END AS currency,
       round(CASE WHEN kind IN ('refund', 'change') THEN 0.0 - shop_amount ELSE shop_amount END, 6) AS amount,
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
    WHERE t.status = 'success' AND t.kind IN ('sale', 'capture', 'refund', 'change') AND t.amount IS NOT NULL AND t.test = 0
        AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
) AS moved;

CREATE VIEW daily_payments AS
-- Money by shop, currency, the shop's own day and gateway: what came in (sales and captures, less change) and what went
-- back, on the day it moved. net: paid - refunded. daily_sales says what was sold.
SELECT shop, currency, local_date, gateway,
       CAST(sum(CASE WHEN kind IN ('refund', 'change') THEN 0 ELSE 1 END) AS BIGINT) AS payments,
       round(sum(CASE WHEN kind = 'refund' THEN 0.0 ELSE amount END), 6) AS paid,
       CAST(sum(CASE WHEN kind = 'refund' THEN 1 ELSE 0 END) AS BIGINT) AS refunds,
       round(sum(CASE WHEN kind = 'refund' THEN 0.0 - amount ELSE 0.0 END), 6) AS refunded,
       round(sum(amount), 6) AS net
FROM payments
GROUP BY shop, currency, local_date, gateway;
