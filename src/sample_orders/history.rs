//! The history of a sample order, as the webhooks that Shopify sends of it.
//!
//! Invariant: the history is possible: nothing is paid twice, what is cancelled is not fulfilled,
//! and nothing follows the deletion. As from a shop, `orders/updated` repeats a change within the
//! same second.

use rand::RngExt;
use rand::rngs::StdRng;

/// Minutes between two changes.
const PAUSE: std::ops::RangeInclusive<i64> = 1..=90;
/// When a plain `refunds/create` happened, minutes after the order.
pub(super) const USUAL_REFUND: i64 = 12;

/// How far an order has come. Times are minutes after its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) updated: i64,
    pub(super) is_paid: bool,
    pub(super) refunded: Option<i64>,
    pub(super) fulfillment: Option<&'static str>,
    pub(super) is_cancelled: bool,
}

/// One webhook of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderStep {
    /// Topic of the webhook.
    pub topic: &'static str,
    pub(super) progress: Progress,
}

/// Every step from creation on, at least one.
pub(super) fn history(rng: &mut StdRng) -> Vec<OrderStep> {
    let mut builder = HistoryBuilder {
        progress: Progress::default(),
        steps: Vec::new(),
    };
    let pays_at_once = rng.random_bool(0.7);
    builder.then(rng, "orders/create", |progress| progress.is_paid = pays_at_once);
    if rng.random_bool(0.15) {
        builder.then(rng, "orders/edited", |_| ());
    }
    let is_cancelled = rng.random_bool(0.1);
    if !pays_at_once && !is_cancelled {
        builder.then(rng, "orders/paid", |progress| progress.is_paid = true);
    }
    if is_cancelled {
        builder.then(rng, "orders/cancelled", |progress| progress.is_cancelled = true);
    } else if rng.random_bool(0.8) {
        if rng.random_bool(0.2) {
            builder.then(rng, "orders/partially_fulfilled", |progress| {
                progress.fulfillment = Some("partial")
            });
        }
        builder.then(rng, "orders/fulfilled", |progress| {
            progress.fulfillment = Some("fulfilled")
        });
    }
    if !is_cancelled && rng.random_bool(0.25) {
        builder.then(rng, "refunds/create", |progress| {
            progress.refunded = Some(progress.updated)
        });
    }
    if rng.random_bool(0.05) {
        builder.then(rng, "orders/delete", |_| ());
    }
    builder.steps
}

struct HistoryBuilder {
    progress: Progress,
    steps: Vec<OrderStep>,
}

impl HistoryBuilder {
    fn then(&mut self, rng: &mut StdRng, topic: &'static str, change: impl FnOnce(&mut Progress)) {
        let is_first = self.steps.is_empty();
        if !is_first {
            self.progress.updated += rng.random_range(PAUSE);
        }
        change(&mut self.progress);
        self.push(topic);
        // What carries no order is always followed by the order as it is now.
        let is_thin = matches!(topic, "orders/edited" | "refunds/create");
        if is_thin || (topic != "orders/delete" && !is_first && rng.random_bool(0.5)) {
            self.push("orders/updated");
        }
    }

    fn push(&mut self, topic: &'static str) {
        self.steps.push(OrderStep {
            topic,
            progress: self.progress,
        });
    }
}

impl Progress {
    /// Progress of an order of which only one webhook is sent.
    pub(super) fn of_topic(topic: &str, is_pending_at_first: bool, is_refunded: bool) -> Self {
        let after = [
            "orders/create",
            "orders/paid",
            "orders/updated",
            "orders/partially_fulfilled",
            "orders/fulfilled",
            "orders/cancelled",
        ];
        let steps = after.iter().position(|known| *known == topic).unwrap_or(2);
        Self {
            updated: i64::try_from(steps).unwrap_or_default() * 7,
            is_paid: topic != "orders/cancelled" && !(topic == "orders/create" && is_pending_at_first),
            refunded: (topic == "orders/updated" && is_refunded).then_some(USUAL_REFUND),
            fulfillment: match topic {
                "orders/fulfilled" => Some("fulfilled"),
                "orders/partially_fulfilled" => Some("partial"),
                _ => None,
            },
            is_cancelled: topic == "orders/cancelled",
        }
    }

    pub(super) fn financial_status(self) -> &'static str {
        match self {
            Self { is_cancelled: true, .. } => "voided",
            Self { refunded: Some(_), .. } => "partially_refunded",
            Self { is_paid: true, .. } => "paid",
            Self { .. } => "pending",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn histories_could_have_happened_and_differ() {
        let mut topics = BTreeSet::new();
        for seed in 0..500 {
            let steps = history(&mut StdRng::seed_from_u64(seed));
            assert_eq!(steps, history(&mut StdRng::seed_from_u64(seed)));
            assert_eq!(steps[0].topic, "orders/create");
            assert!(steps.is_sorted_by_key(|step| step.progress.updated));
            let place = |topic| steps.iter().position(|step| step.topic == topic);
            assert!(place("orders/cancelled").is_none() || place("orders/fulfilled").is_none());
            assert!(place("orders/delete").is_none_or(|at| at + 1 == steps.len()));
            assert!(place("orders/paid").is_none() || !steps[0].progress.is_paid);
            topics.extend(steps.iter().map(|step| step.topic));
        }
        assert_eq!(topics.len(), 9, "{topics:?}");
    }
}
