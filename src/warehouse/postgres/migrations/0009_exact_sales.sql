-- Sales as Shopify's own books have them (order_sales.origin = 'exact'), of orders that were imported or reconciled: they
-- take the place of what is derived from lines and refunds, up to the state that they came with. Refunds that they hold
-- are marked, so that the views do not count these twice.

ALTER TABLE {schema}.order_sale_rows
    ADD COLUMN action    text,
    ADD COLUMN refund_id text,
    ADD COLUMN origin    text NOT NULL DEFAULT 'derived';
COMMENT ON COLUMN {schema}.order_sale_rows.origin IS 'exact: from Shopify''s books; derived: worked out from events.';
ALTER TABLE {schema}.order_refunds ADD COLUMN has_exact_sales boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN {schema}.order_refunds.has_exact_sales IS
    'order_sale_rows has what it reverses, from Shopify''s books; the reversed_ columns are then not counted.';

CREATE OR REPLACE VIEW {schema}.refund_reversals AS
SELECT r.shop, r.refund_id, r.order_id, COALESCE(o.currency, r.currency) AS currency, r.processed_at, r.local_date,
       r.reversed_lines - CASE WHEN o.taxes_included THEN r.reversed_lines_tax ELSE 0 END AS lines,
       r.adjustments,
       r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END AS shipping,
       r.reversed_tax AS tax, r.reversed_duties AS duties, r.reversed_gift_cards AS gift_cards, 0::numeric AS tips
FROM {schema}.order_refunds r
LEFT JOIN {schema}.orders o USING (shop, order_id)
WHERE NOT r.test AND NOT r.has_exact_sales AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL))
    AND (o.sale_gift_cards <> 0 OR o.sale_tips <> 0) IS NOT TRUE
UNION ALL
SELECT r.shop, r.refund_id, r.order_id, COALESCE(o.currency, r.currency), r.processed_at, r.local_date,
       r.reversed_lines - CASE WHEN o.taxes_included THEN r.reversed_lines_tax ELSE 0 END - x.gift_cards - x.tips,
       r.adjustments,
       r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END,
       r.reversed_tax, r.reversed_duties, r.reversed_gift_cards + x.gift_cards, x.tips
FROM {schema}.order_refunds r
JOIN {schema}.orders o USING (shop, order_id)
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(y.net) FILTER (WHERE o.sale_gift_cards <> 0 AND l.gift_card AND NOT n.gift_card), 0) AS gift_cards,
           COALESCE(sum(y.net) FILTER (WHERE o.sale_tips <> 0 AND l.tip), 0) AS tips
    FROM {schema}.order_refund_items n
    CROSS JOIN LATERAL (
        SELECT n.subtotal - CASE WHEN o.taxes_included THEN COALESCE(n.tax, 0) ELSE 0 END AS net
    ) y
    -- One row, also where several lines of the order have this id.
    CROSS JOIN LATERAL (
        SELECT bool_or(i.gift_card) AS gift_card, bool_or(i.tip) AS tip
        FROM {schema}.order_items i
        WHERE i.shop = r.shop AND i.order_id = r.order_id AND i.line_id = n.line_id
    ) l
    WHERE n.shop = r.shop AND n.refund_id = r.refund_id
) x
WHERE NOT r.test AND NOT r.has_exact_sales AND NOT o.test AND o.deleted_at IS NULL AND (o.sale_gift_cards <> 0 OR o.sale_tips <> 0);

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
           COALESCE(sum(sale_tax) FILTER (WHERE NOT has_sale_rows), 0) AS tax, 0::numeric AS duties, 0::numeric AS fees,
           0::numeric AS tips, 0::numeric AS gift_cards
    FROM {schema}.orders
    WHERE NOT test AND deleted_at IS NULL AND last_event_id IS NOT NULL
    GROUP BY shop, currency, local_date
    UNION ALL
    SELECT shop, currency, local_date, 0, 0, 0, 0, 0, 0, sum(sale_duties), sum(sale_fees), sum(sale_tips),
           sum(sale_gift_cards)
    FROM {schema}.orders
    WHERE (sale_duties <> 0 OR sale_fees <> 0 OR sale_tips <> 0 OR sale_gift_cards <> 0)
        AND NOT has_sale_rows AND NOT test AND deleted_at IS NULL AND last_event_id IS NOT NULL
    GROUP BY shop, currency, local_date
    UNION ALL
    SELECT r.shop, o.currency, r.local_date, 0,
           COALESCE(sum(r.gross) FILTER (WHERE r.line_type = 'product' AND r.action IS DISTINCT FROM 'return'), 0),
           COALESCE(sum(r.discount) FILTER (WHERE r.line_type = 'product' AND r.action IS DISTINCT FROM 'return'), 0),
           COALESCE(sum(r.discount - r.gross) FILTER (
               WHERE (r.line_type = 'product' AND r.action = 'return') OR r.line_type = 'adjustment'), 0),
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

