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

use super::pgoutput::{CommitRecord, PgoutputMessage, Tuple, Value};
use super::plan::Plan;
use super::tables::{ChangeError, Published, RowChange, TableRole, Tracked, VerifiedTables};
use crate::metrics::GapReason;

/// Touches of one transaction that are remembered, so that each is named once; 8 bytes each.
const MOST_SEEN: usize = 1_000_000;

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
    /// Rows changed without a trace of their orders.
    Lost(GapReason),
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

/// Reads transactions.
#[derive(Debug)]
pub(super) struct Changes {
    plan: Arc<Plan>,
    verified: VerifiedTables,
    relations: HashMap<u32, Published>,
    /// Whether it was said that a table had another form before it was verified.
    is_alteration_told: bool,
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
    pub(super) fn new(plan: Arc<Plan>, verified: VerifiedTables, from: WalPosition) -> Self {
        Self {
            plan,
            verified,
            relations: HashMap::new(),
            is_alteration_told: false,
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
                let published = Published::of(&relation, &self.plan, &self.verified);
                self.relations.insert(relation.oid, published);
            }
            PgoutputMessage::Insert { relation, new } => self.row(relation, &RowChange::Insert(new))?,
            PgoutputMessage::Update { relation, old, new } => self.row(relation, &RowChange::Update(old, new))?,
            PgoutputMessage::Delete { relation, old } => self.row(relation, &RowChange::Delete(old))?,
            PgoutputMessage::Truncate(oids) => {
                let is_watched = |oid: &u32| match self.relations.get(oid) {
                    Some(Published::Tracked(table)) => table.role != TableRole::Outbox,
                    Some(Published::Altered(_)) => true,
                    Some(Published::Other) | None => false,
                };
                if oids.iter().any(is_watched) {
                    self.touch(Subject::Lost(GapReason::Truncate), false, None);
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

    fn row(&mut self, relation: u32, change: &RowChange) -> Result<(), ChangeError> {
        match self.relations.get(&relation).cloned() {
            Some(Published::Tracked(table)) if table.role == TableRole::Outbox => {
                // Deletions are its cleaning, and updates are none of ours.
                if let RowChange::Insert(new) = change
                    && let Value::Text(event) = new.get(table.key)
                {
                    self.touch(Subject::Outbox(event), true, None);
                }
            }
            Some(Published::Tracked(table)) if table.is_told_by(change) => self.tracked_row(&table, change),
            Some(Published::Tracked(table)) => self.altered(ChangeError::NoIdentity {
                table: table.table.clone(),
                column: table.key_name.clone(),
            })?,
            Some(Published::Altered(error)) => self.altered(error)?,
            Some(Published::Other) | None => {}
        }
        self.position.done += 1;
        Ok(())
    }

    /// A change whose order cannot be told: an error, or a gap where that was committed before the
    /// tables were verified, since an operator has mended the cause.
    fn altered(&mut self, error: ChangeError) -> Result<(), ChangeError> {
        if self.open.is_none_or(|commit| commit.lsn >= self.verified.wal_end) {
            return Err(error);
        }
        // A walk that begins now is later than all of them.
        if !std::mem::replace(&mut self.is_alteration_told, true) {
            self.touch(Subject::Lost(GapReason::Definition), false, None);
        }
        Ok(())
    }

    fn tracked_row(&mut self, table: &Tracked, change: &RowChange) {
        let key_of = |tuple: &Tuple| table.text(table.key, tuple);
        let new_key = change.new_row().and_then(key_of);
        let old_key = change.old_row().and_then(key_of);
        let old_key = old_key.filter(|key| Some(key) != new_key.as_ref());
        if let (Some(key), Some(old)) = (old_key, change.old_row()) {
            // An order whose key changed is gone under the old one.
            let deleted = (table.role == TableRole::Order).then(|| {
                let id = table.id.and_then(|id| table.text(id, old));
                id.unwrap_or_else(|| key.clone())
            });
            self.touch(subject(table.role, key), false, deleted);
        }
        if let Some(key) = new_key {
            let is_insert = matches!(change, RowChange::Insert(_)) && table.role == TableRole::Order;
            self.touch(subject(table.role, key), is_insert, None);
        }
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

fn subject(role: TableRole, key: Box<str>) -> Subject {
    match role {
        TableRole::Watched(number) => Subject::Watched(number, key),
        TableRole::Order | TableRole::Child | TableRole::Outbox => Subject::Order(key),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pgoutput::tests::tuple_of;
    use super::super::pgoutput::{Relation, RelationColumn};
    use super::super::plan::TableName;
    use super::super::tables::VerifiedTable;
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
            has_full_identity: false,
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
        let plan = Arc::new(Plan::parse(FILE).unwrap());
        let mut changes = Changes::new(plan, VerifiedTables::default(), from);
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
            Subject::Lost(reason) => reason.texts().0.to_owned(),
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
        assert_eq!(named(&mut changes), ["truncate", "[]"]);
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
    fn an_update_is_no_insertion() {
        let mut changes = changes(WalPosition::default());
        changes.take(begin(20)).unwrap();
        for relation in [1, 4] {
            let new = tuple_of(&[Some("1"), None]);
            changes
                .take(PgoutputMessage::Update {
                    relation,
                    old: None,
                    new,
                })
                .unwrap();
        }
        assert_eq!(named(&mut changes), ["1"]);
    }

    #[test]
    fn a_table_that_changed_its_form_is_an_error() {
        let mut changes = changes(WalPosition::default());
        changes.take(relation(1, "orders", &[("number", true)])).unwrap();
        changes.take(begin(20)).unwrap();
        let missing = changes.take(insert(1, &[Some("5")])).unwrap_err();
        assert!(
            missing.to_string().contains("public.orders has no column id"),
            "{missing}"
        );
        let lacks = |changes: &mut Changes, old: Option<&[Option<&str>]>| {
            let update = PgoutputMessage::Update {
                relation: 2,
                old: old.map(tuple_of),
                new: tuple_of(&[Some("5"), Some("1")]),
            };
            let lacks = changes.take(update).unwrap_err().to_string();
            assert!(lacks.contains("ALTER TABLE public.items REPLICA IDENTITY"), "{lacks}");
        };
        // Neither a new definition nor a partition that logs less than its root goes unnoticed.
        lacks(&mut changes, Some(&[Some("5"), None]));
        changes
            .take(relation(2, "items", &[("id", true), ("order_id", false)]))
            .unwrap();
        changes.take(insert(2, &[Some("5"), Some("1")])).unwrap();
        lacks(&mut changes, None);
    }

    #[test]
    fn what_was_committed_before_the_cause_was_mended_is_a_gap() {
        let mut changes = changes(WalPosition::default());
        changes.verified.wal_end = 25;
        changes.take(relation(1, "orders", &[("number", true)])).unwrap();
        changes.take(begin(20)).unwrap();
        changes.take(insert(1, &[Some("5")])).unwrap();
        changes.take(insert(1, &[Some("6")])).unwrap();
        assert_eq!(named(&mut changes), ["definition"]);
        changes.take(begin(25)).unwrap();
        changes.take(insert(1, &[Some("5")])).unwrap_err();
    }

    #[test]
    fn a_renamed_table_is_known_by_its_oid() {
        let mut changes = changes(WalPosition::default());
        let table = VerifiedTable {
            name: TableName {
                schema: "public".to_owned(),
                name: "orders".to_owned(),
            },
            is_partitioned: false,
        };
        changes.verified.tables.insert(9, table);
        changes.take(relation(9, "former", &[("id", true)])).unwrap();
        changes.take(begin(20)).unwrap();
        changes.take(insert(9, &[Some("1")])).unwrap();
        assert_eq!(named(&mut changes), ["+1"]);
    }
}
