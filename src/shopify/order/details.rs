//! What else an order's body says: discounts, taxes, fulfillments, tags, where the visit came from.
//!
//! Owns which of it an event keeps. All of it is read tolerantly: no order is quarantined for it.
//! Nothing personal is kept: of the landing page only the UTM tags, of a fulfillment no tracking
//! numbers.

use std::borrow::Cow;
use std::mem::take;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::super::tolerant::{self, LossyText, short};
use super::OrderBody;
use super::lines::LineItem;
use crate::event::{Amount, Details, Discount, Fulfillment, Id, TaxLine, Text, Timestamp, Utm};

#[derive(Debug, Deserialize)]
pub(super) struct ApplicationBody<'a> {
    #[serde(rename = "type", borrow, default, deserialize_with = "tolerant::text")]
    kind: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    code: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    title: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    description: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    target_type: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    target_selection: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    allocation_method: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    value_type: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::any_amount")]
    value: Option<Amount>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CodeBody<'a> {
    #[serde(borrow)]
    code: LossyText<'a>,
    #[serde(rename = "type", borrow, default, deserialize_with = "tolerant::text")]
    kind: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::any_amount")]
    amount: Option<Amount>,
}

/// A tax of a line, of a shipping line, or of the order.
#[derive(Debug, Deserialize)]
pub(super) struct TaxBody<'a> {
    #[serde(default, deserialize_with = "tolerant::amount")]
    pub(super) price: Option<Amount>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    title: Option<LossyText<'a>>,
    #[serde(default, deserialize_with = "tolerant::any_amount")]
    rate: Option<Amount>,
    #[serde(default, deserialize_with = "tolerant::any")]
    channel_liable: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FulfillmentBody<'a> {
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    status: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    shipment_status: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    service: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::text")]
    tracking_company: Option<LossyText<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    location_id: Option<Id<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    created_at: Option<Timestamp<'a>>,
    #[serde(borrow, default, deserialize_with = "tolerant::any")]
    updated_at: Option<Timestamp<'a>>,
}

/// Takes them out of the body; none where it says nothing of the kind.
pub(super) fn take_details<'a>(order: &mut OrderBody<'a>) -> Option<Details<'a>> {
    let gateways = take(&mut order.payment_gateway_names).into_iter().map(Some);
    let details = Details {
        gateways: gateways.filter_map(short).collect(),
        locale: short(order.customer_locale.take()),
        weight: order.total_weight.filter(|grams| *grams > 0),
        tags: order.tags.take().map(tags).unwrap_or_default(),
        utm: order.landing_site.take().and_then(|LossyText(page)| utm(&page)),
        discounts: discounts(order),
        tax_lines: tax_lines(order),
        fulfillments: take(&mut order.fulfillments).into_iter().map(fulfillment).collect(),
        note_attributes: Vec::new(),
    };
    (!details.is_empty()).then_some(details)
}

/// Shopify writes them as one text, `vip, wholesale`.
fn tags<'a>(LossyText(tags): LossyText<'a>) -> Vec<Text<'a>> {
    let texts: Vec<Text<'a>> = match tags {
        Cow::Borrowed(tags) => tags.split(',').map(|tag| Text::from(tag.trim())).collect(),
        Cow::Owned(tags) => tags.split(',').map(|tag| Text::from(tag.trim().to_owned())).collect(),
    };
    texts.into_iter().filter(|tag| !tag.as_str().is_empty()).collect()
}

/// The tags that are kept of a page's address.
const UTM: [&str; 5] = ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"];

/// A page's address with its UTM tags and nothing else; none where it has none.
pub(in crate::shopify) fn utm_tags(page: &str) -> Option<String> {
    let tags = pairs(page).filter(|(name, _)| UTM.contains(name));
    let tags = Vec::from_iter(tags.map(|(name, value)| format!("{name}={value}")));
    (!tags.is_empty()).then(|| format!("/?{}", tags.join("&")))
}

/// Names and values of an address' query, as they are written.
fn pairs(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let query = page.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or(query);
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// The UTM tags in a page's address.
fn utm(page: &str) -> Option<Utm<'static>> {
    let mut utm = Utm::default();
    for (name, value) in pairs(page) {
        let tag = match name {
            "utm_source" => &mut utm.source,
            "utm_medium" => &mut utm.medium,
            "utm_campaign" => &mut utm.campaign,
            "utm_term" => &mut utm.term,
            "utm_content" => &mut utm.content,
            _ => continue,
        };
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8_lossy().replace('\0', "\u{FFFD}");
        *tag = short(Some(LossyText(Cow::Owned(value))));
    }
    (utm != Utm::default()).then_some(utm)
}

