//! An order as the Admin API has it, made of the bodies of its webhooks: the fake's orders come both ways from one source.
//!
//! Written from Shopify's schema (2026-07) and on its own: it shares no code with the mapper that it tests.

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::books::agreements;

/// What an answer holds besides, though no query asks for it, and what must be kept nowhere.
pub const PERSONAL: [&str; 3] = ["held.out@example.com", "Heldout Street 7", "call 555-0100-4242"];

/// The node of an order, with its ledger; `body` is what its newest webhook holds.
pub fn order(body: &Value) -> Value {
    of_history(&[("orders/updated", body)])
}

/// The order that these deliveries (topic and body) leave behind, with its ledger.
pub fn of_history(deliveries: &[(&str, &Value)]) -> Value {
    let wholes = deliveries.iter().filter(|(_, body)| !body["line_items"].is_null());
    let newest = wholes.max_by_key(|(_, body)| instant(&body["updated_at"])).unwrap().1;
    let mut body = newest.clone();
    let known = |body: &Value, id: &Value| body["refunds"].as_array().unwrap().iter().any(|one| one["id"] == *id);
    if body["refunds"].is_null() {
        body["refunds"] = json!([]);
    }
    for (_, refund) in deliveries.iter().filter(|(topic, _)| *topic == "refunds/create") {
        if !known(&body, &refund["id"]) {
            body["refunds"].as_array_mut().unwrap().push((*refund).clone());
        }
    }
    // A refund changes the order.
    let changes = body["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refund| &refund["processed_at"]);
    let last = changes
        .chain([&body["updated_at"]])
        .max_by_key(|at| instant(at))
        .unwrap()
        .clone();
    body["updated_at"] = last;
    let mut order = node(&body);
    add_what_no_query_asks_for(&mut order);
    order["agreements"] = connection(agreements(deliveries, &body));
    order
}

fn add_what_no_query_asks_for(order: &mut Value) {
    let [email, street, note] = PERSONAL;
    (order["email"], order["note"]) = (email.into(), note.into());
    order["shippingAddress"]["address1"] = street.into();
    if order["customer"].is_object() {
        order["customer"]["email"] = email.into();
    }
}

/// One body, without a ledger.
fn node(body: &Value) -> Value {
    let currency = body["currency"].as_str().unwrap();
    let bag = |name: &str| {
        let (set, plain) = (&body[format!("{name}_set")], &body[name]);
        if set.is_null() {
            return plain_bag(plain, currency);
        }
        let mut bag = bag(set);
        if let Some(amount) = plain.as_str() {
            bag["shopMoney"]["amount"] = graphql_decimal(amount).into();
        }
        bag
    };
    let mut order = json!({
        "__typename": "Order", "id": gid("Order", &body["id"]), "name": body["name"], "number": body["order_number"],
        "createdAt": utc(&body["created_at"]), "processedAt": utc(&body["processed_at"]), "updatedAt": utc(&body["updated_at"]),
        "cancelledAt": utc(&body["cancelled_at"]), "closedAt": utc(&body["closed_at"]),
        "cancelReason": upper(&body["cancel_reason"]), "test": body["test"], "currencyCode": currency,
        "presentmentCurrencyCode": body["presentment_currency"], "taxesIncluded": body["taxes_included"],
        "displayFinancialStatus": upper(&body["financial_status"]),
        "displayFulfillmentStatus": match body["fulfillment_status"].as_str() {
            Some("fulfilled") => "FULFILLED",
            Some("partial") => "PARTIALLY_FULFILLED",
            Some("restocked") => "RESTOCKED",
            _ => "UNFULFILLED",
        },
        "sourceName": body["source_name"], "customerLocale": body["customer_locale"],
        "tags": body["tags"].as_str().unwrap_or_default().split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect::<Vec<_>>(),
        "discountCodes": list(&body["discount_codes"]).map(|code| code["code"].clone()).collect::<Vec<_>>(),
        "paymentGatewayNames": body["payment_gateway_names"], "totalWeight": body["total_weight"].as_i64().map(|grams| grams.to_string()),
        "app": wrapped("App", &body["app_id"]), "retailLocation": wrapped("Location", &body["location_id"]),
        "customer": wrapped("Customer", &body["customer"]["id"]),
        "shippingAddress": {"countryCodeV2": body["shipping_address"]["country_code"]},
        "billingAddress": {"countryCodeV2": body["billing_address"]["country_code"]},
    });
    for (name, graphql) in [
        ("total_price", "totalPriceSet"),
        ("subtotal_price", "subtotalPriceSet"),
        ("total_discounts", "totalDiscountsSet"),
        ("total_tax", "totalTaxSet"),
        ("total_tip_received", "totalTipReceivedSet"),
        ("current_total_price", "currentTotalPriceSet"),
        ("current_subtotal_price", "currentSubtotalPriceSet"),
        ("current_total_discounts", "currentTotalDiscountsSet"),
        ("current_total_tax", "currentTotalTaxSet"),
        ("total_shipping_price", "totalShippingPriceSet"),
        ("current_shipping_price", "currentShippingPriceSet"),
        ("original_total_duties", "originalTotalDutiesSet"),
        ("current_total_duties", "currentTotalDutiesSet"),
        ("original_total_additional_fees", "originalTotalAdditionalFeesSet"),
        ("current_total_additional_fees", "currentTotalAdditionalFeesSet"),
    ] {
        order[graphql] = bag(name);
    }
    let applications = &body["discount_applications"];
    order["lineItems"] = connection(
        list(&body["line_items"])
            .map(|one| line(one, currency, applications))
            .collect(),
    );
    order["shippingLines"] = connection(
        list(&body["shipping_lines"])
            .map(|one| shipping_line(one, currency, applications))
            .collect(),
    );
    order["refunds"] = list(&body["refunds"]).map(|one| refund(one, currency)).collect();
    let of_refunds = list(&body["refunds"]).flat_map(|refund| list(&refund["transactions"]));
    let transactions = list(&body["transactions"]).chain(of_refunds);
    order["transactions"] = transactions.map(|one| transaction(one, currency)).collect();
    order["fulfillments"] = list(&body["fulfillments"]).map(fulfillment).collect();
    order
}

fn line(line: &Value, currency: &str, applications: &Value) -> Value {
    json!({
        "__typename": "LineItem", "id": gid("LineItem", &line["id"]), "sku": line["sku"], "title": line["title"],
        "variantTitle": line["variant_title"], "vendor": line["vendor"], "quantity": line["quantity"],
        "currentQuantity": line["current_quantity"], "unfulfilledQuantity": line["fulfillable_quantity"],
        "isGiftCard": line["gift_card"], "requiresShipping": line["requires_shipping"], "taxable": line["taxable"],
        "product": wrapped("Product", &line["product_id"]), "variant": wrapped("ProductVariant", &line["variant_id"]),
        "originalUnitPriceSet": plain_bag(&line["price"], currency),
        "totalDiscountSet": plain_bag(&line["total_discount"], currency),
        "discountAllocations": allocations(line, currency, applications), "taxLines": taxes(line, currency),
    })
}

fn shipping_line(line: &Value, currency: &str, applications: &Value) -> Value {
    let discounted = if line["discounted_price"].is_null() {
        &line["price"]
    } else {
        &line["discounted_price"]
    };
    json!({
        "__typename": "ShippingLine", "id": gid("ShippingLine", &line["id"]), "title": line["title"], "code": line["code"],
        "source": line["source"], "isRemoved": line["is_removed"] == true,
        "originalPriceSet": plain_bag(&line["price"], currency), "discountedPriceSet": plain_bag(discounted, currency),
        "discountAllocations": allocations(line, currency, applications), "taxLines": taxes(line, currency),
    })
}

fn taxes(line: &Value, currency: &str) -> Vec<Value> {
    let tax = |tax: &Value| {
        json!({
            "title": tax["title"], "rate": tax["rate"], "channelLiable": tax["channel_liable"],
            "priceSet": plain_bag(&tax["price"], currency),
        })
    };
    list(&line["tax_lines"]).map(tax).collect()
}

fn allocations(line: &Value, currency: &str, applications: &Value) -> Vec<Value> {
    let allocation = |one: &Value| {
        let index = &one["discount_application_index"];
        let application = &applications[usize::try_from(index.as_u64().unwrap_or_default()).unwrap()];
        let percentage = application["value_type"] == "percentage";
        let value = application["value"].as_str().unwrap_or("0");
        json!({
            "allocatedAmountSet": plain_bag(&one["amount"], currency),
            "discountApplication": {
                "__typename": match application["type"].as_str() {
                    Some("manual") => "ManualDiscountApplication",
                    Some("automatic") => "AutomaticDiscountApplication",
                    Some("script") => "ScriptDiscountApplication",
                    _ => "DiscountCodeApplication",
                },
                "index": index, "code": application["code"], "title": application["title"],
                "targetType": upper(&application["target_type"]), "targetSelection": upper(&application["target_selection"]),
                "allocationMethod": upper(&application["allocation_method"]),
                "value": if percentage {
                    json!({"percentage": value.parse::<f64>().unwrap()})
                } else {
                    json!({"amount": graphql_decimal(value), "currencyCode": currency})
                },
            },
        })
    };
    list(&line["discount_allocations"]).map(allocation).collect()
}

/// With what only a query by id may ask for.
fn refund(refund: &Value, currency: &str) -> Value {
    let either = |one: &Value, name: &str| {
        let set = &one[format!("{name}_set")];
        if set.is_null() {
            plain_bag(&one[name], currency)
        } else {
            bag(set)
        }
    };
    let lines = list(&refund["refund_line_items"]).map(|line| {
        json!({
            "id": gid("RefundLineItem", &line["id"]), "quantity": line["quantity"], "restockType": upper(&line["restock_type"]),
            "location": wrapped("Location", &line["location_id"]), "lineItem": wrapped("LineItem", &line["line_item_id"]),
            "subtotalSet": either(line, "subtotal"), "totalTaxSet": either(line, "total_tax"),
        })
    });
    let shipping = list(&refund["refund_shipping_lines"]).map(|line| {
        json!({"subtotalAmountSet": bag(&line["subtotal_amount_set"]), "taxAmountSet": bag(&line["tax_amount_set"])})
    });
    let of_kind = |shipping: bool| {
        list(&refund["order_adjustments"]).filter(move |one| (one["kind"] == "shipping_refund") == shipping)
    };
    let amount = |one: &Value, name: &str| {
        let amount = either(one, name)["shopMoney"]["amount"]
            .as_str()
            .map_or(Decimal::ZERO, |text| text.parse().unwrap());
        json!({"shopMoney": {"amount": graphql_decimal(&(-amount).to_string()), "currencyCode": currency}})
    };
    let old_shipping = of_kind(true)
        .map(|one| json!({"subtotalAmountSet": amount(one, "amount"), "taxAmountSet": amount(one, "tax_amount")}));
    let shipping = Vec::from_iter(shipping);
    let shipping = if shipping.is_empty() {
        old_shipping.collect()
    } else {
        shipping
    };
    let adjustments = of_kind(false)
        .map(|one| json!({"amountSet": either(one, "amount"), "taxAmountSet": either(one, "tax_amount")}));
    let transactions = Vec::from_iter(list(&refund["transactions"]).map(|one| transaction(one, currency)));
    let paid = transactions
        .iter()
        .filter(|one| one["kind"] == "REFUND" && one["status"] == "SUCCESS");
    let paid = paid.map(|one| {
        one["amountSet"]["shopMoney"]["amount"]
            .as_str()
            .unwrap()
            .parse::<Decimal>()
            .unwrap()
    });
    json!({
        "id": gid("Refund", &refund["id"]), "createdAt": utc(&refund["created_at"]), "processedAt": utc(&refund["processed_at"]),
        "updatedAt": utc(&refund["processed_at"]),
        "totalRefundedSet": {"shopMoney": {"amount": graphql_decimal(&paid.sum::<Decimal>().to_string())}},
        "refundLineItems": nodes(lines.collect()), "refundShippingLines": nodes(shipping),
        "orderAdjustments": nodes(adjustments.collect()), "transactions": nodes(transactions),
        "duties": list(&refund["duties"]).map(|duty| json!({"amountSet": bag(&duty["amount_set"])})).collect::<Vec<_>>(),
    })
}

/// As a bulk operation answers it: no connection within a list.
pub fn without_refund_details(mut order: Value) -> Value {
    for refund in order["refunds"].as_array_mut().unwrap() {
        let refund = refund.as_object_mut().unwrap();
        for list in [
            "refundLineItems",
            "refundShippingLines",
            "orderAdjustments",
            "transactions",
            "duties",
        ] {
            refund.remove(list);
        }
    }
    order
}

fn transaction(one: &Value, shop: &str) -> Value {
    let paid_in = one["currency"].as_str().unwrap_or(shop);
    let set = if one["amount_set"].is_null() {
        plain_bag(&one["amount"], shop)
    } else {
        bag(&one["amount_set"])
    };
    let amount = |text: &Value| graphql_decimal(text.as_str().unwrap_or("0"));
    json!({
        "id": gid("OrderTransaction", &one["id"]), "kind": upper(&one["kind"]), "status": upper(&one["status"]),
        "gateway": one["gateway"], "test": one["test"], "processedAt": utc(&one["processed_at"]), "createdAt": utc(&one["created_at"]),
        "amountSet": {
            "shopMoney": set["shopMoney"], "presentmentMoney": {"amount": amount(&one["amount"]), "currencyCode": paid_in},
        },
        "parentTransaction": wrapped("OrderTransaction", &one["parent_id"]),
    })
}

fn fulfillment(one: &Value) -> Value {
    json!({
        "id": gid("Fulfillment", &one["id"]), "status": upper(&one["status"]), "displayStatus": upper(&one["shipment_status"]),
        "createdAt": utc(&one["created_at"]), "updatedAt": utc(&one["updated_at"]), "service": {"handle": one["service"]},
        "trackingInfo": [{"company": one["tracking_company"]}], "location": wrapped("Location", &one["location_id"]),
    })
}

pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn connection(nodes: Vec<Value>) -> Value {
    json!({"edges": Vec::from_iter(nodes.into_iter().map(|node| json!({"node": node})))})
}

fn nodes(nodes: Vec<Value>) -> Value {
    json!({"nodes": nodes, "pageInfo": {"hasNextPage": false}})
}

pub fn gid(kind: &str, id: &Value) -> Value {
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    if id == "null" {
        Value::Null
    } else {
        format!("gid://shopify/{kind}/{id}").into()
    }
}

fn wrapped(kind: &str, id: &Value) -> Value {
    let id = gid(kind, id);
    if id.is_null() { Value::Null } else { json!({"id": id}) }
}

fn upper(word: &Value) -> Value {
    word.as_str()
        .map_or(Value::Null, |word| word.to_ascii_uppercase().into())
}

pub fn instant(time: &Value) -> OffsetDateTime {
    time.as_str().map_or(OffsetDateTime::UNIX_EPOCH, |text| {
        OffsetDateTime::parse(text, &Rfc3339).unwrap()
    })
}

/// The Admin API writes every time in UTC.
pub fn utc(time: &Value) -> Value {
    if time.is_null() {
        return Value::Null;
    }
    utc_of(instant(time))
}

pub fn utc_of(at: OffsetDateTime) -> Value {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap().into()
}

/// `MoneyBag`.
fn bag(set: &Value) -> Value {
    let side = |money: &Value| {
        let amount = graphql_decimal(money["amount"].as_str()?);
        Some(json!({"amount": amount, "currencyCode": money["currency_code"]}))
    };
    json!({"shopMoney": side(&set["shop_money"]), "presentmentMoney": side(&set["presentment_money"])})
}

fn plain_bag(amount: &Value, currency: &str) -> Value {
    let amount = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    if amount == "null" {
        return Value::Null;
    }
    json!({"shopMoney": {"amount": graphql_decimal(&amount), "currencyCode": currency}})
}

/// The scalar `Decimal` as Shopify writes it: `12.0`, `12.5`.
pub fn graphql_decimal(amount: &str) -> String {
    let mut amount = amount.parse::<Decimal>().unwrap().normalize();
    amount.rescale(amount.scale().max(1));
    amount.to_string()
}

pub fn rounded(amount: Decimal, digits: u32) -> Decimal {
    amount.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero)
}
