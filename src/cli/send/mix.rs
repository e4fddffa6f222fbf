//! The plan of a run: which deliveries, in which order.
//!
//! Pure: count, shares and seed decide it. Invariants: a share is met exactly, to the nearest
//! delivery; a duplicate repeats a delivery that is close to it.

use std::collections::VecDeque;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Deliveries of a mix at most: its plan is in memory.
pub(super) const MOST: u64 = 1_000_000;
/// Orders whose histories are interleaved.
const UNDER_WAY: u64 = 50;
/// Deliveries that a late one is overtaken by, at most.
const DELAY: usize = 100;
/// How far back a duplicate reaches, in deliveries.
const RECENT: usize = 200;

/// Kind of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeliveryKind {
    /// Valid, in order.
    Event,
    /// Valid, after others that happened later.
    Late,
    /// Another delivery again.
    Duplicate,
    /// Signed with the secret before the newest.
    OldSecret,
    /// With a wrong, cut or absent signature.
    BadSignature,
    /// Signed, and cannot become an event.
    Malformed,
}

impl DeliveryKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::OldSecret => "old secret",
            Self::BadSignature => "bad signature",
            Self::Malformed => "malformed",
        }
    }
}

/// A part of all deliveries, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Percentage(Decimal);

impl Percentage {
    pub(super) const fn percent(percent: u32) -> Self {
        Self(Decimal::from_parts(percent, 0, 0, false, 0))
    }

    fn of(self, count: u64) -> u64 {
        (Decimal::from(count) * self.0 / Decimal::ONE_HUNDRED)
            .round()
            .to_u64()
            .unwrap_or_default()
    }
}

impl FromStr for Percentage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let share = Decimal::from_str(number).map_err(|_| "a share is written 5%")?;
        if share < Decimal::ZERO || share > Decimal::ONE_HUNDRED {
            return Err("a share is from 0% to 100%");
        }
        Ok(Self(share))
    }
}

/// Shares of the kinds other than [`DeliveryKind::Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shares {
    pub(super) late: Percentage,
    pub(super) duplicates: Percentage,
    pub(super) old_secrets: Percentage,
    pub(super) bad_signatures: Percentage,
    pub(super) malformed: Percentage,
}

impl Shares {
    fn all(self) -> [(DeliveryKind, Percentage); 5] {
        [
            (DeliveryKind::Late, self.late),
            (DeliveryKind::Duplicate, self.duplicates),
            (DeliveryKind::OldSecret, self.old_secrets),
            (DeliveryKind::BadSignature, self.bad_signatures),
            (DeliveryKind::Malformed, self.malformed),
        ]
    }

    /// Whether they are at most 100% together.
    pub(super) fn fit(self) -> bool {
        self.all().iter().map(|(_, share)| share.0).sum::<Decimal>() <= Decimal::ONE_HUNDRED
    }

    pub(super) fn are_none(self) -> bool {
        self == Self::default()
    }
}

/// One planned delivery: its kind, and which step of which order's history it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlannedDelivery {
    pub(super) kind: DeliveryKind,
    /// Number of its webhook; only duplicates share one.
    pub(super) id: u64,
    pub(super) order: u64,
    pub(super) step: usize,
}

/// All deliveries of a run.
pub(super) enum Mix {
    /// One of each of so many orders.
    Plain(u64),
    /// As planned, in this order.
    Mixed(Vec<PlannedDelivery>),
}

impl Mix {
    /// `steps` has the length of each order's history; at most [`MOST`] deliveries.
    pub(super) fn new(count: u64, shares: Shares, seed: u64, steps: impl Fn(u64) -> usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut orders = Orders::new(count, steps);
        let mut recent = VecDeque::with_capacity(RECENT);
        let mut placed = Vec::new();
        for (id, (place, kind)) in (0..).zip(kinds(count, shares, &mut rng).into_iter().enumerate()) {
            let known: Option<PlannedDelivery> = match recent.len() {
                0 => None,
                all => recent.get(rng.random_range(0..all)).copied(),
            };
            let item = match (kind, known) {
                (DeliveryKind::Duplicate, Some(known)) => PlannedDelivery { kind, ..known },
                (DeliveryKind::BadSignature | DeliveryKind::Malformed, Some(known)) => {
                    PlannedDelivery { kind, id, ..known }
                }
                // Nothing was sent yet that could be repeated.
                (DeliveryKind::Duplicate, None) => orders.event(DeliveryKind::Event, id, &mut rng),
                _ => orders.event(kind, id, &mut rng),
            };
            if matches!(
                item.kind,
                DeliveryKind::Event | DeliveryKind::Late | DeliveryKind::OldSecret
            ) {
                if recent.len() == RECENT {
                    recent.pop_front();
                }
                recent.push_back(item);
            }
            let delay = if kind == DeliveryKind::Late {
                rng.random_range(1..=DELAY)
            } else {
                0
            };
            placed.push((place + delay, item));
        }
        placed.sort_by_key(|(place, _)| *place);
        Self::Mixed(placed.into_iter().map(|(_, item)| item).collect())
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Plain(count) => *count,
            Self::Mixed(items) => items.len() as u64,
        }
    }

    pub(super) fn item(&self, number: u64) -> Option<PlannedDelivery> {
        match self {
            Self::Plain(count) => (number < *count).then_some(PlannedDelivery {
                kind: DeliveryKind::Event,
                id: number,
                order: number,
                step: 0,
            }),
            Self::Mixed(items) => items.get(usize::try_from(number).ok()?).copied(),
        }
    }
}

