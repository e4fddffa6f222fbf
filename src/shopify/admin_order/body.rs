//! The body of a webhook, made of an order of the Admin API. Pure.
//!
//! Owns which of its fields is which of a webhook's, and in which form: times in the shop's offset,
//! amounts with the digits of their currency, words in lower case.

use std::collections::HashSet;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::super::zone::ShopZone;
use super::nodes;
use crate::event::currency_digits;

/// What the fields of an order are rewritten by.
pub(super) struct Rewriter<'o> {
    zone: ShopZone,
    /// The shop's.
    pub(super) currency: &'o str,
    presentment_currency: &'o str,
    pub(super) taxes_included: bool,
    /// Ids of lines that are tips: only the ledger says so.
    tips: HashSet<&'o str>,
}

/// Amounts of an order: the Admin API's name, and a webhook's, as text.
const AMOUNTS: [(&str, &str); 9] = [
    ("totalPriceSet", "total_price"),
    ("subtotalPriceSet", "subtotal_price"),
    ("totalDiscountsSet", "total_discounts"),
    ("totalTaxSet", "total_tax"),
    ("totalTipReceivedSet", "total_tip_received"),
    ("currentTotalPriceSet", "current_total_price"),
    ("currentSubtotalPriceSet", "current_subtotal_price"),
    ("currentTotalDiscountsSet", "current_total_discounts"),
    ("currentTotalTaxSet", "current_total_tax"),
];
/// As [`AMOUNTS`], in both currencies.
const SETS: [(&str, &str); 7] = [
    ("totalPriceSet", "total_price_set"),
    ("totalShippingPriceSet", "total_shipping_price_set"),
    ("currentShippingPriceSet", "current_shipping_price_set"),
    ("originalTotalDutiesSet", "original_total_duties_set"),
    ("currentTotalDutiesSet", "current_total_duties_set"),
    ("originalTotalAdditionalFeesSet", "original_total_additional_fees_set"),
    ("currentTotalAdditionalFeesSet", "current_total_additional_fees_set"),
];
const TIMES: [(&str, &str); 5] = [
    ("createdAt", "created_at"),
    ("processedAt", "processed_at"),
    ("updatedAt", "updated_at"),
    ("cancelledAt", "cancelled_at"),
    ("closedAt", "closed_at"),
];
/// What is the same in both.
const AS_IS: [(&str, &str); 10] = [
    ("id", "id"),
    ("name", "name"),
    ("number", "order_number"),
    ("test", "test"),
    ("currencyCode", "currency"),
    ("presentmentCurrencyCode", "presentment_currency"),
    ("taxesIncluded", "taxes_included"),
    ("sourceName", "source_name"),
    ("paymentGatewayNames", "payment_gateway_names"),
    ("customerLocale", "customer_locale"),
];

impl<'o> Rewriter<'o> {
    pub(super) fn of(order: &'o Value, zone: ShopZone) -> Self {
        let text = |name: &str| order[name].as_str().unwrap_or_default();
        let sales = nodes(&order["agreements"]).flat_map(|agreement| nodes(&agreement["sales"]));
        let tips = sales.filter(|sale| sale["lineType"] == "TIP");
        Self {
            zone,
            currency: text("currencyCode"),
            presentment_currency: text("presentmentCurrencyCode"),
            taxes_included: order["taxesIncluded"].as_bool().unwrap_or_default(),
            tips: tips.filter_map(|sale| sale["lineItem"]["id"].as_str()).collect(),
        }
    }

