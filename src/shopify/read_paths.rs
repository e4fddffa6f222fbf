//! Which members of a body are read and of which JSON types they are, and how a body differs.
//!
//! The list (`read_paths.txt`) is of API version 2026-07, after the schemas of
//! <https://github.com/gadget-inc/shopify-webhook-schemas> (MIT), and of what they show of the five
//! versions before. A member that those show without nulls may still be null where nothing is lost by
//! it. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde_json::Value;

use super::{Shape, Topic};

static READ: LazyLock<ReadPaths> = LazyLock::new(|| ReadPaths::parse(include_str!("read_paths.txt")));

/// What a member is, as JSON has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonType(&'static str);

impl JsonType {
    fn of(value: &Value) -> Self {
        Self(match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        })
    }
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a body shows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenMember<'s> {
    /// It is as it is read.
    AsRead(&'s str),
    /// It is not there, and what holds it is.
    Gone(&'s str),
    /// It is of another type.
    Changed(&'s str, JsonType),
    /// It is not read; the path's name.
    Unread(String),
}

/// The members of all bodies that are read.
struct ReadPaths(BTreeMap<String, Member>);

#[derive(Default)]
struct Member {
    path: String,
    types: Vec<String>,
    may_be_absent: bool,
    members: BTreeMap<String, Member>,
    /// Of a list.
    items: Option<Box<Member>>,
}

/// How a body of the topic differs from what is read; of topics without amounts, nothing.
pub fn compare<'s>(topic: Topic, body: &Value, mut see: impl FnMut(SeenMember<'s>)) {
    let family = match topic.shape() {
        Shape::Order => "orders",
        Shape::Refund => "refunds",
        Shape::Transaction => "order_transactions",
        Shape::Edit => "orders/edited",
        Shape::Deletion
        | Shape::Fulfillment
        | Shape::FulfillmentEvent
        | Shape::Dispute
        | Shape::RiskAssessment
        | Shape::Protection
        | Shape::AccessRequest
        | Shape::CustomerRedaction
        | Shape::ShopRedaction => return,
    };
    if let Some(whole) = READ.0.get(family) {
        whole.compare(body, &mut see);
    }
}

impl ReadPaths {
    /// Of lines `FAMILY PATH TYPE|TYPE`; `?` behind them: null, too; `~`: it may be absent.
    fn parse(text: &str) -> Self {
        let mut families = BTreeMap::<String, Member>::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(family), Some(path), Some(types)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let mut member = families.entry(family.to_owned()).or_default();
            for part in path.split('.') {
                let name = part.trim_end_matches("[]");
                member = member.members.entry(name.to_owned()).or_default();
                if part.ends_with("[]") {
                    member = member.items.get_or_insert_default();
                }
            }
            path.clone_into(&mut member.path);
            member.set(types);
        }
        Self(families)
    }
}

impl Member {
    fn set(&mut self, types: &str) {
        let (types, may_be_absent) = (types.trim_end_matches('~'), types.ends_with('~'));
        let nullable = types.ends_with('?').then_some("null");
        let types = types.trim_end_matches('?').split('|');
        self.may_be_absent = may_be_absent;
        for one in types.chain(nullable) {
            self.types.push(if one == "money" { "object" } else { one }.to_owned());
            if one != "money" {
                continue;
            }
            for money in ["shop_money", "presentment_money"] {
                let mut set = Self::leaf(format!("{}.{money}", self.path), "object");
                for name in ["amount", "currency_code"] {
                    let leaf = Self::leaf(format!("{}.{money}.{name}", self.path), "text");
                    set.members.insert(name.to_owned(), leaf);
                }
                self.members.insert(money.to_owned(), set);
            }
        }
    }

    fn leaf(path: String, only: &str) -> Self {
        Self {
            path,
            types: vec![only.to_owned()],
            ..Self::default()
        }
    }

