//! Watches whether bodies still have the form that is read, before a column is empty for it.
//!
//! Looks into the first hundred bodies after the start and after a newer version of Shopify's API, then
//! into one of two hundred. Only what looks whole counts: a subscription that leaves fields out is
//! another check's.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use tracing::warn;

use crate::health::Notice;
use crate::shopify::{JsonType, SeenMember, Topic, compare_body};

/// Bodies that are all looked into.
const FIRST: u32 = 100;
/// Of later ones, one in so many.
const ONE_IN: u32 = 200;
/// Bytes of a body that is looked into, so that one look takes a few milliseconds at most.
const LARGEST: usize = 256 << 10;
/// Bodies in a row without a member that prove it gone. Of another type one is enough; as many right
/// ones take it back.
const PROOF: u8 = 20;
/// Names of members that are not read and that are remembered.
const UNREAD: usize = 2000;
/// Members that the report names.
const NAMED: usize = 5;

/// What the bodies of this process showed.
#[derive(Debug)]
pub(super) struct BodyForms {
    bodies: AtomicU32,
    /// The newest version, as a number: 202607.
    version: AtomicU32,
    shown: Mutex<ShownForms>,
    notice: Notice,
    new_members: Counter,
}

#[derive(Debug, Default)]
struct ShownForms {
    /// Members that were not as they are read.
    wrong: BTreeMap<&'static str, WrongMember>,
    unread: BTreeSet<String>,
}

#[derive(Debug)]
struct WrongMember {
    proof: u8,
    /// Its type; none where it is gone.
    found: Option<JsonType>,
}

impl BodyForms {
    /// `notice` has what is wrong.
    pub(super) fn new(notice: Notice, new_members: Counter) -> Self {
        Self {
            bodies: AtomicU32::new(0),
            version: AtomicU32::new(0),
            shown: Mutex::default(),
            notice,
            new_members,
        }
    }

