//! A first mapping, guessed from the catalog, and what the owner of the tables must run.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::session::{SourceSession, array};
use crate::capture::plan::{OrderTable, Plan, TableName, quoted};

use super::catalog::{create_publication, identity};
use crate::postgres::SourceError;

/// Names of order tables, the likeliest first.
const ORDER_TABLES: &str = "orders order spree_orders order_order sales_order sales_orders sale_order shop_orders wc_orders \
                            wp_wc_orders purchase_orders customer_orders";
/// Fields of an event, and names of columns that hold them, the likeliest first; `_` and capitals do not matter.
pub(super) const COLUMNS: [(&str, &str); 12] = [
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
];
/// The same of a line.
const LINE_COLUMNS: [(&str, &str); 4] = [
    ("line_id", "id line_id item_id order_item_id"),
    (
        "sku",
        "sku product_sku variant_sku partner_sku variant_id product_variant_id product_id",
    ),
    ("qty", "qty quantity qty_ordered product_qty product_uom_qty amount"),
    (
        "price",
        "price unit_price unit_price_gross_amount unit_price_incl_tax price_unit list_price",
    ),
];

/// What stands where no column was found.
const MISSING: [(&str, &str); 2] = [
    (
        "total_amount",
        "0 AS total_amount /* TODO: no column looks like a total */",
    ),
    (
        "currency",
        "'EUR' AS currency /* TODO: no column looks like a currency */",
    ),
];

struct Columns(Vec<(String, String)>);

impl Columns {
    /// A table's columns, with their types.
    async fn of(session: &SourceSession, table: &TableName) -> Result<Self, SourceError> {
        let sql = "SELECT a.attname::text, format_type(a.atttypid, NULL) FROM pg_attribute a \
                   WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let rows = session.rows(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let column = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        Ok(Self(
            rows.iter().map(column).collect::<Result<_, tokio_postgres::Error>>()?,
        ))
    }

    fn find(&self, names: &str) -> Option<&(String, String)> {
        let bare = |name: &str| name.replace('_', "").to_lowercase();
        let named = |name| self.0.iter().find(|(column, _)| bare(column) == bare(name));
        names.split(' ').find_map(named)
    }

    /// How many fields of a line it may hold; none without a quantity.
    fn likeness_to_lines(&self) -> usize {
        let has = |(_, names): &&(&str, &str)| self.find(names).is_some();
        let [.., qty, _] = &LINE_COLUMNS;
        if has(&qty) {
            LINE_COLUMNS.iter().filter(has).count()
        } else {
            0
        }
    }
}