CREATE OR REPLACE VIEW {schema}.order_sales AS
SELECT s.shop, s.order_id, s.sale_key, s.happened_at, s.local_date, s.reason, s.action, s.line_type, s.line_id,
       s.refund_id, s.quantity, s.gross, s.discount, s.tax, s.gross - s.discount + s.tax AS total, s.currency,
       s.origin
FROM (
    SELECT o.shop, o.order_id, 'line:' || COALESCE(i.line_id, i.line_no::text) AS sale_key,
           COALESCE(o.processed_at, o.created_at, o.version_at) AS happened_at, o.local_date, 'order' AS reason,
           'order' AS action, CASE WHEN i.gift_card THEN 'gift_card' ELSE 'product' END AS line_type, i.line_id,
           NULL::text AS refund_id, i.qty AS quantity, i.sale_gross AS gross, i.sale_discount AS discount,
           i.sale_tax AS tax, o.currency, 'derived' AS origin
    FROM {schema}.orders o JOIN {schema}.order_items i USING (shop, order_id)
    WHERE NOT o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL AND NOT i.tip
    UNION ALL
    -- What is known of the order as a whole; of an order that came without lines, that is all.
    SELECT o.shop, o.order_id, x.line_type, COALESCE(o.processed_at, o.created_at, o.version_at), o.local_date, 'order',
           'order', x.line_type, NULL, NULL, 0, x.gross, x.discount, x.tax, o.currency,
           'derived'
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
           'order', 'product', NULL, NULL, 0, o.sale_gross, o.sale_discounts, o.sale_tax - o.sale_shipping_tax, o.currency,
           'derived'
    FROM {schema}.orders o
    WHERE NOT o.has_sale_rows AND NOT o.test AND o.deleted_at IS NULL AND o.item_count = 0
        AND NOT EXISTS (SELECT FROM {schema}.order_items i WHERE i.shop = o.shop AND i.order_id = o.order_id)
    UNION ALL
    SELECT r.shop, r.order_id, r.sale_key, r.happened_at, r.local_date, r.reason,
           COALESCE(r.action, CASE WHEN r.sale_key LIKE '%:changed:%' OR r.gross < 0 THEN 'update' ELSE 'order' END),
           r.line_type, r.line_id, r.refund_id, r.quantity, r.gross, r.discount, r.tax, o.currency, r.origin
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
           -COALESCE(i.tax, 0), COALESCE(o.currency, r.currency), 'derived'
    FROM {schema}.order_refunds r
    JOIN {schema}.order_refund_items i USING (shop, refund_id)
    LEFT JOIN {schema}.orders o ON o.shop = r.shop AND o.order_id = r.order_id
    WHERE NOT r.test AND NOT r.has_exact_sales AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL))
    UNION ALL
    SELECT r.shop, r.order_id, 'refund:' || r.refund_id || ':' || x.line_type, r.processed_at, r.local_date, 'refund',
           'return', x.line_type, NULL, r.refund_id, 0, x.gross, 0, x.tax, COALESCE(o.currency, r.currency),
           'derived'
    FROM {schema}.order_refunds r
    LEFT JOIN {schema}.orders o ON o.shop = r.shop AND o.order_id = r.order_id
    CROSS JOIN LATERAL (VALUES
        ('shipping', -(r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END),
                     -r.reversed_shipping_tax),
        ('adjustment', r.adjustments, -(r.reversed_tax - r.reversed_lines_tax - r.reversed_shipping_tax)),
        ('duty', -r.reversed_duties, 0)
    ) AS x (line_type, gross, tax)
    WHERE NOT r.test AND NOT r.has_exact_sales AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL)) AND (x.gross <> 0 OR x.tax <> 0)
) AS s;
COMMENT ON COLUMN {schema}.order_sales.reason IS 'order, edit, refund or return.';
COMMENT ON COLUMN {schema}.order_sales.origin IS 'exact: from Shopify''s books; derived: worked out from events.';
