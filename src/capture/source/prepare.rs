//! What the owner of the tables must run.

use std::fmt::Write as _;

use super::catalog::{create_publication, identity};
use crate::capture::plan::{OrderTable, Plan, TableName, quoted};

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