    pub(super) fn body(&self, order: &Value) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                body.insert(name.to_owned(), value);
            }
        };
        for (name, webhook) in AS_IS {
            put(webhook, order[name].clone());
        }
        for (name, webhook) in TIMES {
            put(webhook, self.time(&order[name]));
        }
        for (name, webhook) in AMOUNTS {
            put(webhook, self.plain(&order[name]));
        }
        for (name, webhook) in SETS {
            put(webhook, self.set(&order[name]));
        }
        let rounding = &order["totalCashRoundingAdjustment"];
        for (side, webhook) in [
            ("paymentSet", "total_cash_rounding_payment_adjustment_set"),
            ("refundSet", "total_cash_rounding_refund_adjustment_set"),
        ] {
            put(webhook, self.set(&rounding[side]));
        }
        put("cancel_reason", self.word(&order["cancelReason"]));
        put("financial_status", self.word(&order["displayFinancialStatus"]));
        put(
            "fulfillment_status",
            fulfillment_status(&order["displayFulfillmentStatus"]),
        );
        put("app_id", order["app"]["id"].clone());
        put("location_id", order["retailLocation"]["id"].clone());
        put("customer", json!({"id": order["customer"]["id"]}));
        for (name, webhook) in [
            ("shippingAddress", "shipping_address"),
            ("billingAddress", "billing_address"),
        ] {
            put(webhook, json!({"country_code": order[name]["countryCodeV2"]}));
        }
        // An unsigned 64-bit number, which GraphQL writes as text.
        let weight = order["totalWeight"].as_str().and_then(|text| text.parse::<u64>().ok());
        put(
            "total_weight",
            weight.map_or_else(|| order["totalWeight"].clone(), Value::from),
        );
        let tags = order["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        put("tags", Vec::from_iter(tags).join(", ").into());
        let codes = order["discountCodes"].as_array().into_iter().flatten();
        put("discount_codes", codes.map(|code| json!({"code": code})).collect());
        put("discount_applications", self.discount_applications(order));
        put(
            "line_items",
            nodes(&order["lineItems"]).map(|line| self.line(line)).collect(),
        );
        let shipping = nodes(&order["shippingLines"]).map(|line| self.shipping_line(line));
        put("shipping_lines", shipping.collect());
        put(
            "fulfillments",
            nodes(&order["fulfillments"]).map(|one| self.fulfillment(one)).collect(),
        );
        let refunds = || nodes(&order["refunds"]);
        put("refunds", refunds().map(|refund| self.refund(refund, order)).collect());
        let of_refunds: HashSet<&str> = refunds()
            .flat_map(|refund| nodes(&refund["transactions"]))
            .filter_map(|one| one["id"].as_str())
            .collect();
        let own =
            nodes(&order["transactions"]).filter(|one| !one["id"].as_str().is_some_and(|id| of_refunds.contains(id)));
        put("transactions", own.map(|one| self.transaction(one)).collect());
        Value::Object(body)
    }

    fn line(&self, line: &Value) -> Value {
        let mut body = json!({
            "id": line["id"], "variant_id": line["variant"]["id"], "product_id": line["product"]["id"],
            "title": line["title"], "variant_title": line["variantTitle"], "sku": line["sku"], "vendor": line["vendor"],
            "quantity": line["quantity"], "current_quantity": line["currentQuantity"],
            "fulfillable_quantity": line["unfulfilledQuantity"], "gift_card": line["isGiftCard"],
            "taxable": line["taxable"], "requires_shipping": line["requiresShipping"],
            "price": self.plain(&line["originalUnitPriceSet"]), "total_discount": self.plain(&line["totalDiscountSet"]),
            "discount_allocations": self.allocations(line), "tax_lines": self.taxes(line),
        });
        if line["id"].as_str().is_some_and(|id| self.tips.contains(id)) {
            body["tip_payment_gateway"] = Value::Null;
        }
        body
    }

    fn shipping_line(&self, line: &Value) -> Value {
        json!({
            "id": line["id"], "title": line["title"], "code": line["code"], "source": line["source"],
            "is_removed": line["isRemoved"], "price": self.plain(&line["originalPriceSet"]),
            "discounted_price": self.plain(&line["discountedPriceSet"]),
            "discount_allocations": self.allocations(line), "tax_lines": self.taxes(line),
        })
    }

    fn taxes(&self, line: &Value) -> Vec<Value> {
        let tax = |tax: &Value| {
            json!({
                "title": tax["title"], "rate": tax["rate"], "channel_liable": tax["channelLiable"],
                "price": self.plain(&tax["priceSet"]),
            })
        };
        nodes(&line["taxLines"]).map(tax).collect()
    }

    fn allocations(&self, line: &Value) -> Vec<Value> {
        let allocation = |one: &Value| {
            json!({
                "amount": self.plain(&one["allocatedAmountSet"]),
                "discount_application_index": one["discountApplication"]["index"],
            })
        };
        nodes(&line["discountAllocations"]).map(allocation).collect()
    }

    /// Those that lines and shipping lines name, each at its index: a list of its own would be one
    /// connection more than a bulk operation takes.
    fn discount_applications(&self, order: &Value) -> Value {
        let lines = nodes(&order["lineItems"]).chain(nodes(&order["shippingLines"]));
        let mut applications = Vec::new();
        for one in lines.flat_map(|line| nodes(&line["discountAllocations"])) {
            let application = &one["discountApplication"];
            let Some(place) = application["index"]
                .as_u64()
                .and_then(|index| usize::try_from(index).ok())
            else {
                continue;
            };
            if place < MOST_APPLICATIONS && application["targetType"].is_string() {
                applications.resize(applications.len().max(place + 1), json!({}));
                applications[place] = self.discount_application(application);
            }
        }
        applications.into()
    }

    fn discount_application(&self, application: &Value) -> Value {
        let kind = match application["__typename"].as_str() {
            Some("DiscountCodeApplication") => "discount_code",
            Some("ManualDiscountApplication") => "manual",
            Some("AutomaticDiscountApplication") => "automatic",
            Some("ScriptDiscountApplication") => "script",
            _ => return json!({}),
        };
        let value = &application["value"];
        let (value_type, value) = if value["percentage"].is_null() {
            ("fixed_amount", self.written(&value["amount"], self.currency).into())
        } else {
            let percentage = value["percentage"].to_string();
            ("percentage", Value::from(percentage.trim_start_matches('-')))
        };
        json!({
            "type": kind, "code": application["code"], "title": application["title"],
            "target_type": self.word(&application["targetType"]),
            "target_selection": self.word(&application["targetSelection"]),
            "allocation_method": self.word(&application["allocationMethod"]),
            "value_type": value_type, "value": value,
        })
    }

    fn fulfillment(&self, one: &Value) -> Value {
        json!({
            "id": one["id"], "status": self.word(&one["status"]), "shipment_status": shipment_status(&one["displayStatus"]),
            "service": one["service"]["handle"], "tracking_company": one["trackingInfo"][0]["company"],
            "location_id": one["location"]["id"],
            "created_at": self.time(&one["createdAt"]), "updated_at": self.time(&one["updatedAt"]),
        })
    }

    pub(super) fn transaction(&self, one: &Value) -> Value {
        let paid = &one["amountSet"]["presentmentMoney"];
        let paid = if paid.is_null() {
            &one["amountSet"]["shopMoney"]
        } else {
            paid
        };
        let currency = paid["currencyCode"].as_str().unwrap_or(self.currency);
        json!({
            "id": one["id"], "parent_id": one["parentTransaction"]["id"], "kind": self.word(&one["kind"]),
            "status": self.word(&one["status"]), "gateway": one["gateway"], "test": one["test"],
            "amount": self.written(&paid["amount"], currency), "currency": currency,
            "amount_set": self.set(&one["amountSet"]),
            "processed_at": self.time(&one["processedAt"]), "created_at": self.time(&one["createdAt"]),
        })
    }
}

