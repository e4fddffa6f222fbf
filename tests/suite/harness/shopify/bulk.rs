//! Bulk operations: their limits, states and files, as Shopify has them since 2026-01.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use graphql_tools::parser::parse_query;
use graphql_tools::parser::query::{Definition, OperationDefinition, Selection, SelectionSet};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::shop::Shop;
use super::{render, search};

/// The lines of the file of a bulk operation over these orders: children of an order anywhere in it.
pub fn lines(orders: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for order in orders {
        let mut order = order.clone();
        for list in ["lineItems", "shippingLines", "agreements"] {
            let children = order.as_object_mut().unwrap().remove(list).unwrap_or_default();
            for mut child in nodes(&children) {
                child["__parentId"] = order["id"].clone();
                let sales = child.as_object_mut().unwrap().remove("sales").unwrap_or_default();
                for mut sale in nodes(&sales) {
                    sale["__parentId"] = child["id"].clone();
                    lines.push(sale.to_string());
                }
                lines.push(child.to_string());
            }
        }
        lines.push(order.to_string());
    }
    lines.shuffle(&mut StdRng::seed_from_u64(7));
    lines
}

fn nodes(connection: &Value) -> Vec<Value> {
    let edges = connection["edges"].as_array().into_iter().flatten();
    edges.map(|edge| edge["node"].clone()).collect()
}

/// What becomes of the next operation in place of a file.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    Failed(&'static str),
    Canceled,
    /// The file's address is no longer good when it is asked for.
    Expired,
}

/// What happens to the next download.
#[derive(Debug, Clone, Copy)]
pub enum Download {
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes.
    Stalled(usize),
    /// All of it, whatever part was asked for.
    FromStart,
    /// Two of its lines are one.
    Damaged,
    Status(u16),
}

#[derive(Debug)]
pub struct Operation {
    pub id: u64,
    pub query: String,
    pub status: &'static str,
    error: Option<&'static str>,
    created: String,
    /// Looks at it until it is complete.
    polls_left: u32,
    file: Bytes,
    objects: usize,
    orders: usize,
    has_expired: bool,
}

#[derive(Debug)]
pub struct Bulk {
    pub operations: Vec<Operation>,
    /// Looks at each operation until it is complete.
    pub polls: u32,
    /// Operations that may run at once.
    pub most: usize,
    /// Objects above which an operation ends with TIMEOUT.
    pub too_large: usize,
    pub outcomes: VecDeque<Outcome>,
    pub downloads: VecDeque<Download>,
    /// First byte of each download.
    pub ranges: Vec<u64>,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
            polls: 0,
            most: 5,
            too_large: usize::MAX,
            outcomes: VecDeque::new(),
            downloads: VecDeque::new(),
            ranges: Vec::new(),
        }
    }
}

impl Bulk {
    /// An operation of another program, which runs until it is told otherwise.
    pub fn run_other(&mut self, id: u64) -> &mut Operation {
        self.operations.push(Operation {
            id,
            query: "{ products { edges { node { id } } } }".to_owned(),
            status: "RUNNING",
            error: None,
            created: now(),
            polls_left: u32::MAX,
            file: Bytes::new(),
            objects: 0,
            orders: 0,
            has_expired: false,
        });
        self.operations.last_mut().unwrap()
    }

    /// Operations over orders that were started.
    pub fn started(&self) -> usize {
        self.operations
            .iter()
            .filter(|one| one.query.contains("orders("))
            .count()
    }
}

fn now() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    now.format(&Rfc3339).unwrap()
}

/// `data` of `Run` and `Poll`, and of what else concerns bulk operations; `None` for other operations.
pub fn answer(shop: &mut Shop, operation: &str, variables: &Value, base: &str) -> Option<Value> {
    Some(match operation {
        "Run" => {
            let query = variables["q"].as_str().unwrap();
            let (started, errors) = match run(shop, query) {
                Ok(id) => (json!({"id": gid(id), "status": "CREATED"}), Vec::new()),
                Err(errors) => (Value::Null, errors),
            };
            json!({"bulkOperationRunQuery": {"bulkOperation": started, "userErrors": errors}})
        }
        "Poll" => {
            let found = shop
                .bulk
                .operations
                .iter_mut()
                .find(|one| variables["id"] == gid(one.id));
            json!({ "bulkOperation": found.map(|one| poll(one, base)) })
        }
        "BulkList" => {
            let listed = shop.bulk.operations.iter().rev().map(
                |one| json!({"id": gid(one.id), "status": one.status, "createdAt": one.created, "query": one.query}),
            );
            json!({"bulkOperations": {"nodes": Vec::from_iter(listed), "pageInfo": {"hasNextPage": false, "endCursor": null}}})
        }
        _ => return None,
    })
}

