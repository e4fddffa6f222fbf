//! Claim: pending entries change their owner, a page at a time.

use rusqlite::{Row, params};

use super::group::{self, Group, PAGE_BYTES, signed};
use super::row::{id_of, row_from, row_of, unpack};
use super::writer_handle::Session;
use crate::stream::{Attempts, Claimed, Delivered, Destination, StreamId};

/// ?1 group, ?2 first id, ?3 most rows, ?4 the member whose they are (or null), ?5 the latest delivery (or null),
/// ?6 name of the group.
const PAGE: &str = "
SELECT pending.id, consumer, deliveries, checksum, fields, failed, unfinished FROM pending
LEFT JOIN entries ON entries.id = pending.id
LEFT JOIN attempts ON attempts.group_name = ?6 AND attempts.id = pending.id
WHERE group_id = ?1 AND pending.id >= ?2 AND (?4 IS NULL OR consumer = ?4) AND (?5 IS NULL OR delivered_at <= ?5)
ORDER BY pending.id LIMIT ?3";
const TAKE: &str =
    "UPDATE pending SET consumer = ?3, delivered_at = ?4, deliveries = ?5 WHERE group_id = ?1 AND id = ?2";
const DROP: &str = "DELETE FROM pending WHERE group_id = ?1 AND id = ?2";

/// Whose, and how long idle.
#[derive(Debug, Clone)]
pub(super) enum Which {
    /// The caller's own, save these.
    Own(Vec<StreamId>),
    /// Others', last delivered that long ago, milliseconds.
    Stale(u64),
}

/// A page of the pending list.
#[derive(Default)]
struct Page {
    found: Vec<Delivered>,
    /// Gone from the stream.
    gone: Vec<i64>,
    /// In the stream, but unreadable.
    damaged: Vec<i64>,
    /// The last one looked at, where there may be more.
    last: Option<i64>,
}

/// Makes a page of pending entries the consumer's.
pub(super) fn claim(
    session: &Session<'_>,
    name: &str,
    consumer: &str,
    which: &Which,
    start: StreamId,
    count: usize,
) -> rusqlite::Result<Claimed> {
    let Some(group) = Group::find(session.connection, name)? else {
        return Ok(Claimed::default());
    };
    let member = group.member(session, consumer)?;
    if member.is_none() && matches!(which, Which::Own(_)) {
        return Ok(Claimed::default());
    }
    let page = page(session, group, name, member, which, start, count)?;
    let mut claimed = Claimed {
        next: page.last.and_then(|last| last.checked_add(1)).map(id_of),
        ..Claimed::default()
    };
    if !page.found.is_empty() {
        let member = group.seen(session, consumer)?;
        for one in &page.found {
            let id = row_of(one.entry.id).unwrap_or_default();
            let deliveries = signed(one.deliveries);
            session.execute(TAKE, [group.id, id, member, signed(session.now), deliveries])?;
        }
    }
    let lost: Vec<_> = page.gone.iter().chain(&page.damaged).copied().collect();
    for &id in &lost {
        session.execute(DROP, [group.id, id])?;
        group::lose(session, id)?;
    }
    group.settled(session, i64::try_from(lost.len()).unwrap_or(i64::MAX))?;
    claimed.deleted = lost.into_iter().map(id_of).collect();
    claimed.deleted.sort();
    claimed.entries = page.found;
    Ok(claimed)
}

fn page(
    session: &Session<'_>,
    group: Group,
    name: &str,
    member: Option<i64>,
    which: &Which,
    start: StreamId,
    count: usize,
) -> rusqlite::Result<Page> {
    let (of, latest, in_hand) = match which {
        Which::Own(in_hand) => (member, None, in_hand.as_slice()),
        Which::Stale(idle) => (None, Some(signed(session.now.saturating_sub(*idle))), &[][..]),
    };
    let most = i64::try_from(count).unwrap_or(i64::MAX);
    let mut query = session.connection.prepare_cached(PAGE)?;
    let mut rows = query.query(params![group.id, row_from(start), most, of, latest, name])?;
    let mut page = Page::default();
    let (mut looked_at, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (id, owner): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
        looked_at += 1;
        let is_asked_for = match which {
            Which::Own(_) => !in_hand.contains(&id_of(id)),
            Which::Stale(_) => owner != member,
        };
        if is_asked_for {
            bytes += page.take(row, id)?;
        }
        if looked_at == most || bytes > PAGE_BYTES {
            page.last = Some(id);
            break;
        }
    }
    Ok(page)
}

impl Page {
    /// Answers the bytes of the entry.
    fn take(&mut self, row: &Row<'_>, id: i64) -> rusqlite::Result<usize> {
        let Some(checksum) = row.get::<_, Option<i64>>(3)? else {
            self.gone.push(id);
            return Ok(0);
        };
        let blob = row.get_ref(4)?.as_bytes()?;
        let Some(entry) = unpack(Destination::Stream, id, blob, checksum) else {
            self.damaged.push(id);
            return Ok(0);
        };
        self.found.push(Delivered {
            entry,
            deliveries: u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default() + 1,
            attempts: Attempts {
                failed: row.get::<_, Option<u32>>(5)?.unwrap_or_default(),
                unfinished: row.get::<_, Option<u32>>(6)?.unwrap_or_default(),
            },
        });
        Ok(blob.len())
    }
}
