//! The order's ledger: `agreements`, each with its sales. Pure.

use serde_json::Value;

use super::super::ConvertError;
use super::body::Rewriter;
use super::{invalid, is_complete, nodes, read_id};
use crate::event::{Amount, Id, Sale, Text, Timestamp};

/// All sales of the order; none where they were not asked for, or are not all here.
pub(super) fn sales(node: &Value, rewriter: &Rewriter<'_>) -> Result<Option<Vec<Sale<'static>>>, ConvertError> {
    let agreements = &node["agreements"];
    if agreements.is_null() || !is_complete(agreements) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for agreement in nodes(agreements) {
        if !is_complete(&agreement["sales"]) {
            return Ok(None);
        }
        let happened_at = rewriter.time(&agreement["happenedAt"]);
        let happened_at = happened_at.as_str().unwrap_or_default().to_owned();
        let happened_at = Timestamp::parse(happened_at.into())
            .map_err(|_| invalid("agreements.happenedAt", "not a point in time"))?;
        for one in nodes(&agreement["sales"]) {
            all.push(sale(one, agreement, &happened_at, rewriter)?);
        }
    }
    Ok(Some(all))
}

fn sale(
    one: &Value,
    agreement: &Value,
    happened_at: &Timestamp<'static>,
    rewriter: &Rewriter<'_>,
) -> Result<Sale<'static>, ConvertError> {
    let amount = |set: &Value, field| {
        let text = rewriter.amount(set).ok_or_else(|| invalid(field, "missing"))?;
        Amount::parse(&text).map_err(|_| invalid(field, "not an exact decimal amount"))
    };
    let sale_id = one["id"].as_str().and_then(read_id);
    Ok(Sale {
        qty: one["quantity"].as_i64().unwrap_or_default(),
        tax: amount(&one["totalTaxAmount"], "agreements.sales.totalTaxAmount")?,
        total: amount(&one["totalAmount"], "agreements.sales.totalAmount")?,
        action: lower(&one["actionType"]),
        reason: match agreement["reason"].as_str() {
            Some("ORDER_EDIT") => "edit".into(),
            _ => lower(&agreement["reason"]),
        },
        line_id: line_id(one),
        sale_id: sale_id.ok_or_else(|| invalid("agreements.sales.id", "missing"))?,
        discount: amount(
            &one["totalDiscountAmountBeforeTaxes"],
            "agreements.sales.totalDiscountAmountBeforeTaxes",
        )?,
        line_type: match one["lineType"].as_str() {
            Some("ADDITIONAL_FEE") => "fee".into(),
            Some("UNKNOWN") => "adjustment".into(),
            _ => lower(&one["lineType"]),
        },
        refund_id: agreement["refund"]["id"].as_str().and_then(read_id),
        happened_at: happened_at.clone(),
    })
}

/// The line that a sale of products, gift cards or tips names.
pub(super) fn line_id(sale: &Value) -> Option<Id<'static>> {
    sale["lineItem"]["id"].as_str().and_then(read_id)
}

fn lower(word: &Value) -> Text<'static> {
    word.as_str().unwrap_or("unknown").to_ascii_lowercase().into()
}
