-- daily_sales adds up each of its parts by day first: the planner then knows how many days there are, sorts nothing and
-- may use several processes. Figures and columns are those of version 2.

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
    SELECT shop, currency, local_date, 0, 0, 0, sum(lines - adjustments), -sum(shipping), -sum(tax), -sum(duties), 0, 0,
           -sum(gift_cards)
    FROM {schema}.refund_reversals
    GROUP BY shop, currency, local_date
) AS day
GROUP BY shop, currency, local_date;

-- Views named and shaped as the tables of Fivetran's Shopify connector (its REST schema), so that the public dbt package
-- `fivetran/shopify` reads them: docs/DBT.md. Ids are numbers there; what has another id, of another producer, is left
-- out. Times are without a zone, in UTC. Test and deleted orders are marked, and left out by the package.

CREATE VIEW {schema}.shopify_order AS
SELECT o.order_id::numeric AS id, o.shop, o.name, o.order_number, o.order_number AS number,
       CASE WHEN o.customer_id ~ '^[0-9]+$' THEN o.customer_id::numeric END AS customer_id,
       CASE WHEN o.app_id ~ '^[0-9]+$' THEN o.app_id::numeric END AS app_id,
       CASE WHEN o.location_id ~ '^[0-9]+$' THEN o.location_id::numeric END AS location_id,
       COALESCE(o.created_at, o.processed_at, o.version_at) AT TIME ZONE 'UTC' AS created_at,
       COALESCE(o.processed_at, o.created_at, o.version_at) AT TIME ZONE 'UTC' AS processed_at,
       COALESCE(o.updated_at, o.version_at) AT TIME ZONE 'UTC' AS updated_at,
       o.cancelled_at AT TIME ZONE 'UTC' AS cancelled_at, o.closed_at AT TIME ZONE 'UTC' AS closed_at, o.cancel_reason,
       o.currency, o.presentment_currency, o.total_amount::double precision AS total_price,
       o.subtotal::double precision AS subtotal_price, o.total_discounts::double precision AS total_discounts,
       o.total_tax::double precision AS total_tax, o.sale_tips::double precision AS total_tip_received,
       (SELECT sum(i.price * i.qty) FROM {schema}.order_items i WHERE (i.shop, i.order_id) = (o.shop, o.order_id))
           ::double precision AS total_line_items_price,
       x.total_price_set::text, x.total_discounts_set::text, x.total_tax_set::text, x.total_shipping_price_set::text,
       COALESCE(o.taxes_included, false) AS taxes_included, o.financial_status, o.fulfillment_status, o.source_name,
       (o.details->>'weight')::numeric AS total_weight, o.details->>'locale' AS customer_locale,
       o.billing_country AS billing_address_country_code, o.shipping_country AS shipping_address_country_code, o.test,
       o.deleted_at IS NOT NULL AS _fivetran_deleted, o.version_at AT TIME ZONE 'UTC' AS _fivetran_synced
FROM {schema}.orders o
CROSS JOIN LATERAL (
    SELECT json_build_object('shop_money', json_build_object('amount', o.total_amount, 'currency_code', o.currency),
               'presentment_money', json_build_object('amount', o.presentment_total_amount,
                   'currency_code', o.presentment_currency)) AS total_price_set,
           json_build_object('shop_money', json_build_object('amount', o.total_discounts, 'currency_code', o.currency))
               AS total_discounts_set,
           json_build_object('shop_money', json_build_object('amount', o.total_tax, 'currency_code', o.currency))
               AS total_tax_set,
           json_build_object('shop_money', json_build_object('amount', o.total_shipping, 'currency_code', o.currency))
               AS total_shipping_price_set
) x
WHERE o.order_id ~ '^[0-9]+$' AND o.last_event_id IS NOT NULL;

CREATE VIEW {schema}.shopify_order_line AS
SELECT CASE WHEN i.line_id ~ '^[0-9]+$' THEN i.line_id::numeric ELSE -(i.order_id::numeric * 10000 + i.line_no) END AS id,
       i.order_id::numeric AS order_id, i.shop, i.line_no AS index, i.title AS name, i.title, i.variant_title, i.sku,
       CASE WHEN i.product_id ~ '^[0-9]+$' THEN i.product_id::numeric END AS product_id,
       CASE WHEN i.variant_id ~ '^[0-9]+$' THEN i.variant_id::numeric END AS variant_id, i.qty::numeric AS quantity,
       i.fulfillable_qty::numeric AS fulfillable_quantity, i.price::double precision AS price,
       COALESCE(i.discount, 0)::double precision AS total_discount,
       (i.sale_gross - i.sale_discount)::double precision AS pre_tax_price, i.gift_card, i.taxable,
       i.requires_shipping, i.vendor, i.properties::text AS properties, o.version_at AT TIME ZONE 'UTC' AS _fivetran_synced
