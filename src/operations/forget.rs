//! Forgetting a customer or a shop: what is personal is taken out of warehouse, stream and dead
//! letters.
//!
//! A run writes its tombstones first, so that nothing which is loaded meanwhile brings the person
//! back, and announces itself by an event for other groups. Then it goes through the events, which
//! are loaded again and lose what is personal, through the stream, whose entries go once no group
//! needs them, and through the dead letters, which are written again without it. Any step may be
//! repeated. The run that verifies goes the same way and only counts.

mod export;
mod person;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::export::{ExportPerson, HeldRecord, PersonExport};
use self::person::{Person, without_person};
use super::api::{Carrier, Operation, or_null};
use super::context::{Operations, OperationsError};
use super::entry_view::{has_nul, last_text};
use super::history::TimeSpan;
use super::pager::Pager;
use super::redrive_run::IdRange;
use crate::event::EventRecord;
use crate::stream::{Appended, Destination, Entry, Fields, NewEntry, Range, ReadOrder, Stage, StreamId, spread_of_key};
use crate::warehouse::people::{People as _, PersonQuery};

/// Orders of one person.
const MAX_ORDERS: usize = 10_000;
/// Privacy requests that are looked through for further orders.
const MAX_REQUESTS: usize = 1000;
/// Rows of `order_events` that one step looks through for a customer.
const ROWS: usize = 10_000;
/// The same for a shop, all of whose events are loaded again; and entries of a log in one step.
const STEP: usize = 200;

/// Asks for a step of forgetting a customer, or every customer of a shop.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The customer's id; without it, every customer of the shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The shop; of a customer, only where several shops know that id, or none does. Empty: events that
    /// name no shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop: Option<String>,
    /// Further orders of the customer, beside those that a privacy request names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
    /// Changes nothing, counts what is still there.
    #[serde(default)]
    pub verify: bool,
    /// The `next` of the step before; without it, a run begins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub next: Option<ForgetRest>,
}

/// What is left of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRest {
    /// The shop.
    pub shop: String,
    /// All orders of the customer.
    #[serde(default)]
    pub orders: Vec<String>,
    /// What is still to be read from `order_events`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub stored: Option<TimeSpan>,
    /// What is still to be read from the stream.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_null")]
    pub stream: Option<IdRange>,
    /// What is still to be read from the dead letters.
    #[serde(
        rename = "letters",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_null"
    )]
    pub dead_letters: Option<IdRange>,
}

/// One step of a run: what it changed, or what it found where the run verifies.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ForgetStep {
    /// Rows of `order_events`.
    pub events: u64,
    /// Rows of `orders`; only where the run verifies.
    pub orders: u64,
    /// Entries of the stream.
    pub entries: u64,
    /// Entries of the stream that a group still needs, and that are still there.
    pub waiting: u64,
    /// Dead letters.
    #[serde(rename = "letters")]
    pub dead_letters: u64,
    /// Events in the spool of this node, which lose what is personal when they are loaded.
    pub spooled: u64,
    /// What is left of the run; null at its end.
    pub next: Option<ForgetRest>,
}

impl Operation for ForgetRequest {
    type Answer = ForgetStep;
    const PATH: &'static str = "/api/forget";
    const CARRIER: Carrier = Carrier::Body;

    async fn run(self, operations: &Operations) -> Result<ForgetStep, OperationsError> {
        self.validate()?;
        let this = operations.clone();
        operations.run_step(async move { this.forget_step(self).await }).await
    }
}

impl ForgetRequest {
    fn validate(&self) -> Result<(), OperationsError> {
        if self.customer.is_none() && self.shop.is_none() {
            return Err(OperationsError::Invalid("give a customer or a shop"));
        }
        let is_text = |text: &String| text.chars().count() <= 255 && !has_nul(text);
        let ids: Vec<_> = self.customer.iter().chain(&self.orders).collect();
        if ids.iter().any(|id| id.is_empty()) || !ids.into_iter().chain(&self.shop).all(is_text) {
            return Err(OperationsError::Invalid(
                "an id is empty, or an id or a shop is too long or holds a NUL",
            ));
        }
        if self.customer.is_none() && !self.orders.is_empty() {
            return Err(OperationsError::Invalid(
                "orders are a customer's: give the customer, too",
            ));
        }
        if self.orders.len() > MAX_ORDERS {
            return Err(OperationsError::Invalid("at most 10000 orders at once"));
        }
        Ok(())
    }
}

