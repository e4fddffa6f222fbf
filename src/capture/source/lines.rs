//! The table of an order's lines, guessed from the catalog, and what answers their fields.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::session::SourceSession;
use crate::capture::plan::{TableName, quoted};
use crate::postgres::SourceError;

/// Fields of a line, and names of columns that hold them, the likeliest first.
const LINE_COLUMNS: [(&str, &str); 5] = [
    ("line_id", "id line_id item_id order_item_id"),
    ("sku", "sku product_sku variant_sku partner_sku"),
    ("title", "title product_title product_name item_title item_name"),
    ("qty", "qty quantity qty_ordered product_qty product_uom_qty amount"),
    (
        "price",
        "price unit_price unit_price_gross_amount unit_price_incl_tax price_unit list_price",
    ),
];

pub(super) struct CatalogColumn {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) is_nullable: bool,
}

pub(super) struct Columns(Vec<CatalogColumn>);

impl Columns {
    /// A table's columns, with their types.
    pub(super) async fn of(session: &SourceSession, table: &TableName) -> Result<Self, SourceError> {
        let sql = "SELECT a.attname::text, format_type(a.atttypid, NULL), NOT a.attnotnull FROM pg_attribute a \
                   WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let rows = session.rows(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let column = |row: &tokio_postgres::Row| {
            Ok(CatalogColumn {
                name: row.try_get(0)?,
                kind: row.try_get(1)?,
                is_nullable: row.try_get(2)?,
            })
        };
        Ok(Self(
            rows.iter().map(column).collect::<Result<_, tokio_postgres::Error>>()?,
        ))
    }

    pub(super) fn find(&self, names: &str) -> Option<&CatalogColumn> {
        let bare = |name: &str| name.replace('_', "").to_lowercase();
        let named = |name| self.0.iter().find(|column| bare(&column.name) == bare(name));
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

/// The table of an order's lines.
pub(super) struct Lines<'a> {
    pub(super) table: &'a TableName,
    columns: Columns,
    /// Its column with the order's key.
    reference: &'a str,
    /// Tables that its rows refer to.
    referred: Vec<Referred>,
}

/// A table that lines refer to: by which column of a line a row of it is found, and by which of its
/// own.
struct Referred {
    table: TableName,
    columns: Columns,
    by: String,
    key: String,
}

impl Referred {
    /// A product's price or title of today is not that of the sale; a second table of lines has it.
    fn has_lines(&self) -> bool {
        self.table.name.to_lowercase().contains("line")
    }
}

impl<'a> Lines<'a> {
    /// The table whose rows are lines: its name says so; of several the one with most of a line.
    pub(super) async fn find(
        session: &SourceSession,
        children: &'a [(TableName, String)],
    ) -> Result<Option<Self>, SourceError> {
        let mut best: Option<(usize, Self)> = None;
        for (table, reference) in children {
            let columns = Columns::of(session, table).await?;
            let name = table.name.to_lowercase();
            let is_named = ["item", "line", "product"].iter().any(|word| name.contains(word));
            let likeness = columns.likeness_to_lines() * 2 + usize::from(is_named);
            if likeness > 1 && best.as_ref().is_none_or(|(best, _)| likeness > *best) {
                let lines = Self {
                    table,
                    columns,
                    reference,
                    referred: Vec::new(),
                };
                best = Some((likeness, lines));
            }
        }
        let Some((_, mut lines)) = best else { return Ok(None) };
        lines.referred = referred(session, &lines).await?;
        Ok(Some(lines))
    }

    /// What answers a field of a line: its column, else one of a table that it refers to.
    fn value(&self, field: &str, names: &str) -> Option<String> {
        let own = self.columns.find(names);
        let elsewhere = self.elsewhere(field, names).map(|(referred, column)| {
            let (table, key, by) = (referred.table.sql(), quoted(&referred.key), quoted(&referred.by));
            format!("(SELECT r.{} FROM {table} r WHERE r.{key} = i.{by})", quoted(column))
        });
        match (own, elsewhere) {
            (Some(own), Some(other)) => Some(format!("coalesce(i.{}, {other})", quoted(&own.name))),
            (Some(own), None) => Some(format!("i.{}", quoted(&own.name))),
            (None, other) => other,
        }
    }

    /// The table that they refer to and its column for a field that may be missing in a line.
    fn elsewhere(&self, field: &str, names: &str) -> Option<(&Referred, &str)> {
        let is_there = self.columns.find(names).is_some_and(|column| !column.is_nullable);
        let (is_own, is_sku) = (is_there || matches!(field, "line_id" | "qty"), field == "sku");
        let mut tables = self
            .referred
            .iter()
            .filter(|table| !is_own && (is_sku || table.has_lines()));
        tables.find_map(|table| Some((table, &*table.columns.find(names)?.name)))
    }

