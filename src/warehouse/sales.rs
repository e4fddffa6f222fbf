//! Sales of single days over all shops: reads over [`History`], one text for every store.

use async_trait::async_trait;
use rust_decimal::Decimal;
use time::Date;

use super::WarehouseError;
use super::history::{History, Param, Row, each};

/// Shops whose sales are read at most; each is one statement.
const SHOPS: usize = 100;

/// Each shop, by one look into the index of `orders` for each.
const EACH_SHOP: &str = "WITH RECURSIVE shops (shop) AS (\
                         SELECT min(shop) FROM {schema}.orders UNION ALL \
                         SELECT (SELECT min(o.shop) FROM {schema}.orders o WHERE o.shop > s.shop) \
                         FROM shops s WHERE s.shop IS NOT NULL) \
                         SELECT shop FROM shops WHERE shop IS NOT NULL LIMIT $1";

/// A row of `daily_sales`, of which only this is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalesOfDay {
    /// The day, as the shop wrote it: `2026-01-31`.
    pub day: String,
    /// ISO 4217.
    pub currency: String,
    /// Orders of that day.
    pub orders: i64,
    /// Gross less discounts and reversals.
    pub net: Decimal,
}

/// A warehouse as the dashboard reads its sales.
#[async_trait]
pub trait DailySales: History {
    /// `daily_sales` of two days, by shop, currency and day. Of the first hundred shops, where there are
    /// more.
    ///
    /// # Errors
    /// The warehouse does not answer.
    async fn sales_of(&self, days: [Date; 2]) -> Result<Vec<SalesOfDay>, WarehouseError> {
        let shops = self.read(EACH_SHOP, &[Param::count(SHOPS)]).await?;
        let sql = "SELECT CAST(local_date AS text), currency, orders, CAST(net AS text) FROM {schema}.daily_sales \
                   WHERE shop = $1 AND local_date IN ($2, $3)";
        let [first, second] = days.map(Param::Day);
        let mut sales = Vec::new();
        for shop in each(shops, |mut row| row.text())? {
            let rows = self.read(sql, &[Param::text(&shop), first, second]).await?;
            sales.extend(each(rows, sales_of_day)?);
        }
        Ok(sales)
    }
}

impl<T: History + ?Sized> DailySales for T {}

/// Orders without a currency have no amounts.
fn sales_of_day(mut row: Row) -> Option<SalesOfDay> {
    Some(SalesOfDay {
        day: row.text()?,
        currency: row.text().unwrap_or_default(),
        orders: row.integer()?,
        net: row.amount()?,
    })
}
