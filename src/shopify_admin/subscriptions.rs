//! The shop's webhook subscriptions, compared with those that are wanted.
//!
//! Shopify lists only what this app subscribed through the API: neither the subscriptions of
//! `shopify.app.toml` nor those of a shop's own settings. A shop that lists none of the wanted
//! topics is therefore not known to lack them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::AdminClient;
use super::documents::{self, PageCursor};
use super::error::AdminError;

/// Topics of which the warehouse's figures are made.
const WANTED: [&str; 7] = [
    "orders/create",
    "orders/updated",
    "orders/cancelled",
    "orders/delete",
    "refunds/create",
    "orders/edited",
    "order_transactions/create",
];
/// Members of an order without which rows would stay empty or states could not be compared.
const READ: [&str; 15] = [
    "id",
    "name",
    "created_at",
    "processed_at",
    "updated_at",
    "cancelled_at",
    "currency",
    "financial_status",
    "fulfillment_status",
    "total_price",
    "total_tax",
    "taxes_included",
    "customer",
    "line_items",
    "refunds",
];
/// Pages of the list, of 100 each.
const PAGES: usize = 20;

/// What is wanted of a shop.
#[derive(Debug, Clone, Default)]
pub struct WantedSubscriptions {
    /// Topics, such as `orders/create`; none: the usual ones.
    pub topics: Vec<String>,
    /// Where deliveries go; `None`: where most of them go already.
    pub uri: Option<String>,
}

/// What was found at one shop.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionReport {
    /// Its domain.
    pub shop: String,
    /// Where deliveries should go; `None` where that is not known.
    pub uri: Option<String>,
    /// Subscriptions of the wanted topics that Shopify lists. Where there are none, the shop may be
    /// subscribed in a way that it does not list, and nothing is found.
    pub listed: usize,
    /// What is wrong, by topic.
    pub findings: Vec<SubscriptionFinding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionFinding {
    /// The topic.
    pub topic: String,
    /// What kind of fault it is.
    pub kind: FindingKind,
    /// The same as a sentence.
    pub detail: String,
    /// The subscription at fault.
    pub subscription: Option<String>,
    /// Whether it was repaired.
    pub fixed: bool,
    /// Why it was not, in Shopify's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What is wrong with a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// There is none of that topic.
    Missing,
    /// Deliveries go elsewhere.
    Address,
    /// The format is not JSON.
    Format,
    /// A filter drops events.
    Filter,
    /// Deliveries lack members that are read.
    IncludeFields,
    /// There are several of one topic.
    Doubled,
    /// The version of the API has ended or is not released.
    ApiVersion,
}

impl FindingKind {
    /// Whether `fix` can repair it. A version is inherited from the app, and nothing is deleted.
    #[must_use]
    pub fn is_repairable(self) -> bool {
        !matches!(self, Self::Doubled | Self::ApiVersion)
    }
}

/// A subscription, as Shopify lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    id: String,
    topic: String,
    uri: String,
    format: String,
    filter: Option<String>,
    #[serde(default)]
    include_fields: Vec<String>,
    api_version: SubscriptionVersion,
}

#[derive(Debug, Clone, Deserialize)]
struct SubscriptionVersion {
    handle: String,
    supported: bool,
}

/// Compares a shop's subscriptions with those that are wanted.
///
/// # Errors
/// They cannot be read.
pub async fn check(client: &AdminClient, wanted: &WantedSubscriptions) -> Result<SubscriptionReport, AdminError> {
    let shop = client.identity().shop.clone();
    Ok(judge(shop, &list(client).await?, wanted))
}

/// Creates what is missing and changes what is wrong; deletes nothing. The report says what came of it.
///
/// # Errors
/// The shop does not answer. What Shopify refuses is in the report.
pub async fn fix(client: &AdminClient, report: &mut SubscriptionReport) -> Result<(), AdminError> {
    let Some(uri) = report.uri.clone() else {
        return Ok(());
    };
    let repairable = report.findings.iter_mut().filter(|one| one.kind.is_repairable());
    let mut by_subscription: BTreeMap<(String, Option<String>), Vec<&mut SubscriptionFinding>> = BTreeMap::new();
    for finding in repairable {
        let of = (finding.topic.clone(), finding.subscription.clone());
        by_subscription.entry(of).or_default().push(finding);
    }
    for ((topic, id), findings) in by_subscription {
        let errors = match id {
            None => create(client, &topic, &uri).await?,
            Some(id) => {
                // "If null, then all fields will be included": the schema's words on `includeFields`.
                let whole = json!({"uri": uri, "format": "JSON", "filter": "", "includeFields": null});
                let answer: Value = client
                    .query(documents::RESUBSCRIBE, json!({"id": id, "s": whole}))
                    .await?;
                let answer = &answer["webhookSubscriptionUpdate"];
                user_errors(answer).or_else(|| unchanged(&answer["webhookSubscription"], &uri))
            }
        };
        for finding in findings {
            finding.fixed = errors.is_none();
            finding.refused.clone_from(&errors);
        }
    }
    Ok(())
}

