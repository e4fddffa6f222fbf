//! Compares `daily_sales` with Shopify's own report, by day, and by order where a day differs.
//!
//! The report is asked for in ShopifyQL, from its schema `sales`
//! (<https://shopify.dev/docs/api/shopifyql/latest/schemas/sales_revenue/sales>), whose days are the
//! shop's, and whose rows are one a sale as in `order_sales`.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value, json};
use time::Date;

use super::ReconcileError;
use crate::shopify_admin::{AdminClient, AdminError, OrderSpan, documents};
use crate::warehouse::Warehouse;
use crate::warehouse::reconciliations::{FIGURES, SalesFigures};

/// What ShopifyQL needs beside the scopes of every command.
const SCOPE: &str = "read_reports";
/// Metrics of ShopifyQL, in the order of [`FIGURES`]. `sales_reversals` was `returns` before 2026-04.
const METRICS: [&str; FIGURES.len()] = [
    "gross_sales",
    "discounts",
    "sales_reversals",
    "net_sales",
    "shipping_charges",
    "taxes",
    "duties",
    "additional_fees",
    "total_sales",
];
/// Rows of one answer.
const ROWS: usize = 1000;
/// Days that are compared by order at most, the first that differ.
const DAYS_BY_ORDER: usize = 10;
/// Differences that a report has at most.
const NAMED: usize = 1000;

/// How `daily_sales` differs from Shopify's report.
#[derive(Debug, Clone, Serialize)]
pub struct FiguresReport {
    /// The first day, of the shop.
    pub first: String,
    /// The last day.
    pub last: String,
    /// Days on which either has sales.
    pub days: usize,
    /// Days that differ.
    pub days_differ: usize,
    /// What differs, at most a thousand: of a day, then of its orders.
    pub differences: Vec<FigureDifference>,
}

/// An amount that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FigureDifference {
    /// The shop's day.
    pub day: String,
    /// The order; none for the whole day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Column of `daily_sales`.
    pub column: &'static str,
    /// What the warehouse has.
    pub ours: String,
    /// What Shopify has, with the sign of `daily_sales`.
    pub shopify: String,
    /// The former less the latter.
    pub difference: String,
}

/// Whole days of a shop, to compare figures of.
#[derive(Debug, Clone, Copy)]
pub struct FigureDays {
    first: Date,
    last: Date,
}

impl FigureDays {
    /// From the day on which the span begins to the last that was over at its end; `None` where no day
    /// is.
    ///
    /// # Errors
    /// The app may not read reports, or the shop's time zone is not known.
    pub fn of(client: &AdminClient, span: OrderSpan) -> Result<Option<Self>, AdminError> {
        let identity = client.identity();
        if !identity.has_scope(SCOPE) {
            return Err(AdminError::MissingScopes {
                shop: identity.shop.clone(),
                scopes: vec![SCOPE.to_owned()],
            });
        }
        let zone = identity.zone()?;
        let days = [zone.day(span.since), zone.day(span.until).and_then(Date::previous_day)];
        Ok(match days {
            [Some(first), Some(last)] if first <= last => Some(Self { first, last }),
            _ => None,
        })
    }

    /// Compares them.
    ///
    /// # Errors
    /// Shopify or the warehouse does not answer.
    pub async fn compare(
        self,
        client: &AdminClient,
        warehouse: &dyn Warehouse,
    ) -> Result<FiguresReport, ReconcileError> {
        let (shop, currency) = (&client.identity().shop, &client.identity().currency);
        let ours = warehouse.figures_by_day(shop, currency, self.first, self.last).await?;
        let theirs = report(client, "day", self.first, self.last).await?;
        let mut report = FiguresReport {
            first: self.first.to_string(),
            last: self.last.to_string(),
            days: keys(&ours, &theirs).len(),
            days_differ: 0,
            differences: Vec::new(),
        };
        for day in keys(&ours, &theirs) {
            let differing = differences(day, None, ours.get(day), theirs.get(day));
            if differing.is_empty() {
                continue;
            }
            report.days_differ += 1;
            report.differences.extend(differing);
            let parsed = Date::parse(day, time::macros::format_description!("[year]-[month]-[day]"));
            if report.days_differ <= DAYS_BY_ORDER
                && let Ok(date) = parsed
            {
                let ours = warehouse.figures_by_order(shop, currency, date).await?;
                let theirs = self::report(client, "order_id", date, date).await?;
                for order in keys(&ours, &theirs) {
                    let order_id = Some(order.clone());
                    report
                        .differences
                        .extend(differences(day, order_id, ours.get(order), theirs.get(order)));
                }
            }
            report.differences.truncate(NAMED);
        }
        Ok(report)
    }
}

fn keys<'a>(
    ours: &'a BTreeMap<String, SalesFigures>,
    theirs: &'a BTreeMap<String, SalesFigures>,
) -> BTreeSet<&'a String> {
    ours.keys().chain(theirs.keys()).collect()
}

