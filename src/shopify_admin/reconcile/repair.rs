//! Asks for orders in full, and appends their events.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

use super::{OrderFinding, ReconcileError, Reconciler, Reconciliation, number};
use crate::event::{OrderEvent, Provenance, Timestamp};
use crate::shopify::{AdminOrder, Asked, Request, ShopZone, deleted_order};
use crate::shopify_admin::{AdminClient, AdminError, documents};
use crate::stream::codec;
use crate::stream::{Appended, Destination, NewEntry, StreamError, Writer, spread};

/// Orders of one query at first; fewer where they cost more points than one may.
const ORDERS: usize = 20;

/// Repairs orders of one shop.
pub(super) struct Repairer<'a> {
    client: &'a AdminClient,
    writer: Mutex<Box<dyn Writer>>,
    zone: ShopZone,
    dry_run: bool,
}

impl<'a> Repairer<'a> {
    pub(super) fn new(of: &Reconciler<'a>, zone: ShopZone) -> Self {
        Self {
            client: of.client,
            writer: Mutex::new(of.stream.writer()),
            zone,
            dry_run: of.dry_run,
        }
    }

    /// Appends these orders as Shopify has them now.
    pub(super) async fn repair(&self, ids: &[String], report: &mut Reconciliation) -> Result<(), ReconcileError> {
        if self.dry_run {
            return Ok(());
        }
        let mut failures = Vec::new();
        let mut pages = OrderPages::of(ids);
        while let Some((ids, nodes)) = pages.next(self.client).await? {
            let received_at = OffsetDateTime::now_utc();
            let request = self.request(received_at);
            let mut entries = Vec::new();
            for (id, mut node) in ids.iter().zip(nodes) {
                // Deleted since it was listed.
                if node.is_null() {
                    failures.push((id.clone(), "Shopify no longer has it".to_owned()));
                    continue;
                }
                self.complete(&mut node).await?;
                let made =
                    AdminOrder::of(&node, self.zone).and_then(|order| Ok(entry(&order.event(request)?, received_at)));
                match made {
                    Ok(Ok(entry)) => entries.push((id.clone(), entry)),
                    Ok(Err(error)) => failures.push((id.clone(), error.to_string())),
                    Err(error) => failures.push((id.clone(), error.to_string())),
                }
            }
            self.append(entries, report, &mut failures).await?;
        }
        for (id, why) in failures {
            report.find(&id, OrderFinding::Failed, Some(why));
        }
        Ok(())
    }

    /// Appends the deletion of these orders: gid and time.
    pub(super) async fn delete(
        &self,
        deleted: &[(String, String)],
        report: &mut Reconciliation,
    ) -> Result<(), ReconcileError> {
        let (mut entries, mut failures) = (Vec::new(), Vec::new());
        let received_at = OffsetDateTime::now_utc();
        for (gid, at) in deleted {
            let id = number(gid).to_owned();
            report.find(&id, OrderFinding::Deleted, None);
            let event = deleted_order(gid, at, self.zone, self.request(received_at));
            match event.map(|event| entry(&event, received_at)) {
                Ok(Ok(entry)) => entries.push((id, entry)),
                Ok(Err(error)) => failures.push((id, error.to_string())),
                Err(error) => failures.push((id, error.to_string())),
            }
        }
        if !self.dry_run {
            self.append(entries, report, &mut failures).await?;
        }
        for (id, why) in failures {
            report.find(&id, OrderFinding::Failed, Some(why));
        }
        Ok(())
    }

    /// When these orders changed last, of those that Shopify has.
    pub(super) async fn updated(&self, ids: &[String]) -> Result<BTreeMap<String, OffsetDateTime>, ReconcileError> {
        let mut known = BTreeMap::new();
        let mut pages = OrderPages::of(ids);
        while let Some((ids, nodes)) = pages.next(self.client).await? {
            let at = |node: &Value| OffsetDateTime::parse(node["updatedAt"].as_str()?, &Rfc3339).ok();
            let found = ids.iter().zip(&nodes);
            known.extend(found.filter_map(|(id, node)| Some((id.clone(), at(node)?))));
        }
        Ok(known)
    }

