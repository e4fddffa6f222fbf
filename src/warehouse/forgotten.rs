//! Whom the warehouse has forgotten, and what a load leaves out about them.
//!
//! Owns the tombstones: rows of `forgotten`, each an HMAC of a customer, an order or a shop, so that
//! the table names nobody. A load asks for those that it does not know, in its own transaction and
//! before it writes; [`Warehouse::forget`](super::Warehouse::forget) waits for the loads under way.
//! So whatever is loaded after a tombstone was written is without the person, whichever process
//! loads it. Events that are stored already are loaded again: a known event of somebody forgotten
//! loses what is personal.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use crate::event::{EventRecord, without_person};

/// The newest tombstone that is known, and those behind it, oldest first.
pub(super) const SINCE: &str = "SELECT n, subject FROM {schema}.forgotten WHERE n >= $1 ORDER BY n";

const NO_KEY: &str = "this process cannot tell whom it has forgotten, or is to forget: set ORDERSTREAM_FORGET_KEY (or \
                      ORDERSTREAM_FORGET_KEY_FILE) to the same secret in every process that loads";
const WRONG_KEY: &str = "it has forgotten customers under another key: ORDERSTREAM_FORGET_KEY (in the data folder: \
                         forget.key) must be the one that `orderstream forget` was first run with";

/// Who or what is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenSubject {
    kind: Kind,
    shop: String,
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Customer,
    Order,
    Shop,
    /// The first row, made of the key alone: it tells whether a process has the right one.
    KeyCheck,
}

impl ForgottenSubject {
    /// A customer of a shop.
    #[must_use]
    pub fn customer(shop: &str, id: &str) -> Self {
        Self::new(Kind::Customer, shop, id)
    }

    /// The person behind an order, whoever that is.
    #[must_use]
    pub fn order(shop: &str, id: &str) -> Self {
        Self::new(Kind::Order, shop, id)
    }

    /// Every customer of a shop.
    #[must_use]
    pub fn shop(shop: &str) -> Self {
        Self::new(Kind::Shop, shop, "")
    }

    fn new(kind: Kind, shop: &str, id: &str) -> Self {
        Self {
            kind,
            shop: shop.to_owned(),
            id: id.to_owned(),
        }
    }
}

fn tombstone(key: &[u8], kind: Kind, shop: &str, id: &str) -> String {
    let kind = match kind {
        Kind::Customer => "customer",
        Kind::Order => "order",
        Kind::Shop => "shop",
        Kind::KeyCheck => "key",
    };
    // A key of any length makes an HMAC.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    hmac.update(format!("{kind}\n{shop}\n{id}").as_bytes());
    hex::encode(hmac.finalize().into_bytes())
}

/// Where the key of the tombstones is.
pub(super) enum KeySource {
    /// In the configuration, where it is set.
    Setting(Option<SecretString>),
    /// In that file, which is made with the first tombstone.
    File(PathBuf),
}

impl KeySource {
    fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Setting(secret) => secret
                .as_ref()
                .map(|secret| secret.expose_secret().as_bytes().to_vec())
                .ok_or_else(|| NO_KEY.to_owned()),
            Self::File(path) => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display())),
        }
    }

    fn read_or_make(&self) -> Result<Vec<u8>, String> {
        let Self::File(path) = self else { return self.read() };
        let key = hex::encode(rand::random::<[u8; 32]>());
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = made.and_then(|mut file| file.write_all(key.as_bytes()).and_then(|()| file.sync_all()));
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(format!("{} cannot be made: {error}", path.display()))
            }
            _ => self.read(),
        }
    }
}

/// Number and subject of a row of `forgotten`.
pub(super) type Tombstone = (i64, String);

/// The tombstones that a process knows.
pub(super) struct Forgotten {
    key: KeySource,
    known: ArcSwap<KnownTombstones>,
}

#[derive(Clone, Default)]
struct KnownTombstones {
    key: Vec<u8>,
    newest: Tombstone,
    subjects: HashSet<String>,
}

/// Whether these rows of [`SINCE`] say that nothing is newer than that tombstone.
pub(super) fn is_newest(newest: &Tombstone, rows: &[Tombstone]) -> bool {
    match rows {
        [] => newest.0 == 0,
        [only] => only == newest,
        _ => false,
    }
}

impl Forgotten {
    pub(super) fn new(key: KeySource) -> Self {
        Self {
            key,
            known: ArcSwap::default(),
        }
    }

    /// The newest tombstone that is known; number 0 where there is none.
    pub(super) fn newest(&self) -> Tombstone {
        self.known.load().newest.clone()
    }