fn gid(id: u64) -> String {
    format!("gid://shopify/BulkOperation/{id}")
}

fn run(shop: &mut Shop, query: &str) -> Result<u64, Vec<Value>> {
    let refusals = refusals(query);
    if !refusals.is_empty() {
        let error = |message| json!({"field": ["query"], "message": message, "code": "INVALID"});
        return Err(refusals.into_iter().map(error).collect());
    }
    let running = shop
        .bulk
        .operations
        .iter()
        .filter(|one| matches!(one.status, "CREATED" | "RUNNING"));
    let running = Vec::from_iter(running.map(|one| gid(one.id)));
    if running.len() >= shop.bulk.most {
        let message = format!(
            "A bulk query operation for this app and shop is already in progress: {}.",
            running.join(", ")
        );
        return Err(vec![
            json!({"field": null, "message": message, "code": "OPERATION_IN_PROGRESS"}),
        ]);
    }
    let (_, rest) = query.split_once("query: \"").unwrap();
    let found = search::orders(shop, rest.split('"').next().unwrap());
    let orders = Vec::from_iter(
        found
            .iter()
            .map(|(_, order)| render::without_refund_details(render::order(&order.body()))),
    );
    let lines = lines(&orders);
    let mut operation = Operation {
        id: shop.next_id(),
        query: query.to_owned(),
        status: "CREATED",
        error: None,
        created: now(),
        polls_left: shop.bulk.polls,
        objects: lines.len(),
        orders: orders.len(),
        file: (lines.join("\n") + "\n").into(),
        has_expired: false,
    };
    let is_large = (operation.objects > shop.bulk.too_large).then_some(Outcome::Failed("TIMEOUT"));
    match is_large.or_else(|| shop.bulk.outcomes.pop_front()) {
        Some(Outcome::Failed(code)) => operation.error = Some(code),
        Some(Outcome::Canceled) => operation.status = "CANCELED",
        Some(Outcome::Expired) => operation.has_expired = true,
        None => {}
    }
    let id = operation.id;
    shop.bulk.operations.push(operation);
    Ok(id)
}

fn poll(one: &mut Operation, base: &str) -> Value {
    if matches!(one.status, "CREATED" | "RUNNING") {
        one.status = match one.polls_left.checked_sub(1) {
            Some(left) => {
                one.polls_left = left;
                "RUNNING"
            }
            None if one.error.is_some() => "FAILED",
            None => "COMPLETED",
        };
    }
    let (is_complete, is_failed) = (one.status == "COMPLETED", one.status == "FAILED");
    // What was gathered until it failed has an address, too.
    let address = |is: bool| (is && one.objects > 0).then(|| format!("{base}/bulk/{}", one.id));
    json!({
        "id": gid(one.id), "status": one.status, "errorCode": one.error, "createdAt": one.created,
        "completedAt": is_complete.then_some(&one.created), "objectCount": one.objects.to_string(),
        "rootObjectCount": one.orders.to_string(), "fileSize": is_complete.then(|| one.file.len().to_string()),
        "url": address(is_complete), "partialDataUrl": address(is_failed),
    })
}