    /// Asks for the lines of an order that its first page lacks.
    async fn complete(&self, order: &mut Value) -> Result<(), AdminError> {
        while order["lineItems"]["pageInfo"]["hasNextPage"] == true {
            let after = &order["lineItems"]["pageInfo"]["endCursor"];
            let variables = json!({"id": order["id"], "after": after});
            let answer: NodesAnswer = self.client.query(documents::ORDER_LINES, variables).await?;
            let page = answer
                .nodes
                .into_iter()
                .next()
                .map(|mut order| order["lineItems"].take());
            let mut page = page.unwrap_or_default();
            let (Value::Array(more), Some(lines)) = (page["nodes"].take(), order["lineItems"]["nodes"].as_array_mut())
            else {
                // Deleted meanwhile; what lacks lines is no order.
                return Ok(());
            };
            lines.extend(more);
            order["lineItems"]["pageInfo"] = page["pageInfo"].take();
        }
        Ok(())
    }

    /// Appends entries of these orders; those that are not taken are failures.
    pub(super) async fn append(
        &self,
        entries: Vec<(String, NewEntry)>,
        report: &mut Reconciliation,
        failures: &mut Vec<(String, String)>,
    ) -> Result<(), StreamError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (ids, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let appended = self.writer.lock().await.append(&entries).await;
        Appended::answered(&appended)?;
        for (id, outcome) in ids.into_iter().zip(appended) {
            match outcome {
                Appended::Accepted(_) | Appended::Duplicate(_) => report.repaired += 1,
                Appended::Full => failures.push((id, "the stream is at its cap".to_owned())),
                Appended::Conflict(_) => failures.push((id, "its event id is another event's".to_owned())),
                Appended::Refused(why) | Appended::TooLarge(why) | Appended::Unavailable(why) => {
                    failures.push((id, why));
                }
                Appended::Failed(error) => failures.push((id, error.to_string())),
            }
        }
        Ok(())
    }

    fn request(&self, received_at: OffsetDateTime) -> Request<'a> {
        Request {
            asked: Asked::Reconcile,
            shop: &self.client.identity().shop,
            received_at,
        }
    }
}

#[derive(Deserialize)]
struct NodesAnswer {
    nodes: Vec<Value>,
}

/// Orders that are asked for by id, some at a time.
struct OrderPages<'a> {
    rest: &'a [String],
    size: usize,
}

impl<'a> OrderPages<'a> {
    fn of(ids: &'a [String]) -> Self {
        Self {
            rest: ids,
            size: ORDERS,
        }
    }

    /// The next ids with their nodes, null where Shopify does not have one; `None` after the last.
    async fn next(&mut self, client: &AdminClient) -> Result<Option<(&'a [String], Vec<Value>)>, AdminError> {
        while !self.rest.is_empty() {
            let (page, rest) = self.rest.split_at(self.rest.len().min(self.size));
            let gids = Vec::from_iter(page.iter().map(|id| format!("gid://shopify/Order/{id}")));
            let asked = client
                .query::<NodesAnswer>(documents::ORDERS_BY_ID, json!({ "ids": gids }))
                .await;
            match asked {
                Ok(answer) => {
                    self.rest = rest;
                    return Ok(Some((page, answer.nodes)));
                }
                Err(AdminError::TooCostly { .. }) if self.size > 1 => self.size /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// The entry of an event that was asked for. Its id is made of order and state: the same again is the
/// same event.
pub(super) fn entry(event: &OrderEvent<'_>, received_at: OffsetDateTime) -> serde_json::Result<NewEntry> {
    let provenance = Provenance {
        source: Some(Asked::Reconcile.source().into()),
        shop: event.shop.clone(),
        received_at: Some(Timestamp::from(received_at).into_text()),
        ..Provenance::default()
    };
    Ok(NewEntry {
        destination: Destination::Stream,
        dedupe_key: event.event_id.to_string(),
        digest: [0; 16],
        spread: spread(event),
        fields: codec::encode(event, &provenance, None)?,
    })
}
