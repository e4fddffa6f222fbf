//! Shopify's books of an order (`Order.agreements`), kept along its webhooks: what each new state sold, what each refund
//! took back.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::render::{gid, graphql_decimal, instant, list, rounded, utc};

/// Quantity, gross and discount without tax, tax.
type Figures = [Decimal; 4];

/// What was sold by key: a line's id, `shipping`, `tip`, `duty`, `fee`.
type Sold = BTreeMap<String, (&'static str, Figures)>;

struct Books {
    sold: Sold,
    agreements: Vec<(OffsetDateTime, Value)>,
    sales: u64,
    order: u64,
}

/// The agreements of the order whose newest body is `newest`.
pub fn agreements(deliveries: &[(&str, &Value)], newest: &Value) -> Vec<Value> {
    let mut states: Vec<&Value> = deliveries
        .iter()
        .map(|(_, body)| *body)
        .filter(|body| !body["line_items"].is_null())
        .collect();
    states.sort_by_key(|body| instant(&body["updated_at"]));
    let mut edits: Vec<&Value> = deliveries
        .iter()
        .filter(|(_, body)| !body["order_edit"].is_null())
        .map(|(_, body)| &body["order_edit"])
        .collect();
    edits.sort_by_key(|edit| instant(&edit["committed_at"]));
    edits.dedup_by_key(|edit| edit["id"].clone());
    let mut books = Books {
        sold: Sold::new(),
        agreements: Vec::new(),
        sales: 0,
        order: newest["id"].as_u64().unwrap_or_default(),
    };
    let mut edits = edits.into_iter().peekable();
    for (place, state) in states.iter().enumerate() {
        let is_first = place == 0;
        let now = sold(state);
        let at = instant(&state["updated_at"]);
        let mut last_edit = None;
        let mut before = now.clone();
        let mut later = Vec::new();
        while let Some(edit) = edits.next_if(|edit| instant(&edit["committed_at"]) <= at) {
            later.push(edit);
        }
        // Latest first: what an edit added is no part of what was sold before it.
        let mut parts = Vec::new();
        for edit in later.into_iter().rev() {
            last_edit.get_or_insert(edit);
            let mut added = Sold::new();
            for line in list(&edit["line_items"]["additions"]) {
                let key = line["id"].to_string();
                let Some((kind, left)) = before.get_mut(&key) else {
                    continue;
                };
                let units = Decimal::from(line["delta"].as_i64().unwrap()).min(left[0]);
                let whole = now[&key].1;
                let part = if units == left[0] {
                    *left
                } else {
                    whole.map(|figure| rounded(figure * units / whole[0], digits(state)))
                };
                *left = std::array::from_fn(|place| left[place] - part[place]);
                added.insert(key, (*kind, part));
            }
            parts.push((edit, added));
        }
        // What else differs was done by the last edit, or at the time of the state.
        let (reason, when) = match (is_first, last_edit) {
            (true, _) => ("ORDER", &state["processed_at"]),
            (_, Some(edit)) => ("ORDER_EDIT", &edit["committed_at"]),
            _ => ("ORDER_EDIT", &state["updated_at"]),
        };
        let rest = less(&before, &books.sold);
        books.agree(reason, when, rest, &Value::Null);
        for (edit, added) in parts {
            books.agree("ORDER_EDIT", &edit["committed_at"], added, &Value::Null);
        }
        books.sold = now;
    }
    for refund in list(&newest["refunds"]) {
        books.refund(refund, newest);
    }
    books.agreements.sort_by_key(|(at, _)| *at);
    books.agreements.into_iter().map(|(_, agreement)| agreement).collect()
}

fn less(now: &Sold, before: &Sold) -> Sold {
    let mut rest = Sold::new();
    for (key, (kind, figures)) in now {
        let known = before.get(key).map_or([Decimal::ZERO; 4], |(_, known)| *known);
        rest.insert(
            key.clone(),
            (*kind, std::array::from_fn(|place| figures[place] - known[place])),
        );
    }
    for (key, (kind, figures)) in before {
        rest.entry(key.clone())
            .or_insert((*kind, figures.map(|figure| -figure)));
    }
    rest
}

impl Books {
    fn agree(&mut self, reason: &str, when: &Value, sales: Sold, refund: &Value) {
        let sales: Vec<Value> = sales
            .into_iter()
            .filter(|(_, (_, figures))| figures.iter().any(|figure| !figure.is_zero()))
            .map(|(key, (kind, figures))| self.sale(&key, kind, figures, reason))
            .collect();
        if sales.is_empty() {
            return;
        }
        let id = self.agreements.len() as u64 + 1 + self.order * 100;
        let mut agreement = json!({
            "__typename": if refund.is_null() { "OrderAgreement" } else { "RefundAgreement" },
            "id": gid("SalesAgreement", &id.into()), "happenedAt": utc(when), "reason": reason,
            "sales": {"edges": Vec::from_iter(sales.into_iter().map(|sale| json!({"node": sale})))},
        });
        if !refund.is_null() {
            agreement["refund"] = json!({"id": gid("Refund", refund)});
        }
        self.agreements.push((instant(when), agreement));
    }

    fn sale(&mut self, key: &str, kind: &'static str, [units, gross, discount, tax]: Figures, reason: &str) -> Value {
        self.sales += 1;
        let money = |amount: Decimal| json!({"shopMoney": {"amount": graphql_decimal(&amount.to_string())}});
        let action = match reason {
            "REFUND" => "RETURN",
            "ORDER" => "ORDER",
            _ if units > Decimal::ZERO => "ORDER",
            _ => "UPDATE",
        };
        let mut sale = json!({
            "__typename": "ProductSale", "id": gid("Sale", &(self.order * 1000 + self.sales).into()), "actionType": action,
            "lineType": kind, "totalAmount": money(gross - discount + tax), "totalTaxAmount": money(tax),
            "totalDiscountAmountBeforeTaxes": money(discount), "totalDiscountAmountAfterTaxes": money(discount),
        });
        if !units.is_zero() {
            sale["quantity"] = units.to_string().parse::<i64>().unwrap().into();
        }
        if key.parse::<u64>().is_ok() {
            sale["lineItem"] = json!({"id": gid("LineItem", &Value::from(key))});
        }
        sale
    }

    fn refund(&mut self, refund: &Value, order: &Value) {
        let included = order["taxes_included"] == true;
        let less_tax = |amount: Decimal, tax: Decimal| if included { amount - tax } else { amount };
        let mut back = Sold::new();
        for line in list(&refund["refund_line_items"]) {
            let key = line["line_item_id"].to_string();
            let of_order = list(&order["line_items"]).find(|one| one["id"] == line["line_item_id"]);
            let kind = of_order.map_or("PRODUCT", line_type);
            let (subtotal, tax) = (shop(line, "subtotal"), shop(line, "total_tax"));
            let units = Decimal::from(line["quantity"].as_i64().unwrap_or_default());
            let figures = back.entry(key).or_insert((kind, [Decimal::ZERO; 4]));
            for (sum, figure) in figures
                .1
                .iter_mut()
                .zip([units, less_tax(subtotal, tax), Decimal::ZERO, tax])
            {
                *sum -= figure;
            }
        }
        let mut add = |key: &str, kind, gross: Decimal, tax: Decimal| {
            let figures = back.entry(key.to_owned()).or_insert((kind, [Decimal::ZERO; 4]));
            figures.1[1] += gross;
            figures.1[3] += tax;
        };
        let shipping = Vec::from_iter(list(&refund["refund_shipping_lines"]));
        for line in &shipping {
            let (amount, tax) = (shop(line, "subtotal_amount"), shop(line, "tax_amount"));
            add("shipping", "SHIPPING", -less_tax(amount, tax), -tax);
        }
        for one in list(&refund["order_adjustments"]) {
            let (amount, tax) = (shop(one, "amount"), shop(one, "tax_amount"));
            if one["kind"] != "shipping_refund" {
                add("adjustment", "ADJUSTMENT", amount, tax);
            } else if shipping.is_empty() {
                add("shipping", "SHIPPING", less_tax(amount, tax), tax);
            }
        }
        for duty in list(&refund["duties"]) {
            add("duty", "DUTY", -shop(duty, "amount"), Decimal::ZERO);
        }
        self.agree("REFUND", &refund["processed_at"], back, &refund["id"]);
    }
}

/// In the shop's currency.
fn shop(value: &Value, name: &str) -> Decimal {
    let set = &value[format!("{name}_set")]["shop_money"]["amount"];
    let amount = if set.is_null() { &value[name] } else { set };
    amount
        .as_str()
        .map_or_else(|| amount.to_string(), str::to_owned)
        .parse()
        .unwrap_or_default()
}

/// Decimals of the order's currency.
fn digits(order: &Value) -> u32 {
    match order["currency"].as_str() {
        Some("JPY") => 0,
        Some("KWD") => 3,
        _ => 2,
    }
}

fn line_type(line: &Value) -> &'static str {
    if line.get("tip_payment_gateway").is_some() {
        "TIP"
    } else if line["gift_card"] == true {
        "GIFT_CARD"
    } else {
        "PRODUCT"
    }
}

