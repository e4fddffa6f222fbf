//! Refunds of an order. Pure.
//!
//! A bulk operation takes no connection within a list, so that its `refunds` have neither lines nor
//! transactions: what they reverse is then read from the order's ledger, and what they paid back from
//! `totalRefundedSet`. Asked for by id, they have both.

use serde_json::{Value, json};

use super::body::Rewriter;
use super::{is_complete, nodes};

/// Whether the refund itself says what it reverses, all of it.
pub(super) fn has_lines(refund: &Value) -> bool {
    let lists = [
        "refundLineItems",
        "refundShippingLines",
        "orderAdjustments",
        "transactions",
    ];
    refund["refundLineItems"].is_object() && lists.iter().all(|list| is_complete(&refund[list]))
}

impl Rewriter<'_> {
    pub(super) fn refund(&self, refund: &Value, order: &Value) -> Value {
        let mut body = json!({
            "id": refund["id"], "created_at": self.time(&refund["createdAt"]),
            "processed_at": self.time(&refund["processedAt"]),
        });
        let lists = if has_lines(refund) {
            self.stated(refund, order)
        } else {
            self.of_ledger(refund, order)
        };
        if let (Value::Object(body), Value::Object(lists)) = (&mut body, lists) {
            body.extend(lists);
        }
        body
    }

    fn stated(&self, refund: &Value, order: &Value) -> Value {
        let lines = nodes(&refund["refundLineItems"]).map(|line| {
            json!({
                "line_item_id": line["lineItem"]["id"], "quantity": line["quantity"],
                "restock_type": self.word(&line["restockType"]), "location_id": line["location"]["id"],
                "subtotal": self.plain(&line["subtotalSet"]), "subtotal_set": self.set(&line["subtotalSet"]),
                "total_tax": self.plain(&line["totalTaxSet"]), "total_tax_set": self.set(&line["totalTaxSet"]),
                "line_item": {"gift_card": is_gift_card(order, &line["lineItem"]["id"])},
            })
        });
        let shipping = nodes(&refund["refundShippingLines"]).map(|line| {
            json!({
                "subtotal_amount_set": self.set(&line["subtotalAmountSet"]),
                "tax_amount_set": self.set(&line["taxAmountSet"]),
            })
        });
        let adjustments = nodes(&refund["orderAdjustments"]).map(
            |one| json!({"amount_set": self.set(&one["amountSet"]), "tax_amount_set": self.set(&one["taxAmountSet"])}),
        );
        let duties = nodes(&refund["duties"]).map(|duty| json!({"amount_set": self.set(&duty["amountSet"])}));
        json!({
            "refund_line_items": Vec::from_iter(lines), "refund_shipping_lines": Vec::from_iter(shipping),
            "order_adjustments": Vec::from_iter(adjustments), "duties": Vec::from_iter(duties),
            "transactions": Vec::from_iter(nodes(&refund["transactions"]).map(|one| self.transaction(one))),
        })
    }

    /// What of the ledger belongs to the refund; its sales are negative, where a refund states what
    /// it takes back.
    fn of_ledger(&self, refund: &Value, order: &Value) -> Value {
        let (mut lines, mut shipping, mut adjustments, mut duties) = (vec![], vec![], vec![], vec![]);
        let agreements = nodes(&order["agreements"]).filter(|one| one["refund"]["id"] == refund["id"]);
        for sale in agreements.flat_map(|agreement| nodes(&agreement["sales"])) {
            let [subtotal, tax] = self.reversed(sale);
            match sale["lineType"].as_str() {
                Some("SHIPPING") => shipping.push(json!({"subtotal_amount_set": subtotal, "tax_amount_set": tax})),
                Some("DUTY") => duties.push(json!({"amount_set": subtotal})),
                Some("PRODUCT" | "GIFT_CARD" | "TIP") => lines.push(json!({
                    "line_item_id": sale["lineItem"]["id"],
                    "quantity": sale["quantity"].as_i64().unwrap_or_default().abs(),
                    "subtotal_set": subtotal, "total_tax_set": tax,
                    "line_item": {"gift_card": sale["lineType"] == "GIFT_CARD"},
                })),
                _ => adjustments.push(json!({
                    "amount_set": self.negated(&subtotal), "tax_amount_set": self.negated(&tax),
                })),
            }
        }
        // Without an id, so that it becomes no transaction: those of the order are in its own list.
        let paid = self.plain(&refund["totalRefundedSet"]);
        let paid = (!paid.is_null()).then(|| {
            json!({
                "kind": "refund", "status": "success", "amount": paid, "currency": self.currency,
            })
        });
        json!({
            "refund_line_items": lines, "refund_shipping_lines": shipping, "order_adjustments": adjustments,
            "duties": duties, "transactions": Vec::from_iter(paid),
        })
    }

    /// Subtotal (with tax where the order's prices include it) and tax that a sale takes back.
    fn reversed(&self, sale: &Value) -> [Value; 2] {
        let amount = |set: &Value| self.decimal(set).unwrap_or_default();
        let (total, tax) = (amount(&sale["totalAmount"]), amount(&sale["totalTaxAmount"]));
        let subtotal = if self.taxes_included {
            total
        } else {
            total.saturating_sub(tax)
        };
        [subtotal, tax].map(|amount| self.shop_set(-amount))
    }

    fn negated(&self, set: &Value) -> Value {
        let amount = set["shop_money"]["amount"].as_str().and_then(|text| text.parse().ok());
        self.shop_set(-amount.unwrap_or(rust_decimal::Decimal::ZERO))
    }
}

fn is_gift_card(order: &Value, line_id: &Value) -> bool {
    nodes(&order["lineItems"]).any(|line| line["id"] == *line_id && line["isGiftCard"] == true)
}
