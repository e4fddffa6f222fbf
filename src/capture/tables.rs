//! Published tables: where their keys are, and whether a change of a row tells the order that it
//! belongs to. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::pgoutput::{Relation, Tuple, Value};
use super::plan::{Plan, TableName};

/// `character(n)`, which pgoutput pads and a cast to text does not.
const PADDED: u32 = 1042;

/// A table does not have the form that the plan relies on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChangeError {
    #[error("the table {table} has no column {column} any more: mend the mapping and send SIGHUP, or mend the table")]
    NoColumn { table: TableName, column: String },
    #[error(
        "the replica identity of {table} lacks {column}, so that old rows do not tell which order they belonged to: \
         ALTER TABLE {} REPLICA IDENTITY FULL, or USING INDEX on a unique index with that column (`orderstream capture sql`)",
        .table.sql()
    )]
    NoIdentity { table: TableName, column: String },
}

/// Places of the columns that matter in a published table.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) table: TableName,
    pub(super) role: TableRole,
    pub(super) key: usize,
    pub(super) key_name: String,
    is_padded: bool,
    /// Whether old rows hold the columns.
    is_in_identity: bool,
    has_full_identity: bool,
    is_partitioned: bool,
    /// The column that is `order_id`.
    pub(super) id: Option<usize>,
}

/// A published table: one of the plan, none, or one of the plan without a column that it names.
#[derive(Debug, Clone)]
pub(super) enum Published {
    Tracked(Arc<Tracked>),
    Other,
    Altered(ChangeError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableRole {
    Order,
    /// Holds keys of orders.
    Child,
    /// Holds what the watch of that number asks by.
    Watched(usize),
    Outbox,
}

/// The tables of the plan when they were last found to be as they must be.
#[derive(Debug, Clone, Default)]
pub(super) struct VerifiedTables {
    /// By OID: a table that was renamed since, or had another name when it was changed, is the same
    /// one.
    pub(super) tables: HashMap<u32, VerifiedTable>,
    /// End of the WAL then. What was committed before may have been in another form, which is
    /// mended.
    pub(super) wal_end: u64,
}

/// A table of the plan.
#[derive(Debug, Clone)]
pub(super) struct VerifiedTable {
    pub(super) name: TableName,
    pub(super) is_partitioned: bool,
}

impl Published {
    /// What a definition of the server's makes of a table.
    pub(super) fn of(relation: &Relation, plan: &Plan, verified: &VerifiedTables) -> Self {
        Self::tracked(relation, plan, verified).unwrap_or_else(Self::Altered)
    }

    fn tracked(relation: &Relation, plan: &Plan, verified: &VerifiedTables) -> Result<Self, ChangeError> {
        let named = || TableName {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
        };
        let verified = verified.tables.get(&relation.oid);
        let table = verified.map_or_else(named, |verified| verified.name.clone());
        let orders = plan.orders.as_ref().filter(|orders| orders.table == table);
        let mut watches = plan.watches.iter().enumerate();
        let watch = watches.find(|(_, watch)| watch.table == table);
        let outbox = plan.outbox.as_ref().filter(|outbox| outbox.table == table);
        let (role, key) = match (orders, watch, outbox) {
            (Some(orders), ..) => (TableRole::Order, &orders.key),
            (_, Some((number, watch)), _) if watch.orders.is_some() => (TableRole::Watched(number), &watch.key),
            (_, Some((_, watch)), _) => (TableRole::Child, &watch.key),
            (.., Some(outbox)) => (TableRole::Outbox, &outbox.payload),
            (None, None, None) => return Ok(Self::Other),
        };
        let place = |name: &str| {
            let missing = || ChangeError::NoColumn {
                table: table.clone(),
                column: name.to_owned(),
            };
            relation
                .columns
                .iter()
                .position(|column| column.name == name)
                .ok_or_else(missing)
        };
        let is_in_identity = |place: usize| relation.columns.get(place).is_some_and(|column| column.is_in_identity);
        let at = place(key)?;
        let id = orders.and_then(|orders| orders.id.as_deref()).map(place).transpose()?;
        Ok(Self::Tracked(Arc::new(Tracked {
            role,
            key: at,
            key_name: key.clone(),
            is_padded: relation.columns.get(at).is_some_and(|column| column.type_oid == PADDED),
            is_in_identity: is_in_identity(at) && id.is_none_or(is_in_identity),
            has_full_identity: relation.has_full_identity,
            is_partitioned: verified.is_some_and(|verified| verified.is_partitioned),
            id,
            table,
        })))
    }
}

/// What happened to a row.
pub(super) enum RowChange {
    Insert(Tuple),
    /// With the old row, where its replica identity changed or is the whole row.
    Update(Option<Tuple>, Tuple),
    Delete(Tuple),
}

impl RowChange {
    pub(super) fn old_row(&self) -> Option<&Tuple> {
        match self {
            Self::Insert(_) => None,
            Self::Update(old, _) => old.as_ref(),
            Self::Delete(old) => Some(old),
        }
    }

    pub(super) fn new_row(&self) -> Option<&Tuple> {
        match self {
            Self::Insert(new) | Self::Update(_, new) => Some(new),
            Self::Delete(_) => None,
        }
    }
}

impl Tracked {
    /// Whether a change tells the order that the row belonged to before. A partition may have less
    /// of a replica identity than its root, whose definition was sent: what it does not log is
    /// null.
    pub(super) fn is_told_by(&self, change: &RowChange) -> bool {
        if matches!(change, RowChange::Insert(_)) {
            return true;
        }
        let may_be_null = self.has_full_identity && !self.is_partitioned;
        match change.old_row() {
            None => self.is_in_identity && !self.has_full_identity,
            Some(old) => self.is_in_identity && (may_be_null || self.text(self.key, old).is_some()),
        }
    }

    /// `None` for null, and for what was not sent: a key is never stored out of line.
    pub(super) fn text(&self, column: usize, tuple: &Tuple) -> Option<Box<str>> {
        let Value::Text(bytes) = tuple.get(column) else {
            return None;
        };
        let text = std::str::from_utf8(&bytes).ok()?;
        let is_padded = self.is_padded && column == self.key;
        Some(if is_padded { text.trim_end_matches(' ') } else { text }.into())
    }
}
