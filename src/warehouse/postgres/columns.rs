//! Rows as columns: one array a column, so that one statement takes any number of rows.
//!
//! Owns the match between a column's name, its type and its values; the statements are written from it, so that they
//! cannot disagree with the parameters.

use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};
use tokio_postgres::types::{Timestamp, ToSql, Type};

use super::schema::Schema;

/// One column of all rows.
pub(super) struct Column<'a> {
    name: &'static str,
    array: Type,
    /// Applied to the value in the statement.
    cast: &'static str,
    values: Box<dyn ToSql + Sync + Send + 'a>,
}

/// A bound parameter and its type.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

macro_rules! column_types {
    ($($function:ident: $value:ty => $array:ident;)*) => {$(
        pub(super) fn $function<'a>(name: &'static str, values: impl Iterator<Item = $value>) -> Column<'a> {
            Column { name, array: Type::$array, cast: "", values: Box::new(values.collect::<Vec<_>>()) }
        }
    )*};
}

column_types! {
    text: Option<&'a str> => TEXT_ARRAY;
    numeric: Option<Decimal> => NUMERIC_ARRAY;
    int4: i32 => INT4_ARRAY;
    int8: Option<i64> => INT8_ARRAY;
    boolean: Option<bool> => BOOL_ARRAY;
    date: Date => DATE_ARRAY;
    instant: Option<OffsetDateTime> => TIMESTAMPTZ_ARRAY;
    version: Timestamp<OffsetDateTime> => TIMESTAMPTZ_ARRAY;
    bytes: Option<&'a [u8]> => BYTEA_ARRAY;
}

/// JSON as its text.
pub(super) fn json<'a>(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Column<'a> {
    Column {
        cast: "::jsonb",
        ..text(name, values)
    }
}

/// `None` is earlier than every time.
pub(super) fn or_earliest(instant: Option<OffsetDateTime>) -> Timestamp<OffsetDateTime> {
    instant.map_or(Timestamp::NegInfinity, Timestamp::Value)
}

/// The parameters, in order.
pub(super) fn params<'a>(columns: &'a [Column<'_>]) -> Vec<Param<'a>> {
    columns
        .iter()
        .map(|column| (&*column.values as &(dyn ToSql + Sync), column.array.clone()))
        .collect()
}

/// `INSERT INTO table (columns) SELECT columns FROM` the parameters.
pub(super) fn insert(schema: &Schema, table: &str, columns: &[Column<'_>]) -> String {
    let names = names(columns);
    let selected = list(columns, |_, column| format!("{}{}", column.name, column.cast));
    let rows = rows(columns);
    schema.sql(&format!(
        "INSERT INTO {{schema}}.{table} AS t ({names}) SELECT {selected} FROM {rows}"
    ))
}

/// `column = excluded.column` for all but the first `keys`.
pub(super) fn assignments(columns: &[Column<'_>], keys: usize) -> String {
    list(columns.get(keys..).unwrap_or_default(), |_, column| {
        format!("{0} = excluded.{0}", column.name)
    })
}

/// The parameters as a table `v`.
pub(super) fn rows(columns: &[Column<'_>]) -> String {
    let places = list(columns, |n, _| format!("${n}"));
    format!("unnest({places}) AS v({})", names(columns))
}

fn names(columns: &[Column<'_>]) -> String {
    list(columns, |_, column| column.name.to_owned())
}

fn list(columns: &[Column<'_>], write: impl Fn(usize, &Column<'_>) -> String) -> String {
    let parts: Vec<String> = columns.iter().enumerate().map(|(n, c)| write(n + 1, c)).collect();
    parts.join(", ")
}