/// Applications, each with what is allocated to it; then the codes that no application has (bodies
/// before 2018).
fn discounts<'a>(order: &mut OrderBody<'a>) -> Vec<Discount<'a>> {
    let codes = take(&mut order.discount_codes);
    let code_of = |code: &str| codes.iter().find(|one| one.code.0.eq_ignore_ascii_case(code));
    let applications = take(&mut order.discount_applications).into_iter().enumerate();
    let mut discounts: Vec<Discount<'a>> = applications
        .map(|(index, body)| {
            let of_code = body.code.as_ref().and_then(|code| code_of(&code.0)?.amount);
            Discount {
                kind: short(body.kind),
                code: short(body.code),
                title: short(body.title).or_else(|| short(body.description)),
                target_type: short(body.target_type),
                target_selection: short(body.target_selection),
                allocation_method: short(body.allocation_method),
                value_type: short(body.value_type),
                value: body.value,
                amount: allocated(order, index).or(of_code),
            }
        })
        .collect();
    // A place that no line names, in an order of the Admin API.
    discounts.retain(|one| *one != Discount::default());
    for body in codes {
        let code = body.code.0.as_ref();
        let is_same = |one: &Discount<'_>| {
            one.code
                .as_ref()
                .is_some_and(|one| one.as_str().eq_ignore_ascii_case(code))
        };
        if !discounts.iter().any(is_same) {
            discounts.push(Discount {
                kind: Some("discount_code".into()),
                code: short(Some(body.code)),
                value_type: short(body.kind),
                amount: body.amount,
                ..Discount::default()
            });
        }
    }
    discounts
}

/// What lines and shipping lines say is of the application at that place.
fn allocated(order: &OrderBody<'_>, index: usize) -> Option<Amount> {
    let lines = order.line_items.iter().flatten().flat_map(LineItem::allocations);
    let shipping = order.shipping_lines.iter().flatten();
    let shipping = shipping.flat_map(|line| line.discount_allocations.as_deref().unwrap_or_default());
    let of_it = lines
        .chain(shipping)
        .filter(|one| one.discount_application_index == Some(index));
    of_it.fold(None, |sum, one| {
        let amount = one.amount.unwrap_or_default();
        sum.map_or(Some(amount), |sum: Amount| sum.checked_add(amount))
    })
}

fn tax_lines<'a>(order: &mut OrderBody<'a>) -> Vec<TaxLine<'a>> {
    let lines = order.line_items.iter().flatten().flat_map(|line| {
        let taxes = line.tax_lines.iter().flatten();
        taxes.map(|tax| TaxLine {
            line_id: line.id.clone(),
            ..tax.tax_line()
        })
    });
    let shipping = order.shipping_lines.iter().flatten().flat_map(|line| {
        let taxes = line.tax_lines.iter().flatten();
        taxes.map(|tax| TaxLine {
            shipping_line_id: line.id.clone(),
            ..tax.tax_line()
        })
    });
    let says_something = |tax: &TaxLine<'_>| tax.amount.is_some() || tax.title.is_some();
    let mut lines: Vec<TaxLine<'a>> = lines.chain(shipping).filter(says_something).collect();
    if lines.is_empty() {
        lines.extend(order.tax_lines.iter().map(TaxBody::tax_line).filter(says_something));
    }
    lines
}

impl<'a> TaxBody<'a> {
    fn tax_line(&self) -> TaxLine<'a> {
        TaxLine {
            title: short(self.title.clone()),
            rate: self.rate,
            amount: self.price,
            channel_liable: self.channel_liable.filter(|is_liable| *is_liable),
            ..TaxLine::default()
        }
    }
}

fn fulfillment(body: FulfillmentBody<'_>) -> Fulfillment<'_> {
    let time = |at: Option<Timestamp<'_>>| at.map(|at| at.instant().into());
    Fulfillment {
        fulfillment_id: body.id,
        status: short(body.status),
        shipment_status: short(body.shipment_status),
        service: short(body.service),
        carrier: short(body.tracking_company),
        location_id: body.location_id,
        created_at: time(body.created_at),
        updated_at: time(body.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_landing_page_only_the_utm_tags_are_kept() {
        for (page, kept) in [
            (
                "/products/tea?utm_source=news+letter&email=ada%40example.com&utm_campaign=caf%C3%A9#utm_term=x",
                r#"{"source":"news letter","campaign":"café"}"#,
            ),
            (
                "https://example.com/?gclid=1&utm_medium=cpc&utm_content=&utm_term=%00",
                "{\"term\":\"\u{FFFD}\",\"medium\":\"cpc\"}",
            ),
            ("/?utm_source", "null"),
            ("/utm_source=x", "null"),
            ("", "null"),
        ] {
            assert_eq!(serde_json::to_string(&utm(page)).unwrap(), kept, "{page}");
        }
    }

    #[test]
    fn tags_are_parted_at_their_commas() {
        let of =
            |text: &'static str| Vec::from_iter(tags(LossyText(text.into())).into_iter().map(|tag| tag.to_string()));
        assert_eq!(of("vip, net 30 ,,"), ["vip", "net 30"]);
        assert!(of("").is_empty());
    }
}