FROM {schema}.order_items i
JOIN {schema}.orders o USING (shop, order_id)
WHERE i.order_id ~ '^[0-9]+$' AND NOT o.test AND o.deleted_at IS NULL;

CREATE VIEW {schema}.shopify_discount_allocation AS
SELECT l.id AS order_line_id, 1 AS index, 0 AS discount_application_index, l.total_discount AS amount,
       l.total_discount AS amount_set_shop_money_amount, l._fivetran_synced
FROM {schema}.shopify_order_line l
WHERE l.total_discount <> 0;
COMMENT ON VIEW {schema}.shopify_discount_allocation IS 'All discounts of a line as one; the application is not told.';

CREATE VIEW {schema}.shopify_tax_line AS
SELECT t.line_id::numeric AS order_line_id, t.no AS index, t.title, t.rate::double precision AS rate,
       t.amount::double precision AS price, NULL::timestamp AS _fivetran_synced
FROM {schema}.order_tax_lines t
WHERE t.line_id ~ '^[0-9]+$' AND t.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_order_shipping_line AS
SELECT COALESCE(CASE WHEN s.line_id ~ '^[0-9]+$' THEN s.line_id::numeric END, -(s.order_id::numeric * 10000 + s.no)) AS id,
       s.order_id::numeric AS order_id, s.title, s.code, s.source, s.price::double precision AS price,
       s.discounted_price::double precision AS discounted_price, NULL::timestamp AS _fivetran_synced
FROM {schema}.order_shipping_lines s
WHERE s.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_order_shipping_tax_line AS
SELECT t.shipping_line_id::numeric AS order_shipping_line_id, t.no AS index, t.title, t.rate::double precision AS rate,
       t.amount::double precision AS price, NULL::timestamp AS _fivetran_synced
FROM {schema}.order_tax_lines t
WHERE t.shipping_line_id ~ '^[0-9]+$' AND t.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_refund AS
SELECT r.refund_id::numeric AS id, r.order_id::numeric AS order_id, r.shop,
       r.processed_at AT TIME ZONE 'UTC' AS created_at, r.processed_at AT TIME ZONE 'UTC' AS processed_at,
       r.version_at AT TIME ZONE 'UTC' AS _fivetran_synced
FROM {schema}.order_refunds r
LEFT JOIN {schema}.orders o USING (shop, order_id)
WHERE r.refund_id ~ '^[0-9]+$' AND r.order_id ~ '^[0-9]+$' AND NOT r.test
    AND (o.order_id IS NULL OR (NOT o.test AND o.deleted_at IS NULL));

CREATE VIEW {schema}.shopify_order_line_refund AS
SELECT f.id * 1000 + i.line_no AS id, f.id AS refund_id, f.shop,
       CASE WHEN i.line_id ~ '^[0-9]+$' THEN i.line_id::numeric END AS order_line_id,
       i.qty::double precision AS quantity, i.subtotal, i.tax AS total_tax, i.restock_type,
       CASE WHEN i.location_id ~ '^[0-9]+$' THEN i.location_id::numeric END AS location_id, f._fivetran_synced
FROM {schema}.order_refund_items i
JOIN {schema}.shopify_refund f ON f.shop = i.shop AND f.id = i.refund_id::numeric
WHERE i.refund_id ~ '^[0-9]+$';
COMMENT ON VIEW {schema}.shopify_order_line_refund IS
    'id is made up of the refund''s and the place in it: no webhook that this reads keeps Shopify''s own.';

CREATE VIEW {schema}.shopify_order_adjustment AS
SELECT r.refund_id::numeric * 10 + x.place AS id, r.order_id::numeric AS order_id, r.refund_id::numeric AS refund_id, r.shop,
       x.amount::double precision AS amount, x.tax_amount::double precision AS tax_amount, x.kind, x.reason,
       r.version_at AT TIME ZONE 'UTC' AS _fivetran_synced
FROM {schema}.order_refunds r
JOIN {schema}.shopify_refund f ON f.shop = r.shop AND f.id = r.refund_id::numeric
LEFT JOIN {schema}.orders o ON o.shop = r.shop AND o.order_id = r.order_id
CROSS JOIN LATERAL (
    VALUES (1, r.adjustments, r.reversed_lines_tax + r.reversed_shipping_tax - r.reversed_tax, 'refund_discrepancy',
            'Refund discrepancy'),
           (2, -r.reversed_shipping + CASE WHEN o.taxes_included THEN r.reversed_shipping_tax ELSE 0 END,
            -r.reversed_shipping_tax, 'shipping_refund', 'Shipping refund')
) AS x (place, amount, tax_amount, kind, reason)
WHERE r.refund_id ~ '^[0-9]+$' AND (x.amount <> 0 OR x.tax_amount <> 0);