    /// Takes rows of [`SINCE`]. Where the newest that is known is not among them, the table is
    /// another one (a backup that was put back), and is to be read from its beginning. Fails where they
    /// were made with another key; the text says what to do.
    pub(super) fn learn(&self, rows: Vec<Tombstone>) -> Result<(), String> {
        let mut known = KnownTombstones::clone(&self.known.load());
        if known.newest.0 > 0 && rows.first() != Some(&known.newest) {
            self.known.store(Arc::default());
            return Ok(());
        }
        if known.key.is_empty() && !rows.is_empty() {
            known.key = self.key.read()?;
            if rows
                .first()
                .is_some_and(|(_, first)| *first != tombstone(&known.key, Kind::KeyCheck, "", ""))
            {
                return Err(WRONG_KEY.to_owned());
            }
        }
        known.subjects.extend(rows.iter().map(|(_, subject)| subject.clone()));
        known.newest = rows.into_iter().next_back().unwrap_or(known.newest);
        self.known.store(Arc::new(known));
        Ok(())
    }

    /// Rows to be added for these subjects, as shop and tombstone, once every row that is there was
    /// learned.
    pub(super) fn rows(&self, subjects: &[ForgottenSubject]) -> Result<Vec<(String, String)>, String> {
        let known = self.known.load();
        let key = match known.key.is_empty() {
            true => self.key.read_or_make()?,
            false => known.key.clone(),
        };
        let check = (String::new(), tombstone(&key, Kind::KeyCheck, "", ""));
        let rows = subjects.iter().map(|subject| {
            let tombstone = tombstone(&key, subject.kind, &subject.shop, &subject.id);
            (subject.shop.clone(), tombstone)
        });
        let rows = std::iter::once(check).chain(rows);
        Ok(rows
            .filter(|(_, tombstone)| !known.subjects.contains(tombstone))
            .collect())
    }

    /// Orders that Shopify asks to redact of customers who are forgotten already: nobody else will forget
    /// them, since such a request names no customer once it is loaded.
    pub(super) fn further_orders(&self, events: &[EventRecord<'_>]) -> Vec<ForgottenSubject> {
        let known = self.known.load();
        if known.subjects.is_empty() {
            return Vec::new();
        }
        let has = |kind, shop: &str, id: &str| known.subjects.contains(&tombstone(&known.key, kind, shop, id));
        let requests = events.iter().filter(|event| {
            let customer = event.event.customer_id.as_ref();
            event.event.event_type.as_str() == "customer.redact_requested"
                && customer.is_some_and(|id| has(Kind::Customer, event.shop(), id.as_str()))
        });
        let orders = requests.flat_map(|event| event.event.order_ids.iter().map(|id| (event.shop(), id.as_str())));
        let new = orders.filter(|(shop, id)| !has(Kind::Order, shop, id));
        new.map(|(shop, id)| ForgottenSubject::order(shop, id)).collect()
    }

    /// The payloads that events about somebody forgotten have instead; `None` where there is no such
    /// event.
    pub(super) fn erase(&self, events: &[EventRecord<'_>]) -> Option<Vec<Option<String>>> {
        let known = self.known.load();
        if known.subjects.is_empty() {
            return None;
        }
        let is_forgotten = |event: &EventRecord<'_>| {
            let has = |kind, id: &str| known.subjects.contains(&tombstone(&known.key, kind, event.shop(), id));
            let customer = event.event.customer_id.as_ref();
            customer.is_some_and(|id| has(Kind::Customer, id.as_str()))
                || has(Kind::Order, event.event.order_id.as_str())
                || has(Kind::Shop, "")
        };
        // What is no JSON cannot be cut, so nothing of it stays.
        let without = |event: &EventRecord<'_>| without_person(event.payload).unwrap_or_else(|| "{}".to_owned());
        let erased = |event: &EventRecord<'_>| is_forgotten(event).then(|| without(event));
        let payloads = Vec::from_iter(events.iter().map(erased));
        payloads.iter().any(Option::is_some).then_some(payloads)
    }
}

/// The events with these payloads, without what is personal.
pub(super) fn erased<'a>(events: &'a [EventRecord<'a>], payloads: &'a [Option<String>]) -> Vec<EventRecord<'a>> {
    let erase = |(event, payload): (&'a EventRecord<'a>, &'a Option<String>)| {
        let mut event = event.clone();
        if let Some(payload) = payload {
            event.payload = payload;
            event.raw = None;
            event.is_erased = true;
            event.event.customer_id = None;
            if let Some(details) = &mut event.event.details {
                details.note_attributes.clear();
            }
            for item in event.event.items.iter_mut().flatten() {
                item.properties.clear();
            }
        }
        event
    };
    events.iter().zip(payloads).map(erase).collect()
}