    /// Takes a body that became an event, in the version that its header tells.
    pub(super) fn look(&self, topic: Option<&str>, version: Option<&str>, body: &[u8]) {
        let Some(version) = version.and_then(|text| text.replace('-', "").parse().ok()) else {
            return;
        };
        if self.version.fetch_max(version, Ordering::Relaxed) < version {
            self.bodies.store(0, Ordering::Relaxed);
        }
        let number = self.bodies.fetch_add(1, Ordering::Relaxed);
        let is_first = number < FIRST;
        if body.len() > LARGEST || !(is_first || number.is_multiple_of(ONE_IN)) {
            return;
        }
        let (Ok(topic), Ok(body)) = (Topic::parse(topic), serde_json::from_slice::<Value>(body)) else {
            return;
        };
        if !body["admin_graphql_api_id"].is_string() && !body["order_edit"].is_object() {
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let new = shown.take(topic, &body);
        if !is_first {
            self.new_members.inc_by(new);
        }
        self.notice.set(shown.text());
    }
}

impl ShownForms {
    /// Answers how many members were never seen before and are not read.
    fn take(&mut self, topic: Topic, body: &Value) -> u64 {
        // Of many lines one that has a member is enough, and one of another type, too.
        let (mut members, mut new) = (BTreeMap::<&'static str, Option<Option<JsonType>>>::new(), 0);
        compare_body(topic, body, |seen| match seen {
            SeenMember::AsRead(path) => {
                let known = members.entry(path).or_insert(None);
                if *known == Some(None) {
                    *known = None;
                }
            }
            SeenMember::Gone(path) => {
                members.entry(path).or_insert(Some(None));
            }
            SeenMember::Changed(path, found) => {
                members.insert(path, Some(Some(found)));
            }
            SeenMember::Unread(path) => {
                if self.unread.len() < UNREAD && self.unread.insert(path) {
                    new += 1;
                }
            }
        });
        for (path, wrong) in members {
            match wrong {
                None => self.right(path),
                Some(found) => self.wrong(path, found),
            }
        }
        new
    }

    fn right(&mut self, path: &'static str) {
        if let Entry::Occupied(mut entry) = self.wrong.entry(path) {
            let wrong = entry.get_mut();
            wrong.proof = if wrong.proof < PROOF { 0 } else { wrong.proof - 1 };
            if wrong.proof < PROOF {
                entry.remove();
            }
        }
    }

    fn wrong(&mut self, path: &'static str, found: Option<JsonType>) {
        let wrong = self.wrong.entry(path).or_insert(WrongMember { proof: 0, found });
        let was_proven = wrong.proof >= PROOF;
        wrong.found = found;
        wrong.proof = match found {
            Some(_) => 2 * PROOF,
            None => (wrong.proof + 1).min(2 * PROOF),
        };
        if wrong.proof >= PROOF && !was_proven {
            warn!(
                member = path,
                found = found.map_or_else(|| "nothing".to_owned(), |found| found.to_string()),
                "bodies of Shopify's webhooks have another form than this release reads"
            );
        }
    }

    fn text(&self) -> Option<String> {
        let proven = Vec::from_iter(self.wrong.iter().filter(|(_, wrong)| wrong.proof >= PROOF));
        let named = proven.iter().take(NAMED).map(|(path, wrong)| match wrong.found {
            Some(found) => format!("{path} is {found}"),
            None => format!("{path} is gone"),
        });
        let named = Vec::from_iter(named).join(", ");
        let more = match proven.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!proven.is_empty()).then(|| {
            format!(
                "bodies of Shopify's webhooks have another form than this release reads ({named}{more}): look for a newer \
                 release, or set the version of the API back in the app that subscribes"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sample_orders::Generator;

    #[test]
    fn what_lacks_in_twenty_bodies_or_is_of_another_type_in_one_is_said_until_it_is_right_again() {
        let (notice, counter) = (Notice::default(), Counter::default());
        let forms = BodyForms::new(notice.clone(), counter.clone());
        let topic = Some("orders/updated");
        let generator = Generator::new(3, Generator::epoch());
        let body = |change: &dyn Fn(&mut Value)| {
            let mut body = serde_json::from_str(&generator.body("orders/updated", "a.myshopify.com", 7)).unwrap();
            change(&mut body);
            body.to_string()
        };
        let look = |change: &dyn Fn(&mut Value), version: &str, times: u32| {
            let body = body(change);
            for _ in 0..times {
                forms.look(topic, Some(version), body.as_bytes());
            }
            notice.text().unwrap_or_default()
        };
        let remove = |name: &'static str| {
            move |body: &mut Value| {
                body.as_object_mut().unwrap().remove(name).unwrap();
            }
        };
        assert_eq!(look(&|_| (), "2026-04", 10), "");
        assert_eq!(look(&remove("current_total_tax"), "2026-04", 19), "");
        assert!(look(&remove("current_total_tax"), "2026-04", 1).contains("(current_total_tax is gone):"));
        assert_eq!(look(&|_| (), "2026-04", 1), "");
        let price = |body: &mut Value| body["line_items"][0]["price"] = json!(1);
        assert!(look(&price, "2026-04", 1).contains("line_items[].price is number"));
        assert_ne!(look(&|_| (), "2026-04", 20), "", "one right body proves nothing");
        assert_eq!(look(&|_| (), "2026-04", 1), "");
        // What is no whole body of Shopify's says nothing.
        assert_eq!(look(&remove("admin_graphql_api_id"), "2026-04", 1), "");
        forms.look(topic, None, body(&price).as_bytes());
        assert_eq!(notice.text(), None);
        // Later ones are looked into now and then, and all again once the version is a newer one.
        look(&|_| (), "2026-04", 100);
        assert_eq!(look(&price, "2026-04", 20), "");
        let added = |body: &mut Value| body["brand_new"] = json!(1);
        look(&added, "2026-04", 200);
        assert_eq!(counter.get(), 1);
        assert_ne!(look(&price, "2026-07", 1), "");
    }
}
