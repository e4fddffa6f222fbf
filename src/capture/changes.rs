//! Which orders the transactions of the WAL touch, and how far the WAL has been read. Pure.
//!
//! Invariants: an order is named once in a transaction, as long as no more than [`MOST_SEEN`] are
//! remembered; what was stored before a restart is skipped by counting row changes, and counts as
//! named.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::pgoutput::{CommitRecord, PgoutputMessage, Relation, Tuple, Value};
use super::plan::{Plan, TableName};

/// Touches of one transaction that are remembered, so that each is named once; 8 bytes each.
const MOST_SEEN: usize = 1_000_000;
/// `character(n)`, which pgoutput pads and a cast to text does not.
const PADDED: u32 = 1042;

/// How far the WAL has been worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WalPosition {
    /// Everything that was committed below it.
    pub(super) lsn: u64,
    /// The transaction that was cut, by its commit record; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) commit: u64,
    /// Row changes of that transaction that are done.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) done: u64,
}

impl WalPosition {
    /// A position between transactions.
    pub(super) fn at(lsn: u64) -> Self {
        Self { lsn, ..Self::default() }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// An order, by its key.
    Order(Box<str>),
    /// A row of a watched table, by the number of the watch and the value that its `orders` asks
    /// by.
    Watched(usize, Box<str>),
    /// A row of the outbox: the event.
    Outbox(Bytes),
    /// A message: its position, and the event.
    Message(u64, Bytes),
    /// A table was truncated, so that its rows are gone without a trace.
    Truncated,
}

/// One change of a row, or message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touch {
    pub(super) subject: Subject,
    pub(super) commit: CommitRecord,
    /// The position before it.
    pub(super) before: WalPosition,
    /// Whether the row of the order was inserted.
    pub(super) is_insert: bool,
    /// The `order_id` of an order whose row was deleted.
    pub(super) deleted: Option<Box<str>>,
}

/// A table does not have the form that the plan relies on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChangeError {
    #[error("the table {table} has no column {column} any more: mend capture.toml and send SIGHUP, or mend the table")]
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
struct Tracked {
    table: TableName,
    role: TableRole,
    key: usize,
    key_name: String,
    is_padded: bool,
    is_in_identity: bool,
    /// The column that is `order_id`, and whether old rows hold it.
    id: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableRole {
    Order,
    /// Holds keys of orders.
    Child,
    /// Holds what the watch of that number asks by.
    Watched(usize),
    Outbox,
}

/// Reads transactions.
#[derive(Debug)]
pub(super) struct Changes {
    plan: Arc<Plan>,
    relations: HashMap<u32, Option<Arc<Tracked>>>,
    position: WalPosition,
    open: Option<CommitRecord>,
    seen: HashSet<u64>,
    /// What is stored already of the transaction that comes next.
    resume: WalPosition,
    /// In order; taken from the front by who works on it.
    pub(super) pending: VecDeque<Touch>,
}

impl Changes {
    /// Reads on from there.
    pub(super) fn new(plan: Arc<Plan>, from: WalPosition) -> Self {
        Self {
            plan,
            relations: HashMap::new(),
            position: WalPosition::at(from.lsn),
            open: None,
            seen: HashSet::new(),
            resume: from,
            pending: VecDeque::new(),
        }
    }

    /// The position behind all that was read.
    pub(super) fn position(&self) -> WalPosition {
        let is_cut = self.position.commit == self.resume.commit && self.position.done < self.resume.done;
        if is_cut || self.is_before_cut() {
            return self.resume;
        }
        self.position
    }

    /// Whether the transaction that was cut has yet to come again.
    fn is_before_cut(&self) -> bool {
        self.open.is_none() && self.resume.commit != 0 && self.position.lsn == self.resume.lsn
    }

    /// Notes that everything below `wal_end` was sent; of no meaning within a transaction.
    pub(super) fn note_idle(&mut self, wal_end: u64) {
        if self.open.is_none() && wal_end > self.position.lsn && !self.is_before_cut() {
            self.position = WalPosition::at(wal_end);
        }
    }

