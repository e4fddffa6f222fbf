//! Amounts as Shopify writes them: exact decimal text, in the currencies of shop and buyer.

use serde_json::{Value, json};

/// A currency, and what its smallest unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Currency {
    pub(super) code: &'static str,
    /// Digits after the point.
    digits: usize,
    /// Units of it in a dollar, roughly, in hundredths.
    rate: i64,
}

const fn currency(code: &'static str, digits: usize, rate: i64) -> Currency {
    Currency { code, digits, rate }
}

pub(super) const CURRENCIES: [Currency; 7] = [
    currency("USD", 2, 100),
    currency("EUR", 2, 92),
    currency("GBP", 2, 79),
    currency("CAD", 2, 136),
    currency("AUD", 2, 151),
    currency("SEK", 2, 1050),
    currency("JPY", 0, 15_000),
];

/// The pair of currencies of one order.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrencyPair {
    pub(super) shop: Currency,
    pub(super) buyer: Currency,
}

impl CurrencyPair {
    /// What so many US cents are in the shop's smallest unit.
    pub(super) fn priced(self, cents: i64) -> i64 {
        cents * self.shop.rate / if self.shop.digits == 0 { 10_000 } else { 100 }
    }

    /// `"12.34"`, `"5900"`.
    pub(super) fn text(self, units: i64) -> Value {
        json!(written(units, self.shop.digits))
    }

    /// `{"shop_money": ..., "presentment_money": ...}`.
    pub(super) fn set(self, units: i64) -> Value {
        json!({
            "shop_money": { "amount": written(units, self.shop.digits), "currency_code": self.shop.code },
            "presentment_money": { "amount": written(self.exchanged(units), self.buyer.digits), "currency_code": self.buyer.code },
        })
    }

    /// Each amount as `name` and `name_set`.
    pub(super) fn amounts(self, amounts: &[(&str, i64)]) -> Value {
        let both = |&(name, units): &(&str, i64)| {
            [
                (name.to_owned(), self.text(units)),
                (format!("{name}_set"), self.set(units)),
            ]
        };
        Value::Object(amounts.iter().flat_map(both).collect())
    }

    /// In the buyer's smallest unit.
    fn exchanged(self, units: i64) -> i64 {
        let scale = |currency: Currency| currency.rate * if currency.digits == 0 { 1 } else { 100 };
        if self.shop == self.buyer {
            units
        } else {
            units * scale(self.buyer) / scale(self.shop)
        }
    }
}

fn written(units: i64, digits: usize) -> String {
    if digits == 0 {
        units.to_string()
    } else {
        format!("{}.{:02}", units / 100, units % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let currencies = |shop: usize, buyer: usize| CurrencyPair {
            shop: CURRENCIES[shop],
            buyer: CURRENCIES[buyer],
        };
        assert_eq!(currencies(0, 0).text(1005), "10.05");
        assert_eq!(currencies(6, 6).text(5900), "5900");
        assert_eq!(currencies(6, 6).priced(1000), 1500);
        assert_eq!(currencies(0, 6).set(1000)["presentment_money"]["amount"], "1500");
        assert_eq!(currencies(6, 0).set(1500)["presentment_money"]["amount"], "10.00");
    }
}
