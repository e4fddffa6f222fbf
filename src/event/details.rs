//! Facts about an order that are queried less often than the event's own fields.
//!
//! Owns the JSON of `details`, which stands in the payload and, of an order's newest state, in
//! `orders.details`. Views read it there, so that each value has the form that its type says.
//! Nothing in it is personal.

use serde::{Deserialize, Serialize};

use super::{Amount, Id, Text, UtcTime, scalar};

/// Further facts about an order. All amounts are in the order's `currency`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details<'a> {
    /// UTM tags of the visit that led to the order.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub utm: Option<Utm<'a>>,
    /// The merchant's tags.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tags: Vec<Text<'a>>,
    /// Language of the customer's checkout, `en-CA`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Text<'a>>,
    /// Weight of the lines, in grams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// Payment gateways that were used.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gateways: Vec<Text<'a>>,
    /// Discounts of lines and shipping.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub discounts: Vec<Discount<'a>>,
    /// Taxes of lines and shipping, as ordered.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tax_lines: Vec<TaxLine<'a>>,
    /// Fulfillments.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub fulfillments: Vec<Fulfillment<'a>>,
    /// Note attributes whose names are set to be kept.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub note_attributes: Vec<Attribute<'a>>,
}

impl Details<'_> {
    /// Whether it is without any fact.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Details::default()
    }
}

/// The UTM tags of the landing page's address; nothing else of that address is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Utm<'a> {
    /// `utm_term`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Text<'a>>,
    /// `utm_medium`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Text<'a>>,
    /// `utm_source`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Text<'a>>,
    /// `utm_content`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Text<'a>>,
    /// `utm_campaign`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Text<'a>>,
}

/// One discount of an order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Discount<'a> {
    /// The code that the customer entered.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Text<'a>>,
    /// `discount_code`, `automatic`, `manual` or `script`.
    #[serde(rename = "type", borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text<'a>>,
    /// What the merchant calls it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Text<'a>>,
    /// Per cent, or an amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Amount>,
    /// Amount taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// `percentage` or `fixed_amount`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub value_type: Option<Text<'a>>,
    /// `line_item` or `shipping_line`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<Text<'a>>,
    /// `all`, `entitled` or `explicit`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub target_selection: Option<Text<'a>>,
    /// `across`, `each` or `one`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub allocation_method: Option<Text<'a>>,
}

/// One tax on one line. Of the whole order where it names neither a line nor a shipping line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaxLine<'a> {
    /// Share of the price, 0.06.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Amount>,
    /// Name of the tax.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Text<'a>>,
    /// The tax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// The line that is taxed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub line_id: Option<Id<'a>>,
    /// The sales channel pays it, not the merchant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_liable: Option<bool>,
    /// The shipping line that is taxed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub shipping_line_id: Option<Id<'a>>,
}

/// One fulfillment of an order, without its tracking numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fulfillment<'a> {
    /// `success`, `cancelled`, `failure`, ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<'a>>,
    /// Carrier.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Text<'a>>,
    /// Fulfillment service: `manual`, ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Text<'a>>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<UtcTime>,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<UtcTime>,
    /// Location that it is sent from.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub location_id: Option<Id<'a>>,
    /// The shop's id of the fulfillment.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub fulfillment_id: Option<Id<'a>>,
    /// Where the parcel is: `in_transit`, `delivered`, ...
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub shipment_status: Option<Text<'a>>,
}

/// A named text that a theme or an app put onto an order or a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its text.
    #[serde(borrow, default)]
    pub value: Option<Text<'a>>,
}
