//! Which orders a text may name, told without the text.
//!
//! Pure. Of each word of a text (ASCII letters and digits) three bits are set among 16,384: two kilobytes stand for a text
//! of any size. Invariant: of an order that a text names, [`Words::may_name`] never says that it does not. Of other orders
//! it says so of one text in hundreds, where that has about a thousand words.

use std::hash::{DefaultHasher, Hasher as _};

const BITS: usize = 16_384;

/// The bits of a text's words.
pub(super) struct Words(Box<[u64; BITS / 64]>);

impl Words {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut bits = Box::new([0; BITS / 64]);
        for bit in bits_of(text) {
            bits[bit / 64] |= 1 << (bit % 64);
        }
        Self(bits)
    }

    /// Whether the text may name the order, by id or name.
    pub(super) fn may_name(&self, order: &str) -> bool {
        bits_of(order.as_bytes()).all(|bit| self.0[bit / 64] & (1 << (bit % 64)) != 0)
    }
}

fn bits_of(text: &[u8]) -> impl Iterator<Item = usize> {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).flat_map(|word| {
        let mut hasher = DefaultHasher::new();
        hasher.write(word);
        let [a, b, c, d, e, f, ..] = hasher.finish().to_le_bytes();
        [[a, b], [c, d], [e, f]].map(|two| usize::from(u16::from_le_bytes(two)) % BITS)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operations::trace::mentions;

    #[test]
    fn a_word_is_found_as_a_whole() {
        let words = Words::of(br#"{"id":1042,"name":"EU-77\/b","gid":"gid:\/\/shopify\/Order\/9"}"#);
        for (order, may) in [
            ("1042", true),
            ("#1042", true),
            ("104", false),
            ("10421", false),
            ("EU-77", true),
            ("77/b", true),
            ("78", false),
            ("EU", true),
            ("ship", false),
            ("#", true),
            ("gid://shopify/Order/9", true),
        ] {
            assert_eq!(words.may_name(order), may, "{order}");
        }
        assert!(!Words::of(b"").may_name("1042"));
    }

    #[test]
    fn a_text_of_very_many_words_may_name_any_order() {
        let text = Vec::from_iter((0..200_000).map(|word| word.to_string())).join(" ");
        assert!(Words::of(text.as_bytes()).may_name("#x1"));
    }

    proptest! {
        #[test]
        fn what_a_text_names_it_may_name(before in r#"(\PC{0,9}[ "é#/])?"#, order in r"[#é\-]?[0-9a-zé]{1,6}[-/é]?[0-9]{0,3}", after in r#"([ "é#/,]\PC{0,9})?"#) {
            let text = format!("{before}{order}{after}");
            let names = mentions(&text, &order);
            prop_assert!(!names || Words::of(text.as_bytes()).may_name(&order), "{} {}", text, order);
        }
    }
}
