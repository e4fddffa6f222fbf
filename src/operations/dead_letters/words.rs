//! Which orders a text may name, told without the text.
//!
//! Pure. Of each word of a text (ASCII letters and digits) a hash is kept. Invariant: of an order that a text names,
//! [`Words::may_name`] never says that it does not.

/// Words kept of one text, 8 KiB; one with more of them may name any order.
const MOST: usize = 2_048;

/// Hashes of a text's words, sorted; `None` where they are too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words(Option<Box<[u32]>>);

impl Words {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut words = Vec::from_iter(hashes(text).take(8 * MOST + 1));
        if words.len() > 8 * MOST {
            return Self(None);
        }
        words.sort_unstable();
        words.dedup();
        Self((words.len() <= MOST).then(|| words.into_boxed_slice()))
    }

    /// Whether the text may name the order, by id or name.
    pub(super) fn may_name(&self, order: &str) -> bool {
        let Some(words) = &self.0 else { return true };
        hashes(order.as_bytes()).all(|word| words.binary_search(&word).is_ok())
    }
}

fn hashes(text: &[u8]) -> impl Iterator<Item = u32> {
    text.split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(crc32fast::hash)
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
        let text = |words: usize| Vec::from_iter((0..words).map(|word| word.to_string())).join(" ");
        assert!(!Words::of(text(MOST).as_bytes()).may_name("#x1"));
        assert!(Words::of(text(MOST + 1).as_bytes()).may_name("#x1"));
        assert!(Words::of("7 ".repeat(9 * MOST).as_bytes()).may_name("#x1"));
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
