//! Which of Shopify's secrets are in use, so that a rotation can be completed without refusing
//! deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::nodes::{Node, NodeSecretUsage};
use crate::shopify::{Keyring, SecretInUse};

/// Unused for so long, an older secret can go: Shopify signs with it for up to an hour after a
/// rotation, and sends what was refused again for four.
const REMOVABLE_AFTER: Duration = Duration::from_secs(4 * 3600);
/// Secrets that are listed; there may be some for each of many shops.
const MAX_LISTED: usize = 1000;

/// Use of the secrets, as counted by all live nodes together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretUsageReport {
    /// Start of the oldest of these nodes.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// By shop, then newest first.
    pub secrets: Vec<SecretUsage>,
    /// What the list leaves out, and how many nodes counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// One secret, by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUsage {
    /// The shop whose list it is in; null: the list of all.
    pub shop: Option<String>,
    /// Its place in the list; 0 is the newest.
    pub index: usize,
    /// Deliveries it verified.
    pub deliveries: u64,
    /// When it verified the last one; null: none.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// Since the last one, or since the last node came to know the secret.
    pub unused_seconds: u64,
    /// Whether it can be removed: unused for four hours on every node, while a newer one was used.
    pub removable: bool,
}

/// What the nodes counted of one secret.
struct Counted {
    deliveries: u64,
    last_used_at: Option<OffsetDateTime>,
    unused_since: OffsetDateTime,
    nodes: usize,
}

/// Shop and place in its list: in the order of the report.
type PlaceInList = (Option<String>, usize);

impl SecretUsageReport {
    /// As of `now`. This process counts with `keyring`, if it takes webhooks, from `since` on;
    /// `others` are the other nodes on the stream, `None` where they are not known.
    #[must_use]
    pub fn of(keyring: Option<&Keyring>, since: OffsetDateTime, others: Option<&[Node]>, now: OffsetDateTime) -> Self {
        let own = keyring.map(|keyring| (since, counted(keyring)));
        let others_of = others.unwrap_or_default().iter().filter(|node| !node.is_stale());
        let others_of = others_of.filter_map(|node| {
            let intake = node.record.intake.as_ref()?;
            Some((node.record.started_at.unwrap_or(now), intake.secrets.clone()))
        });
        let nodes: Vec<_> = own.into_iter().chain(others_of).collect();
        let mut places: BTreeMap<PlaceInList, Counted> = BTreeMap::new();
        for (started_at, secret) in nodes
            .iter()
            .flat_map(|(at, secrets)| secrets.iter().map(move |one| (*at, one)))
        {
            let unused_since = secret.unused_since.unwrap_or(started_at);
            let place = places.entry((secret.shop.clone(), secret.index)).or_insert(Counted {
                deliveries: 0,
                last_used_at: None,
                unused_since,
                nodes: 0,
            });
            place.deliveries += secret.deliveries;
            place.last_used_at = place.last_used_at.max(secret.last_used_at);
            place.unused_since = place.unused_since.max(unused_since);
            place.nodes += 1;
        }
        let is_partial = places.values().any(|counted| counted.nodes < nodes.len());
        let notes = [
            (nodes.is_empty() && others.is_some()).then(|| "no live node takes webhooks".to_owned()),
            others
                .is_none()
                .then(|| "of this process alone: the other nodes are not known".to_owned()),
            (nodes.len() > 1).then(|| format!("of {} live nodes that take webhooks", nodes.len())),
            is_partial.then(|| {
                "not every node tells of every secret: each tells of 50, and a rotation needs a SIGHUP to each"
                    .to_owned()
            }),
            (places.len() > MAX_LISTED).then(|| format!("{MAX_LISTED} of {} secrets are listed", places.len())),
        ];
        let notes = notes.into_iter().flatten().collect::<Vec<_>>().join("; ");
        Self {
            since: nodes.iter().map(|(at, _)| *at).min().unwrap_or(since),
            secrets: describe(&places, nodes.len(), now),
            note: Some(notes).filter(|note| !note.is_empty()),
        }
    }
}

/// Use of each secret as this process counts it, by shop, then newest first.
#[must_use]
pub fn counted(keyring: &Keyring) -> Vec<NodeSecretUsage> {
    let usage = |secret: SecretInUse<'_>| NodeSecretUsage {
        shop: secret.shop.map(str::to_owned),
        index: secret.index,
        deliveries: secret.usage.deliveries(),
        last_used_at: secret.usage.last().and_then(instant),
        unused_since: instant(secret.usage.unused_since()),
    };
    keyring.in_use().into_iter().map(usage).collect()
}

fn describe(places: &BTreeMap<PlaceInList, Counted>, nodes: usize, now: OffsetDateTime) -> Vec<SecretUsage> {
    let describe = |((shop, index), counted): (&PlaceInList, &Counted)| {
        let unused = Duration::try_from(now - counted.unused_since).unwrap_or_default();
        let mut newer = places.range((shop.clone(), 0)..(shop.clone(), *index));
        let has_successor = newer.any(|(_, newer)| newer.last_used_at > Some(counted.unused_since));
        SecretUsage {
            shop: shop.clone(),
            index: *index,
            deliveries: counted.deliveries,
            last_used_at: counted.last_used_at,
            unused_seconds: unused.as_secs(),
            removable: has_successor && counted.nodes == nodes && unused >= REMOVABLE_AFTER,
        }
    };
    places.iter().take(MAX_LISTED).map(describe).collect()
}

