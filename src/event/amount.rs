//! Amounts of money.
//!
//! Owns their JSON forms and their bounds, which are the same whoever wrote them and wherever they
//! are kept: read as a JSON number or as text, written as a number with the digits they came with.

use std::fmt;
use std::io::Write as _;

use rust_decimal::Decimal;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// An exact amount of money: below 10^15 with at most 9 decimals, its written scale kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(pub Decimal);

impl Amount {
    /// Every amount is below it: what both warehouses can sum exactly.
    pub const LIMIT: i64 = 1_000_000_000_000_000;
    /// Most decimals of an amount.
    pub const DECIMALS: u32 = 9;

    /// Reads a decimal or a JSON number in exponent form, exactly.
    ///
    /// # Errors
    /// Where the text is no decimal, or one out of bounds. The error never repeats the text.
    pub fn parse(text: &str) -> Result<Self, InvalidAmount> {
        let amount = Self(exact(text).ok_or(InvalidAmount)?);
        let is_kept = amount.is_below_limit() && amount.0.scale() <= Self::DECIMALS;
        if is_kept { Ok(amount) } else { Err(InvalidAmount) }
    }

    /// Reads a JSON number, or a string that holds an amount.
    ///
    /// # Errors
    /// As [`Amount::parse`].
    pub fn of_json(raw: &RawValue) -> Result<Self, InvalidAmount> {
        Self::parse(unquoted(raw))
    }

    /// As [`Amount::of_json`], for an amount that can be done without: what is no exact decimal is
    /// none, and decimals beyond the last one kept, which a float leaves, are rounded away.
    ///
    /// # Errors
    /// Where it is not below the limit.
    pub fn of_json_if_any(raw: &RawValue) -> Result<Option<Self>, InvalidAmount> {
        let Some(mut decimal) = exact(unquoted(raw)) else {
            return Ok(None);
        };
        if decimal.scale() > Self::DECIMALS {
            decimal = decimal.round_dp(Self::DECIMALS).normalize();
        }
        let amount = Self(decimal);
        if amount.is_below_limit() {
            Ok(Some(amount))
        } else {
            Err(InvalidAmount)
        }
    }

    /// The exact sum; `None` where it is out of bounds.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self).filter(|sum| sum.is_below_limit())
    }

    /// Writes it to the end of the text as `Display` does, in a tenth of the time, and answers where
    /// it begins; none where it is negative or does not fit into 64 bits without its point.
    fn write_usual(self, text: &mut [u8; LONGEST]) -> Option<usize> {
        let mut digits = u64::try_from(self.0.mantissa()).ok()?;
        let point = match self.0.scale() as usize {
            0 => LONGEST,
            decimals => LONGEST.checked_sub(decimals + 1)?,
        };
        for at in (0..LONGEST).rev() {
            if at == point {
                text[at] = b'.';
                continue;
            }
            text[at] = b'0' + (digits % 10) as u8;
            digits /= 10;
            if digits == 0 && at < point {
                return Some(at);
            }
        }
        None
    }

    fn is_below_limit(self) -> bool {
        self.0.abs() < Self::LIMIT.into()
    }
}

/// Bytes of the longest decimal: sign, point, a leading zero and 28 digits, rounded up.
const LONGEST: usize = 32;

/// The decimal of a text as amounts are usually written, `1234.50`: digits, perhaps with a point
/// between them, at most 18 characters.
fn usual(text: &str) -> Option<Decimal> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    if bytes.len() > 18 || !is_digit(bytes.first()) || !is_digit(bytes.last()) {
        return None;
    }
    let mut mantissa = 0;
    let mut scale = None;
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                scale = scale.map(|decimals| decimals + 1);
            }
            b'.' if scale.is_none() => scale = Some(0),
            _ => return None,
        }
    }
    Some(Decimal::new(mantissa, scale.unwrap_or(0)))
}

/// The decimal that a text is, in plain or exponent form, where it has at most 28 digits.
fn exact(text: &str) -> Option<Decimal> {
    if let Some(decimal) = usual(text) {
        return Some(decimal);
    }
    let text = text.trim();
    // `Decimal` would also take digit separators.
    if !text
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E'))
    {
        return None;
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    // Exact first: the exponent form rounds a mantissa that is too long.
    let exact = Decimal::from_str_exact(mantissa).ok()?;
    if mantissa.len() == text.len() {
        return Some(exact);
    }
    Decimal::from_scientific(text).ok()
}

fn unquoted(raw: &RawValue) -> &str {
    let text = raw.get();
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// The text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {EXPECTED_AMOUNT}")]
pub struct InvalidAmount;

/// What an amount must be, for error texts.
pub(crate) const EXPECTED_AMOUNT: &str = "an exact decimal amount below 10^15 with at most 9 decimals";

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A raw number: `f64` would lose digits, and serde_json's `arbitrary_precision` would
        // change every `Value`. An order has dozens of amounts, so none is put on the heap.
        let mut text = [0; LONGEST];
        let written = match self.write_usual(&mut text) {
            Some(start) => &text[start..],
            None => {
                let mut free = &mut text[..];
                write!(free, "{}", self.0).map_err(serde::ser::Error::custom)?;
                let unused = free.len();
                &text[..LONGEST - unused]
            }
        };
        let raw: &RawValue = serde_json::from_slice(written).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::of_json(raw).map_err(|_| de::Error::invalid_value(de::Unexpected::Other("text"), &EXPECTED_AMOUNT))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_keep_their_digits() {
        for (json, text) in [
            ("\"5900\"", "5900"),
            ("\"0.10\"", "0.10"),
            ("0.10", "0.10"),
            ("-3.50", "-3.50"),
            ("1e+14", "100000000000000"),
            ("1.5E-7", "0.00000015"),
            ("-999999999999999.999999999", "-999999999999999.999999999"),
            ("\" 12.00 \"", "12.00"),
        ] {
            let amount: Amount = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&amount).unwrap(), text, "{json}");
        }
    }

    #[test]
    fn what_is_not_exact_is_no_amount() {
        for json in [
            "\"\"",
            "\"1_000\"",
            "\"1,000\"",
            "\"12 EUR\"",
            "\"NaN\"",
            "true",
            "null",
            "[]",
            "1e400",
            "1e15",
            "-1000000000000000",
            "0.30000000000000004",
            "1.23456789012345678901234567890123",
            "1.23456789012345678901234567890123e2",
            "99999999999999999999999999999999",
        ] {
            assert!(serde_json::from_str::<Amount>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_amount_that_can_be_done_without_is_rounded_or_none_but_never_too_large() {
        let read = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            Amount::of_json_if_any(&raw).map(|amount| amount.map(|amount| amount.to_string()))
        };
        for (json, kept) in [
            ("\"0.10\"", Some("0.10")),
            ("0.30000000000000004", Some("0.3")),
            ("1.7763568394002505e-15", None),
            ("\"\"", None),
            ("{}", None),
        ] {
            assert_eq!(read(json).unwrap().as_deref(), kept, "{json}");
        }
        assert_eq!(read("1e15"), Err(InvalidAmount));
    }

    proptest! {
        #[test]
        fn any_decimal_survives_json(mantissa in 1 - Amount::LIMIT..Amount::LIMIT, scale in 0..10_u32) {
            let amount = Amount(Decimal::new(mantissa, scale));
            let json = serde_json::to_string(&amount).unwrap();
            let again: Amount = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(again.to_string(), amount.to_string());
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = Amount::parse(&text);
        }
    }
}
