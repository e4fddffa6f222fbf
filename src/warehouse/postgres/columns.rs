//! Rows as columns: one array a column, so that one statement takes any number of rows.
//!
//! Owns the match between a column's name, its type and its values; the statements are written from
//! it, so that they cannot disagree with the parameters. A column is encoded when it is made: that
//! may be before its statement's turn, while the server works on another.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use postgres_protocol::types::{ArrayDimension, array_to_sql};
use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};
use tokio_postgres::types::{IsNull, Timestamp, ToSql, Type, accepts, to_sql_checked};

use super::schema::Schema;
use crate::warehouse::rows;

/// One column of all rows.
pub(super) struct ArrayColumn {
    name: &'static str,
    array: Type,
    values: Encoded,
}

/// An array in binary form, or why a value has none.
#[derive(Debug)]
struct Encoded(Result<BytesMut, String>);

impl Encoded {
    fn new<T: ToSql>(element: &Type, values: impl Iterator<Item = T>) -> Self {
        let (least, _) = values.size_hint();
        let mut bytes = BytesMut::with_capacity(HEADER + least * USUAL_VALUE);
        let mut len = 0;
        let dimension = ArrayDimension { len, lower_bound: 1 };
        let encode = |value: T, bytes: &mut BytesMut| {
            len += 1;
            Ok(match value.to_sql(element, bytes)? {
                IsNull::Yes => postgres_protocol::IsNull::Yes,
                IsNull::No => postgres_protocol::IsNull::No,
            })
        };
        let encoded = array_to_sql([dimension], element.oid(), values, encode, &mut bytes);
        // The number of values is known only now.
        bytes[LEN_AT].copy_from_slice(&len.to_be_bytes());
        Self(encoded.map(|()| bytes).map_err(|error| error.to_string()))
    }
}

/// Where an array's binary form has the number of its elements.
const LEN_AT: std::ops::Range<usize> = 12..16;
/// Bytes before its elements.
const HEADER: usize = 20;
/// Bytes of an element of a usual column, its length included.
const USUAL_VALUE: usize = 20;

impl ToSql for Encoded {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0.as_ref().map_err(String::as_str)?);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
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
    ($function:ident, $value:ty, $element:ident, $array:ident) => {
        fn $function(name: &'static str, values: impl Iterator<Item = $value>) -> Self {
            ArrayColumn {
                name,
                array: Type::$array,
                values: Encoded::new(&Type::$element, values),
            }
        }
    };
}

impl<'a> rows::Column<'a> for ArrayColumn {
    array!(text, Option<&'a str>, TEXT, TEXT_ARRAY);
    array!(bytes, Option<&'a [u8]>, BYTEA, BYTEA_ARRAY);
    array!(numeric, Option<Decimal>, NUMERIC, NUMERIC_ARRAY);
    array!(int4, i32, INT4, INT4_ARRAY);
    array!(int8, Option<i64>, INT8, INT8_ARRAY);
    array!(boolean, Option<bool>, BOOL, BOOL_ARRAY);
    array!(date, Date, DATE, DATE_ARRAY);
    array!(instant, Option<OffsetDateTime>, TIMESTAMPTZ, TIMESTAMPTZ_ARRAY);

    fn json(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        ArrayColumn {
            name,
            array: Type::JSONB_ARRAY,
            values: Encoded::new(&Type::JSONB, values.map(|value| value.map(Jsonb))),
        }
    }

    fn version(name: &'static str, values: impl Iterator<Item = Option<OffsetDateTime>>) -> Self {
        let values = values.map(|at| at.map_or(Timestamp::NegInfinity, Timestamp::Value));
        ArrayColumn {
            name,
            array: Type::TIMESTAMPTZ_ARRAY,
            values: Encoded::new(&Type::TIMESTAMPTZ, values),
        }
    }
}

/// The parameters, in order.
pub(super) fn params(columns: &[ArrayColumn]) -> Vec<SqlParam<'_>> {
    columns
        .iter()
        .map(|column| (&column.values as &(dyn ToSql + Sync), column.array.clone()))
        .collect()
}

/// `INSERT INTO table (columns) SELECT` the parameters. They are unnested in the select list: in
/// FROM, the server would first store each column as a table of its own.
pub(super) fn insert(schema: &Schema, table: &str, columns: &[ArrayColumn]) -> String {
    let names = names(columns).join(", ");
    let selected = list(columns, |n| format!("unnest(${n})"));
    schema.sql(&format!(
        "INSERT INTO {{schema}}.{table} AS t ({names}) SELECT {selected}"
    ))
}

/// The parameters as a table `v`, to be joined by key.
pub(super) fn rows(columns: &[ArrayColumn]) -> String {
    let places = list(columns, |n| format!("${n}"));
    format!("unnest({places}) AS v({})", names(columns).join(", "))
}

/// Names of the columns.
pub(super) fn names(columns: &[ArrayColumn]) -> Vec<&'static str> {
    columns.iter().map(|column| column.name).collect()
}

fn list(columns: &[ArrayColumn], write: impl Fn(usize) -> String) -> String {
    let parts: Vec<String> = (1..=columns.len()).map(write).collect();
    parts.join(", ")
}
