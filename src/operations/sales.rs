//! Today's sales, as the dashboard shows them.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::{Date, Duration, OffsetDateTime};

use super::api::Operation;
use super::context::{Operations, OperationsError};
use crate::warehouse::sales::DailySales;

time::serde::format_description!(day, Date, "[year]-[month]-[day]");

/// Asks for the sales of a day.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetSales {
    /// The day; by default today, UTC.
    #[serde(default, with = "day::option", skip_serializing_if = "Option::is_none")]
    pub date: Option<Date>,
}

/// The sales of a day.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sales {
    /// The day.
    #[serde(with = "day")]
    pub date: Date,
    /// The same weekday before.
    #[serde(with = "day")]
    pub week_before: Date,
    /// Of each currency that has sales on one of the two.
    pub currencies: Vec<SalesOfCurrency>,
}

/// Sales in one currency, of all shops.
#[derive(Debug, Serialize, Deserialize)]
pub struct SalesOfCurrency {
    /// ISO 4217.
    pub currency: String,
    /// Of the day that was asked for.
    pub day: DaySales,
    /// Of the same weekday before.
    pub week_before: DaySales,
}

/// Sales of one day.
#[derive(Debug, Serialize, Deserialize)]
pub struct DaySales {
    /// Orders.
    pub orders: i64,
    /// Gross less discounts and reversals, an exact decimal.
    pub net: String,
}

impl Operation for GetSales {
    type Answer = Sales;
    const PATH: &'static str = "/api/sales";

    async fn run(self, operations: &Operations) -> Result<Sales, OperationsError> {
        let _permit = operations.read_permit().await?;
        let date = self.date.unwrap_or_else(|| OffsetDateTime::now_utc().date());
        let absent = OperationsError::Invalid("date: there is no day a week before it");
        let week_before = date.checked_sub(Duration::WEEK).ok_or(absent)?;
        let today = date.to_string();
        let mut sums = BTreeMap::<String, [(i64, Decimal); 2]>::new();
        for sales in operations.warehouse()?.sales_of([date, week_before]).await? {
            let of_currency = sums.entry(sales.currency).or_default();
            let (orders, net) = &mut of_currency[usize::from(sales.day != today)];
            *orders += sales.orders;
            *net += sales.net;
        }
        let currencies = sums.into_iter().map(|(currency, days)| {
            let [day, week_before] = days.map(|(orders, net)| DaySales {
                orders,
                net: net.normalize().to_string(),
            });
            SalesOfCurrency {
                currency,
                day,
                week_before,
            }
        });
        Ok(Sales {
            date,
            week_before,
            currencies: currencies.collect(),
        })
    }
}