/// So many of each, shuffled.
fn kinds(count: u64, shares: Shares, rng: &mut StdRng) -> Vec<DeliveryKind> {
    let mut kinds = Vec::new();
    for (kind, share) in shares.all() {
        kinds.extend((0..share.of(count)).map(|_| kind));
    }
    let count = usize::try_from(count.min(MOST)).unwrap_or_default();
    kinds.resize(count, DeliveryKind::Event);
    kinds.shuffle(rng);
    kinds
}

/// Orders in the midst of their histories, many at once.
struct Orders<F> {
    steps: F,
    under_way: Vec<UnderWay>,
    at_once: usize,
    next: u64,
}

struct UnderWay {
    order: u64,
    step: usize,
    steps: usize,
}

impl<F: Fn(u64) -> usize> Orders<F> {
    fn new(count: u64, steps: F) -> Self {
        Self {
            steps,
            under_way: Vec::new(),
            // Some histories are complete even among few deliveries.
            at_once: usize::try_from((count / 10).clamp(1, UNDER_WAY)).unwrap_or(1),
            next: 0,
        }
    }

    fn event(&mut self, kind: DeliveryKind, id: u64, rng: &mut StdRng) -> PlannedDelivery {
        while self.under_way.len() < self.at_once {
            self.under_way.push(UnderWay {
                order: self.next,
                step: 0,
                steps: (self.steps)(self.next),
            });
            self.next += 1;
        }
        let at = rng.random_range(0..self.under_way.len());
        let (order, step) = (self.under_way[at].order, self.under_way[at].step);
        self.under_way[at].step += 1;
        if self.under_way[at].step >= self.under_way[at].steps {
            self.under_way.swap_remove(at);
        }
        PlannedDelivery { kind, id, order, step }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    const SHARES: Shares = Shares {
        late: Percentage::percent(10),
        duplicates: Percentage::percent(5),
        old_secrets: Percentage::percent(10),
        bad_signatures: Percentage::percent(2),
        malformed: Percentage::percent(3),
    };

    fn items(count: u64, seed: u64) -> Vec<PlannedDelivery> {
        let Mix::Mixed(items) = Mix::new(count, SHARES, seed, |order| 1 + usize::try_from(order % 5).unwrap()) else {
            unreachable!("it is mixed");
        };
        items
    }

    #[test]
    fn a_seed_decides_all() {
        assert_eq!(items(500, 7), items(500, 7));
        assert_ne!(items(500, 7), items(500, 8));
        assert!(items(0, 7).is_empty());
    }

    #[test]
    fn shares_are_met_exactly() {
        let mut counts = BTreeMap::new();
        for item in items(1000, 3) {
            *counts.entry(item.kind).or_insert(0) += 1;
        }
        let expected = [
            (DeliveryKind::Event, 700),
            (DeliveryKind::Late, 100),
            (DeliveryKind::Duplicate, 50),
            (DeliveryKind::OldSecret, 100),
            (DeliveryKind::BadSignature, 20),
            (DeliveryKind::Malformed, 30),
        ];
        assert_eq!(counts, BTreeMap::from(expected));
    }

    #[test]
    fn only_duplicates_share_a_webhook_and_with_what_they_repeat() {
        let items = items(2000, 11);
        let mut by_id: HashMap<u64, Vec<PlannedDelivery>> = HashMap::new();
        for item in &items {
            by_id.entry(item.id).or_default().push(*item);
        }
        for same in by_id.values() {
            let firsts = same.iter().filter(|item| item.kind != DeliveryKind::Duplicate).count();
            assert_eq!(firsts, 1);
            assert!(
                same.iter()
                    .all(|item| (item.order, item.step) == (same[0].order, same[0].step))
            );
        }
        assert!(by_id.len() < items.len());
    }

    /// What is on time tells each order in its order; what is late does not.
    #[test]
    fn only_late_ones_are_out_of_order() {
        let mut newest: HashMap<u64, usize> = HashMap::new();
        let mut overtaken = 0;
        for item in items(2000, 5) {
            if matches!(item.kind, DeliveryKind::Event | DeliveryKind::OldSecret) {
                let newest = newest.entry(item.order).or_default();
                assert!(*newest <= item.step);
                *newest = item.step;
            } else if item.kind == DeliveryKind::Late {
                overtaken += u32::from(newest.get(&item.order).is_some_and(|newest| *newest > item.step));
            }
        }
        assert!(overtaken > 20, "{overtaken}");
    }

    #[test]
    fn shares_are_percents() {
        assert_eq!("5%".parse(), Ok(Percentage::percent(5)));
        assert_eq!("5".parse(), Ok(Percentage::percent(5)));
        assert_eq!("0.5%".parse::<Percentage>().map(|share| share.of(1000)), Ok(5));
        for wrong in ["", "%", "-1%", "101%", "a few"] {
            assert!(wrong.parse::<Percentage>().is_err(), "{wrong}");
        }
        assert!(SHARES.fit());
        let too_much = Shares {
            late: Percentage::percent(90),
            ..SHARES
        };
        assert!(!too_much.fit());
    }
}
