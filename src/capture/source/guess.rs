//! A first mapping, guessed from the catalog: foreign keys and names of columns. What cannot be known
//! from these is a TODO with the likeliest answer.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::lines::{Columns, Lines};
use super::session::{SourceSession, array};
use crate::capture::plan::{TableName, quoted};
use crate::postgres::SourceError;

/// Names of order tables, the likeliest first.
const ORDER_TABLES: &str = "orders order spree_orders order_order sales_order sales_orders sale_order shop_orders wc_orders \
                            wp_wc_orders purchase_orders customer_orders";
/// Fields of an event, and names of columns that hold them, the likeliest first; `_` and capitals do not matter.
pub(super) const COLUMNS: [(&str, &str); 13] = [
    (
        "customer_id",
        "customer_id user_id buyer_id account_id client_id partner_id",
    ),
    (
        "name",
        "name number order_number display_id code reference increment_id",
    ),
    (
        "total_amount",
        "total_amount total total_gross_amount grand_total total_price total_incl_tax amount_total amount total_with_tax",
    ),
    ("currency", "currency currency_code order_currency order_currency_code"),
    (
        "created_at",
        "created_at created date_created date_created_gmt inserted_at order_placed_at placed_at date_placed date_order",
    ),
    ("processed_at", "processed_at completed_at paid_at"),
    ("cancelled_at", "cancelled_at canceled_at"),
    ("financial_status", "financial_status payment_status payment_state"),
    ("fulfillment_status", "fulfillment_status shipment_state"),
    ("total_discounts", "total_discounts discount_total discount_amount"),
    (
        "total_shipping",
        "total_shipping shipping_total shipping_price_gross_amount shipping_incl_tax shipping_amount shipment_total shipping",
    ),
    (
        "total_tax",
        "total_tax tax_total tax_amount amount_tax additional_tax_total",
    ),
    (
        "taxes_included",
        "taxes_included tax_included prices_include_tax price_includes_tax",
    ),
];
/// What stands where no column was found.
const MISSING: [(&str, &str); 3] = [
    (
        "total_amount",
        "0 AS total_amount /* TODO: no column looks like a total */",
    ),
    (
        "currency",
        "'EUR' AS currency /* TODO: no column looks like a currency */",
    ),
    (
        "taxes_included",
        "false AS taxes_included /* TODO: true where prices of lines are gross */",
    ),
];

/// Columns by which carts, drafts and deleted rows are told from orders, and the condition.
const NO_ORDER: [(&str, &str); 5] = [
    (
        "completed_at order_placed_at placed_at date_placed submitted_at",
        "IS NULL",
    ),
    ("is_draft is_draft_order draft", "IS TRUE"),
    ("status state", "IN ('cart', 'checkout', 'draft')"),
    ("type order_type", "<> 'order'"),
    ("deleted_at", "IS NOT NULL"),
];

/// The text of a mapping.
pub(in crate::capture) async fn guess(session: &SourceSession, table: Option<&str>) -> Result<String, SourceError> {
    let table = order_table(session, table).await?;
    let columns = Columns::of(session, &table).await?;
    let key = primary_key(session, &table).await?;
    let children = children(session, &table).await?;
    let lines = Lines::find(session, &children).await?;
    let mut file = format!(
        "# Made by `orderstream capture init`: guesses from foreign keys and names of columns. Look at each line, then run\n\
         # `orderstream capture try`, which prints events and stores nothing.\n\
         source = \"{}\"            # slot and publication are named after it: unique on the server\n\
         timezone = \"UTC\"            # the shop's, such as Europe/Berlin\n\n[orders]\n",
        source_name(session).await?
    );
    let _ = write!(
        file,
        "table = \"{table}\"\nkey = \"{key}\"\nquery = '''\nSELECT o.{0} AS key,\n       o.{0} AS order_id",
        quoted(&key)
    );
    file.push_str(&fields(&columns, lines.as_ref().and_then(Lines::taxes_included)));
    match &lines {
        Some(lines) => file.push_str(&lines.items(&columns, &key)),
        None => file.push_str(",\n       '[]'::json AS items  -- TODO: no table of lines was found"),
    }
    let _ = writeln!(
        file,
        "{}\n  FROM {} o\n WHERE o.{} = ANY($1)\n'''",
        no_order(&columns),
        table.sql(),
        quoted(&key)
    );
    for (child, reference) in &children {
        let is_line = lines.as_ref().is_some_and(|lines| lines.table == child);
        let mark = if is_line { "" } else { "# " };
        let why = if is_line {
            ""
        } else {
            "\n# Only where the query reads it:"
        };
        let _ = write!(
            file,
            "{why}\n{mark}[[watch]]\n{mark}table = \"{child}\"\n{mark}key = \"{reference}\"\n"
        );
    }
    file.push_str(&lines.as_ref().map(Lines::watches).unwrap_or_default());
    Ok(file)
}

