//! Lines of an order: products, shipping, and what an edit added. Amounts are in the order's
//! `currency`.

use serde::{Deserialize, Serialize};

use super::{Amount, Attribute, Id, Text, Timestamp, scalar};

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item<'a> {
    /// Units ordered, at most 10^9; never negative.
    #[serde(deserialize_with = "scalar::quantity")]
    pub qty: i64,
    /// `null` and `""` are both usual and kept apart.
    #[serde(borrow, default)]
    pub sku: Option<Id<'a>>,
    /// Tax on the whole line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Amount>,
    /// A tip: no sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<bool>,
    /// Price of one unit, before discounts.
    pub price: Amount,
    /// Product title as sold.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Text<'a>>,
    /// Manufacturer of the product.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Text<'a>>,
    /// The shop's id of the line.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub line_id: Option<Id<'a>>,
    /// Whether it is taxed at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxable: Option<bool>,
    /// Discount on the whole line, allocations included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<Amount>,
    /// A gift card: sold, it is a liability and no sale either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gift_card: Option<bool>,
    /// Product sold; absent for custom lines and deleted products.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<Id<'a>>,
    /// Line properties whose names are set to be kept.
    #[serde(
        borrow,
        default,
        deserialize_with = "scalar::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub properties: Vec<Attribute<'a>>,
    /// Variant sold; absent likewise.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<Id<'a>>,
    /// Units left after edits and returns, at most 10^9; never negative.
    #[serde(
        default,
        deserialize_with = "scalar::optional_quantity",
        skip_serializing_if = "Option::is_none"
    )]
    pub current_qty: Option<i64>,
    /// Title of the variant as sold.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub variant_title: Option<Text<'a>>,
    /// Units that may still be fulfilled, at most 10^9; never negative.
    #[serde(
        default,
        deserialize_with = "scalar::optional_quantity",
        skip_serializing_if = "Option::is_none"
    )]
    pub fulfillable_qty: Option<i64>,
    /// Whether it has to be shipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_shipping: Option<bool>,
}

/// One shipping line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShippingLine<'a> {
    /// Tax on the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Amount>,
    /// What the shop calls it, where that is not the title.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Text<'a>>,
    /// Before discounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Amount>,
    /// What the customer saw.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Text<'a>>,
    /// Where the rate came from: `shopify`, a carrier, an app.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Text<'a>>,
    /// The shop's id of the line.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub line_id: Option<Id<'a>>,
    /// An edit took the line off the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<bool>,
    /// After discounts; equal to `price` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discounted_price: Option<Amount>,
}

/// What one edit of an order changed. Removed units come as a refund, with or without money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderEdit<'a> {
    /// The shop's id of the edit.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub edit_id: Option<Id<'a>>,
    /// Units that were added.
    #[serde(borrow, default)]
    pub additions: Vec<AddedLine<'a>>,
    /// When it took effect; the added units are sold on this day.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp<'a>>,
}

/// Units that an edit added to a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddedLine<'a> {
    /// Units added, at most 10^9; above 0.
    #[serde(deserialize_with = "scalar::quantity")]
    pub qty: i64,
    /// The line.
    #[serde(borrow)]
    pub line_id: Id<'a>,
}