/// What the state has sold.
fn sold(state: &Value) -> Sold {
    let included = state["taxes_included"] == true;
    let mut sold = Sold::new();
    let sum = |list: &mut dyn Iterator<Item = Decimal>| list.sum::<Decimal>();
    let mut has_tip = false;
    for line in list(&state["line_items"]) {
        let units = Decimal::from(line["quantity"].as_i64().unwrap());
        let price = shop(line, "price") * units;
        let tax = sum(&mut list(&line["tax_lines"]).map(|tax| shop(tax, "price")));
        let allocations = Vec::from_iter(list(&line["discount_allocations"]).map(|one| shop(one, "amount")));
        let discount = if allocations.is_empty() {
            shop(line, "total_discount")
        } else {
            sum(&mut allocations.into_iter())
        };
        let kind = line_type(line);
        has_tip |= kind == "TIP";
        let figures = if included && price > discount {
            let net = price - discount - tax;
            let gross = rounded(price * net / (price - discount), digits(state));
            [units, gross, gross - net, tax]
        } else {
            [units, price, discount, tax]
        };
        sold.insert(line["id"].to_string(), (kind, figures));
    }
    let mut shipping = [Decimal::ZERO; 4];
    let removed = |line: &&Value| line["is_removed"] == true;
    for line in list(&state["shipping_lines"]).filter(|line| !removed(line) || is_refunded(state)) {
        let tax = sum(&mut list(&line["tax_lines"]).map(|tax| shop(tax, "price")));
        let charged = if line["discounted_price"].is_null() {
            shop(line, "price")
        } else {
            shop(line, "discounted_price")
        };
        shipping[1] += if included { charged - tax } else { charged };
        shipping[3] += tax;
    }
    sold.insert("shipping".to_owned(), ("SHIPPING", shipping));
    let mut extra = |key: &str, kind, amount: Decimal| {
        sold.insert(
            key.to_owned(),
            (kind, [Decimal::ZERO, amount, Decimal::ZERO, Decimal::ZERO]),
        );
    };
    if !has_tip {
        extra("tip", "TIP", shop(state, "total_tip_received"));
    }
    extra("duty", "DUTY", shop(state, "original_total_duties"));
    extra("fee", "ADDITIONAL_FEE", shop(state, "original_total_additional_fees"));
    sold
}

/// Whether a refund takes the shipping back: then an edit does not.
fn is_refunded(state: &Value) -> bool {
    list(&state["refunds"]).any(|refund| {
        list(&refund["refund_shipping_lines"]).next().is_some()
            || list(&refund["order_adjustments"]).any(|one| one["kind"] == "shipping_refund")
    })
}