impl Operations {
    async fn forget_step(&self, request: ForgetRequest) -> Result<ForgetStep, OperationsError> {
        let mut step = ForgetStep::default();
        let rest = match request.next {
            Some(rest) => rest,
            None => self.begin_forgetting(&request, &mut step).await?,
        };
        let mut person = Person {
            shop: rest.shop.clone(),
            customer: request.customer,
            orders: rest.orders.clone(),
        };
        if request.verify {
            // Without the customer, an event about the order is about nobody.
            person.orders.clear();
        }
        let mut rest = rest;
        if let Some(span) = rest.stored.take() {
            rest.stored = self.forget_events(&person, span, request.verify, &mut step).await?;
        } else if let Some(range) = rest.stream.take() {
            rest.stream = self.forget_entries(&person, range, request.verify, &mut step).await?;
        } else if let Some(range) = rest.dead_letters.take() {
            rest.dead_letters = self
                .forget_dead_letters(&person, range, request.verify, &mut step)
                .await?;
        } else {
            step.spooled = self.spooled_entries(person).await?.len() as u64;
            if !request.verify {
                self.record("forget", "to the end", 0, step.spooled).await;
            }
            return Ok(step);
        }
        step.next = Some(rest);
        Ok(step)
    }

    /// Writes the tombstones, announces the run, and works out what there is to go through.
    async fn begin_forgetting(
        &self,
        request: &ForgetRequest,
        step: &mut ForgetStep,
    ) -> Result<ForgetRest, OperationsError> {
        let warehouse = self.warehouse()?;
        let (shop, customer) = (request.shop.as_deref(), request.customer.as_deref());
        let known = warehouse.orders_of(shop, customer, MAX_ORDERS).await?;
        let shop = match (shop, known.first()) {
            (Some(shop), _) => shop.to_owned(),
            (None, Some((shop, _))) if known.iter().all(|(other, _)| other == shop) => shop.clone(),
            (None, Some(_)) => {
                return Err(OperationsError::Invalid(
                    "several shops know that customer: give the shop",
                ));
            }
            (None, None) => {
                return Err(OperationsError::Invalid(
                    "no order names that customer: give the shop, too",
                ));
            }
        };
        let mut orders = request.orders.clone();
        if customer.is_some() {
            orders.extend(known.iter().map(|(_, order_id)| order_id.clone()));
            let requests = warehouse.erasure_requests(MAX_REQUESTS).await?.into_iter();
            let own = requests.filter(|request| request.shop == shop && request.customer_id.as_deref() == customer);
            orders.extend(own.flat_map(|request| request.order_ids));
            orders.sort_unstable();
            orders.dedup();
        }
        if request.verify {
            step.orders = known.len() as u64;
        } else {
            let person = Person {
                shop: shop.clone(),
                customer: request.customer.clone(),
                orders: orders.clone(),
            };
            warehouse.forget(&person.subjects()).await?;
            self.announce(&person).await?;
            self.record("forget", &format!("{} of {shop}, begun", person.what()), 0, 0)
                .await;
        }
        Ok(ForgetRest {
            shop,
            orders,
            stored: Some(TimeSpan {
                after: OffsetDateTime::UNIX_EPOCH,
                event_id: String::new(),
                before: OffsetDateTime::now_utc() + time::Duration::DAY,
            }),
            stream: self.whole(Destination::Stream).await?,
            dead_letters: self.whole(Destination::DeadLetters).await?,
        })
    }

    /// All of a log, as of now; `None` where it is empty.
    async fn whole(&self, log: Destination) -> Result<Option<IdRange>, OperationsError> {
        let newest = self
            .stream
            .range(Range::all(log, ReadOrder::NewestFirst, 1))
            .await?
            .entries;
        Ok(newest.first().map(|entry| IdRange {
            from: StreamId::MIN,
            to: entry.id,
        }))
    }

    /// Tells other groups whom to forget.
    async fn announce(&self, person: &Person) -> Result<(), OperationsError> {
        let event_id = Uuid::new_v4().to_string();
        let fields = person.announcement(&event_id);
        let fields = fields.map_err(|_| OperationsError::Invalid("the event cannot be written"))?;
        self.append_one(Destination::Stream, event_id, fields).await.map(drop)
    }