CREATE VIEW {schema}.shopify_transaction AS
SELECT t.transaction_id::numeric AS id, t.order_id::numeric AS order_id, t.shop,
       CASE WHEN t.refund_id ~ '^[0-9]+$' THEN t.refund_id::numeric END AS refund_id,
       CASE WHEN t.parent_id ~ '^[0-9]+$' THEN t.parent_id::numeric END AS parent_id, t.amount, t.currency, t.kind, t.status,
       t.gateway, t.processed_at AT TIME ZONE 'UTC' AS created_at, t.processed_at AT TIME ZONE 'UTC' AS processed_at, t.test,
       t.version_at AT TIME ZONE 'UTC' AS _fivetran_synced
FROM {schema}.order_transactions t
WHERE t.transaction_id ~ '^[0-9]+$' AND t.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_order_discount_code AS
SELECT d.order_id::numeric AS order_id, d.no AS index, d.code, d.amount::double precision AS amount,
       CASE WHEN d.target_type = 'shipping_line' THEN 'shipping'
            WHEN d.value_type = 'percentage' THEN 'percentage' ELSE 'fixed_amount' END AS type,
       NULL::timestamp AS _fivetran_synced
FROM {schema}.order_discounts d
WHERE d.code IS NOT NULL AND d.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_discount_application AS
SELECT d.order_id::numeric AS order_id, d.no AS index, d.type, d.code, d.title, d.title AS description, d.target_type,
       d.target_selection, d.allocation_method, d.value::double precision AS value, d.value_type,
       NULL::timestamp AS _fivetran_synced
FROM {schema}.order_discounts d
WHERE d.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_order_tag AS
SELECT t.order_id::numeric AS order_id, t.no AS index, t.tag AS value, NULL::timestamp AS _fivetran_synced
FROM {schema}.order_tags t
WHERE t.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_order_url_tag AS
SELECT o.order_id::numeric AS order_id, u.key, u.value, o.version_at AT TIME ZONE 'UTC' AS _fivetran_synced
FROM {schema}.orders o
CROSS JOIN LATERAL jsonb_each_text(CASE jsonb_typeof(o.details->'utm') WHEN 'object' THEN o.details->'utm' END) AS u
WHERE o.order_id ~ '^[0-9]+$' AND NOT o.test AND o.deleted_at IS NULL;

CREATE VIEW {schema}.shopify_fulfillment AS
SELECT f.fulfillment_id::numeric AS id, f.order_id::numeric AS order_id,
       CASE WHEN f.location_id ~ '^[0-9]+$' THEN f.location_id::numeric END AS location_id, f.status, f.shipment_status,
       f.service, f.carrier AS tracking_company, f.created_at AT TIME ZONE 'UTC' AS created_at,
       f.updated_at AT TIME ZONE 'UTC' AS updated_at, NULL::timestamp AS _fivetran_synced
FROM {schema}.order_fulfillments f
WHERE f.fulfillment_id ~ '^[0-9]+$' AND f.order_id ~ '^[0-9]+$';

CREATE VIEW {schema}.shopify_customer AS
SELECT o.customer_id AS id, o.shop, min(o.created_at) AS created_at, max(o.updated_at) AS updated_at,
       count(*)::numeric AS orders_count, sum(o.total_price) AS total_spent, max(o.currency) AS currency,
       max(o._fivetran_synced) AS _fivetran_synced
FROM {schema}.shopify_order o
WHERE o.customer_id IS NOT NULL AND NOT o.test AND NOT o._fivetran_deleted
GROUP BY o.shop, o.customer_id;
COMMENT ON VIEW {schema}.shopify_customer IS 'Customers by their id; nothing personal is kept.';

CREATE VIEW {schema}.shopify_shop AS
SELECT row_number() OVER (ORDER BY o.shop)::numeric AS id, o.shop AS name, o.shop AS domain, o.shop AS myshopify_domain,
       max(o.currency) AS currency, min(o.created_at) AS created_at, max(o.updated_at) AS updated_at,
       false AS _fivetran_deleted, max(o._fivetran_synced) AS _fivetran_synced
FROM {schema}.shopify_order o
GROUP BY o.shop;
