//! Dead letters about one order.
//!
//! A dead letter that carries an `order_id` is compared by it. One without (an earlier release wrote it, or its body names no
//! order that can be read) is looked into, and each is where a name is asked for; how many are is bounded.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::timeline::from_dead_letter;
use super::{Trace, TraceQuery, mentions};
use crate::event::NamedOrder;
use crate::operations::dead_letters::DeadLetter;
use crate::operations::entry_view::{last_text, text, unpacked};
use crate::operations::events::appended_at;
use crate::operations::{Operations, OperationsError};
use crate::shopify;
use crate::stream::codec::Unpacker;
use crate::stream::{Entry, StreamId};

/// Dead letters looked into however long it takes, and further ones for [`TIME`].
const AT_LEAST: usize = 100;
/// See [`AT_LEAST`].
const TIME: Duration = Duration::from_millis(150);

/// Tells which dead letters are about one of some orders.
pub(super) struct DeadLetterFilter {
    orders: Vec<String>,
    /// Whether one of them is a name, which dead letters do not carry.
    has_name: bool,
    unpacker: Unpacker,
    body_limit: usize,
}

impl DeadLetterFilter {
    pub(super) fn new(orders: &[String], body_limit: usize) -> Self {
        let is_name = |order: &String| !order.bytes().all(|byte| byte.is_ascii_digit());
        Self {
            has_name: orders.iter().any(is_name),
            orders: orders.to_vec(),
            unpacker: Unpacker::default(),
            body_limit,
        }
    }

    /// What the dead letter's own `order_id` says; `None` where it has to be looked into.
    pub(super) fn by_id(&self, dead_letter: &Entry) -> Option<bool> {
        let order_id = last_text(dead_letter, "order_id")?;
        let is_about = self.orders.contains(&order_id);
        (is_about || !self.has_name).then_some(is_about)
    }

    /// What its payload or body says.
    pub(super) fn by_content(&mut self, dead_letter: &Entry) -> bool {
        if let Some(payload) = dead_letter.fields.get("payload") {
            return NamedOrder::of_payload(payload).is_any_of(&self.orders);
        }
        let body = unpacked(dead_letter, &mut self.unpacker, self.body_limit).unwrap_or_default();
        let order = shopify::named_order(text(dead_letter, "topic").as_deref(), &body);
        if order.order_id.is_some() {
            return order.is_any_of(&self.orders);
        }
        // It may be anything; a text that names the order is all that can be said of it.
        let body = String::from_utf8_lossy(&body);
        self.orders.iter().any(|order| mentions(&body, order))
    }

    pub(super) fn is_about(&mut self, dead_letter: &Entry) -> bool {
        self.by_id(dead_letter).unwrap_or_else(|| self.by_content(dead_letter))
    }
}

impl Operations {
    pub(super) async fn search_dead_letters(
        &self,
        query: &TraceQuery,
        wanted: &[String],
        trace: &mut Trace,
    ) -> Result<(), OperationsError> {
        let mut filter = DeadLetterFilter::new(wanted, self.body_limit);
        let (mut looked_into, mut left, mut spent) = (0, 0_u64, Duration::ZERO);
        let mut told = HashSet::new();
        let mut pager = self.page_dead_letters(StreamId::MAX, usize::MAX);
        while let Some(page) = pager.page().await? {
            trace.letters_looked_at += page.len() as u64;
            let oldest = page.last().and_then(|dead_letter| appended_at(dead_letter.id));
            trace.letters_looked_back_to = oldest.or(trace.letters_looked_back_to.take());
            for dead_letter in &page {
                let is_about = match filter.by_id(dead_letter) {
                    Some(is_about) => is_about,
                    None if looked_into >= AT_LEAST && spent >= TIME => {
                        left += 1;
                        false
                    }
                    None => {
                        let began = Instant::now();
                        let is_about = filter.by_content(dead_letter);
                        (looked_into, spent) = (looked_into + 1, spent + began.elapsed());
                        is_about
                    }
                };
                let is_of_shop = || query.shop.is_none() || query.shop == shop(dead_letter);
                if is_about && is_of_shop() {
                    let known = DeadLetter::of(dead_letter);
                    // Of a dead letter and its copies, the newest is told.
                    if told.insert(known.original()) {
                        trace.moments.push(from_dead_letter(known));
                    }
                }
            }
        }
        let count = trace.letters_looked_at;
        if !pager.is_at_end().await? {
            trace.unknown.push(format!(
                "Only the newest {count} dead letters were looked through; an older one may be about this order."
            ));
        }
        if left > 0 {
            trace.unknown.push(format!(
                "{left} of the {count} dead letters were not looked into: their order_id is missing, or is not the name \
                 that was asked for. Ask by the order's id, or look through `dead-letters list`."
            ));
        }
        Ok(())
    }
}

/// The shop of a dead letter, also of one that an earlier release wrote.
fn shop(dead_letter: &Entry) -> Option<String> {
    let payload = || NamedOrder::of_payload(dead_letter.fields.get("payload")?).shop;
    last_text(dead_letter, "shop").or_else(payload)
}
