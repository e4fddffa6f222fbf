//! Claim: pending entries change their owner, a page at a time.

use rusqlite::{Row, params};

use super::group::{self, Group};
use super::logs::Session;
use super::row::{id_of, row_from, row_of, unpack};
use crate::stream::{Attempts, Claimed, Delivered, Destination, PAGE_BYTES, StreamId};

/// ?1 group, ?2 first id, ?3 most rows, ?4 the owner (or null), ?5 the latest delivery (or null),
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

/// Which pending entries: [`Claim`](crate::stream::Claim), owned.
#[derive(Debug, Clone)]
pub(super) enum ClaimFilter {
    /// The caller's own, except these.
    Own(Vec<StreamId>),
    /// Other consumers', last delivered at least that many milliseconds ago.
    Stale(i64),
}

/// A page of the pending list.
#[derive(Default)]
struct PendingPage {
    found: Vec<Delivered>,
    /// Gone from the stream, or damaged there.
    lost: Vec<i64>,
    /// The last row looked at, where there may be more.
    last: Option<i64>,
}

/// Makes a page of pending entries the consumer's.
pub(super) fn claim(
    session: &Session<'_>,
    name: &str,
    consumer: &str,
    filter: &ClaimFilter,
    start: StreamId,
    count: usize,
) -> rusqlite::Result<Claimed> {
    let group = Group::find_or_create(session, name)?;
    let member = group.member(session, consumer)?;
    if member.is_none() && matches!(filter, ClaimFilter::Own(_)) {
        return Ok(Claimed::default());
    }
    let (owner, latest) = match filter {
        ClaimFilter::Own(_) => (member, None),
        ClaimFilter::Stale(idle) => (None, Some(session.now.saturating_sub(*idle))),
    };
    let is_wanted = |id, owner: Option<i64>| match filter {
        ClaimFilter::Own(in_hand) => !in_hand.contains(&id_of(id)),
        ClaimFilter::Stale(_) => owner != member,
    };
    let most = i64::try_from(count).unwrap_or(i64::MAX);
    let parameters = params![group.id, row_from(start), most, owner, latest, name];
    let page = PendingPage::read(session, parameters, most, is_wanted)?;
    if !page.found.is_empty() {
        let member = group.seen(session, consumer)?;
        for one in &page.found {
            let id = row_of(one.entry.id).unwrap_or_default();
            let deliveries = i64::try_from(one.deliveries).unwrap_or(i64::MAX);
            session.execute(TAKE, [group.id, id, member, session.now, deliveries])?;
        }
    }
    for &id in &page.lost {
        session.execute(DROP, [group.id, id])?;
        group::lose(session, id)?;
    }
    group.add_pending(session, -i64::try_from(page.lost.len()).unwrap_or(i64::MAX))?;
    Ok(Claimed {
        entries: page.found,
        deleted: page.lost.into_iter().map(id_of).collect(),
        next: page.last.and_then(|last| last.checked_add(1)).map(id_of),
    })
}

impl PendingPage {
    fn read(
        session: &Session<'_>,
        parameters: &[&dyn rusqlite::ToSql],
        most: i64,
        is_wanted: impl Fn(i64, Option<i64>) -> bool,
    ) -> rusqlite::Result<Self> {
        let mut query = session.connection.prepare_cached(PAGE)?;
        let mut rows = query.query(parameters)?;
        let mut page = Self::default();
        let (mut looked_at, mut bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            looked_at += 1;
            if is_wanted(id, row.get(1)?) {
                bytes += page.add(row, id)?;
            }
            if looked_at == most || bytes > PAGE_BYTES {
                page.last = Some(id);
                break;
            }
        }
        Ok(page)
    }

    /// Returns the bytes of the entry; 0 where it is lost.
    fn add(&mut self, row: &Row<'_>, id: i64) -> rusqlite::Result<usize> {
        // No checksum: the entry is gone.
        let Some(checksum) = row.get::<_, Option<i64>>(3)? else {
            self.lost.push(id);
            return Ok(0);
        };
        let blob = row.get_ref(4)?.as_bytes()?;
        let Some(entry) = unpack(Destination::Stream, id, blob, checksum) else {
            self.lost.push(id);
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
