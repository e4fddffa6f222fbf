//! Which orders a text may name, told without the text.
//!
//! Pure. Of each word of a text (ASCII letters and digits) three bits are set among 16,384: two kilobytes stand for a text
//! of any size. Invariant: of an order that a text names, [`Words::may_name`] never says that it does not. Of other orders
//! it says so of one text in hundreds, where that has about a thousand words.

const BITS: usize = 16_384;
/// Bytes that are split into words at once.
const PIECE: usize = 256;
/// Spreads what a word is over the upper bits of its hash: the golden ratio, as an odd number.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bits of a text's words.
pub(super) struct Words(Box<[u64; BITS / 64]>);

impl Words {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut bits = Box::new([0; BITS / 64]);
        each_word(text, |word| {
            for bit in bits_of(word) {
                bits[bit / 64] |= 1 << (bit % 64);
            }
        });
        Self(bits)
    }

    /// Whether the text may name the order, by id or name.
    pub(super) fn may_name(&self, order: &str) -> bool {
        let mut may = true;
        each_word(order.as_bytes(), |word| {
            may &= bits_of(word)
                .iter()
                .all(|bit| self.0[bit / 64] & (1 << (bit % 64)) != 0);
        });
        may
    }
}

/// Calls `found` with the hash of each word. Nothing is decided in the inner loop but by arithmetic: where words end
/// cannot be foreseen, and a processor that guesses wrongly at each end takes twice as long.
fn each_word(text: &[u8], mut found: impl FnMut(u64)) {
    let mut words = [0; PIECE];
    let (mut hash, mut was_word) = (0, false);
    for piece in text.chunks(PIECE).chain([&b" "[..]]) {
        let mut count = 0;
        for byte in piece {
            let is_word = byte.is_ascii_alphanumeric();
            // Overwritten by what follows, unless the word ends here.
            words[count] = hash;
            count += usize::from(was_word & !is_word);
            hash = (hash ^ u64::from(*byte)).wrapping_mul(SPREAD) * u64::from(is_word);
            was_word = is_word;
        }
        words[..count].iter().copied().for_each(&mut found);
    }
}

fn bits_of(word: u64) -> [usize; 3] {
    [50, 36, 22].map(|shift| (word >> shift) as usize % BITS)
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
    fn a_word_is_whole_wherever_it_stands() {
        for before in PIECE - 9..=PIECE {
            let words = Words::of(format!("{}1042", " ".repeat(before)).as_bytes());
            assert!(words.may_name("1042") && !words.may_name("104"), "{before}");
        }
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
