//! Whether a body is what its topic says.
//!
//! Owns the members by which a body shows what it is. The topic is a header and not signed: whoever
//! has seen a signed body can send it again under another topic, so a body counts only under a
//! topic whose bodies look like it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::topic::Shape;
use super::{ConvertError, Topic};
use crate::event::json;

/// Members at the top of a body that only bodies of that shape have (Shopify's schemas of 2023-07
/// to 2026-04).
const MARKS: [(&str, Shape); 22] = [
    ("total_price", Shape::Order),
    ("subtotal_price", Shape::Order),
    ("order_edit", Shape::Edit),
    ("refund_line_items", Shape::Refund),
    ("transactions", Shape::Refund),
    ("kind", Shape::Transaction),
    ("tracking_company", Shape::Fulfillment),
    ("tracking_number", Shape::Fulfillment),
    ("tracking_numbers", Shape::Fulfillment),
    ("tracking_url", Shape::Fulfillment),
    ("shipment_status", Shape::Fulfillment),
    ("fulfillment_id", Shape::FulfillmentEvent),
    ("evidence_due_by", Shape::Dispute),
    ("network_reason_code", Shape::Dispute),
    ("initiated_at", Shape::Dispute),
    ("risk_level", Shape::RiskAssessment),
    ("provider_id", Shape::RiskAssessment),
    ("admin_graphql_api_order_id", Shape::RiskAssessment),
    ("eligibility", Shape::Protection),
    ("orders_requested", Shape::AccessRequest),
    ("data_request", Shape::AccessRequest),
    ("orders_to_redact", Shape::CustomerRedaction),
];

/// What a partial body shows of itself.
#[derive(Debug, Default)]
pub(super) struct BodyMarks {
    /// The shape whose marks it has.
    shape: Option<Shape>,
    /// It has marks of several.
    is_mixed: bool,
    /// It has anything but an `id`.
    has_more_than_id: bool,
    /// It has anything but the shop's names.
    has_more_than_shop: bool,
}

impl BodyMarks {
    pub(super) fn read(body: &[u8]) -> Result<Self, ConvertError> {
        Ok(json::parse(body)?)
    }

    /// Fails where the body shows that it is of another shape than its topic's.
    pub(super) fn must_not_contradict(&self, topic: Topic) -> Result<(), ConvertError> {
        let contradicts = self.is_mixed || self.shape.is_some_and(|shape| shape != topic.shape());
        if contradicts { Err(unfit(topic)) } else { Ok(()) }
    }

    /// Fails where the body does not show that it is of its topic's shape.
    pub(super) fn must_fit(&self, topic: Topic) -> Result<(), ConvertError> {
        let fits = if topic.shape() == Shape::Deletion {
            // Such a body is an id and nothing else.
            !self.has_more_than_id
        } else if topic.shape() == Shape::ShopRedaction {
            // Such a body names the shop and nothing else. It erases most, so it must not be mistaken.
            !self.has_more_than_shop
        } else {
            self.shape == Some(topic.shape()) && !self.is_mixed
        };
        if fits { Ok(()) } else { Err(unfit(topic)) }
    }

    fn add(&mut self, name: &str) {
        self.has_more_than_id |= name != "id";
        self.has_more_than_shop |= !matches!(name, "shop_id" | "shop_domain");
        let Some((_, shape)) = MARKS.iter().find(|(mark, _)| *mark == name) else {
            return;
        };
        self.is_mixed |= self.shape.replace(*shape).is_some_and(|before| before != *shape);
    }
}

/// The error for a body that is none of its topic's.
pub(super) fn unfit(topic: Topic) -> ConvertError {
    ConvertError::Unfit(topic.name())
}

impl<'de> Deserialize<'de> for BodyMarks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BodyMarksVisitor)
    }
}

struct BodyMarksVisitor;

impl<'de> Visitor<'de> for BodyMarksVisitor {
    type Value = BodyMarks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BodyMarks, A::Error> {
        let mut members = BodyMarks::default();
        while let Some(MemberName(name)) = map.next_key()? {
            members.add(&name);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(members)
    }
}

/// A member's name; borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(topic: &str, body: &str) -> bool {
        let topic = Topic::parse(Some(topic)).unwrap();
        let members = BodyMarks::read(body.as_bytes()).unwrap();
        members.must_not_contradict(topic).and(members.must_fit(topic)).is_ok()
    }

    #[test]
    fn each_body_fits_its_own_topic_alone() {
        let bodies = [
            ("orders/delete", r#"{"id":1}"#),
            ("orders/edited", r#"{"order_edit":{"id":1}}"#),
            (
                "refunds/create",
                r#"{"id":1,"order_id":2,"refund_line_items":[],"transactions":[]}"#,
            ),
            (
                "order_transactions/create",
                r#"{"id":1,"order_id":2,"kind":"sale","amount":"1"}"#,
            ),
            (
                "fulfillments/update",
                r#"{"id":1,"order_id":2,"tracking_number":null,"line_items":[]}"#,
            ),
            (
                "fulfillment_events/create",
                r#"{"id":1,"order_id":2,"fulfillment_id":3}"#,
            ),
            (
                "disputes/create",
                r#"{"id":1,"order_id":2,"evidence_due_by":null,"status":"x"}"#,
            ),
            (
                "orders/risk_assessment_changed",
                r#"{"order_id":null,"risk_level":"low"}"#,
            ),
            (
                "orders/shopify_protect_eligibility_changed",
                r#"{"order_id":1,"eligibility":{}}"#,
            ),
            (
                "customers/data_request",
                r#"{"shop_domain":"a","customer":{"id":1},"orders_requested":[1],"data_request":{"id":2}}"#,
            ),
            (
                "customers/redact",
                r#"{"shop_domain":"a","customer":{"id":1},"orders_to_redact":[1]}"#,
            ),
            ("shop/redact", r#"{"shop_id":1,"shop_domain":"a"}"#),
        ];
        for (topic, _) in bodies {
            for (own, body) in bodies {
                assert_eq!(fits(topic, body), topic == own, "{own} under {topic}");
            }
            let order = r#"{"id":1,"order_id":2,"total_price":"1.00","line_items":[]}"#;
            assert!(!fits(topic, order), "an order under {topic}");
            let shows_nothing = r#"{"id":1,"order_id":2,"status":"x"}"#;
            assert!(!fits(topic, shows_nothing), "{topic}");
        }
        assert!(!fits(
            "refunds/create",
            r#"{"id":1,"order_id":2,"transactions":[],"kind":"sale"}"#
        ));
        let of_a_customer = r#"{"shop_id":1,"shop_domain":"a","customer":{"id":1}}"#;
        assert!(!fits("shop/redact", of_a_customer));
    }
}