    /// Takes a message.
    pub(super) fn take(&mut self, message: PgoutputMessage) -> Result<(), ChangeError> {
        match message {
            PgoutputMessage::Begin(commit) => {
                self.open = Some(commit);
                self.seen.clear();
                self.position.commit = commit.lsn;
                self.position.done = 0;
            }
            PgoutputMessage::Commit { end } => {
                self.open = None;
                self.position = WalPosition::at(end);
            }
            PgoutputMessage::Relation(relation) => {
                let tracked = self.track(&relation)?;
                self.relations.insert(relation.oid, tracked.map(Arc::new));
            }
            PgoutputMessage::Insert { relation, new } => self.row(relation, None, Some(&new))?,
            PgoutputMessage::Update { relation, old, new } => self.row(relation, old.as_ref(), Some(&new))?,
            PgoutputMessage::Delete { relation, old } => self.row(relation, Some(&old), None)?,
            PgoutputMessage::Truncate(oids) => {
                let is_watched =
                    |oid: &u32| matches!(self.relations.get(oid), Some(Some(table)) if table.role != TableRole::Outbox);
                if oids.iter().any(is_watched) {
                    self.touch(Subject::Truncated, false, None);
                }
                self.position.done += 1;
            }
            PgoutputMessage::Emitted {
                is_transactional,
                lsn,
                prefix,
                content,
            } => {
                if is_transactional {
                    if self
                        .plan
                        .messages
                        .as_ref()
                        .is_some_and(|messages| messages.prefix == prefix)
                    {
                        self.touch(Subject::Message(lsn, content), false, None);
                    }
                    self.position.done += 1;
                } else {
                    // It stands between transactions, so that all that was committed below it was
                    // sent.
                    self.note_idle(lsn);
                }
            }
            PgoutputMessage::Other => {}
        }
        Ok(())
    }

    fn track(&self, relation: &Relation) -> Result<Option<Tracked>, ChangeError> {
        let table = TableName {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
        };
        let orders = self.plan.orders.as_ref().filter(|orders| orders.table == table);
        let watch = self
            .plan
            .watches
            .iter()
            .enumerate()
            .find(|(_, watch)| watch.table == table);
        let outbox = self.plan.outbox.as_ref().filter(|outbox| outbox.table == table);
        let (role, key) = match (orders, watch, outbox) {
            (Some(orders), ..) => (TableRole::Order, &orders.key),
            (_, Some((number, watch)), _) if watch.orders.is_some() => (TableRole::Watched(number), &watch.key),
            (_, Some((_, watch)), _) => (TableRole::Child, &watch.key),
            (.., Some(outbox)) => (TableRole::Outbox, &outbox.payload),
            (None, None, None) => return Ok(None),
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
        Ok(Some(Tracked {
            role,
            key: at,
            key_name: key.clone(),
            is_padded: relation.columns.get(at).is_some_and(|column| column.type_oid == PADDED),
            is_in_identity: is_in_identity(at) && id.is_none_or(is_in_identity),
            id,
            table,
        }))
    }

    fn row(&mut self, relation: u32, old: Option<&Tuple>, new: Option<&Tuple>) -> Result<(), ChangeError> {
        if let Some(Some(tracked)) = self.relations.get(&relation) {
            let tracked = Arc::clone(tracked);
            self.tracked_row(&tracked, old, new)?;
        }
        self.position.done += 1;
        Ok(())
    }

    fn tracked_row(&mut self, table: &Tracked, old: Option<&Tuple>, new: Option<&Tuple>) -> Result<(), ChangeError> {
        if table.role == TableRole::Outbox {
            // Deletions are its cleaning, and updates are none of ours.
            if let (None, Some(Value::Text(event))) = (old, new.map(|new| new.get(table.key))) {
                self.touch(Subject::Outbox(event), true, None);
            }
            return Ok(());
        }
        let is_insert = old.is_none() && new.is_some();
        let is_delete = new.is_none();
        if !table.is_in_identity && old.is_some() {
            return Err(ChangeError::NoIdentity {
                table: table.table.clone(),
                column: table.key_name.clone(),
            });
        }
        let key_of = |tuple: &Tuple| table.text(table.key, tuple);
        let new_key = new.and_then(key_of);
        let old_key = old.and_then(key_of).filter(|key| Some(key) != new_key.as_ref());
        if let (Some(key), Some(old)) = (old_key, old) {
            // An order whose key changed is gone under the old one.
            let deleted = (table.role == TableRole::Order).then(|| {
                let id = table.id.and_then(|id| table.text(id, old));
                id.unwrap_or_else(|| key.clone())
            });
            self.touch(table.subject(key), false, deleted);
        }
        if let Some(key) = new_key.filter(|_| !is_delete) {
            self.touch(table.subject(key), is_insert && table.role == TableRole::Order, None);
        }
        Ok(())
    }

    /// Names it, unless that was done in this transaction or before the restart.
    fn touch(&mut self, subject: Subject, is_insert: bool, deleted: Option<Box<str>>) {
        let Some(commit) = self.open else { return };
        if let Subject::Order(key) | Subject::Watched(_, key) = &subject {
            let watch = if let Subject::Watched(number, _) = &subject {
                number + 1
            } else {
                0
            };
            let hash = XxHash3_128::oneshot_with_seed(watch as u64, key.as_bytes()) as u64;
            let is_known = self.seen.contains(&hash);
            if self.seen.len() < MOST_SEEN {
                self.seen.insert(hash);
            }
            // A deletion says more than the touch before it.
            if is_known && deleted.is_none() {
                return;
            }
        }
        if commit.lsn == self.resume.commit && self.position.done < self.resume.done {
            return;
        }
        self.pending.push_back(Touch {
            subject,
            commit,
            before: self.position,
            is_insert,
            deleted,
        });
    }
}

impl Tracked {
    fn subject(&self, key: Box<str>) -> Subject {
        match self.role {
            TableRole::Watched(number) => Subject::Watched(number, key),
            TableRole::Order | TableRole::Child | TableRole::Outbox => Subject::Order(key),
        }
    }

