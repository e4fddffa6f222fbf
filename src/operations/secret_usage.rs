//! Which of Shopify's secrets are in use, so that a rotation can be completed without refusing
//! deliveries.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::shopify::{Keyring, SecretInUse};

/// Unused for so long, an older secret can go: Shopify signs with it for up to an hour after a
/// rotation, and sends what was refused again for four.
const REMOVABLE_AFTER: Duration = Duration::from_secs(4 * 3600);
/// Secrets that are listed; there may be some for each of many shops.
const MAX_LISTED: usize = 1000;

/// Use of the secrets, as counted by one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretUsageReport {
    /// Start of that process.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// By shop, then newest first.
    pub secrets: Vec<SecretUsage>,
    /// What the list leaves out.
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
    /// Since the last one, or since the process knows the secret.
    pub unused_seconds: u64,
    /// Whether it can be removed: unused for four hours, while a newer one was used.
    pub removable: bool,
}

impl SecretUsageReport {
    /// As of `now`. `alone` says that no other process takes webhooks for the same stream.
    #[must_use]
    pub fn of(keyring: Option<&Keyring>, since: OffsetDateTime, alone: bool, now: OffsetDateTime) -> Self {
        let known = keyring.map(Keyring::in_use).unwrap_or_default();
        let secrets: Vec<_> = (0..known.len().min(MAX_LISTED))
            .map(|at| describe(&known, at, now))
            .collect();
        let mut notes = Vec::new();
        if keyring.is_none() {
            notes.push("this process takes no webhooks; ask one that does".to_owned());
        } else if !alone {
            notes.push(
                "as this process saw it since its start: ask every process before a secret is removed".to_owned(),
            );
        }
        if known.len() > MAX_LISTED {
            notes.push(format!("{MAX_LISTED} of {} secrets are listed", known.len()));
        }
        Self {
            since,
            secrets,
            note: Some(notes.join("; ")).filter(|note| !note.is_empty()),
        }
    }
}

fn describe(known: &[SecretInUse<'_>], at: usize, now: OffsetDateTime) -> SecretUsage {
    let secret = &known[at];
    let unused_since = secret.usage.unused_since();
    let unused = u64::try_from(millis(now))
        .unwrap_or_default()
        .saturating_sub(unused_since);
    // Newer ones of its list stand right before it.
    let newer = &known[at - secret.index..at];
    let has_successor = newer.iter().any(|newer| newer.usage.last() > Some(unused_since));
    SecretUsage {
        shop: secret.shop.map(str::to_owned),
        index: secret.index,
        deliveries: secret.usage.deliveries(),
        last_used_at: secret.usage.last().and_then(instant),
        unused_seconds: unused / 1000,
        removable: has_successor && u128::from(unused) >= REMOVABLE_AFTER.as_millis(),
    }
}

fn millis(at: OffsetDateTime) -> i128 {
    at.unix_timestamp_nanos() / 1_000_000
}

fn instant(millis: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let secrets = SecretUsageReport::of(Some(keyring), at(0), true, at(now)).secrets;
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

        let described = SecretUsageReport::of(Some(&keyring), at(0), true, at(7 * HOUR + 1500)).secrets;
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
        let secrets = SecretUsageReport::of(Some(&keyring), at(0), false, at(0));
        assert_eq!(secrets.secrets.len(), MAX_LISTED);
        assert!(secrets.note.unwrap().contains("1000 of 1001 secrets"));
        assert!(
            SecretUsageReport::of(None, at(0), true, at(0))
                .note
                .unwrap()
                .contains("no webhooks")
        );
    }
}