/// The text of a mapping.
pub(in crate::capture) async fn guess(session: &SourceSession, table: Option<&str>) -> Result<String, SourceError> {
    let table = order_table(session, table).await?;
    let columns = Columns::of(session, &table).await?;
    let key = primary_key(session, &table).await?;
    let mut file = String::from(
        "# Made by `orderstream capture init`: guesses from foreign keys and names of columns. Look at each line, then run\n\
         # `orderstream capture try`, which prints events and stores nothing.\n\
         source = \"shopdb\"\n\
         timezone = \"UTC\"            # the shop's, such as Europe/Berlin\n\n[orders]\n",
    );
    let children = children(session, &table).await?;
    let _ = write!(
        file,
        "table = \"{table}\"\nkey = \"{key}\"\nquery = '''\nSELECT o.{0} AS key,\n       o.{0} AS order_id",
        quoted(&key)
    );
    file.push_str(&fields(&columns));
    let mut lines: Option<(usize, Columns, &TableName, &String)> = None;
    for (child, reference) in &children {
        let columns = Columns::of(session, child).await?;
        // The name of a table of lines says so; of several the one with most of a line.
        let name = child.name.to_lowercase();
        let is_named = ["item", "line", "product"].iter().any(|word| name.contains(word));
        let likeness = columns.likeness_to_lines() * 2 + usize::from(is_named);
        if likeness > 1 && lines.as_ref().is_none_or(|(best, ..)| likeness > *best) {
            lines = Some((likeness, columns, child, reference));
        }
    }
    match &lines {
        Some((_, columns, child, reference)) => file.push_str(&items(columns, child, reference, &key)),
        None => file.push_str(",\n       '[]'::json AS items  -- TODO: no table of lines was found"),
    }
    let _ = write!(
        file,
        "\n  FROM {} o\n WHERE o.{} = ANY($1)\n'''\n",
        table.sql(),
        quoted(&key)
    );
    for (child, reference) in &children {
        let is_line = lines.as_ref().is_some_and(|(_, _, line, _)| *line == child);
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
    Ok(file)
}

/// The columns of the order table that look like fields of an event.
fn fields(columns: &Columns) -> String {
    let mut file = String::new();
    for (field, names) in COLUMNS {
        let found = columns.find(names).map(|(column, kind)| {
            let is_text = kind == "text" || kind == "character varying";
            let cast = match kind.as_str() {
                "timestamp without time zone" => " AT TIME ZONE 'UTC'",
                _ if field == "name" && !is_text => "::text",
                _ => "",
            };
            format!("o.{}{cast} AS {field}", quoted(column))
        });
        let missing = MISSING.iter().find(|(missing, _)| *missing == field);
        if let Some(column) = found.or_else(|| Some(missing?.1.to_owned())) {
            let _ = write!(file, ",\n       {column}");
        }
    }
    file
}

/// The expression of an order's lines.
fn items(columns: &Columns, child: &TableName, reference: &str, key: &str) -> String {
    let mut file = String::new();
    let pair = |(field, names): &(&str, &str)| match columns.find(names) {
        Some((column, _)) => format!("'{field}', i.{}", quoted(column)),
        None if *field == "sku" => "'sku', NULL".to_owned(),
        None => format!("'{field}', 0 /* TODO: no column looks like it */"),
    };
    let pairs = Vec::from_iter(LINE_COLUMNS.iter().map(pair));
    let _ = write!(
        file,
        ",\n       (SELECT coalesce(json_agg(json_build_object({}) ORDER BY i.{}), '[]')\n          FROM {} i WHERE i.{} = o.{}) AS items",
        pairs.join(", "),
        columns
            .find("id")
            .map_or_else(|| quoted(reference), |(column, _)| quoted(column)),
        child.sql(),
        quoted(reference),
        quoted(key)
    );
    file
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
    match session.rows(sql, &params).await?.first() {
        Some(row) => Ok(TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        }),
        None => Err(SourceError::Misconfigured(
            "no table of the source looks like one of orders: name it with --table schema.name".to_owned(),
        )),
    }
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

/// What only-keys costs.
const ONLY_KEYS: &str = "-- Changes hold the named columns alone (PostgreSQL 15 or newer). While it is so, UPDATE and DELETE on one of \
                         these tables fail\n-- where its replica identity gets further columns, or one of these is \
                         dropped: change the publication first.\n";

/// The statements for the owner of the tables. `only_keys`: no other column of a row that changes
/// leaves the server by the slot.
pub(in crate::capture) fn preparation(plan: &Plan, only_keys: bool) -> String {
    let mut sql = String::from(
        "-- As a superuser, or as the administrator of a managed server. wal_level must be logical:\n\
         --   plain server  ALTER SYSTEM SET wal_level = logical; then a restart\n\
         --   RDS, Aurora   parameter group: rds.logical_replication = 1; then a restart\n\
         --   Cloud SQL     flag: cloudsql.logical_decoding = on\n\
         --   Azure         server parameter: wal_level = logical; then a restart\n\
         --   Supabase      is logical already; connect directly, not by the pooler\n\
         --   Neon          project settings: enable logical replication; connect without -pooler\n\
         CREATE ROLE orderstream_capture LOGIN REPLICATION PASSWORD 'choose one';\n\
         --   RDS, Aurora   CREATE ROLE orderstream_capture LOGIN PASSWORD '...'; GRANT rds_replication TO orderstream_capture;\n\
         --   Cloud SQL     ALTER ROLE orderstream_capture REPLICATION; as cloudsqlsuperuser\n\
         -- Where a table has row-level security, as on Supabase: policies must not hide rows from it.\n\
         --   ALTER ROLE orderstream_capture BYPASSRLS;\n\
         -- REPLICATION can read every change of the database: give the role to nothing else.\n\n\
         -- As the owner of the tables.\n",
    );
    let mut schemas = Vec::from_iter(plan.tables().into_iter().map(|table| &table.schema));
    schemas.dedup();
    for schema in schemas {
        let _ = writeln!(sql, "GRANT USAGE ON SCHEMA {} TO orderstream_capture;", quoted(schema));
    }
    for table in plan.tables() {
        let _ = writeln!(sql, "GRANT SELECT ON {} TO orderstream_capture;", table.sql());
    }
    sql.push_str("-- And SELECT on each further table that the query reads.\n\n");
    for table in plan.tables() {
        sql.push_str(&replica_identity(plan, table, only_keys));
    }
    if only_keys {
        let columns =
            |table: &TableName| key_columns(plan, table).map_or_else(String::new, |list| format!(" ({list})"));
        let _ = write!(sql, "\n{ONLY_KEYS}{};\n", create_publication(plan, columns));
    } else {
        let _ = writeln!(sql, "\n{};", create_publication(plan, |_| String::new()));
    }
    sql
}

/// How a deleted or moved row of a table tells which order it belonged to; nothing where its primary
/// key does.
fn replica_identity(plan: &Plan, table: &TableName, only_keys: bool) -> String {
    let has_id = |orders: &OrderTable| orders.table == *table && orders.id.is_some();
    if !is_watched(plan, table) && !plan.orders.as_ref().is_some_and(has_id) {
        return String::new();
    }
    let (name, columns, table) = (&table.name, key_columns(plan, table).unwrap_or_default(), table.sql());
    let index = format!("CREATE UNIQUE INDEX CONCURRENTLY {name}_capture ON {table} ({columns});");
    let by_index = format!("ALTER TABLE {table} REPLICA IDENTITY USING INDEX {name}_capture;");
    let why = "-- A deleted or moved row must tell which order it belonged to.";
    match only_keys {
        true => format!("{why}\n{index}\n{by_index}\n"),
        false => format!(
            "{why} FULL is the simplest; with less WAL:\n--   {index}\n--   {by_index}\nALTER TABLE {table} REPLICA IDENTITY \
             FULL;\n"
        ),
    }
}

fn is_watched(plan: &Plan, table: &TableName) -> bool {
    plan.watches.iter().any(|watch| watch.table == *table)
}

/// The columns of a table that its changes must hold; `None` for an outbox, whose rows are the
/// events.
fn key_columns(plan: &Plan, table: &TableName) -> Option<String> {
    let mut columns = Vec::from_iter(identity(plan, table).into_iter().map(quoted));
    if columns.is_empty() || plan.outbox.as_ref().is_some_and(|outbox| outbox.table == *table) {
        return None;
    }
    if is_watched(plan, table) {
        columns.push("<primary key>".to_owned());
    }
    Some(columns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preparation_names_role_tables_identity_and_publication() {
        let plan = Plan::parse(
            "source = \"s\"\n[orders]\ntable = \"public.order\"\nkey = \"id\"\nquery = \"SELECT $1\"\n[[watch]]\ntable = \
             \"public.lines\"\nkey = \"order_id\"",
        );
        let plan = plan.unwrap();
        let sql = preparation(&plan, false);
        for part in [
            "CREATE ROLE orderstream_capture LOGIN REPLICATION",
            "GRANT SELECT ON public.\"order\" TO",
            "\nALTER TABLE public.lines REPLICA IDENTITY FULL;",
            "CREATE PUBLICATION orderstream_s FOR TABLE public.lines, public.\"order\" WITH",
        ] {
            assert!(sql.contains(part), "{part}: {sql}");
        }
        let sql = preparation(&plan, true);
        for part in [
            "\nALTER TABLE public.lines REPLICA IDENTITY USING INDEX lines_capture;",
            "FOR TABLE public.lines (order_id, <primary key>), public.\"order\" (id) WITH",
        ] {
            assert!(sql.contains(part), "{part}: {sql}");
        }
    }
}
