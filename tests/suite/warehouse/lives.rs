//! Generated lives of orders, told as Shopify tells them: discounts of lines, orders and shipping, both tax modes, a
//! second currency, gift cards, tips, duties, fees and cash rounding, changed by edits, exchanges, refunds and
//! cancellations. What is left of each order is counted unit by unit, apart from what the bodies say of its sales.

use orderstream::shopify::DeliveryHints;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::events::Sample;
use crate::captured::convert;

/// Currencies and their minor digits.
const CURRENCIES: [(&str, u32); 4] = [("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3)];

/// What a shop charges, in minor units.
struct Line {
    id: i64,
    is_gift_card: bool,
    qty: i64,
    price: i64,
    /// On the line itself, and its share of the order's.
    discounts: [i64; 2],
    /// Of ten thousand.
    tax_rate: i64,
    /// Units, amount after discounts and tax that refunds reversed.
    reversed: [i64; 3],
}

struct Shipping {
    id: i64,
    price: i64,
    discount: i64,
    tax_rate: i64,
    is_removed: bool,
    /// Amount and tax that refunds reversed.
    reversed: [i64; 2],
}

/// One order, and everything that was told of it.
pub struct Life {
    rng: StdRng,
    pub order_id: i64,
    currency: &'static str,
    digits: u32,
    presentment: &'static str,
    taxes_included: bool,
    old_bodies: bool,
    lines: Vec<Line>,
    shipping: Vec<Shipping>,
    tip: i64,
    duties: i64,
    fees: i64,
    rounding: i64,
    /// Reversed duties, and adjustments with their tax.
    reversed_duties: i64,
    adjustments: i64,
    is_cancelled: bool,
    refunds: Vec<Value>,
    now: OffsetDateTime,
    last_id: i64,
    pub samples: Vec<Sample>,
}

/// A share of an amount, rounded half away from zero; all of it for all units.
fn share(amount: i64, units: i64, of: i64) -> i64 {
    let (double, by) = (2 * amount * units, 2 * of);
    (double + of * double.signum()) / by
}

impl Line {
    fn discounted(&self) -> i64 {
        self.price * self.qty - self.discounts.iter().sum::<i64>()
    }

    fn left(&self) -> i64 {
        self.qty - self.reversed[0]
    }
}

impl Shipping {
    fn discounted(&self) -> i64 {
        self.price - self.discount
    }
}

impl Life {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (currency, digits) = CURRENCIES[rng.random_range(0..CURRENCIES.len())];
        let presentment = if rng.random_bool(0.3) { "CAD" } else { currency };
        let mut life = Self {
            order_id: 5_000_000 + i64::try_from(seed).unwrap(),
            currency,
            digits,
            presentment,
            taxes_included: rng.random_bool(0.5),
            old_bodies: rng.random_bool(0.2),
            lines: Vec::new(),
            shipping: Vec::new(),
            tip: if rng.random_bool(0.2) {
                rng.random_range(1..900)
            } else {
                0
            },
            duties: if rng.random_bool(0.2) {
                rng.random_range(1..3_000)
            } else {
                0
            },
            fees: if rng.random_bool(0.2) {
                rng.random_range(1..500)
            } else {
                0
            },
            rounding: if rng.random_bool(0.1) {
                rng.random_range(-2..3)
            } else {
                0
            },
            reversed_duties: 0,
            adjustments: 0,
            is_cancelled: false,
            refunds: Vec::new(),
            now: datetime!(2026-03-27 20:10:00 UTC) + Duration::minutes(rng.random_range(0..3_000)),
            last_id: 0,
            samples: Vec::new(),
            rng,
        };
        for _ in 0..life.rng.random_range(1..4) {
            life.add_line();
        }
        life.share_order_discount();
        for _ in 0..life.rng.random_range(0..3) {
            life.add_shipping();
        }
        life.tell_order("orders/create");
        if life.rng.random_bool(0.5) {
            life.tell_order("orders/paid");
        }
        for _ in 0..life.rng.random_range(0..5) {
            life.now += Duration::minutes(life.rng.random_range(1..2_500));
            life.change();
        }
        life
    }

    fn change(&mut self) {
        if self.is_cancelled {
            return;
        }
        match self.rng.random_range(0..8) {
            0 => self.edit_in(),
            1 => self.edit_out(),
            2 => self.take_shipping_off(),
            3 => self.exchange(),
            4 => self.goodwill(),
            5 => self.cancel(),
            _ => {
                let refund = self.refund(false, true);
                self.tell_refund(refund);
                self.tell_order("orders/updated");
            }
        }
    }

    fn id(&mut self) -> i64 {
        self.last_id += 1;
        self.order_id * 1_000 + self.last_id
    }

    fn tax_rate(&mut self) -> i64 {
        [0, 700, 1_900, 825][self.rng.random_range(0..4)]
    }

    fn add_line(&mut self) -> i64 {
        let (id, price, qty) = (self.id(), self.rng.random_range(0..20_000), self.rng.random_range(1..5));
        let is_gift_card = self.rng.random_bool(0.15);
        let tax_rate = if is_gift_card { 0 } else { self.tax_rate() };
        let own = if self.rng.random_bool(0.3) {
            self.rng.random_range(0..=price * qty)
        } else {
            0
        };
        self.lines.push(Line {
            id,
            is_gift_card,
            qty,
            price,
            discounts: [own, 0],
            tax_rate,
            reversed: [0; 3],
        });
        id
    }

    fn share_order_discount(&mut self) {
        if self.old_bodies || !self.rng.random_bool(0.3) {
            return;
        }
        let percent = self.rng.random_range(1..=100);
        for line in self.lines.iter_mut().filter(|line| !line.is_gift_card) {
            line.discounts[1] = share(line.discounted(), percent, 100);
        }
    }

    fn add_shipping(&mut self) {
        let (id, price, tax_rate) = (self.id(), self.rng.random_range(0..2_000), self.tax_rate());
        let discount = match self.rng.random_range(0..4) {
            0 => price,
            1 => self.rng.random_range(0..=price),
            _ => 0,
        };
        self.shipping.push(Shipping {
            id,
            price,
            discount,
            tax_rate,
            is_removed: false,
            reversed: [0; 2],
        });
    }

    fn tax(&self, amount: i64, rate: i64) -> i64 {
        let of = if self.taxes_included { 10_000 + rate } else { 10_000 };
        share(amount, rate, of)
    }

    /// Units are added to a line, or a line to the order; Shopify does not always tell of the edit itself.
    fn edit_in(&mut self) {
        let (id, units) = if self.rng.random_bool(0.5) {
            let id = self.add_line();
            (id, self.lines.last().unwrap().qty)
        } else {
            let place = self.rng.random_range(0..self.lines.len());
            let units = self.rng.random_range(1..4);
            self.lines[place].qty += units;
            (self.lines[place].id, units)
        };
        self.tell_edit(json!([{"id": id, "delta": units}]), json!([]));
        self.tell_order("orders/updated");
    }

    /// Units are removed, which a refund without money tells.
    fn edit_out(&mut self) {
        let refund = self.refund(false, false);
        let removals: Vec<Value> = refund["refund_line_items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| json!({"id": line["line_item_id"], "delta": line["quantity"]}))
            .collect();
        self.tell_edit(json!([]), removals.into());
        self.tell_refund(refund);
        self.tell_order("orders/updated");
    }

    /// By an edit before anything is paid back: no refund tells of it.
    fn take_shipping_off(&mut self) {
        let is_refunded = self.shipping.iter().any(|line| line.reversed != [0; 2]);
        if let Some(line) = self.shipping.iter_mut().find(|line| !line.is_removed && !is_refunded) {
            line.is_removed = true;
        }
        self.tell_order("orders/updated");
    }

    fn exchange(&mut self) {
        let refund = self.refund(false, false);
        self.add_line();
        self.tell_refund(refund);
        self.tell_order("orders/updated");
    }

    fn goodwill(&mut self) {
        let amount = -self.rng.random_range(1..500);
        self.adjustments += amount;
        let adjustment = json!({
            "id": self.id(), "kind": "refund_discrepancy", "amount": self.text(amount), "tax_amount": self.text(0),
            "amount_set": self.set(amount), "tax_amount_set": self.set(0),
        });
        let refund = self.refund_body(Vec::new(), Vec::new(), vec![adjustment], 0, -amount);
        self.tell_refund(refund);
        self.tell_order("orders/updated");
    }

    fn cancel(&mut self) {
        let refund = self.refund(true, true);
        self.is_cancelled = true;
        self.tell_refund(refund);
        self.tell_order("orders/cancelled");
    }

    /// Reverses some of what is left, or all of it; with money also shipping, duties, and a fee that is kept.
    fn refund(&mut self, everything: bool, with_money: bool) -> Value {
        let mut lines = Vec::new();
        let mut money = 0;
        for place in 0..self.lines.len() {
            let left = self.lines[place].left();
            if left == 0 || !(everything || self.rng.random_bool(0.6)) {
                continue;
            }
            let units = if everything {
                left
            } else {
                self.rng.random_range(1..=left)
            };
            let [subtotal, tax] = self
                .left_of_line(&self.lines[place])
                .map(|amount| share(amount, units, left));
            let line = &mut self.lines[place];
            line.reversed = [
                line.reversed[0] + units,
                line.reversed[1] + subtotal,
                line.reversed[2] + tax,
            ];
            money += subtotal + if self.taxes_included { 0 } else { tax };
            let (id, is_gift_card) = (line.id, line.is_gift_card);
            lines.push(json!({
                "id": self.id(), "line_item_id": id, "quantity": units, "restock_type": "return",
                "subtotal": self.text(subtotal), "total_tax": self.text(tax),
                "subtotal_set": self.set(subtotal), "total_tax_set": self.set(tax),
                "line_item": {"id": id, "gift_card": is_gift_card},
            }));
        }
        let (mut shipping, mut adjustments, mut duties) = (Vec::new(), Vec::new(), 0);
        if with_money && (everything || self.rng.random_bool(0.3)) {
            for place in 0..self.shipping.len() {
                let [amount, tax] = self.left_of_shipping(&self.shipping[place]);
                if amount == 0 && tax == 0 || self.shipping.iter().any(|line| line.is_removed) {
                    continue;
                }
                let line = &mut self.shipping[place];
                line.reversed = [line.reversed[0] + amount, line.reversed[1] + tax];
                money += amount + if self.taxes_included { 0 } else { tax };
                let id = line.id;
                if self.old_bodies {
                    // Its amount is without tax, whatever the prices are.
                    let amount = if self.taxes_included { amount - tax } else { amount };
                    adjustments.push(json!({
                        "id": self.id(), "kind": "shipping_refund", "amount": self.text(-amount),
                        "tax_amount": self.text(-tax), "amount_set": self.set(-amount), "tax_amount_set": self.set(-tax),
                    }));
                } else {
                    shipping.push(json!({
                        "id": self.id(), "shipping_line": {"id": id}, "subtotal_amount_set": self.set(amount),
                        "tax_amount_set": self.set(tax),
                    }));
                }
            }
            duties = self.duties - self.reversed_duties;
            self.reversed_duties += duties;
            money += duties;
        }
        if with_money && !everything && money > 100 && self.rng.random_bool(0.3) {
            let kept = self.rng.random_range(1..100);
            self.adjustments += kept;
            money -= kept;
            adjustments.push(json!({
                "id": self.id(), "kind": "refund_discrepancy", "amount": self.text(kept), "tax_amount": self.text(0),
                "amount_set": self.set(kept), "tax_amount_set": self.set(0),
            }));
        }
        self.refund_body(lines, shipping, adjustments, duties, if with_money { money } else { 0 })
    }

    fn refund_body(
        &mut self,
        lines: Vec<Value>,
        shipping: Vec<Value>,
        adjustments: Vec<Value>,
        duties: i64,
        money: i64,
    ) -> Value {
        let status = if self.rng.random_bool(0.2) {
            "pending"
        } else {
            "success"
        };
        let transactions = if money > 0 {
            json!([{"id": self.id(), "kind": "refund", "status": status, "currency": self.presentment,
                    "amount": self.text(self.presented(money)), "gateway": "bogus"}])
        } else {
            json!([])
        };
        let duties = if duties > 0 {
            json!([{"duty_id": self.id(), "amount_set": self.set(duties)}])
        } else {
            json!([])
        };
        json!({
            "id": self.id(), "order_id": self.order_id, "created_at": self.at(), "processed_at": self.at(),
            "refund_line_items": lines, "transactions": transactions, "order_adjustments": adjustments,
            "refund_shipping_lines": shipping, "duties": duties, "return": null,
        })
    }

    /// After discounts, and tax.
    fn left_of_line(&self, line: &Line) -> [i64; 2] {
        let amount = line.discounted();
        [
            amount - line.reversed[1],
            self.tax(amount, line.tax_rate) - line.reversed[2],
        ]
    }

    fn left_of_shipping(&self, line: &Shipping) -> [i64; 2] {
        if line.is_removed {
            return [0; 2];
        }
        let amount = line.discounted();
        [
            amount - line.reversed[0],
            self.tax(amount, line.tax_rate) - line.reversed[1],
        ]
    }

    /// What the customer has to pay for what is left, in minor units: gift cards, tip and rounding included.
    fn current_total(&self) -> i64 {
        self.counted() + self.gift_cards() + self.tip + self.rounding
    }

    fn gift_cards(&self) -> i64 {
        let gift_cards = self.lines.iter().filter(|line| line.is_gift_card);
        gift_cards.map(|line| self.left_of_line(line)[0]).sum()
    }

    /// What Shopify's reports count of what is left.
    fn counted(&self) -> i64 {
        let charged = |[amount, tax]: [i64; 2]| amount + if self.taxes_included { 0 } else { tax };
        let products = self.lines.iter().filter(|line| !line.is_gift_card);
        let lines: i64 = products.map(|line| charged(self.left_of_line(line))).sum();
        let shipping: i64 = self
            .shipping
            .iter()
            .map(|line| charged(self.left_of_shipping(line)))
            .sum();
        lines + shipping + self.duties - self.reversed_duties + self.fees + self.adjustments
    }

    /// The last `current_total_price` less gift cards, tip and rounding.
    pub fn expected(&self) -> rust_decimal::Decimal {
        let less = self.gift_cards() + self.tip + self.rounding;
        rust_decimal::Decimal::new(self.current_total() - less, self.digits).normalize()
    }

    fn text(&self, amount: i64) -> String {
        rust_decimal::Decimal::new(amount, self.digits).to_string()
    }

    /// In the customer's currency, which here has as many digits as the shop's.
    fn presented(&self, amount: i64) -> i64 {
        if self.presentment == self.currency {
            amount
        } else {
            share(amount, 137, 100)
        }
    }

    fn set(&self, amount: i64) -> Value {
        json!({
            "shop_money": {"amount": self.text(amount), "currency_code": self.currency},
            "presentment_money": {"amount": self.text(self.presented(amount)), "currency_code": self.presentment},
        })
    }

    fn at(&self) -> String {
        let offset = time::UtcOffset::from_hms(-5, 0, 0).unwrap();
        self.now.to_offset(offset).format(&Rfc3339).unwrap()
    }

    fn line_body(&self, line: &Line) -> Value {
        let tax = self.tax(line.discounted(), line.tax_rate);
        let taxes = [tax - tax / 3, tax / 3]
            .map(|part| json!({"title": "T", "price": self.text(part), "price_set": self.set(part)}));
        let allocations: Vec<Value> = line
            .discounts
            .iter()
            .filter(|discount| **discount > 0 && !self.old_bodies)
            .map(|discount| json!({"amount": self.text(*discount), "amount_set": self.set(*discount)}))
            .collect();
        json!({
            "id": line.id, "title": "P", "sku": "S", "quantity": line.qty, "current_quantity": line.left(),
            "price": self.text(line.price), "price_set": self.set(line.price), "gift_card": line.is_gift_card,
            "total_discount": self.text(line.discounts[0]), "discount_allocations": allocations,
            "tax_lines": if tax == 0 { json!([]) } else { json!(taxes) },
        })
    }

    fn shipping_body(&self, line: &Shipping) -> Value {
        let tax = self.tax(line.discounted(), line.tax_rate);
        json!({
            "id": line.id, "title": "Parcel", "price": self.text(line.price), "price_set": self.set(line.price),
            "discounted_price": self.text(line.discounted()), "discounted_price_set": self.set(line.discounted()),
            "is_removed": line.is_removed, "tax_lines": [{"price": self.text(tax), "price_set": self.set(tax)}],
            "discount_allocations": [],
        })
    }

    fn tell_order(&mut self, topic: &str) {
        self.now += Duration::seconds(1);
        let sum = |amounts: &mut dyn Iterator<Item = i64>| amounts.sum::<i64>();
        let subtotal = sum(&mut self.lines.iter().map(Line::discounted));
        let on_shipping = sum(&mut self.shipping.iter().map(|line| line.discount));
        let discounts = sum(&mut self.lines.iter().flat_map(|line| line.discounts)) + on_shipping;
        let shipping = sum(&mut self.shipping.iter().map(Shipping::discounted));
        let tax = sum(&mut self.lines.iter().map(|line| self.tax(line.discounted(), line.tax_rate)))
            + sum(&mut self
                .shipping
                .iter()
                .map(|line| self.tax(line.discounted(), line.tax_rate)));
        let total =
            subtotal + shipping + self.duties + self.fees + self.tip + if self.taxes_included { 0 } else { tax };
        let first = self.samples.first().map(|sample| {
            let told: Value = serde_json::from_str(&sample.payload).unwrap();
            told["created_at"].as_str().unwrap().to_owned()
        });
        let created_at = first.unwrap_or_else(|| self.at());
        let body = json!({
            "id": self.order_id, "name": format!("#{}", self.order_id), "created_at": created_at,
            "processed_at": created_at, "updated_at": self.at(), "currency": self.currency,
            "cancelled_at": self.is_cancelled.then(|| self.at()),
            "presentment_currency": self.presentment, "total_price": self.text(total), "total_price_set": self.set(total),
            "current_total_price": self.text(self.current_total()), "subtotal_price": self.text(subtotal),
            "total_discounts": self.text(discounts), "total_tax": self.text(tax),
            "total_shipping_price_set": self.set(shipping), "taxes_included": self.taxes_included, "test": false,
            "total_tip_received": self.text(self.tip), "original_total_duties_set": self.set(self.duties),
            "original_total_additional_fees_set": self.set(self.fees),
            "total_cash_rounding_payment_adjustment_set": self.set(self.rounding), "customer": {"id": 901},
            "line_items": self.lines.iter().map(|line| self.line_body(line)).collect::<Vec<_>>(),
            "shipping_lines": self.shipping.iter().map(|line| self.shipping_body(line)).collect::<Vec<_>>(),
            "refunds": self.refunds,
        });
        self.tell(topic, &body);
    }

    fn tell_refund(&mut self, refund: Value) {
        if self.rng.random_bool(0.8) {
            self.tell("refunds/create", &refund);
        }
        self.refunds.push(refund);
    }

    fn tell_edit(&mut self, additions: Value, removals: Value) {
        if self.rng.random_bool(0.7) {
            let edit = json!({
                "id": self.id(), "order_id": self.order_id, "committed_at": self.at(), "created_at": self.at(),
                "line_items": {"additions": additions, "removals": removals},
            });
            self.tell("orders/edited", &json!({"order_edit": edit}));
        }
    }

    fn tell(&mut self, topic: &str, body: &Value) {
        let webhook_id = format!("life-{}-{}", self.order_id, self.samples.len());
        let hints = DeliveryHints {
            webhook_id: Some(&webhook_id),
            ..DeliveryHints::default()
        };
        let body = body.to_string();
        let event = convert(topic, body.as_bytes(), &hints).unwrap();
        self.samples.push(serde_json::to_string(&event).unwrap().into());
    }
}