/// Creates one; answers what Shopify objects to.
async fn create(client: &AdminClient, topic: &str, uri: &str) -> Result<Option<String>, AdminError> {
    // Its name comes with each delivery, in X-Shopify-Name.
    let name = format!("orderstream-{}", topic.replace(['/', '_'], "-"));
    let variables = json!({"topic": api_topic(topic), "s": {"uri": uri, "format": "JSON", "name": name}});
    let answer: Value = client.query(documents::SUBSCRIBE, variables).await?;
    Ok(user_errors(&answer["webhookSubscriptionCreate"]))
}

/// Shopify's own words on why it did not do it.
fn user_errors(answer: &Value) -> Option<String> {
    let errors = answer["userErrors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words = errors.iter().filter_map(|error| error["message"].as_str());
    (!errors.is_empty()).then(|| words.collect::<Vec<_>>().join("; "))
}

/// What is still wrong with a subscription that Shopify says it has changed.
fn unchanged(now: &Value, uri: &str) -> Option<String> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    let is_right = [
        ("uri", now["uri"] == uri),
        ("format", now["format"] == "JSON"),
        ("filter", is_empty(&now["filter"])),
        ("includeFields", is_empty(&now["includeFields"])),
    ];
    let wrong = Vec::from_iter(
        is_right
            .into_iter()
            .filter(|(_, is_right)| !is_right)
            .map(|(name, _)| name),
    );
    (!wrong.is_empty()).then(|| {
        format!(
            "Shopify took the change and kept {}; change it in the app",
            wrong.join(", ")
        )
    })
}

