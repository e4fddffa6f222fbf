-- Sales as Shopify's own books have them (order_sales.origin = 'exact'), of orders that were imported or reconciled: they
-- take the place of what is derived from lines and refunds, up to the state that they came with. Refunds that they hold
-- are marked, so that the views do not count these twice.

DROP VIEW IF EXISTS order_sales;
DROP VIEW IF EXISTS daily_sales;
DROP VIEW IF EXISTS refund_reversals;

ALTER TABLE order_sale_rows ADD COLUMN action TEXT;
ALTER TABLE order_sale_rows ADD COLUMN refund_id TEXT;
ALTER TABLE order_sale_rows ADD COLUMN origin TEXT NOT NULL DEFAULT 'derived';
ALTER TABLE order_refunds ADD COLUMN has_exact_sales INTEGER NOT NULL DEFAULT 0;

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
    WHERE r.test = 0 AND r.has_exact_sales = 0 AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
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
           CASE WHEN r.line_type = 'product' AND r.action IS NOT 'return' THEN CAST(r.gross AS DOUBLE) ELSE 0.0 END,
           CASE WHEN r.line_type = 'product' AND r.action IS NOT 'return' THEN CAST(r.discount AS DOUBLE) ELSE 0.0 END,
           CASE WHEN (r.line_type = 'product' AND r.action = 'return') OR r.line_type = 'adjustment'
                THEN CAST(r.discount AS DOUBLE) - CAST(r.gross AS DOUBLE) ELSE 0.0 END,
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
-- daily_sales. reason: order, edit, refund or return. line_type: product, gift_card, shipping, tip, duty, fee or adjustment.
-- origin: exact, from Shopify's books, or derived, worked out from events.
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
    WHERE r.test = 0 AND r.has_exact_sales = 0 AND (o.order_id IS NULL OR (o.test = 0 AND o.deleted_at IS NULL))
), sale AS (
    SELECT o.shop, o.order_id, 'line:' || COALESCE(i.line_id, CAST(i.line_no AS TEXT)) AS sale_key, o.happened_at,
           o.local_date, 'order' AS reason, 'order' AS action,
           CASE WHEN i.gift_card = 1 THEN 'gift_card' ELSE 'product' END AS line_type, i.line_id, NULL AS refund_id,
           i.qty AS quantity, CAST(i.sale_gross AS DOUBLE) AS gross, CAST(i.sale_discount AS DOUBLE) AS discount,
           CAST(i.sale_tax AS DOUBLE) AS tax, o.currency, 'derived' AS origin
    FROM counted o JOIN order_items i ON i.shop = o.shop AND i.order_id = o.order_id
    WHERE o.has_sale_rows = 0 AND i.tip = 0
    UNION ALL
    SELECT shop, order_id, 'shipping', happened_at, local_date, 'order', 'order', 'shipping', NULL, NULL, 0, shipping, 0.0,
           shipping_tax, currency, 'derived'
    FROM counted WHERE has_sale_rows = 0 AND (shipping <> 0 OR shipping_tax <> 0)
    UNION ALL
    SELECT shop, order_id, 'tip', happened_at, local_date, 'order', 'order', 'tip', NULL, NULL, 0, tips, 0.0, 0.0, currency,
           'derived'
    FROM counted WHERE has_sale_rows = 0 AND tips <> 0
    UNION ALL
    SELECT shop, order_id, 'duty', happened_at, local_date, 'order', 'order', 'duty', NULL, NULL, 0, duties, 0.0, 0.0,
           currency, 'derived'
    FROM counted WHERE has_sale_rows = 0 AND duties <> 0
    UNION ALL
    SELECT shop, order_id, 'fee', happened_at, local_date, 'order', 'order', 'fee', NULL, NULL, 0, fees, 0.0, 0.0, currency,
           'derived'
    FROM counted WHERE has_sale_rows = 0 AND fees <> 0
    UNION ALL
    -- Of an order that came without lines, its sums are all that is known.
    SELECT o.shop, o.order_id, 'order', o.happened_at, o.local_date, 'order', 'order', 'product', NULL, NULL, 0, o.gross,
           o.discounts, o.tax - o.shipping_tax, o.currency, 'derived'
    FROM counted o
    WHERE o.has_sale_rows = 0 AND o.item_count = 0
        AND NOT EXISTS (SELECT 1 FROM order_items i WHERE i.shop = o.shop AND i.order_id = o.order_id)
    UNION ALL
    SELECT r.shop, r.order_id, r.sale_key, r.happened_at, r.local_date, r.reason,
           COALESCE(r.action, CASE WHEN r.sale_key LIKE '%:changed:%' OR CAST(r.gross AS DOUBLE) < 0
                                   THEN 'update' ELSE 'order' END), r.line_type, r.line_id, r.refund_id, r.quantity,
           CAST(r.gross AS DOUBLE), CAST(r.discount AS DOUBLE), CAST(r.tax AS DOUBLE), o.currency, r.origin
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
           0.0, -CAST(COALESCE(i.tax, '0') AS DOUBLE), r.currency, 'derived'
    FROM refund r JOIN order_refund_items i ON i.shop = r.shop AND i.refund_id = r.refund_id
    UNION ALL
    SELECT shop, order_id, 'refund:' || refund_id || ':shipping', processed_at, local_date, 'refund', 'return', 'shipping',
           NULL, refund_id, 0, -(shipping - CASE WHEN taxes_included = 1 THEN shipping_tax ELSE 0 END), 0.0, -shipping_tax,
           currency, 'derived'
    FROM refund WHERE shipping <> 0 OR shipping_tax <> 0
    UNION ALL
    SELECT shop, order_id, 'refund:' || refund_id || ':adjustment', processed_at, local_date, 'refund', 'return',
           'adjustment', NULL, refund_id, 0, adjustments, 0.0, -other_tax, currency, 'derived'
    FROM refund WHERE adjustments <> 0 OR other_tax <> 0
    UNION ALL
    SELECT shop, order_id, 'refund:' || refund_id || ':duty', processed_at, local_date, 'refund', 'return', 'duty', NULL,
           refund_id, 0, -duties, 0.0, 0.0, currency, 'derived'
    FROM refund WHERE duties <> 0
)
SELECT shop, order_id, sale_key, happened_at, local_date, reason, action, line_type, line_id, refund_id, quantity,
       round(gross, 6) AS gross, round(discount, 6) AS discount, round(tax, 6) AS tax,
       round(gross - discount + tax, 6) AS total, currency, origin
FROM sale;