    /// Whether prices include taxes, as the name of their column says.
    pub(super) fn taxes_included(&self) -> Option<bool> {
        let [.., (field, names)] = LINE_COLUMNS;
        let elsewhere = || Some(self.elsewhere(field, names)?.1);
        let column = self.columns.find(names).map(|own| &*own.name).or_else(elsewhere)?;
        let says = |words: [&str; 2]| words.iter().any(|word| column.to_lowercase().contains(word));
        says(["gross", "incl"])
            .then_some(true)
            .or(says(["net", "excl"]).then_some(false))
    }

    /// The expression of an order's lines.
    pub(super) fn items(&self, order: &Columns, key: &str) -> String {
        let pair = |(field, names): &(&str, &str)| match self.value(field, names) {
            Some(value) => Some(format!("'{field}', {value}")),
            None if *field == "title" => None,
            None if *field == "sku" => Some("'sku', NULL /* TODO: no column looks like it */".to_owned()),
            None => Some(format!("'{field}', 0 /* TODO: no column looks like it */")),
        };
        let pairs = Vec::from_iter(LINE_COLUMNS.iter().filter_map(pair));
        let sorted_by = self.columns.find("id").map_or(self.reference, |column| &column.name);
        let mut filter = String::new();
        if let Some(deleted) = self.columns.find("deleted_at") {
            let _ = write!(filter, " AND i.{} IS NULL", quoted(&deleted.name));
        }
        if let (Some(own), Some(of_order)) = (self.columns.find("version"), order.find("version")) {
            let (own, of_order) = (quoted(&own.name), quoted(&of_order.name));
            let _ = write!(
                filter,
                " /* TODO: if an order has lines of former versions too: AND i.{own} = o.{of_order} */"
            );
        }
        format!(
            ",\n       (SELECT coalesce(json_agg(json_build_object({}) ORDER BY i.{}), '[]')\n          FROM {} i WHERE i.{} = o.{}{filter}) AS items",
            pairs.join(", "),
            quoted(sorted_by),
            self.table.sql(),
            quoted(self.reference),
            quoted(key)
        )
    }

    /// Watches of tables that the query reads beside lines, for whom their changes matter.
    pub(super) fn watches(&self) -> String {
        let of_fields = LINE_COLUMNS
            .iter()
            .filter_map(|(field, names)| self.elsewhere(field, names));
        let mut read = Vec::from_iter(of_fields.map(|(referred, _)| referred));
        read.dedup_by(|one, other| one.table == other.table);
        let watch = |referred: &Referred| {
            format!(
                "\n# Only where a change of it changes orders that are stored:\n# [[watch]]\n# table = \"{}\"\n# key = \"{}\"\n\
                 # orders = 'SELECT {} FROM {} WHERE {} = ANY($1)'\n",
                referred.table,
                referred.key,
                quoted(self.reference),
                self.table.sql(),
                quoted(&referred.by)
            )
        };
        read.into_iter().map(watch).collect()
    }
}

/// Tables that rows of a line refer to, by a foreign key, else by a column's name (`variant_id` and
/// `id` of `variants` or `shop_variants`).
async fn referred(session: &SourceSession, lines: &Lines<'_>) -> Result<Vec<Referred>, SourceError> {
    let sql = "SELECT n.nspname::text, c.relname::text, a.attname::text, k.attname::text FROM pg_constraint f \
               JOIN pg_class c ON c.oid = f.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1] \
               JOIN pg_attribute k ON k.attrelid = f.confrelid AND k.attnum = f.confkey[1] \
               WHERE f.contype = 'f' AND f.conrelid = $1::text::regclass AND f.conrelid <> f.confrelid \
                 AND array_length(f.conkey, 1) = 1 AND a.attname <> $2 \
               UNION ALL \
               SELECT n.nspname::text, c.relname::text, a.attname::text, k.attname::text FROM pg_attribute a \
               JOIN pg_class l ON l.oid = a.attrelid JOIN pg_namespace n ON n.oid = l.relnamespace \
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid <> l.oid \
               JOIN pg_attribute k ON k.attrelid = c.oid AND k.attname = 'id' AND k.atttypid = a.atttypid \
               CROSS JOIN LATERAL (SELECT '_' || lower(regexp_replace(regexp_replace(a.attname::text, '_?id$', '', 'i'), \
                                                       '([a-z])([A-Z])', '\\1_\\2', 'g')) AS name) s \
               WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND a.attname <> $2 AND a.attname ~* '.id$' \
                 AND right(regexp_replace('_' || lower(c.relname::text), 's$', ''), length(s.name)) = s.name";
    let params = [(&*lines.table.sql(), Type::TEXT), (lines.reference, Type::TEXT)];
    let mut tables: Vec<Referred> = Vec::new();
    for row in session.rows(sql, &params).await? {
        let table = TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        };
        if tables.iter().all(|known| known.table != table) {
            tables.push(Referred {
                columns: Columns::of(session, &table).await?,
                table,
                by: row.try_get(2)?,
                key: row.try_get(3)?,
            });
        }
    }
    Ok(tables)
}
