//! Rows as columns: one array a column, so that one statement takes any number of rows.
//!
//! Owns the match between a column's name, its type and its values; the statements are written from
//! it, so that they cannot disagree with the parameters.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};
use tokio_postgres::types::{IsNull, Timestamp, ToSql, Type, accepts, to_sql_checked};

use super::schema::Schema;
use crate::warehouse::rows;

/// One column of all rows.
pub(super) struct ArrayColumn<'a> {
    name: &'static str,
    array: Type,
    values: Box<dyn ToSql + Sync + Send + 'a>,
}

/// JSON text as a value of type `jsonb`: the server parses it once, where a cast from `text` would
/// copy it first.
#[derive(Debug)]
struct Jsonb<'a>(&'a str);

impl ToSql for Jsonb<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        // Version of the binary form, which is the text.
        out.put_u8(1);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

/// A bound parameter and its type.
pub(super) type SqlParam<'a> = (&'a (dyn ToSql + Sync), Type);

macro_rules! array {
    ($function:ident, $value:ty, $array:ident) => {
        fn $function(name: &'static str, values: impl Iterator<Item = $value>) -> Self {
            ArrayColumn {
                name,
                array: Type::$array,
                values: Box::new(values.collect::<Vec<_>>()),
            }
        }
    };
}

impl<'a> rows::Column<'a> for ArrayColumn<'a> {
    array!(text, Option<&'a str>, TEXT_ARRAY);
    array!(bytes, Option<&'a [u8]>, BYTEA_ARRAY);
    array!(numeric, Option<Decimal>, NUMERIC_ARRAY);
    array!(int4, i32, INT4_ARRAY);
    array!(int8, Option<i64>, INT8_ARRAY);
    array!(boolean, Option<bool>, BOOL_ARRAY);
    array!(date, Date, DATE_ARRAY);
    array!(instant, Option<OffsetDateTime>, TIMESTAMPTZ_ARRAY);

    fn json(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        ArrayColumn {
            name,
            array: Type::JSONB_ARRAY,
            values: Box::new(values.map(|value| value.map(Jsonb)).collect::<Vec<_>>()),
        }
    }

    fn version(name: &'static str, values: impl Iterator<Item = Option<OffsetDateTime>>) -> Self {
        let values = values.map(|at| at.map_or(Timestamp::NegInfinity, Timestamp::Value));
        ArrayColumn {
            name,
            array: Type::TIMESTAMPTZ_ARRAY,
            values: Box::new(values.collect::<Vec<_>>()),
        }
    }
}

/// The parameters, in order.
pub(super) fn params<'a>(columns: &'a [ArrayColumn<'_>]) -> Vec<SqlParam<'a>> {
    columns
        .iter()
        .map(|column| (&*column.values as &(dyn ToSql + Sync), column.array.clone()))
        .collect()
}

/// `INSERT INTO table (columns) SELECT` the parameters. They are unnested in the select list: in
/// FROM, the server would first store each column as a table of its own.
pub(super) fn insert(schema: &Schema, table: &str, columns: &[ArrayColumn<'_>]) -> String {
    let names = names(columns).join(", ");
    let selected = list(columns, |n| format!("unnest(${n})"));
    schema.sql(&format!(
        "INSERT INTO {{schema}}.{table} AS t ({names}) SELECT {selected}"
    ))
}

/// The parameters as a table `v`, to be joined by key.
pub(super) fn rows(columns: &[ArrayColumn<'_>]) -> String {
    let places = list(columns, |n| format!("${n}"));
    format!("unnest({places}) AS v({})", names(columns).join(", "))
}

/// Names of the columns.
pub(super) fn names(columns: &[ArrayColumn<'_>]) -> Vec<&'static str> {
    columns.iter().map(|column| column.name).collect()
}

fn list(columns: &[ArrayColumn<'_>], write: impl Fn(usize) -> String) -> String {
    let parts: Vec<String> = (1..=columns.len()).map(write).collect();
    parts.join(", ")
}