/// The database's name, as far as a slot may have it: slots are the server's.
async fn source_name(session: &SourceSession) -> Result<String, SourceError> {
    let sql = "SELECT left(regexp_replace(lower(current_database()), '[^a-z0-9_]', '_', 'g'), 40)";
    let rows = session.rows(sql, &[]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// The columns of the order table that look like fields of an event.
fn fields(columns: &Columns, taxes_included: Option<bool>) -> String {
    let mut file = String::new();
    for (field, names) in COLUMNS {
        let found = columns.find(names).map(|column| {
            let is_text = matches!(&*column.kind, "text" | "character varying" | "character");
            let (name, kind) = (quoted(&column.name), &*column.kind);
            match field {
                _ if kind == "timestamp without time zone" => format!("o.{name} AT TIME ZONE 'UTC' AS {field}"),
                "name" if !is_text => format!("o.{name}::text AS name"),
                "currency" if is_text => format!("upper(o.{name}) AS currency"),
                _ => format!("o.{name} AS {field}"),
            }
        });
        let missing = || MISSING.iter().find(|(missing, _)| *missing == field);
        let column = match (found, taxes_included) {
            (None, Some(says)) if field == "taxes_included" => Some(format!("{says} AS taxes_included")),
            (None, _) => missing().map(|(_, text)| (*text).to_owned()),
            (found, _) => found,
        };
        if let Some(column) = column {
            let _ = write!(file, ",\n       {column}");
        }
    }
    file
}

/// The condition of rows that may not count, which stay events so that they can count later.
fn no_order(columns: &Columns) -> String {
    let condition = |(names, condition): &(&str, &str)| {
        let column = columns.find(names)?;
        (column.is_nullable || *condition != "IS NULL").then(|| format!("o.{} {condition}", quoted(&column.name)))
    };
    let conditions = Vec::from_iter(NO_ORDER.iter().filter_map(condition));
    if conditions.is_empty() {
        return String::new();
    }
    format!(
        "\n       -- TODO: where not every row is an order (carts, drafts), look at its values: , ({}) AS test",
        conditions.join(" OR ")
    )
}

async fn order_table(session: &SourceSession, table: Option<&str>) -> Result<TableName, SourceError> {
    let (schema, names) = match table.map(|table| table.split_once('.').unwrap_or(("public", table))) {
        Some((schema, name)) => (Some(schema), vec![name]),
        None => (None, ORDER_TABLES.split(' ').collect()),
    };
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = ANY(SELECT lower(x) FROM unnest($1) x) \
                 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND ($2 = '' OR n.nspname = $2) \
               ORDER BY array_position($1, lower(c.relname)), n.nspname <> 'public', n.nspname LIMIT 1";
    let params = [
        (&*array(names), Type::TEXT_ARRAY),
        (schema.unwrap_or_default(), Type::TEXT),
    ];
    let what = match (session.rows(sql, &params).await?.first(), table) {
        (Some(row), _) => {
            return Ok(TableName {
                schema: row.try_get(0)?,
                name: row.try_get(1)?,
            });
        }
        (None, Some(table)) => {
            format!("--table: there is no table {table} in the source (`schema.name`, or `name` of public)")
        }
        (None, None) => "no table of the source looks like one of orders: name it with --table schema.name".to_owned(),
    };
    Err(SourceError::Misconfigured(what))
}

async fn primary_key(session: &SourceSession, table: &TableName) -> Result<String, SourceError> {
    let sql = "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
               WHERE i.indrelid = $1::text::regclass AND i.indisprimary AND i.indnkeyatts = 1";
    match session.rows(sql, &[(&table.sql(), Type::TEXT)]).await?.first() {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(SourceError::Misconfigured(format!(
            "{table} has no primary key of one column: write the mapping by hand, with a unique column as key (docs/CAPTURE.md)"
        ))),
    }
}

/// Tables that refer to it, by a foreign key or only by the name of a column, each with that
/// column.
async fn children(session: &SourceSession, table: &TableName) -> Result<Vec<(TableName, String)>, SourceError> {
    let sql = "SELECT n.nspname::text, c.relname::text, a.attname::text FROM pg_constraint f \
               JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1] \
               WHERE f.contype = 'f' AND f.confrelid = $1::text::regclass AND f.conrelid <> f.confrelid \
                 AND array_length(f.conkey, 1) = 1 AND f.conparentid = 0 \
               UNION ALL \
               SELECT n.nspname::text, c.relname::text, a.attname::text FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
               WHERE n.nspname = $2 AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT a.attisdropped \
                 AND a.attname = ANY($3) AND c.oid <> $1::text::regclass";
    let singular = table.name.strip_suffix('s').unwrap_or(&table.name);
    let names = array([&*format!("{singular}_id"), "order_id", "orderId"]);
    let params = [
        (&*table.sql(), Type::TEXT),
        (&*table.schema, Type::TEXT),
        (&*names, Type::TEXT_ARRAY),
    ];
    let mut children: Vec<(TableName, String)> = Vec::new();
    for row in session.rows(sql, &params).await? {
        let child = TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        };
        if children.iter().all(|(known, _)| *known != child) {
            children.push((child, row.try_get(2)?));
        }
    }
    Ok(children)
}