/// What Shopify says against a query, word for word.
pub fn refusals(query: &str) -> Vec<String> {
    let document = parse_query::<String>(query).unwrap();
    let Some(Definition::Operation(OperationDefinition::SelectionSet(root))) = document.definitions.first() else {
        return vec!["Invalid operation type. Only `query` operations are supported.".to_owned()];
    };
    let mut found = Connections::default();
    found.walk(root, 0, false);
    let mut refusals = Vec::new();
    if !found.by_nodes.is_empty() {
        refusals.push(format!(
            "All connection fields in a bulk query must select their contents using 'edges' > 'node', e.g: 'products {{ edges {{ \
             node {{'. Selecting via 'nodes' is not supported. Invalid connection fields: '{}'.",
            found.by_nodes.join("', '")
        ));
    }
    if found.deepest > 3 {
        refusals.push("Bulk queries cannot contain connections with a nesting depth greater than 2.".to_owned());
    }
    if found.count > 5 {
        refusals.push("Bulk queries cannot contain more than 5 connections.".to_owned());
    }
    if !found.without_id.is_empty() {
        refusals.push(format!(
            "The parent 'node' field for a nested connection must select the 'id' field without an alias and must be of 'ID' \
             return type. Connection fields without 'id': {}.",
            found.without_id.join(", ")
        ));
    }
    if found.is_in_list {
        refusals.push(
            "Queries that contain a connection field within a list field are not currently supported.".to_owned(),
        );
    }
    refusals
}

#[derive(Default)]
struct Connections {
    count: usize,
    /// Of the root's connections 1.
    deepest: usize,
    by_nodes: Vec<String>,
    without_id: Vec<String>,
    is_in_list: bool,
}

impl Connections {
    fn walk(&mut self, set: &SelectionSet<'_, String>, depth: usize, in_list: bool) {
        for (name, child) in fields(set) {
            let Some((_, edges)) = fields(child).find(|(name, _)| *name == "edges") else {
                if fields(child).any(|(name, _)| name == "nodes") {
                    self.by_nodes.push(name.to_owned());
                }
                let is_list = matches!(name, "refunds" | "transactions" | "fulfillments");
                self.walk(child, depth, in_list || is_list);
                continue;
            };
            self.count += 1;
            self.deepest = self.deepest.max(depth + 1);
            self.is_in_list |= in_list;
            let (_, node) = fields(edges).find(|(name, _)| *name == "node").unwrap();
            let before = self.count;
            self.walk(node, depth + 1, false);
            if self.count > before && !fields(node).any(|(name, _)| name == "id") {
                self.without_id.push(name.to_owned());
            }
        }
    }
}

fn fields<'s, 'q>(set: &'s SelectionSet<'q, String>) -> impl Iterator<Item = (&'s str, &'s SelectionSet<'q, String>)> {
    set.items.iter().filter_map(|item| match item {
        Selection::Field(field) => Some((&*field.name, &field.selection_set)),
        _ => None,
    })
}

/// A result file, by the path below `/bulk/`.
pub fn download(shop: &mut Shop, path: &str, range: Option<&str>) -> Response {
    let Some(operation) = shop.bulk.operations.iter().find(|one| one.id.to_string() == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    assert_eq!(
        operation.status, "COMPLETED",
        "the file of an operation that failed is used"
    );
    if operation.has_expired {
        let body = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code></Error>";
        return (StatusCode::FORBIDDEN, body).into_response();
    }
    let (file, size) = (operation.file.clone(), operation.file.len());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    shop.bulk.ranges.push(from.unwrap_or(0));
    let fault = shop.bulk.downloads.pop_front();
    let from = match fault {
        Some(Download::FromStart) => None,
        Some(Download::Status(status)) => return StatusCode::from_u16(status).unwrap().into_response(),
        _ => from,
    };
    let mut part = file.slice(usize::try_from(from.unwrap_or(0)).unwrap()..);
    let rest: stream::BoxStream<'static, Result<Bytes, std::io::Error>> = match fault {
        Some(Download::Cut(length)) => {
            part.truncate(length);
            // The part arrives before the connection ends.
            let end = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("cut"))
            };
            stream::once(end).boxed()
        }
        Some(Download::Stalled(length)) => {
            part.truncate(length);
            stream::pending().boxed()
        }
        Some(Download::Damaged) => {
            let mut bytes = part.to_vec();
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            bytes[end] = b' ';
            part = bytes.into();
            stream::empty().boxed()
        }
        _ => stream::empty().boxed(),
    };
    let body = Body::from_stream(stream::once(async { Ok(part) }).chain(rest));
    match from {
        Some(from) => {
            let range = format!("bytes {from}-{}/{size}", size.saturating_sub(1));
            (StatusCode::PARTIAL_CONTENT, [("content-range", range)], body).into_response()
        }
        None => body.into_response(),
    }
}
