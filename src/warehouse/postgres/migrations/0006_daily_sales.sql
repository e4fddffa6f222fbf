-- Payloads and details are compressed by lz4, which takes about a fifth of the time of pglz: not where the server was
-- built without it, nor where its operator chose what to use.
-- First in this step: a load locks order_events before orders, and another order here would deadlock with it.
-- ANALYZE leaves these columns out: no query of ours has use of their statistics, and for them it would decompress and
-- sort up to 30,000 payloads each time.
ALTER TABLE {schema}.order_events ALTER COLUMN payload SET STATISTICS 0, ALTER COLUMN raw SET STATISTICS 0;
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_settings
        WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals)
    ) THEN
        ALTER TABLE {schema}.order_events ALTER COLUMN payload SET COMPRESSION lz4;
        ALTER TABLE {schema}.orders ALTER COLUMN details SET COMPRESSION lz4;
    END IF;
END
$$;
ALTER TABLE {schema}.orders ALTER COLUMN details SET STATISTICS 0;

-- daily_sales adds up duties, fees, tips and gift cards of the few orders that have any, found by an index of their own:
-- with four sums a group instead of eight, the planner hashes the days within the default work_mem and sorts no orders.
-- Figures and columns are those of version 5.

CREATE INDEX orders_with_extras ON {schema}.orders (shop, local_date)
    WHERE sale_duties <> 0 OR sale_fees <> 0 OR sale_tips <> 0 OR sale_gift_cards <> 0;

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
