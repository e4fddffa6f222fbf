//! Leaves out of a line of a bulk operation's file what is not read: such a file may come from
//! another program's query, with personal fields in it. Pure.

use serde_json::Value;

/// Fields that are read, at whatever depth.
const READ: &[&str] = &[
    "__parentId",
    "__typename",
    "actionType",
    "agreements",
    "allocatedAmountSet",
    "allocationMethod",
    "amount",
    "amountSet",
    "app",
    "billingAddress",
    "cancelReason",
    "cancelledAt",
    "channelLiable",
    "closedAt",
    "code",
    "company",
    "countryCodeV2",
    "createdAt",
    "currencyCode",
    "currentQuantity",
    "currentShippingPriceSet",
    "currentSubtotalPriceSet",
    "currentTotalAdditionalFeesSet",
    "currentTotalDiscountsSet",
    "currentTotalDutiesSet",
    "currentTotalPriceSet",
    "currentTotalTaxSet",
    "customer",
    "customerLocale",
    "discountAllocations",
    "discountApplication",
    "discountCodes",
    "discountedPriceSet",
    "displayFinancialStatus",
    "displayFulfillmentStatus",
    "displayStatus",
    "fulfillments",
    "gateway",
    "handle",
    "happenedAt",
    "id",
    "index",
    "isGiftCard",
    "isRemoved",
    "kind",
    "lineItem",
    "lineType",
    "location",
    "name",
    "number",
    "originalPriceSet",
    "originalTotalAdditionalFeesSet",
    "originalTotalDutiesSet",
    "originalUnitPriceSet",
    "parentTransaction",
    "paymentGatewayNames",
    "paymentSet",
    "percentage",
    "presentmentCurrencyCode",
    "presentmentMoney",
    "priceSet",
    "processedAt",
    "product",
    "quantity",
    "rate",
    "reason",
    "refund",
    "refundSet",
    "refunds",
    "requiresShipping",
    "retailLocation",
    "service",
    "shippingAddress",
    "shopMoney",
    "sku",
    "source",
    "sourceName",
    "status",
    "subtotalPriceSet",
    "tags",
    "targetSelection",
    "targetType",
    "taxLines",
    "taxable",
    "taxesIncluded",
    "test",
    "title",
    "totalAmount",
    "totalCashRoundingAdjustment",
    "totalDiscountAmountBeforeTaxes",
    "totalDiscountSet",
    "totalDiscountsSet",
    "totalPriceSet",
    "totalRefundedSet",
    "totalShippingPriceSet",
    "totalTaxAmount",
    "totalTaxSet",
    "totalTipReceivedSet",
    "totalWeight",
    "trackingInfo",
    "transactions",
    "unfulfilledQuantity",
    "updatedAt",
    "value",
    "variant",
    "variantTitle",
    "vendor",
];

/// Keeps the fields that are read; of a customer the id, of an address the country, of a parcel's
/// tracking the carrier, of other objects that an order names their ids.
pub fn keep_known_fields(piece: &mut Value) {
    match piece {
        Value::Object(fields) => {
            fields.retain(|name, _| READ.contains(&name.as_str()));
            for (name, value) in fields.iter_mut() {
                let only = match name.as_str() {
                    "trackingInfo" => Some("company"),
                    "customer" | "app" | "retailLocation" | "location" | "product" | "variant" => Some("id"),
                    "shippingAddress" | "billingAddress" => Some("countryCodeV2"),
                    _ => None,
                };
                match only {
                    Some(only) => keep_one_field(value, only),
                    None => keep_known_fields(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(keep_known_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Of an object, or of each of a list, that field.
fn keep_one_field(value: &mut Value, only: &str) {
    match value {
        Value::Object(fields) => fields.retain(|name, _| name == only),
        Value::Array(list) => list.iter_mut().for_each(|one| keep_one_field(one, only)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_personal_is_kept() {
        let mut order = json!({
            "id": "gid://shopify/Order/1", "email": "secret", "note": "secret", "poNumber": "secret",
            "customer": {"id": "gid://shopify/Customer/2", "name": "secret", "displayName": "secret"},
            "shippingAddress": {"name": "secret", "company": "secret", "countryCodeV2": "CA", "id": "secret"},
            "fulfillments": [{"trackingInfo": [{"company": "DHL", "number": "secret"}]}],
            "transactions": [{"id": "1", "receiptJson": "secret"}], "app": {"name": "secret"},
        });
        keep_known_fields(&mut order);
        let kept = order.to_string();
        assert!(!kept.contains("secret"), "{kept}");
        assert!(
            ["Order/1", "Customer/2", "CA", "DHL"]
                .iter()
                .all(|text| kept.contains(text)),
            "{kept}"
        );
    }
}