    /// Appends an entry; answers whether it is there.
    async fn append_one(&self, log: Destination, dedupe_key: String, fields: Fields) -> Result<bool, OperationsError> {
        let entry = NewEntry {
            destination: log,
            spread: spread_of_key(&dedupe_key),
            dedupe_key,
            digest: [0; 16],
            fields,
        };
        let appended = self.stream.writer().append(&[entry]).await;
        Appended::answered(&appended)?;
        Ok(matches!(
            appended.first(),
            Some(Appended::Accepted(_) | Appended::Duplicate(_))
        ))
    }

    async fn forget_events(
        &self,
        person: &Person,
        span: TimeSpan,
        verify: bool,
        step: &mut ForgetStep,
    ) -> Result<Option<TimeSpan>, OperationsError> {
        let warehouse = self.warehouse()?;
        let query = PersonQuery {
            shop: &person.shop,
            customer_id: person.customer.as_deref(),
            order_ids: &person.orders,
        };
        let rows = if person.customer.is_some() { ROWS } else { STEP };
        let (events, end) = warehouse.events_about(query, &span.place()?, span.before, rows).await?;
        for events in events.chunks(STEP) {
            let records: Vec<EventRecord<'_>> = events.iter().filter_map(|event| event.record().ok()).collect();
            // What another program changed so that it cannot be read.
            step.waiting += (events.len() - records.len()) as u64;
            if verify {
                let is_found =
                    |record: &&EventRecord<'_>| person.customer.is_some() || record.event.customer_id.is_some();
                step.events += records.iter().filter(is_found).count() as u64;
            } else {
                warehouse.load(&records).await?;
                step.events += records.len() as u64;
            }
        }
        Ok(end.map(|end| TimeSpan {
            after: end.received_at,
            event_id: end.event_id,
            ..span
        }))
    }

    /// Entries that every group is done with go, strictly below what it was given last: else Redis
    /// would not know its lag any more.
    async fn forget_entries(
        &self,
        person: &Person,
        bounds: IdRange,
        verify: bool,
        step: &mut ForgetStep,
    ) -> Result<Option<IdRange>, OperationsError> {
        let (found, rest) = self.about(person, Destination::Stream, bounds).await?;
        let mut done = Vec::new();
        for entry in found {
            let is_announcement = last_text(&entry, "source").is_some_and(|source| source == "forget");
            if verify {
                step.entries += u64::from(!is_announcement);
                continue;
            }
            let states = self.stream.entry_states(entry.id).await?;
            let next = self
                .stream
                .entry_states(entry.id.successor().unwrap_or(entry.id))
                .await?;
            let is_behind = next.iter().all(|state| state.stage != Stage::Unread);
            if is_behind && states.iter().all(|state| state.stage == Stage::Settled) {
                done.push(entry.id);
            } else {
                step.waiting += u64::from(!is_announcement);
            }
        }
        step.entries += self.stream.remove(Destination::Stream, &done).await?;
        Ok(rest)
    }

    async fn forget_dead_letters(
        &self,
        person: &Person,
        bounds: IdRange,
        verify: bool,
        step: &mut ForgetStep,
    ) -> Result<Option<IdRange>, OperationsError> {
        let (found, rest) = self.about(person, Destination::DeadLetters, bounds).await?;
        for dead_letter in found {
            let mut is_done = verify;
            if !verify {
                let fields = without_person(&dead_letter, self.body_limit);
                let key = format!("forgotten\n{}", dead_letter.id);
                is_done = self.append_one(Destination::DeadLetters, key, fields).await?;
                if is_done {
                    self.stream.remove(Destination::DeadLetters, &[dead_letter.id]).await?;
                }
            }
            step.dead_letters += u64::from(is_done);
            step.waiting += u64::from(!is_done);
        }
        Ok(rest)
    }

    /// What of the next page of a log is about the person, and what is left behind that page.
    async fn about(
        &self,
        person: &Person,
        log: Destination,
        bounds: IdRange,
    ) -> Result<(Vec<Entry>, Option<IdRange>), OperationsError> {
        let range = Range {
            from: bounds.from,
            to: bounds.to,
            ..Range::all(log, ReadOrder::OldestFirst, STEP)
        };
        let mut pager = Pager::new(&*self.stream, range, STEP);
        let mut page = pager.page().await?.unwrap_or_default();
        page.retain(|entry| person.is_in(entry, self.body_limit));
        let rest = pager.rest().map(|rest| IdRange {
            from: rest.from,
            ..bounds
        });
        Ok((page, rest))
    }
}
