//! The plan of a capture: what `capture.toml` says, checked as far as that is possible without the
//! database. Pure but for reading the file.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use twox_hash::XxHash3_128;

/// What is captured, and how it becomes events: the file as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the source; slot and publication are named after it.
    #[serde(deserialize_with = "source")]
    pub source: String,
    /// The shop of every event whose query does not say it; may be empty.
    #[serde(default)]
    pub shop: String,
    /// Time zone of the shop, in PostgreSQL's words.
    #[serde(default = "utc", deserialize_with = "timezone")]
    pub timezone: String,
    /// The order table, where one is captured.
    pub orders: Option<OrderTable>,
    /// Further tables whose rows change an order.
    #[serde(default, rename = "watch")]
    pub watches: Vec<Watch>,
    /// The table whose inserted rows are events.
    pub outbox: Option<Outbox>,
    /// WAL messages that are events.
    pub messages: Option<Messages>,
    /// Its path, for errors.
    #[serde(skip)]
    pub file: String,
    /// Digest of the file: an older order was read by another plan where it differs.
    #[serde(skip)]
    pub digest: String,
}

/// `[orders]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderTable {
    /// The table.
    pub table: TableName,
    /// Its column that identifies an order.
    pub key: String,
    /// The column that is `order_id`, where that is not the key.
    pub id: Option<String>,
    /// What a DELETE of its row makes.
    #[serde(default)]
    pub deletes: Deletes,
    /// What the version of an order is.
    #[serde(default)]
    pub version: VersionSource,
    /// The query of orders by key.
    pub query: KeyQuery,
}

/// What a DELETE of an order's row makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletes {
    /// An `order.deleted`.
    #[default]
    Event,
    /// Nothing.
    Ignore,
}

/// What the version of an order is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionSource {
    /// The time of the commit.
    #[default]
    Commit,
    /// The query's `updated_at`.
    UpdatedAt,
}

/// `[[watch]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The table.
    pub table: TableName,
    /// Its column with the order's key, or with what `orders` asks by.
    pub key: String,
    /// The query from values of `key` to keys of orders.
    pub orders: Option<KeyQuery>,
}

/// `[outbox]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// The table.
    pub table: TableName,
    /// Its column that holds an event as JSON.
    pub payload: String,
}

/// `[messages]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// Prefix of the messages.
    pub prefix: String,
}

/// A query by `$1`, an array of keys; without a semicolon at its end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyQuery(pub String);