/// More than an order takes.
const MOST_APPLICATIONS: usize = 1000;

/// Forms of values.
impl Rewriter<'_> {
    /// The time in the shop's offset. What is no time stays as it is, for the reader to refuse.
    pub(super) fn time(&self, time: &Value) -> Value {
        let written = time.as_str().and_then(|text| self.zone.written(text));
        written.map_or_else(|| time.clone(), Value::from)
    }

    #[allow(clippy::unused_self, reason = "one way to call them all")]
    pub(super) fn word(&self, word: &Value) -> Value {
        word.as_str()
            .map_or(Value::Null, |word| word.to_ascii_lowercase().into())
    }

    /// The amount in the shop's currency.
    pub(super) fn amount(&self, set: &Value) -> Option<String> {
        self.written(&set["shopMoney"]["amount"], self.currency)
    }

    pub(super) fn decimal(&self, set: &Value) -> Option<Decimal> {
        self.amount(set)?.parse().ok()
    }

    pub(super) fn plain(&self, set: &Value) -> Value {
        self.amount(set).map_or(Value::Null, Value::from)
    }

    /// `{"shop_money": ..., "presentment_money": ...}`.
    pub(super) fn set(&self, set: &Value) -> Value {
        if set.is_null() {
            return Value::Null;
        }
        let side = |money: &Value, usual: &str| {
            let currency = money["currencyCode"].as_str().unwrap_or(usual);
            let amount = self.written(&money["amount"], currency)?;
            Some(json!({"amount": amount, "currency_code": currency}))
        };
        json!({
            "shop_money": side(&set["shopMoney"], self.currency),
            "presentment_money": side(&set["presentmentMoney"], self.presentment_currency),
        })
    }

    pub(super) fn shop_set(&self, amount: Decimal) -> Value {
        json!({"shop_money": {"amount": amount.to_string(), "currency_code": self.currency}})
    }

    /// The amount with the digits of its currency, `"12.0"` as `12.00`; more digits stay.
    #[allow(clippy::unused_self, reason = "one way to call them all")]
    fn written(&self, amount: &Value, currency: &str) -> Option<String> {
        let text = amount.as_str()?;
        let Ok(exact) = Decimal::from_str_exact(text) else {
            return Some(text.to_owned());
        };
        let mut exact = exact.normalize();
        exact.rescale(exact.scale().max(currency_digits(currency)));
        Some(exact.to_string())
    }
}

/// A webhook says nothing of an order of which nothing is fulfilled.
fn fulfillment_status(status: &Value) -> Value {
    match status.as_str() {
        Some("FULFILLED") => "fulfilled".into(),
        Some("PARTIALLY_FULFILLED") => "partial".into(),
        Some("RESTOCKED") => "restocked".into(),
        _ => Value::Null,
    }
}

/// Those of the statuses for display that a webhook has, too.
fn shipment_status(status: &Value) -> Value {
    const KNOWN: [&str; 9] = [
        "LABEL_PRINTED",
        "LABEL_PURCHASED",
        "ATTEMPTED_DELIVERY",
        "READY_FOR_PICKUP",
        "CONFIRMED",
        "IN_TRANSIT",
        "OUT_FOR_DELIVERY",
        "DELIVERED",
        "FAILURE",
    ];
    let known = status.as_str().filter(|status| KNOWN.contains(status));
    known.map_or(Value::Null, |status| status.to_ascii_lowercase().into())
}