    /// `None` for null, and for what was not sent: a key is never stored out of line.
    fn text(&self, column: usize, tuple: &Tuple) -> Option<Box<str>> {
        let Value::Text(bytes) = tuple.get(column) else {
            return None;
        };
        let text = std::str::from_utf8(&bytes).ok()?;
        let is_padded = self.is_padded && column == self.key;
        Some(if is_padded { text.trim_end_matches(' ') } else { text }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::pgoutput::RelationColumn;
    use super::super::pgoutput::tests::tuple_of;
    use super::*;

    const FILE: &str = r#"
source = "s"
[orders]
table = "orders"
key = "id"
query = "SELECT $1"
[[watch]]
table = "items"
key = "order_id"
[[watch]]
table = "refund_lines"
key = "refund_id"
orders = "SELECT $1"
[outbox]
table = "outbox"
payload = "payload"
[messages]
prefix = "us"
"#;

    fn relation(oid: u32, name: &str, columns: &[(&str, bool)]) -> PgoutputMessage {
        PgoutputMessage::Relation(Relation {
            oid,
            schema: "public".to_owned(),
            name: name.to_owned(),
            columns: columns
                .iter()
                .map(|(name, is_in_identity)| RelationColumn {
                    is_in_identity: *is_in_identity,
                    name: (*name).to_owned(),
                    type_oid: 20,
                })
                .collect(),
        })
    }

    fn begin(lsn: u64) -> PgoutputMessage {
        PgoutputMessage::Begin(CommitRecord { lsn, time: 5, xid: 7 })
    }

    fn changes(from: WalPosition) -> Changes {
        let mut changes = Changes::new(Arc::new(Plan::parse(FILE).unwrap()), from);
        changes
            .take(relation(1, "orders", &[("id", true), ("note", false)]))
            .unwrap();
        changes
            .take(relation(2, "items", &[("id", true), ("order_id", true)]))
            .unwrap();
        changes
            .take(relation(3, "refund_lines", &[("refund_id", true)]))
            .unwrap();
        changes.take(relation(4, "outbox", &[("payload", false)])).unwrap();
        changes.take(relation(5, "elsewhere", &[("id", true)])).unwrap();
        changes
    }

    fn insert(relation: u32, values: &[Option<&str>]) -> PgoutputMessage {
        PgoutputMessage::Insert {
            relation,
            new: tuple_of(values),
        }
    }

    fn named(changes: &mut Changes) -> Vec<String> {
        let name = |touch: Touch| match touch.subject {
            Subject::Order(key) if touch.deleted.is_some() => format!("-{key}"),
            Subject::Order(key) => format!("{}{key}", if touch.is_insert { "+" } else { "" }),
            Subject::Watched(watch, key) => format!("{watch}:{key}"),
            Subject::Outbox(event) | Subject::Message(_, event) => String::from_utf8(event.into()).unwrap(),
            Subject::Truncated => "truncated".to_owned(),
        };
        changes.pending.drain(..).map(name).collect()
    }

    #[test]
    fn a_transaction_names_each_order_once() {
        let mut changes = changes(WalPosition {
            lsn: 10,
            ..WalPosition::default()
        });
        changes.take(begin(20)).unwrap();
        changes.take(insert(1, &[Some("1"), None])).unwrap();
        changes.take(insert(2, &[Some("5"), Some("1")])).unwrap();
        changes.take(insert(2, &[Some("6"), None])).unwrap();
        changes.take(insert(3, &[Some("1")])).unwrap();
        changes.take(insert(4, &[Some("{}")])).unwrap();
        changes.take(insert(5, &[Some("1")])).unwrap();
        let moved = PgoutputMessage::Update {
            relation: 2,
            old: Some(tuple_of(&[Some("5"), Some("1")])),
            new: tuple_of(&[Some("5"), Some("2")]),
        };
        changes.take(moved).unwrap();
        changes
            .take(PgoutputMessage::Delete {
                relation: 1,
                old: tuple_of(&[Some("1"), None]),
            })
            .unwrap();
        changes.take(PgoutputMessage::Truncate(vec![5])).unwrap();
        assert_eq!(named(&mut changes), ["+1", "1:1", "{}", "2", "-1"]);
        changes.take(PgoutputMessage::Truncate(vec![1, 2])).unwrap();
        let emitted = |prefix: &str| PgoutputMessage::Emitted {
            is_transactional: true,
            lsn: 19,
            prefix: prefix.to_owned(),
            content: Bytes::from_static(b"[]"),
        };
        changes.take(emitted("us")).unwrap();
        changes.take(emitted("them")).unwrap();
        assert_eq!(
            changes.position(),
            WalPosition {
                lsn: 10,
                commit: 20,
                done: 12
            }
        );
        changes.note_idle(99);
        changes.take(PgoutputMessage::Commit { end: 21 }).unwrap();
        assert_eq!(named(&mut changes), ["truncated", "[]"]);
        assert_eq!(
            changes.position(),
            WalPosition {
                lsn: 21,
                ..WalPosition::default()
            }
        );
        changes.note_idle(99);
        assert_eq!(changes.position().lsn, 99);
    }

    /// Cut anywhere and read again from there, a transaction names the same as read at once.
    #[test]
    fn a_cut_transaction_goes_on_where_it_was_cut() {
        let rows = ["1", "2", "1", "3", "2", "4"];
        for cut in 0..=rows.len() {
            let mut first = changes(WalPosition {
                lsn: 10,
                ..WalPosition::default()
            });
            first.take(begin(20)).unwrap();
            for key in &rows[..cut] {
                first.take(insert(1, &[Some(key)])).unwrap();
            }
            let mut second = changes(first.position());
            second.take(begin(20)).unwrap();
            for key in rows {
                second.take(insert(1, &[Some(key)])).unwrap();
            }
            let found = [named(&mut first), named(&mut second)].concat();
            assert_eq!(found, ["+1", "+2", "+3", "+4"], "cut at {cut}");
            // Another transaction is not skipped.
            let mut other = changes(first.position());
            other.take(begin(30)).unwrap();
            other.take(insert(1, &[Some("1")])).unwrap();
            assert_eq!(named(&mut other), ["+1"]);
        }
    }

    #[test]
    fn a_table_that_changed_its_form_is_an_error() {
        let mut changes = changes(WalPosition::default());
        let missing = changes.take(relation(1, "orders", &[("number", true)])).unwrap_err();
        assert!(
            missing.to_string().contains("public.orders has no column id"),
            "{missing}"
        );
        changes
            .take(relation(2, "items", &[("id", true), ("order_id", false)]))
            .unwrap();
        changes.take(begin(20)).unwrap();
        changes.take(insert(2, &[Some("5"), Some("1")])).unwrap();
        let lacks = changes
            .take(PgoutputMessage::Delete {
                relation: 2,
                old: tuple_of(&[Some("5"), None]),
            })
            .unwrap_err();
        assert!(
            lacks.to_string().contains("ALTER TABLE public.items REPLICA IDENTITY"),
            "{lacks}"
        );
    }
}