impl TryFrom<String> for KeyQuery {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim().trim_end_matches(';').trim_end();
        if !text.contains("$1") {
            return Err("the query must ask by its parameter $1, an array of keys, such as WHERE id = ANY($1)");
        }
        if text.contains("$2") {
            return Err("the query must have no other parameter than $1, an array of keys");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A table with its schema, as they stand in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TableName {
    /// `public` where the file names none.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl TryFrom<String> for TableName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (schema, name) = text.split_once('.').unwrap_or(("public", &text));
        let is_name = |name: &str| !name.is_empty() && name.len() < 64 && !name.contains(['"', '.', '\0']);
        if !is_name(schema) || !is_name(name) {
            return Err("must be a table and its schema, such as \"public.orders\", without quotes");
        }
        Ok(Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl TableName {
    /// As SQL has it: both quoted where they must be.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// An identifier as SQL has it, in quotes only where it needs them.
#[must_use]
pub(super) fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_bare = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(is_plain);
    if is_bare && !RESERVED.contains(&name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Words that shops use as names of tables and columns and that SQL reserves.
const RESERVED: [&str; 10] = [
    "order",
    "user",
    "group",
    "table",
    "column",
    "check",
    "references",
    "default",
    "end",
    "limit",
];

/// A fault of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {what}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct InvalidPlan {
    /// Its path.
    pub file: String,
    /// Line, from 1 on, where one is at fault.
    pub line: Option<usize>,
    /// Key, fault and what to do.
    pub what: String,
}

impl Plan {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot work; with its line.
    pub fn load(path: &Path) -> Result<Self, InvalidPlan> {
        let file = path.display().to_string();
        let fault = |line, what| InvalidPlan {
            file: file.clone(),
            line,
            what,
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let advice = "`orderstream capture init > capture.toml` writes a first one (ORDERSTREAM_CAPTURE_FILE)";
            fault(None, format!("cannot be read: {error}; {advice}"))
        })?;
        let plan = Self::parse(&text).map_err(|(line, what)| fault(line, what))?;
        Ok(Self {
            file: file.clone(),
            ..plan
        })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Line and fault.
    pub fn parse(text: &str) -> Result<Self, (Option<usize>, String)> {
        let mut plan: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            (line, error.message().replace('\n', " "))
        })?;
        plan.check().map_err(|what| (None, what))?;
        plan.digest = hex::encode(XxHash3_128::oneshot(text.as_bytes()).to_be_bytes());
        Ok(plan)
    }

    /// Name of slot and publication.
    #[must_use]
    pub fn slot(&self) -> String {
        format!("orderstream_{}", self.source)
    }

    /// Every table that must be published, sorted.
    #[must_use]
    pub fn tables(&self) -> Vec<&TableName> {
        let orders = self.orders.iter().map(|orders| &orders.table);
        let watches = self.watches.iter().map(|watch| &watch.table);
        let outbox = self.outbox.iter().map(|outbox| &outbox.table);
        let mut tables = Vec::from_iter(orders.chain(watches).chain(outbox));
        tables.sort();
        tables
    }

    fn check(&self) -> Result<(), String> {
        if self.orders.is_none() && !self.watches.is_empty() {
            return Err("[[watch]]: needs [orders], whose query reads the order that the row belongs to".to_owned());
        }
        if self.orders.is_none() && self.outbox.is_none() && self.messages.is_none() {
            return Err("nothing is captured: [orders], [outbox] or [messages] must be there".to_owned());
        }
        if self
            .messages
            .as_ref()
            .is_some_and(|messages| messages.prefix.is_empty())
        {
            return Err("[messages] prefix: is empty".to_owned());
        }
        // A table has one meaning, so that a change of its row means one thing.
        match self.tables().windows(2).find(|pair| pair.first() == pair.last()) {
            Some([table, ..]) => Err(format!("table {table}: stands more than once")),
            _ => Ok(()),
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn source<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let text = String::deserialize(value)?;
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.is_empty() || text.len() > 40 || !text.chars().all(is_letter) {
        let what = "source: must be 1 to 40 lower-case letters, digits and _; slot and publication are named after it";
        return Err(D::Error::custom(what));
    }
    Ok(text)
}

fn timezone<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    let text = String::deserialize(value)?;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '/');
    if text.is_empty() || !text.chars().all(is_letter) {
        return Err(D::Error::custom("timezone: must be a name such as Europe/Berlin"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
source = "shopdb"
timezone = "Europe/Berlin"
[orders]
table = "public.orders"
key = "id"
query = "SELECT o.id AS key FROM orders o WHERE o.id = ANY($1);"
[[watch]]
table = "order_items"
key = "order_id"
[outbox]
table = "public.outbox"
payload = "payload"
[messages]
prefix = "orderstream"
"#;

    #[test]
    fn a_file_is_read() {
        let plan = Plan::parse(WHOLE).unwrap();
        assert_eq!(plan.slot(), "orderstream_shopdb");
        assert_eq!(plan.shop, "");
        let orders = plan.orders.as_ref().unwrap();
        assert_eq!(
            (orders.deletes, orders.version),
            (Deletes::Event, VersionSource::Commit)
        );
        assert!(orders.query.0.ends_with("ANY($1)"));
        let tables = Vec::from_iter(plan.tables().into_iter().map(ToString::to_string));
        assert_eq!(tables, ["public.order_items", "public.orders", "public.outbox"]);
    }

    #[test]
    fn faults_name_line_and_key() {
        for (from, to, line, hint) in [
            ("shopdb", "Shop DB", Some(2), "source: must be 1 to 40"),
            ("timezone", "timezome", Some(3), "unknown field `timezome`"),
            ("Europe/Berlin", "it's", Some(3), "timezone: must be"),
            ("public.orders", "a.b.c", Some(5), "a table and its schema"),
            ("ANY($1)", "ANY(1)", Some(7), "$1"),
            ("ANY($1)", "ANY($1) LIMIT $2", Some(7), "no other parameter"),
            (
                "key = \"id\"",
                "deletes = \"never\"\nkey = \"id\"",
                Some(6),
                "`event` or `ignore`",
            ),
            ("order_items", "orders", None, "public.orders: stands more than once"),
            ("source = \"shopdb\"\n", "", None, "missing field `source`"),
        ] {
            let (found, what) = Plan::parse(&WHOLE.replacen(from, to, 1)).unwrap_err();
            assert!(what.contains(hint), "{what}");
            if line.is_some() {
                assert_eq!(found, line, "{what}");
            }
        }
        assert!(
            Plan::parse("source = \"a\"")
                .unwrap_err()
                .1
                .contains("nothing is captured")
        );
    }

    #[test]
    fn identifiers_are_quoted_where_they_must_be() {
        assert_eq!(quoted("orders"), "orders");
        assert_eq!(quoted("order"), "\"order\"");
        assert_eq!(quoted("Order"), "\"Order\"");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