    fn compare<'s>(&'s self, value: &Value, see: &mut impl FnMut(SeenMember<'s>)) {
        match value {
            Value::Object(found) => {
                for (name, member) in &self.members {
                    match found.get(name) {
                        Some(value) => member.judge(value, see),
                        None if member.may_be_absent => {}
                        None => see(SeenMember::Gone(&member.path)),
                    }
                }
                // What is no parent of anything that is read is not looked into.
                for name in found.keys().filter(|name| !self.members.contains_key(*name)) {
                    let dot = if self.path.is_empty() { "" } else { "." };
                    see(SeenMember::Unread(format!("{}{dot}{name}", self.path)));
                }
            }
            Value::Array(found) => {
                for (value, item) in found.iter().zip(std::iter::repeat(self.items.as_deref())) {
                    item.into_iter().for_each(|item| item.judge(value, see));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn judge<'s>(&'s self, value: &Value, see: &mut impl FnMut(SeenMember<'s>)) {
        let found = JsonType::of(value);
        if !self.types.iter().any(|one| one == found.0) {
            see(SeenMember::Changed(&self.path, found));
            return;
        }
        see(SeenMember::AsRead(&self.path));
        if !self.members.is_empty() || self.items.is_some() {
            self.compare(value, see);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sample_orders::Generator;

    /// Types of each path of `orders/create` that is read, that changed, or that holds such a one, by
    /// version of the API; cut from the schemas named above (npm shopify-webhook-schemas 0.3.8).
    const VERSIONS: &str = include_str!("../../tests/fixtures/shopify/order_paths_by_version.txt");

    /// Path and types of a version.
    type Paths = BTreeMap<&'static str, &'static str>;

    fn versions() -> Vec<(&'static str, Paths)> {
        let mut lines = VERSIONS.lines();
        let names = lines.next().unwrap().split(' ').skip(1);
        let mut versions = Vec::from_iter(names.map(|name| (name, Paths::new())));
        for line in lines {
            let mut words = line.split(' ');
            let path = words.next().unwrap();
            let types = Vec::from_iter(words);
            for (place, (_, paths)) in versions.iter_mut().enumerate() {
                let types = types.get(place).unwrap_or(&types[0]);
                if *types != "-" {
                    paths.insert(path, types);
                }
            }
        }
        versions
    }

    fn word(code: char) -> &'static str {
        match code {
            's' => "text",
            'n' => "number",
            'b' => "bool",
            'o' => "object",
            'a' => "list",
            'z' => "null",
            other => panic!("type {other}"),
        }
    }

    fn read_paths(paths: &Paths) -> ReadPaths {
        let line = |(path, types): (&&str, &&str)| {
            let types = Vec::from_iter(types.chars().map(word)).join("|");
            format!("orders {path} {types}\n")
        };
        ReadPaths::parse(&String::from_iter(paths.iter().map(line)))
    }

    /// A body with every path; of several types that at this place.
    fn body(paths: &Paths, place: usize) -> Value {
        let mut body = json!({});
        for (path, types) in paths {
            let codes = Vec::from_iter(types.chars());
            let value = match codes[place % codes.len()] {
                's' => json!("x"),
                'n' => json!(1),
                'b' => json!(true),
                'o' => json!({}),
                'a' => json!([]),
                _ => Value::Null,
            };
            let mut at = &mut body;
            for part in path.split('.') {
                let name = part.trim_end_matches("[]");
                // What holds this is null in this body.
                if at.is_null() {
                    break;
                }
                at = &mut at[name];
                if part.ends_with("[]") && at.is_array() {
                    if at.as_array().unwrap().is_empty() {
                        at.as_array_mut().unwrap().push(Value::Null);
                    }
                    at = &mut at[0];
                }
            }
            let is_held = path.rsplit_once('.').is_none_or(|(parent, _)| {
                let pointer = format!("/{}", parent.replace("[]", "/0").replace('.', "/"));
                body.pointer(&pointer).is_some_and(Value::is_object)
            });
            if is_held {
                let pointer = format!("/{}", path.replace("[]", "/0").replace('.', "/"));
                if let Some(at) = body.pointer_mut(&pointer) {
                    *at = value;
                }
            }
        }
        body
    }

    /// What differs, without repetition.
    fn found(of: &Paths, in_body_of: &Paths) -> Vec<String> {
        let read = read_paths(of);
        let mut found = Vec::new();
        for place in 0..2 {
            read.0["orders"].compare(&body(in_body_of, place), &mut |seen| match seen {
                SeenMember::AsRead(_) => {}
                SeenMember::Gone(path) => found.push(format!("{path} gone")),
                SeenMember::Changed(path, now) => found.push(format!("{path} {now}")),
                SeenMember::Unread(path) => found.push(format!("{path} new")),
            });
        }
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn what_changed_between_versions_is_found_and_nothing_within_one() {
        let versions = versions();
        for (version, paths) in &versions {
            assert_eq!(found(paths, paths), <[&str; 0]>::default(), "{version}");
        }
        let mut between = BTreeMap::new();
        for pair in versions.windows(2) {
            let [(_, before), (version, now)] = pair else {
                panic!("a pair")
            };
            between.insert(*version, found(before, now));
        }
        // What became narrower, such as `processed_at` without null in 2024-01, is none; nor is what
        // changed below a member that is not read, such as the lines of a fulfillment in 2024-07.
        let changed: [(&str, &[&str]); 12] = [
            ("2023-10", &[]),
            ("2024-01", &[]),
            ("2024-04", &[]),
            (
                "2024-07",
                &[
                    "line_items[].sales_line_item_group_id new",
                    "line_items[].variant_id null",
                    "shipping_lines[].current_discounted_price_set new",
                    "shipping_lines[].phone text",
                ],
            ),
            (
                "2024-10",
                &[
                    "current_shipping_price_set new",
                    "duties_included new",
                    "merchant_business_entity_id new",
                    "returns new",
                    "total_cash_rounding_payment_adjustment_set new",
                    "total_cash_rounding_refund_adjustment_set new",
                ],
            ),
            ("2025-01", &["line_items[].sales_line_item_group_id number"]),
            ("2025-04", &["company new", "line_items[].product_id null"]),
            ("2025-07", &[]),
            ("2025-10", &["line_item_groups new"]),
            ("2026-01", &["line_item_groups gone", "line_items[].product_id null"]),
            ("2026-04", &["checkout_id gone", "line_item_groups new"]),
            ("2026-07", &[]),
        ];
        let changed =
            changed.map(|(version, changes)| (version, Vec::from_iter(changes.iter().map(|&one| one.to_owned()))));
        assert_eq!(between, BTreeMap::from(changed));
    }

    fn orders(body: &Value) -> Vec<SeenMember<'static>> {
        let mut found = Vec::new();
        compare(Topic::parse(Some("orders/updated")).unwrap(), body, |seen| match seen {
            SeenMember::AsRead(_) | SeenMember::Unread(_) => {}
            wrong @ (SeenMember::Gone(_) | SeenMember::Changed(..)) => found.push(wrong),
        });
        found
    }

    #[test]
    fn the_list_of_what_is_read_fits_supported_versions_and_this_programs_own_orders() {
        let (newest, supported) = versions()
            .into_iter()
            .rev()
            .fold((None, 0), |(newest, count), (_, paths)| {
                // Three quarters and this one: all that Shopify supports, with one to spare.
                if count < 5 {
                    for place in 0..2 {
                        assert_eq!(orders(&body(&paths, place)), [], "{count} versions before the newest");
                    }
                }
                (newest.or(Some(paths)), count + 1)
            });
        assert!(newest.is_some() && supported > 5);
        let generator = Generator::new(17, Generator::epoch());
        for number in 0..50 {
            for step in generator.history(number) {
                let body: Value = serde_json::from_str(&generator.step(step, "a.myshopify.com", number)).unwrap();
                if !body["line_items"].is_null() {
                    assert_eq!(orders(&body), [], "order {number}");
                }
            }
        }
        let mut changed = body(&versions().pop().unwrap().1, 0);
        changed["line_items"][0]["price"] = json!(1.5);
        changed.as_object_mut().unwrap().remove("current_total_tax");
        assert_eq!(
            orders(&changed),
            [
                SeenMember::Gone("current_total_tax"),
                SeenMember::Changed("line_items[].price", JsonType("number"))
            ]
        );
    }
}
