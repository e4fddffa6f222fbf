//! Bodies into events, as the HTTP route does it.

use orderstream::event::OrderEvent;
use orderstream::shopify::{self, DeliveryHints, Topic};
use serde_json::{Value, json};
use time::macros::datetime;

use crate::bodies;

fn convert(topic: &str, body: &[u8], hints: &DeliveryHints<'_>) -> Result<Value, String> {
    let event_id = shopify::event_id(hints, body);
    let received_at = datetime!(2026-03-01 12:00:00.25 UTC);
    let topic = Topic::parse(Some(topic)).unwrap();
    let event = shopify::convert(topic, body, hints, event_id, received_at).map_err(|error| error.to_string())?;
    // Through text, so that digits are compared as they are written; and it must read back as the same event.
    let json = serde_json::to_string(&event).unwrap();
    let again: OrderEvent<'_> = serde_json::from_str(&json).unwrap();
    assert_eq!(again, event);
    let mut value: Value = serde_json::from_str(&quote_numbers(&json)).unwrap();
    assert_eq!(value["event_id"], event_id.to_string());
    value.as_object_mut().unwrap().remove("event_id");
    Ok(value)
}

/// Every bare number becomes a string.
fn quote_numbers(json: &str) -> String {
    let mut out = String::new();
    let (mut in_text, mut in_number, mut escaped) = (false, false, false);
    for c in json.chars() {
        let digit = matches!(c, '0'..='9' | '-' | '.' | '+');
        if !in_text && digit != in_number {
            out.push('"');
            in_number = digit;
        }
        if c == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}

fn triggered() -> DeliveryHints<'static> {
    DeliveryHints {
        shop: Some("example.myshopify.com".into()),
        webhook_id: Some("w-1"),
        triggered_at: Some("2026-02-28T23:59:59.5Z"),
        order_id: Some("777"),
        ..DeliveryHints::default()
    }
}

#[test]
fn a_whole_order_is_exact_and_impersonal() {
    let body = bodies::read("order_usd");
    let mut event = convert("orders/create", &body, &triggered()).unwrap();
    assert_eq!(
        event["details"].take(),
        json!({
            "gateways": ["shopify_payments"], "locale": "en-US", "weight": "600", "utm": {"source": "mail"},
            "discounts": [{"type": "discount_code", "code": "TEN&MORE", "value_type": "percentage", "amount": "11.28"}],
            "tax_lines": [
                {"line_id": "9007199254740993", "title": "State Tax", "rate": "0.08", "amount": "3.53"},
                {"line_id": "9007199254740995", "title": "State Tax", "rate": "0.08", "amount": "4.15"},
                {"line_id": "9007199254740995", "title": "State Tax", "rate": "0.08", "amount": "0.01"},
                {"line_id": "9007199254740997", "title": "State Tax", "rate": "0.08", "amount": "0.41"},
            ],
        })
    );
    assert_eq!(
        event["items"].take(),
        json!([
            {"sku": "TEA-EARL/GREY", "qty": "2", "price": "24.50", "line_id": "9007199254740993",
             "variant_id": "49148385000001", "product_id": "632910392000001",
             "title": "Earl Grey \"Extra\" – Dose", "current_qty": "2", "discount": "4.90", "tax": "3.53",
             "taxable": true, "requires_shipping": true, "fulfillable_qty": "2"},
            {"sku": "CUP-01", "qty": "3", "price": "19.25", "line_id": "9007199254740995",
             "variant_id": "49148385000002", "product_id": "632910392000002",
             "title": "Cup & Saucer", "current_qty": "3", "discount": "5.78", "tax": "4.16",
             "taxable": true, "requires_shipping": true, "fulfillable_qty": "3"},
            {"sku": "", "qty": "1", "price": "6.00", "line_id": "9007199254740997",
             "title": "Tea strainer", "current_qty": "1", "discount": "0.60", "tax": "0.41",
             "taxable": true, "requires_shipping": true, "fulfillable_qty": "1"},
        ])
    );
    assert_eq!(event["order_number"].take(), "1042");
    assert_eq!(event["app_id"].take(), "580111");
    assert_eq!(
        (event["billing_country"].take(), event["shipping_country"].take()),
        ("US".into(), "US".into())
    );
    event.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    assert_eq!(
        event,
        json!({
            "event_type": "order.created", "timestamp": "2026-01-31T21:30:02-05:00",
            "order_id": "9100000000000000123", "customer_id": "8800000000000000457",
            "total_amount": "116.57", "currency": "USD", "shop": "example.myshopify.com", "name": "#1042",
            "created_at": "2026-01-31T21:30:00-05:00", "processed_at": "2026-01-31T21:29:58-05:00",
            "updated_at": "2026-01-31T21:30:02-05:00", "financial_status": "paid",
            "subtotal": "101.47", "total_discounts": "11.28", "total_shipping": "7.00", "total_tax": "8.10",
            "taxes_included": false, "current_total_amount": "116.57", "presentment_currency": "USD",
            "presentment_total_amount": "116.57", "source_name": "web", "test": false, "refunds": [],
            "shipping_lines": [{"line_id": "1", "price": "7.00", "title": "Standard"}],
        })
    );
}

