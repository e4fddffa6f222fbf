//! Lines of an order's body: what was bought, and how it is shipped.

use serde::Deserialize;

use super::super::money::{MoneySet, shop_amount, sum};
use super::super::tolerant::{self, LossyText, short};
use super::details::TaxBody;
use crate::event::{self, Amount, Id, Item, MOST_UNITS, ShippingLine, Text};

#[derive(Debug, Deserialize)]
pub(super) struct LineItem<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    variant_id: Option<Id<'a>>,
    #[serde(borrow)]
    product_id: Option<Id<'a>>,
    #[serde(borrow)]
    title: Option<LossyText<'a>>,
    #[serde(borrow)]
    sku: Option<LossyText<'a>>,
    #[serde(deserialize_with = "event::quantity")]
    quantity: i64,
    #[serde(default, deserialize_with = "event::optional_quantity")]
    current_quantity: Option<i64>,
    price: Amount,
    #[serde(default, deserialize_with = "tolerant::amount")]
    total_discount: Option<Amount>,
    discount_allocations: Option<Vec<Allocation>>,
    #[serde(borrow)]
    pub(super) tax_lines: Option<Vec<TaxBody<'a>>>,
    gift_card: Option<bool>,
    /// Lines of tips have this field, null or not, and no other line has it.
    #[serde(default, deserialize_with = "tolerant::presence")]
    tip_payment_gateway: bool,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    variant_title: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    vendor: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::any")]
    taxable: Option<bool>,
    #[serde(default, deserialize_with = "tolerant::any")]
    requires_shipping: Option<bool>,
    #[serde(default, deserialize_with = "tolerant::any")]
    fulfillable_quantity: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Allocation {
    #[serde(default, deserialize_with = "tolerant::amount")]
    pub(super) amount: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::any")]
    pub(super) discount_application_index: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShippingBody<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    title: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    code: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    source: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    price: Option<Amount>,
    #[serde(borrow)]
    price_set: Option<MoneySet<'a>>,
    #[serde(default, deserialize_with = "tolerant::amount")]
    discounted_price: Option<Amount>,
    #[serde(borrow)]
    discounted_price_set: Option<MoneySet<'a>>,
    pub(super) discount_allocations: Option<Vec<Allocation>>,
    #[serde(borrow)]
    pub(super) tax_lines: Option<Vec<TaxBody<'a>>>,
    is_removed: Option<bool>,
}

/// The line of an event.
pub(super) fn item(line: LineItem<'_>) -> Item<'_> {
    // Allocations hold every discount, shown on the line or on the order; `total_discount` only the
    // former, and both may be there for the same money: never add them. (Shopify staff in the
    // announcement of discount applications, community.shopify.com, API Announcements 416581.)
    // Bodies before 2018 have no allocations.
    let discount = match line.allocations() {
        [] => line.total_discount,
        list => sum(list, |one| one.amount),
    };
    Item {
        sku: line.sku.map(|LossyText(sku)| Id(sku)),
        qty: line.quantity,
        price: line.price,
        line_id: line.id,
        variant_id: line.variant_id,
        product_id: line.product_id,
        title: line.title.map(Text::from),
        current_qty: line.current_quantity,
        discount,
        tax: line.tax_lines.as_deref().and_then(|lines| sum(lines, |tax| tax.price)),
        gift_card: line.gift_card.filter(|is_gift_card| *is_gift_card),
        tip: line.tip_payment_gateway.then_some(true),
        variant_title: short(line.variant_title),
        vendor: short(line.vendor),
        taxable: line.taxable,
        requires_shipping: line.requires_shipping,
        fulfillable_qty: line
            .fulfillable_quantity
            .filter(|units| (0..=MOST_UNITS).contains(units)),
        properties: Vec::new(),
    }
}

impl LineItem<'_> {
    pub(super) fn allocations(&self) -> &[Allocation] {
        self.discount_allocations.as_deref().unwrap_or_default()
    }
}

impl ShippingBody<'_> {
    pub(super) fn price(&self) -> Option<Amount> {
        shop_amount(self.price, self.price_set.as_ref())
    }

    /// Bodies before 2018 have only the price and its allocations.
    fn discounted_price(&self) -> Option<Amount> {
        shop_amount(self.discounted_price, self.discounted_price_set.as_ref()).or_else(|| {
            let allocated = sum(self.discount_allocations.as_deref()?, |one| one.amount)?;
            self.price()?.0.checked_sub(allocated.0).map(Amount)
        })
    }
}

impl<'a> From<ShippingBody<'a>> for ShippingLine<'a> {
    fn from(line: ShippingBody<'a>) -> Self {
        let (price, discounted_price) = (line.price(), line.discounted_price());
        let title = line.title.map(Text::from);
        Self {
            line_id: line.id,
            code: short(line.code).filter(|code| Some(code) != title.as_ref()),
            source: short(line.source),
            title,
            price,
            discounted_price: discounted_price.filter(|discounted| Some(discounted) != price.as_ref()),
            tax: line.tax_lines.as_deref().and_then(|lines| sum(lines, |tax| tax.price)),
            removed: line.is_removed.filter(|is_removed| *is_removed),
        }
    }
}
