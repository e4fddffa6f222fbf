//! `avg_item_price`: PostgreSQL's division, which is what its generated column does.
//!
//! Pure. SQLite divides only integers and floats, and a figure must not depend on where it is kept.

use rust_decimal::{Decimal, RoundingStrategy};

/// PostgreSQL keeps that many digits of a quotient that has no end, counted in groups.
const SIGNIFICANT: i32 = 16;
/// Digits of a group.
const GROUP: i32 = 4;
const GROUP_BASE: Decimal = Decimal::from_parts(10_000, 0, 0, false, 0);
/// Decimals that an amount here can have; PostgreSQL goes on for quotients below 10^-10.
const MOST_DECIMALS: i32 = 28;

/// `total / greatest(count, 1)` as PostgreSQL rounds it, without zeros at its end; `None` where it
/// is out of range.
pub(super) fn average(total: Decimal, count: i64) -> Option<Decimal> {
    let count = Decimal::from(count.max(1));
    let ((total_weight, total_first), (count_weight, count_first)) = (leading(total), leading(count));
    let weight = total_weight - count_weight - i32::from(total_first <= count_first);
    let scale = i32::try_from(total.scale()).unwrap_or(MOST_DECIMALS);
    let decimals = (SIGNIFICANT - weight * GROUP).max(scale).clamp(0, MOST_DECIMALS);
    let quotient = total.checked_div(count)?;
    let rounded = quotient.round_dp_with_strategy(decimals.unsigned_abs(), RoundingStrategy::MidpointAwayFromZero);
    Some(rounded.normalize())
}

/// The first group of digits that is not zero, and its place: 0 for the ones, 1 for the ten
/// thousands, -1 behind the point.
fn leading(number: Decimal) -> (i32, Decimal) {
    let (mut first, mut place) = (number.abs(), 0);
    if first.is_zero() {
        return (0, Decimal::ZERO);
    }
    while first >= GROUP_BASE {
        (first, place) = (first / GROUP_BASE, place + 1);
    }
    while first < Decimal::ONE {
        (first, place) = (first * GROUP_BASE, place - 1);
    }
    (place, first.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 answers to `SELECT trim_scale(total::numeric / greatest(count, 1))`.
    #[test]
    fn quotients_are_postgresqls() {
        for (total, count, expected) in [
            ("26.50", 4, "6.625"),
            ("10", 3, "3.3333333333333333"),
            ("10", 0, "10"),
            ("-0.50", 3, "-0.16666666666666666667"),
            ("99999999999999.99", 8, "12499999999999.9988"),
            ("20000", 30000, "0.66666666666666666667"),
            ("0", 7, "0"),
        ] {
            let average = average(total.parse().unwrap(), count).unwrap();
            assert_eq!(average.to_string(), expected, "{total} / {count}");
        }
    }
}