#[test]
fn a_guest_order_has_no_customer_and_keeps_null_apart_from_empty() {
    let body = bodies::read("order_guest_eur");
    let event = convert("orders/paid", &body, &DeliveryHints::default()).unwrap();
    assert_eq!(event["event_type"], "order.paid");
    assert_eq!(event["customer_id"], Value::Null);
    assert_eq!(event["total_amount"], "5900");
    assert_eq!(event["total_shipping"], "4.90");
    assert_eq!(event["items"][0]["sku"], Value::Null);
    assert_eq!(event["items"][1]["sku"], "");
    assert_eq!(event["items"][0]["price"], "0.10");
    assert!(event["items"][0].get("current_qty").is_none());
    assert!(event.get("shop").is_none());
}

#[test]
fn customer_forms_that_all_mean_guest() {
    for customer in [
        "",
        r#""customer":null,"#,
        r#""customer":{},"#,
        r#""customer":{"id":null},"#,
    ] {
        let body = format!(r#"{{{customer}"id":1,"total_price":"1.00","currency":"EUR","line_items":[]}}"#);
        let event = convert("orders/create", body.as_bytes(), &triggered()).unwrap();
        assert_eq!(event["customer_id"], Value::Null, "{customer}");
        assert_eq!(event["timestamp"], "2026-02-28T23:59:59.5Z");
    }
}

#[test]
fn a_refund_counts_what_went_back_in_the_shops_currency() {
    let body = bodies::read("order_multi_currency_refunded");
    let event = convert("orders/updated", &body, &triggered()).unwrap();
    assert_eq!(event["presentment_currency"], "CAD");
    assert_eq!(event["presentment_total_amount"], "137.00");
    assert_eq!(event["items"][0]["current_qty"], "1");
    assert_eq!(
        event["refunds"],
        json!([{"refund_id": "6200000000901", "processed_at": "2026-02-20T09:14:30-05:00",
                "amount": "30.00", "pending_amount": "10.00", "tax": "5.0", "currency": "USD",
                "lines": [{"line_id": "6200000000101", "qty": "1", "subtotal": "45.0", "tax": "5.0"}],
                "transactions": [
                    {"transaction_id": "1", "kind": "refund", "status": "success", "gateway": "shopify_payments",
                     "amount": "30.00", "paid_amount": "41.10", "paid_currency": "CAD"},
                    {"transaction_id": "2", "kind": "refund", "status": "pending", "gateway": "shopify_payments",
                     "amount": "10.00", "paid_amount": "13.70", "paid_currency": "CAD"},
                    {"transaction_id": "3", "kind": "refund", "status": "failure", "gateway": "shopify_payments",
                     "amount": "729.00", "paid_amount": "999.00", "paid_currency": "CAD"},
                    {"transaction_id": "4", "kind": "void", "status": "success", "gateway": "shopify_payments",
                     "amount": "3.65", "paid_amount": "5.00", "paid_currency": "CAD"}]}])
    );
}

/// The only transaction of an `order_transactions/create`, and the event's currency.
fn transaction_of(rest: &str) -> (Value, Value) {
    let body = format!(r#"{{"id":1,"order_id":2,"kind":"capture","status":"success",{rest}}}"#);
    let mut event = convert("order_transactions/create", body.as_bytes(), &triggered()).unwrap();
    (
        event["transactions"].get(0).cloned().unwrap_or_default(),
        event["currency"].take(),
    )
}

#[test]
fn a_transaction_is_worth_in_the_shops_currency_what_its_body_tells() {
    let unsettled = r#""total_unsettled_set":{"shop_money":{"amount":"5.00","currency":"USD"},"presentment_money":{"amount":"6.25","currency":"CAD"}}"#;
    let settled = r#""total_unsettled_set":{"shop_money":{"amount":"0.0","currency":"USD"},"presentment_money":{"amount":"0.0","currency":"CAD"}}"#;
    let adjusted =
        r#""currency_exchange_adjustment":{"final_amount":"-8.01","original_amount":"-8.00","currency":"USD"}"#;
    let set = r#""amount_set":{"shop_money":{"amount":"7.99","currency_code":"USD"}}"#;
    for (rest, amount, currency, paid) in [
        (String::new(), json!("10.00"), json!("CAD"), Value::Null),
        (format!(",{unsettled}"), json!("8.00"), json!("USD"), json!("10.00")),
        (format!(",{adjusted}"), json!("8.01"), json!("USD"), json!("10.00")),
        (format!(",{set}"), json!("7.99"), json!("USD"), json!("10.00")),
        // Only the order tells what it is worth.
        (format!(",{settled}"), json!("10.00"), json!("CAD"), Value::Null),
    ] {
        let (transaction, of_event) = transaction_of(&format!(r#""amount":"10.00","currency":"CAD"{rest}"#));
        assert_eq!((&transaction["amount"], &of_event), (&amount, &currency), "{rest}");
        assert_eq!(transaction["paid_amount"], paid, "{rest}");
        assert!(transaction.get("currency").is_none(), "as the event's");
    }
    let (unreadable, _) = transaction_of(r#""amount":"ten","gateway":5"#);
    assert_eq!(unreadable, Value::Null, "the event is one without it");
    let (bare, currency) =
        transaction_of(r#""amount":"1.00","currency":"XXX","gateway":"","test":true,"parent_id":[]"#);
    assert_eq!(
        (&bare["test"], &bare["gateway"], &bare["parent_id"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    assert_eq!(currency, Value::Null);
}

#[test]
fn an_orders_rate_tells_what_its_transactions_are_worth() {
    let body = br#"{"id":1,"total_price":"100.00","currency":"USD","presentment_currency":"CAD","line_items":[],
        "total_price_set":{"shop_money":{"amount":"100.00","currency_code":"USD"},
                           "presentment_money":{"amount":"125.00","currency_code":"CAD"}},
        "transactions":[{"id":7,"kind":"sale","status":"success","amount":"25.00","currency":"CAD"},"?",
                        {"kind":"sale","amount":"1.00"}],
        "refunds":[{"id":9,"transactions":[{"id":8,"kind":"refund","status":"success","amount":"12.50","currency":"CAD"}]}]}"#;
    let event = convert("orders/updated", body, &triggered()).unwrap();
    assert_eq!(
        event["transactions"],
        json!([{"transaction_id": "7", "kind": "sale", "status": "success", "amount": "20.00", "paid_amount": "25.00",
                "paid_currency": "CAD"}])
    );
    assert_eq!(event["refunds"][0]["amount"], "10.00");
}

#[test]
fn whatever_form_the_rest_has_it_costs_no_order() {
    for odd in [
        "5",
        "\"x\"",
        "[5]",
        "{\"a\":[]}",
        "[{}]",
        "[null]",
        "true",
        "1e400",
        "null",
    ] {
        let fields = [
            "order_number",
            "cancel_reason",
            "closed_at",
            "app_id",
            "location_id",
            "billing_address",
            "shipping_address",
            "total_cash_rounding_payment_adjustment_set",
            "current_subtotal_price",
            "current_shipping_price_set",
            "transactions",
            "payment_gateway_names",
            "customer_locale",
            "total_weight",
            "tags",
            "landing_site",
            "discount_applications",
            "discount_codes",
            "fulfillments",
            "note_attributes",
        ];
        let rest = fields.map(|name| format!(r#""{name}":{odd}"#)).join(",");
        let line = [
            "variant_title",
            "vendor",
            "taxable",
            "requires_shipping",
            "fulfillable_quantity",
        ];
        let line = line.map(|name| format!(r#""{name}":{odd}"#)).join(",");
        let body = format!(
            r#"{{"id":1,"total_price":"1.00","currency":"EUR","line_items":[{{"quantity":1,"price":"1",{line}}}],{rest}}}"#
        );
        let event =
            convert("orders/create", body.as_bytes(), &triggered()).unwrap_or_else(|error| panic!("{odd}: {error}"));
        assert_eq!(event["total_amount"], "1.00");
    }
}

#[test]
fn a_refund_without_a_known_currency_has_the_orders_or_none() {
    let refund = r#"{"id":3,"order_id":1,"total_duties_set":{"shop_money":{"amount":"0.0","currency_code":"XXX"}},
        "transactions":[{"kind":"refund","status":"success","amount":"1.00","currency":null}]}"#;
    let order = format!(r#"{{"id":1,"total_price":"2.00","currency":"EUR","line_items":[],"refunds":[{refund}]}}"#);
    let event = convert("orders/updated", order.as_bytes(), &triggered()).unwrap();
    assert_eq!(event["refunds"][0]["currency"], "EUR");
    let event = convert("refunds/create", refund.as_bytes(), &triggered()).unwrap();
    assert_eq!(event["refunds"][0]["amount"], "1.00");
    assert!(event["refunds"][0].get("currency").is_none());
}

/// The order's only refund, whose money went back in that transaction.
fn refund_of(transaction: &str, rest: &str) -> Value {
    let body = format!(
        r#"{{"id":1,"total_price":"90.00","currency":"USD","line_items":[],
            "refunds":[{{"id":2,"transactions":[{transaction}],{rest}}}]}}"#
    );
    convert("orders/updated", body.as_bytes(), &triggered()).unwrap()["refunds"][0].take()
}

#[test]
fn a_refunds_tax_is_the_shops_whether_or_not_money_moved() {
    const SET: &str = r#"{"shop_money":{"amount":"2.00","currency_code":"USD"},"presentment_money":{"amount":"2.70","currency_code":"CAD"}}"#;
    let line = |set: &str| format!(r#""refund_line_items":[{{"total_tax":"2.00","total_tax_set":{set}}}]"#);
    let paid = |amount: &str, currency: &str| {
        format!(r#"{{"kind":"refund","status":"success","amount":"{amount}","currency":{currency}}}"#)
    };
    let in_both = r#"{"kind":"refund","status":"success","amount":"13.70","currency":"CAD",
        "amount_set":{"shop_money":{"amount":"10.00","currency_code":"USD"}}}"#;
    let void = r#"{"kind":"void","status":"success","amount":"9.00"}"#;
    for (what, transaction, rest, amount) in [
        ("nothing moved", String::new(), line(SET), "0"),
        ("a void", void.into(), line(SET), "0"),
        ("less than the tax", paid("1.50", "\"USD\""), line(SET), "1.50"),
        ("the shop's", paid("10.00", "\"USD\""), line("null"), "10.00"),
        ("the order's", paid("10.00", "null"), line("null"), "10.00"),
        ("the shop's side", in_both.into(), line("null"), "10.00"),
        (
            "by the rate of the amounts in both",
            paid("13.50", "\"CAD\""),
            line(SET),
            "10.00",
        ),
    ] {
        let refund = refund_of(&transaction, &rest);
        assert_eq!(
            (&refund["tax"], &refund["currency"]),
            (&json!("2.00"), &json!("USD")),
            "{what}"
        );
        assert_eq!(refund["amount"], amount, "{what}");
    }
}

#[test]
fn the_tax_on_refunded_shipping_counts_once() {
    let adjustments = r#""order_adjustments":[{"kind":"shipping_refund","tax_amount":"-0.80"},{"kind":"refund_discrepancy","tax_amount":"-7.00"},{}]"#;
    let set = r#""refund_shipping_lines":[{"tax_amount_set":{"shop_money":{"amount":"0.90","currency_code":"USD"}}}]"#;
    for (shipping, tax) in [
        (
            r#""refund_shipping_lines":[],"order_adjustments":[]"#.to_owned(),
            "1.00",
        ),
        (adjustments.to_owned(), "8.80"),
        (format!(r#""refund_shipping_lines":[],{adjustments}"#), "8.80"),
        (format!(r#""refund_shipping_lines":[{{}}],{adjustments}"#), "8.80"),
        (set.to_owned(), "1.90"),
        (format!("{set},{adjustments}"), "8.90"),
    ] {
        let rest = format!(r#""refund_line_items":[{{"total_tax":"1.00"}}],{shipping}"#);
        let transaction = r#"{"kind":"refund","status":"success","amount":"10.00","currency":"USD"}"#;
        assert_eq!(refund_of(transaction, &rest)["tax"], tax, "{shipping}");
    }
}

#[test]
fn a_refund_that_cannot_be_summed_does_not_cost_the_order() {
    let paid = |amount: &str, currency: &str| {
        format!(r#"{{"kind":"refund","status":"success","amount":{amount},"currency":"{currency}"}}"#)
    };
    let most = "999999999999999";
    let body = format!(
        r#"{{"id":1,"total_price":"2.00","currency":"USD","line_items":[],"refunds":[
            {{"id":2,"transactions":[{},{}]}},{{"id":3,"transactions":[{},{}]}},{{"id":4,"transactions":[{}]}}]}}"#,
        paid("1", "USD"),
        paid("1", "CAD"),
        paid(most, "USD"),
        paid("1", "USD"),
        paid("1", "USD"),
    );
    let event = convert("orders/updated", body.as_bytes(), &triggered()).unwrap();
    assert_eq!(
        event["refunds"],
        json!([{"refund_id": "2", "amount": "2", "currency": "USD"}, {"refund_id": "4", "amount": "1", "currency": "USD"}])
    );
}

#[test]
fn thin_bodies_become_thin_events() {
    let order = "9100000000000000123";
    for (file, topic, event_type, timestamp, rest) in [
        (
            "order_deleted",
            "orders/delete",
            "order.deleted",
            "2026-02-28T23:59:59.5Z",
            json!({}),
        ),
        (
            "order_edited",
            "orders/edited",
            "order.edited",
            "2026-02-01T10:00:05-05:00",
            json!({"edit": {"edit_id": "70000000000001", "committed_at": "2026-02-01T10:00:05-05:00",
                            "additions": [{"line_id": "9007199254740999", "qty": "1"}]}}),
        ),
        (
            "refund",
            "refunds/create",
            "refund.created",
            "2026-02-03T11:00:00-05:00",
            json!({"refunds": [{"refund_id": "7100000000000000021", "processed_at": "2026-02-03T11:00:00-05:00",
                                "amount": "46.89", "tax": "3.14", "currency": "USD",
                                "lines": [{"line_id": "9007199254740993", "qty": "1", "subtotal": "24.5", "tax": "1.76"},
                                          {"line_id": "9007199254740995", "qty": "1", "subtotal": "19.25", "tax": "1.38"}],
                                "transactions": [
                                    {"transaction_id": "11", "kind": "refund", "status": "success",
                                     "gateway": "shopify_payments", "amount": "40.00"},
                                    {"transaction_id": "12", "kind": "refund", "status": "success",
                                     "gateway": "shopify_payments", "amount": "6.89"},
                                    {"transaction_id": "13", "kind": "sale", "status": "success",
                                     "gateway": "shopify_payments", "amount": "100.00"}]}]}),
        ),
        (
            "transaction",
            "order_transactions/create",
            "order_transaction.created",
            "2026-01-31T21:30:03-05:00",
            json!({"currency": "USD", "test": false,
                   "transactions": [{"transaction_id": "8200000000001", "kind": "capture", "status": "success",
                                     "gateway": "shopify_payments", "amount": "116.57",
                                     "processed_at": "2026-01-31T21:30:03-05:00"}]}),
        ),
    ] {
        let mut expected = json!({
            "event_type": event_type, "timestamp": timestamp, "order_id": order, "customer_id": null,
            "shop": "example.myshopify.com",
        });
        expected
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        assert_eq!(
            convert(topic, &bodies::read(file), &triggered()).unwrap(),
            expected,
            "{file}"
        );
    }
}

#[test]
fn hints_stand_in_for_what_a_thin_body_lacks() {
    let body = br#"{"order_id":null,"created_at":null,"risk_level":"medium"}"#;
    let event = convert("orders/risk_assessment_changed", body, &triggered()).unwrap();
    assert_eq!(event["order_id"], "777");
    for body in [
        r#"{"order_id":null,"admin_graphql_api_order_id":"gid:\/\/shopify\/Order\/888"}"#,
        r#"{"order_id":"gid://shopify/Order/888","admin_graphql_api_order_id":"gid://shopify/Order/999"}"#,
        r#"{"order_id":888,"admin_graphql_api_order_id":"gid://shopify/Order/999"}"#,
    ] {
        let event = convert("orders/risk_assessment_changed", body.as_bytes(), &triggered()).unwrap();
        assert_eq!(event["order_id"], "888", "{body}");
    }
    for global in [
        "gid://shopify/Order/",
        "gid://shopify/Customer/5",
        "gid://shopify/Order/5?x",
    ] {
        let body = format!(r#"{{"admin_graphql_api_order_id":"{global}"}}"#);
        let event = convert("orders/risk_assessment_changed", body.as_bytes(), &triggered()).unwrap();
        assert_eq!(event["order_id"], "777", "{global}");
    }
    let received = convert("orders/delete", br#"{"id":5}"#, &DeliveryHints::default()).unwrap();
    assert_eq!(received["timestamp"], "2026-03-01T12:00:00.250Z");
}

#[test]
fn a_body_counts_only_under_a_topic_that_it_fits() {
    let (order, refund, transaction) = (
        bodies::read("order_usd"),
        bodies::read("refund"),
        bodies::read("transaction"),
    );
    let draft = br#"{"id":1,"order_id":null,"invoice_url":"x","total_price":"1.00","currency":"EUR","line_items":[]}"#;
    for (body, topics) in [
        (
            &order[..],
            &[
                "orders/delete",
                "orders/edited",
                "refunds/create",
                "order_transactions/create",
                "disputes/create",
                "disputes/update",
                "fulfillments/create",
                "fulfillments/update",
                "fulfillment_events/create",
                "orders/risk_assessment_changed",
                "orders/shopify_protect_eligibility_changed",
            ][..],
        ),
        (
            &refund,
            &["orders/delete", "order_transactions/create", "disputes/create"],
        ),
        (
            &transaction,
            &["orders/delete", "refunds/create", "fulfillments/create"],
        ),
        (draft, &["orders/create", "orders/updated"]),
        (
            br#"{"id":1,"admin_graphql_api_id":"gid://shopify/Customer/1"}"#,
            &["orders/delete"],
        ),
    ] {
        for topic in topics {
            let shown = convert(topic, body, &triggered()).unwrap_err();
            assert!(
                shown.starts_with(&format!("the body is none of topic {topic}: ")),
                "{topic}: {shown}"
            );
        }
    }
}

#[test]
fn a_trigger_in_the_future_dates_nothing() {
    let hints = DeliveryHints {
        triggered_at: Some("9000-01-01T00:00:00Z"),
        ..DeliveryHints::default()
    };
    let undated = br#"{"id":1,"total_price":"1.00","currency":"EUR","line_items":[]}"#;
    for (topic, body) in [("orders/create", &undated[..]), ("orders/delete", br#"{"id":1}"#)] {
        let event = convert(topic, body, &hints).unwrap();
        assert_eq!(event["timestamp"], "2026-03-01T12:00:00.250Z", "{topic}");
    }
}

#[test]
fn a_nul_in_a_title_costs_the_character_only() {
    let body = br##"{"id":1,"name":"#\u00001","total_price":"1.00","currency":"EUR","line_items":[
        {"id":2,"title":"a\u0000b","sku":"\u0000","quantity":1,"price":"1.00"}]}"##;
    let event = convert("orders/create", body, &triggered()).unwrap();
    assert_eq!(event["name"], "#\u{FFFD}1");
    assert_eq!(event["items"][0]["title"], "a\u{FFFD}b");
    assert_eq!(event["items"][0]["sku"], "\u{FFFD}");
}

#[test]
fn what_is_only_nice_to_know_never_costs_the_order() {
    let body = br#"{"id":1,"name":1042,"source_name":580111,"total_price":"1.00","currency":"USD",
        "presentment_currency":"cad","total_price_set":{"presentment_money":{"amount":"","currency_code":"cad"}},
        "updated_at":"2026-01-31T21:30:02-05:00","processed_at":"","cancelled_at":"","subtotal_price":"",
        "total_tax":1.7763568394002505e-15,"total_discounts":"none","current_total_price":{},
        "shipping_lines":[{"price":"5.00"},{"price":null}],
        "line_items":[{"title":12.50,"sku":90071992547409931234567890,"quantity":1,"price":"1.00",
            "discount_allocations":[{"amount":"0.10"},{}],"tax_lines":[{"price":"0.20"},{"price":""}]}]}"#;
    assert_eq!(
        convert("orders/create", body, &DeliveryHints::default()).unwrap(),
        json!({
            "event_type": "order.created", "timestamp": "2026-01-31T21:30:02-05:00", "order_id": "1",
            "customer_id": null, "total_amount": "1.00", "currency": "USD", "name": "1042", "source_name": "580111",
            "updated_at": "2026-01-31T21:30:02-05:00", "shipping_lines": [{"price": "5.00"}, {}],
            "details": {"tax_lines": [{"amount": "0.20"}]},
            "items": [{"title": "12.50", "sku": "90071992547409931234567890", "qty": "1", "price": "1.00"}],
        })
    );
}

#[test]
fn a_disagreement_about_the_customers_currency_leaves_the_amount_out() {
    let body = br#"{"id":1,"total_price":"1.00","currency":"USD","presentment_currency":"CAD","line_items":[],
        "total_price_set":{"presentment_money":{"amount":"0.90","currency_code":"EUR"}}}"#;
    let event = convert("orders/create", body, &triggered()).unwrap();
    assert_eq!(event["presentment_currency"], "CAD");
    assert!(event.get("presentment_total_amount").is_none());
}

#[test]
fn a_big_order_keeps_every_line() {
    let event = convert("orders/create", &bodies::big_order(250), &triggered()).unwrap();
    let items = event["items"].as_array().unwrap();
    assert_eq!(items.len(), 250);
    assert_eq!(items[249]["sku"], "SKU-249");
    assert_eq!(items[249]["line_id"], "9007199254741242");
    assert_eq!(items[249]["price"], "49.05");
}

#[test]
fn a_body_that_is_no_event_gets_a_reason_without_its_content() {
    let whole = |field: &str| {
        format!(r#"{{"id":1,"total_price":"1.00","currency":"EUR","line_items":[],{field}}}"#).into_bytes()
    };
    for (topic, body, reason) in [
        ("orders/create", bodies::read("envelope"), "the body lacks id, total_price, currency, line_items: this is an answer of Shopify's API"),
        ("orders/create", bodies::read("fields_filtered"), "the body lacks currency, line_items: does the subscription filter fields"),
        ("orders/create", bodies::read("not_numeric"), "line_items[1].price: expected an exact decimal amount"),
        ("orders/create", bodies::read("order_deleted"), "the body lacks total_price, currency, line_items"),
        ("orders/create", whole(r#""updated_at":"secret""#), "updated_at: expected a point in time"),
        ("orders/create", whole(r#""name":{"secret":1}"#), "name: expected a string"),
        ("orders/create", whole(r#""test":"secret""#), "test: expected a boolean"),
        ("orders/create", br#"{"id":1,"total_price":"1","currency":"secret","line_items":[]}"#.to_vec(), "currency: must be three capital letters"),
        ("orders/create", br#"{"id":1,"total_price":"1","currency":"EUR","line_items":[{"price":"1","quantity":-2}]}"#.to_vec(), "line_items[0].quantity: expected a whole number from 0 to 1000000000"),
        ("orders/create", br#"{"id":1,"total_price":"1","currency":"EUR","line_items":[{"price":"1"}]}"#.to_vec(), "line_items[0]: missing field `quantity`"),
        ("orders/create", b"secret".to_vec(), "not a JSON object"),
        ("orders/create", Vec::new(), "not a JSON object"),
        ("orders/create", b"[1,2]".to_vec(), "not a JSON object"),
        ("orders/create", br#"{"id":1,"name":"secr"#.to_vec(), "the JSON ends too early"),
        ("orders/create", b"{\"id\":1,\"name\":\"\xFFsecret\"}".to_vec(), "cannot be read"),
        ("orders/edited", br#"{"id":1}"#.to_vec(), "lacks order_edit"),
        ("refunds/create", br#"{"id":1}"#.to_vec(), "lacks order_id"),
        ("fulfillments/create", br#"{"id":1}"#.to_vec(), "lacks order_id"),
        (
            "refunds/create",
            br#"{"id":1,"order_id":2,"transactions":[{"kind":"refund","status":"success","amount":999999999999999},{"kind":"refund","status":"success","amount":1}]}"#.to_vec(),
            "transactions[].amount: the sum is not below 10^15",
        ),
        ("orders/create", whole(r#""refunds":[{"id":2,"transactions":[{"kind":"refund","status":"success","amount":"secret"}]}]"#), "refunds[0].transactions[0].amount: expected an exact decimal"),
        ("orders/create", br#"{"id":1,"total_price":1.7763568394002505e-15,"currency":"EUR","line_items":[]}"#.to_vec(), "total_price: expected an exact decimal"),
    ] {
        let shown = convert(topic, &body, &DeliveryHints::default()).unwrap_err();
        assert!(shown.contains(reason), "{reason}: {shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

proptest::proptest! {
    #[test]
    fn no_body_makes_it_panic(cut in 0..7000_usize, at in 0..7000_usize, byte: u8) {
        let mut body = bodies::read("order_usd");
        let at = at % body.len();
        body[at] = byte;
        body.truncate(body.len().saturating_sub(cut % 2 * cut));
        let _ = convert("orders/create", &body, &DeliveryHints::default());
        let _ = shopify::redact(&body);
    }
}
