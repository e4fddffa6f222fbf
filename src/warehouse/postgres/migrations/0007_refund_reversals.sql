-- refund_reversals looks into the lines of a refund only where the order has gift cards or tips, in an arm of its own that
-- the planner expects to have few rows. As expressions of every refund, those look-ups were estimated to cost ten times
-- what daily_sales does without them, for which PostgreSQL compiled each query with all optimizations (jit_above_cost).
-- Figures and columns are those of version 5.

CREATE OR REPLACE VIEW {schema}.refund_reversals AS
SELECT r.shop, r.refund_id, r.order_id, COALESCE(o.currency, r.currency) AS currency, r.processed_at, r.local_date,
       r.reversed_lines - CASE WHEN o.taxes_included THEN r.reversed_lines_tax ELSE 0 END AS lines,
       r.adjustments,
       r.reversed_shipping - CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END AS shipping,
       r.reversed_tax AS tax, r.reversed_duties AS duties, r.reversed_gift_cards AS gift_cards, 0::numeric AS tips
FROM {schema}.order_refunds r
LEFT JOIN {schema}.orders o USING (shop, order_id)
WHERE NOT r.test AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL))
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
WHERE NOT r.test AND NOT o.test AND o.deleted_at IS NULL AND (o.sale_gift_cards <> 0 OR o.sale_tips <> 0);