fn instant(millis: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Intake, NodeRecord};

    const HOUR: u64 = 3_600_000;

    fn at(millis: u64) -> OffsetDateTime {
        instant(millis).unwrap()
    }

    /// Counts a delivery; the signature itself is looked at elsewhere.
    fn count(keyring: &Keyring, shop: Option<&str>, secret: usize, now: u64) {
        let signature = [b"A".repeat(43), b"=".to_vec()].concat();
        keyring.claim(shop, &signature).unwrap().count(secret, now);
    }

    fn removable(keyring: &Keyring, now: u64) -> Vec<bool> {
        let secrets = SecretUsageReport::of(Some(keyring), at(0), Some(&[]), at(now)).secrets;
        secrets.iter().map(|secret| secret.removable).collect()
    }

    #[test]
    fn an_old_secret_can_go_once_a_newer_one_was_used_for_long() {
        let keyring = Keyring::new(&["new".into(), "old".into()]).unwrap().succeed(None, HOUR);
        assert_eq!(
            removable(&keyring, 9 * HOUR),
            [false, false],
            "nothing was signed at all"
        );
        count(&keyring, None, 1, 2 * HOUR);
        count(&keyring, None, 0, 3 * HOUR);
        assert_eq!(removable(&keyring, 6 * HOUR - 1), [false, false]);
        assert_eq!(removable(&keyring, 6 * HOUR), [false, true]);
        count(&keyring, None, 1, 7 * HOUR);
        assert_eq!(
            removable(&keyring, 12 * HOUR),
            [false, false],
            "the old one was used last"
        );

        let described = SecretUsageReport::of(Some(&keyring), at(0), Some(&[]), at(7 * HOUR + 1500)).secrets;
        let old = SecretUsage {
            shop: None,
            index: 1,
            deliveries: 2,
            last_used_at: Some(at(7 * HOUR)),
            unused_seconds: 1,
            removable: false,
        };
        assert_eq!(described[1], old);
    }

    #[test]
    fn another_shops_deliveries_say_nothing() {
        let list = ["new".into(), "old".into()];
        let keyring = Keyring::by_shop([("a", &list[..]), ("b", &list[..])]).unwrap();
        let keyring = keyring.succeed(None, HOUR);
        count(&keyring, Some("a"), 0, 2 * HOUR);
        assert_eq!(removable(&keyring, 9 * HOUR), [false, true, false, false]);
    }

    #[test]
    fn the_list_is_bounded_and_says_what_it_leaves_out() {
        let shops: Vec<String> = (0..=MAX_LISTED).map(|shop| format!("{shop}.example")).collect();
        let list = ["secret".into()];
        let keyring = Keyring::by_shop(shops.iter().map(|shop| (shop.as_str(), &list[..]))).unwrap();
        let secrets = SecretUsageReport::of(Some(&keyring), at(0), None, at(0));
        assert_eq!(secrets.secrets.len(), MAX_LISTED);
        assert!(secrets.note.unwrap().contains("1000 of 1001 secrets"));
    }

    /// A node that takes webhooks, started at the hour 1.
    fn node(age: u64, secrets: Vec<NodeSecretUsage>) -> Node {
        let intake = Some(Intake {
            secrets,
            ..Intake::default()
        });
        let started_at = Some(at(HOUR));
        Node {
            record: NodeRecord {
                intake,
                started_at,
                ..NodeRecord::default()
            },
            heartbeat_age: Duration::from_secs(age),
        }
    }

    #[test]
    fn a_secret_is_in_use_where_any_live_node_uses_it() {
        let keyring = |secrets: &[&str]| {
            let secrets = Vec::from_iter(secrets.iter().map(|&secret| secret.into()));
            Keyring::new(&secrets).unwrap().succeed(None, HOUR)
        };
        let (own, other) = (keyring(&["new", "old"]), keyring(&["new", "old"]));
        count(&own, None, 0, 2 * HOUR);
        count(&other, None, 1, 2 * HOUR);
        count(&other, None, 0, 3 * HOUR);
        let of = |keyring, nodes: &[Node], now| SecretUsageReport::of(keyring, at(5 * HOUR), Some(nodes), at(now));
        let both = of(Some(&own), &[node(0, counted(&other))], 4 * HOUR);
        let seen = both
            .secrets
            .iter()
            .map(|secret| (secret.deliveries, secret.last_used_at));
        assert_eq!(Vec::from_iter(seen), [(2, Some(at(3 * HOUR))), (1, Some(at(2 * HOUR)))]);
        assert_eq!(both.since, at(HOUR), "of the node that counts longest");
        assert_eq!(both.note.unwrap(), "of 2 live nodes that take webhooks");
        let removable = |nodes: &[Node]| of(Some(&own), nodes, 6 * HOUR).secrets[1].removable;
        assert!(removable(&[node(0, counted(&other))]));
        count(&other, None, 1, 3 * HOUR);
        assert!(!removable(&[node(0, counted(&other))]), "in use on the other node");
        assert!(!removable(&[node(0, counted(&keyring(&["old"])))]), "the lists differ");

        let gone = of(None, &[node(16, counted(&other))], 4 * HOUR);
        assert_eq!((gone.secrets, gone.since), (Vec::new(), at(5 * HOUR)));
        assert_eq!(gone.note.unwrap(), "no live node takes webhooks");
        assert_eq!(
            of(None, &[node(15, counted(&other))], 4 * HOUR).secrets[1].deliveries,
            2
        );
    }
}