async fn list(client: &AdminClient) -> Result<Vec<Subscription>, AdminError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct SubscriptionsAnswer {
        webhook_subscriptions: SubscriptionsPage,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct SubscriptionsPage {
        nodes: Vec<Subscription>,
        page_info: PageCursor,
    }
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..PAGES {
        let answer: SubscriptionsAnswer = client
            .query(documents::SUBSCRIPTIONS, json!({ "after": after }))
            .await?;
        found.extend(answer.webhook_subscriptions.nodes);
        after = answer.webhook_subscriptions.page_info.next();
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

/// The topic as the API names it: `ORDERS_CREATE`.
fn api_topic(topic: &str) -> String {
    topic.replace('/', "_").to_ascii_uppercase()
}

fn judge(shop: String, all: &[Subscription], wanted: &WantedSubscriptions) -> SubscriptionReport {
    let usual = || WANTED.map(str::to_owned).to_vec();
    let topics = if wanted.topics.is_empty() {
        usual()
    } else {
        wanted.topics.clone()
    };
    let of = |topic: &str| Vec::from_iter(all.iter().filter(|one| one.topic == api_topic(topic)));
    let listed = Vec::from_iter(topics.iter().flat_map(|topic| of(topic)));
    let uri = wanted.uri.clone().or_else(|| usual_address(&listed));
    let mut findings = Vec::new();
    // Where none is listed they may be made in another way, unless an address says what is wanted.
    if !listed.is_empty() || wanted.uri.is_some() {
        for topic in &topics {
            judge_topic(topic, &of(topic), uri.as_deref(), &mut findings);
        }
    }
    SubscriptionReport {
        shop,
        uri,
        listed: listed.len(),
        findings,
    }
}

/// Where most deliveries go.
fn usual_address(listed: &[&Subscription]) -> Option<String> {
    let mut counts = BTreeMap::new();
    for one in listed {
        *counts.entry(one.uri.as_str()).or_insert(0_usize) += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(uri, _)| uri.to_owned())
}

fn judge_topic(topic: &str, listed: &[&Subscription], uri: Option<&str>, findings: &mut Vec<SubscriptionFinding>) {
    let mut find = |one: Option<&Subscription>, kind, detail: String| {
        findings.push(SubscriptionFinding {
            topic: topic.to_owned(),
            kind,
            detail,
            subscription: one.map(|one| one.id.clone()),
            fixed: false,
            refused: None,
        });
    };
    let here = listed.iter().find(|one| Some(one.uri.as_str()) == uri);
    let Some(one) = here.or(listed.first()) else {
        find(None, FindingKind::Missing, "there is no subscription".to_owned());
        return;
    };
    if here.is_none() {
        find(Some(one), FindingKind::Address, format!("deliveries go to {}", one.uri));
    }
    if one.format != "JSON" {
        let detail = format!("the format is {}, and only JSON is read", one.format);
        find(Some(one), FindingKind::Format, detail);
    }
    if let Some(filter) = one.filter.as_deref().filter(|filter| !filter.is_empty()) {
        let detail = format!("the filter `{filter}` drops events");
        find(Some(one), FindingKind::Filter, detail);
    }
    let is_whole = topic.starts_with("orders/") && !matches!(topic, "orders/delete" | "orders/edited");
    let is_left_out = |field: &&str| !is_whole || !one.include_fields.iter().any(|included| included == field);
    let left_out = Vec::from_iter(READ.into_iter().filter(is_left_out));
    if !one.include_fields.is_empty() && !left_out.is_empty() {
        let detail = match is_whole {
            true => format!("deliveries lack {}", left_out.join(", ")),
            false => "deliveries have only some of their fields".to_owned(),
        };
        find(Some(one), FindingKind::IncludeFields, detail);
    }
    if listed.len() > 1 {
        let others = listed.iter().filter(|other| other.id != one.id);
        let others = others.map(|other| format!("{} to {}", other.id, other.uri));
        let detail = format!(
            "there are several: also {}; delete those that are not needed",
            Vec::from_iter(others).join(", ")
        );
        find(Some(one), FindingKind::Doubled, detail);
    }
    if !one.api_version.supported {
        let version = &one.api_version.handle;
        let detail = format!("version {version} of the API is not supported by Shopify; set another in the app");
        find(Some(one), FindingKind::ApiVersion, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://example.com/webhooks/orders";

    fn subscription(topic: &str) -> Subscription {
        Subscription {
            id: format!("gid://{topic}"),
            topic: api_topic(topic),
            uri: HERE.to_owned(),
            format: "JSON".to_owned(),
            filter: Some(String::new()),
            include_fields: Vec::new(),
            api_version: SubscriptionVersion {
                handle: "2026-07".to_owned(),
                supported: true,
            },
        }
    }

    fn found(change: impl FnOnce(&mut Vec<Subscription>)) -> Vec<(String, FindingKind)> {
        let mut all = WANTED.map(subscription).to_vec();
        change(&mut all);
        let report = judge(String::new(), &all, &WantedSubscriptions::default());
        report.findings.into_iter().map(|one| (one.topic, one.kind)).collect()
    }

    #[test]
    fn each_fault_is_found_and_nothing_else() {
        assert_eq!(found(|_| ()), []);
        let first = |kind| vec![("orders/create".to_owned(), kind)];
        assert_eq!(found(|all| drop(all.remove(0))), first(FindingKind::Missing));
        assert_eq!(found(|all| all[0].uri.push('x')), first(FindingKind::Address));
        assert_eq!(
            found(|all| all[0].format = "XML".to_owned()),
            first(FindingKind::Format)
        );
        assert_eq!(
            found(|all| all[0].filter = Some("id:1".to_owned())),
            first(FindingKind::Filter)
        );
        assert_eq!(
            found(|all| all[0].include_fields = READ.map(str::to_owned)[1..].to_vec()),
            first(FindingKind::IncludeFields)
        );
        assert_eq!(
            found(|all| all[0].include_fields = READ.map(str::to_owned).to_vec()),
            []
        );
        let elsewhere = Subscription {
            uri: "arn:aws:events".to_owned(),
            id: "gid://second".to_owned(),
            ..subscription("orders/create")
        };
        assert_eq!(found(|all| all.push(elsewhere)), first(FindingKind::Doubled));
        assert_eq!(
            found(|all| all[0].api_version.supported = false),
            first(FindingKind::ApiVersion)
        );
    }

    #[test]
    fn a_shop_that_lists_none_is_not_known_to_lack_any() {
        let other = [subscription("products/update")];
        let report = judge(String::new(), &other, &WantedSubscriptions::default());
        assert_eq!((report.listed, report.findings.len()), (0, 0));
        let wanted = WantedSubscriptions {
            uri: Some(HERE.to_owned()),
            topics: vec!["orders/paid".to_owned()],
        };
        assert_eq!(
            judge(String::new(), &other, &wanted).findings[0].kind,
            FindingKind::Missing
        );
    }
}