fn differences(
    day: &str,
    order_id: Option<String>,
    ours: Option<&SalesFigures>,
    theirs: Option<&SalesFigures>,
) -> Vec<FigureDifference> {
    let none = SalesFigures::default();
    let (ours, theirs) = (ours.unwrap_or(&none), theirs.unwrap_or(&none));
    let pairs = FIGURES.into_iter().zip(ours.iter().zip(theirs));
    let differing = pairs.filter(|(_, (ours, theirs))| ours != theirs);
    differing
        .map(|(column, (ours, theirs))| FigureDifference {
            day: day.to_owned(),
            order_id: order_id.clone(),
            column,
            ours: ours.to_string(),
            shopify: theirs.to_string(),
            difference: (ours - theirs).normalize().to_string(),
        })
        .collect()
}

/// Shopify's figures by `day` or `order_id`.
async fn report(
    client: &AdminClient,
    by: &str,
    first: Date,
    last: Date,
) -> Result<BTreeMap<String, SalesFigures>, AdminError> {
    let mut figures = BTreeMap::new();
    for page in 0.. {
        let query = format!(
            "FROM sales SHOW {} GROUP BY {by} SINCE {first} UNTIL {last} ORDER BY {by} ASC LIMIT {ROWS} OFFSET {}",
            METRICS.join(", "),
            page * ROWS
        );
        let rows = rows(client, &query).await?;
        for row in &rows {
            let (key, amounts) =
                figures_of(row, by).ok_or_else(|| refused("a row without an amount in each column"))?;
            figures.insert(key, amounts);
        }
        if rows.len() < ROWS {
            break;
        }
    }
    Ok(figures)
}

fn refused(why: &str) -> AdminError {
    AdminError::Refused {
        document: documents::ANALYTICS.name,
        why: why.to_owned(),
    }
}

/// The rows of an answer, by column.
async fn rows(client: &AdminClient, query: &str) -> Result<Vec<BTreeMap<String, Value>>, AdminError> {
    let mut answer: Value = client.query(documents::ANALYTICS, json!({ "q": query })).await?;
    let mut answer = answer["shopifyqlQuery"].take();
    if answer.is_null() {
        return Err(AdminError::Denied {
            shop: client.identity().shop.clone(),
            why: "ShopifyQL gives no answer: give the app protected customer data, level 2 (docs/SHOPIFY.md)"
                .to_owned(),
        });
    }
    let errors = Vec::from_iter(
        answer["parseErrors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Value::to_string),
    );
    let table = &mut answer["tableData"];
    let columns = Vec::from_iter(table["columns"].as_array().into_iter().flatten().map(|column| {
        let name = column["name"].as_str();
        name.unwrap_or_default().to_owned()
    }));
    let Value::Array(rows) = table["rows"].take() else {
        return Err(refused(&format!("no table: {}", errors.join("; "))));
    };
    let by_column = |row| match row {
        Value::Object(cells) => cells.into_iter().collect(),
        Value::Array(cells) => columns.iter().cloned().zip(cells).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeMap::new(),
    };
    Ok(rows.into_iter().map(by_column).collect())
}

/// Its key and its amounts, with the signs of `daily_sales`.
fn figures_of(row: &BTreeMap<String, Value>, by: &str) -> Option<(String, SalesFigures)> {
    let text = |name: &str| match row.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let mut amounts = SalesFigures::default();
    for (amount, metric) in amounts.iter_mut().zip(METRICS) {
        *amount = text(metric)?.parse::<Decimal>().ok()?.round_dp(4).normalize();
    }
    let [gross, discounts, reversals, net, ..] = &mut amounts;
    // Reports show what lowers sales as negative amounts; the sum tells where they do not.
    if *gross + *discounts + *reversals == *net {
        (*discounts, *reversals) = ((-*discounts).normalize(), (-*reversals).normalize());
    }
    let key = text(by)?;
    // A day may come with a time, an order as a gid.
    let key = match by {
        "day" => key.get(..10)?,
        _ => super::number(&key),
    };
    Some((key.to_owned(), amounts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(amounts: [&str; FIGURES.len()]) -> BTreeMap<String, Value> {
        let cells = METRICS
            .iter()
            .zip(amounts)
            .map(|(name, amount)| ((*name).to_owned(), json!(amount)));
        cells
            .chain([("day".to_owned(), json!("2026-01-31T00:00:00-05:00"))])
            .collect()
    }

    #[test]
    fn both_signs_of_a_discount_mean_the_same() {
        let ours = ["100", "10", "20", "70", "5", "14", "0", "0", "89"].map(|text| text.parse().unwrap());
        for signed in [["-10.00", "-20.0"], ["10.00", "20.0"]] {
            let row = row([
                "100.00", signed[0], signed[1], "70.00", "5.0", "14", "0", "0.0", "89.00",
            ]);
            assert_eq!(figures_of(&row, "day"), Some(("2026-01-31".to_owned(), ours)));
        }
        let mut lacking = row(["1"; FIGURES.len()]);
        lacking.remove("taxes");
        assert_eq!(figures_of(&lacking, "day"), None);
    }
}
