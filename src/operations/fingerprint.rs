//! Which errors are the same cause: the text without what differs from one entry to the next.
//!
//! Pure. Numbers, ids, times and quoted parts become `#`. What names a cause stays: words, names in
//! backticks (fields of an entry), and a SQLSTATE.

use sha2::{Digest as _, Sha256};

/// Characters of a pattern; what is beyond does not count.
const LONGEST: usize = 300;
/// Digits of a fingerprint.
pub(super) const FINGERPRINT_DIGITS: usize = 16;
/// A word at least this long that has digits is an id.
const ID_LENGTH: usize = 8;

/// The error with `#` for what varies; at most 300 characters.
#[must_use]
pub fn pattern(error: &str) -> String {
    let mut pattern = String::with_capacity(error.len().min(4 * LONGEST));
    let mut rest = error.trim();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' => quoted(rest, first).inspect(|_| vary(&mut pattern)),
            _ if is_word(first) => Some(word(rest)).inspect(|word| push_word(&mut pattern, word)),
            _ => None,
        };
        let taken = taken.unwrap_or_else(|| {
            push_other(&mut pattern, first);
            &rest[..first.len_utf8()]
        });
        rest = &rest[taken.len()..];
        if pattern.len() > 4 * LONGEST {
            break;
        }
    }
    pattern.chars().take(LONGEST).collect()
}

/// Sixteen hexadecimal digits that stand for the cause; equal exactly where the patterns are.
#[must_use]
pub fn fingerprint(error: &str) -> String {
    hex::encode(&Sha256::digest(pattern(error))[..FINGERPRINT_DIGITS / 2])
}

/// The quoted part at the beginning, quotes included; `None` where no quote closes it (an
/// apostrophe).
fn quoted(text: &str, quote: char) -> Option<&str> {
    let end = text[1..].find(quote)?;
    text.get(..end + 2)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The word at the beginning. What joins letters or digits belongs to it: `-` in ids, `.`, `:` and
/// `+` in numbers and times.
fn word(text: &str) -> &str {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let joins = |c: char| c == '-' || is_number && matches!(c, '.' | ':' | '+');
    let mut end = 0;
    let mut letters = text.char_indices().peekable();
    while let Some((at, c)) = letters.next() {
        let goes_on = letters.peek().is_some_and(|(_, next)| is_word(*next));
        if !(is_word(c) || joins(c) && goes_on) {
            break;
        }
        end = at + c.len_utf8();
    }
    &text[..end]
}

fn push_word(pattern: &mut String, word: &str) {
    let has_digit = word.contains(|c: char| c.is_ascii_digit());
    let is_code = pattern.ends_with("SQLSTATE ");
    let varies = word.starts_with(|c: char| c.is_ascii_digit()) || has_digit && word.len() >= ID_LENGTH;
    if varies && !is_code {
        vary(pattern);
    } else {
        pattern.push_str(word);
    }
}

fn vary(pattern: &mut String) {
    pattern.push('#');
}

/// Blanks count once.
fn push_other(pattern: &mut String, c: char) {
    if !c.is_whitespace() {
        pattern.push(c);
    } else if !pattern.ends_with(' ') {
        pattern.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_varies_goes_and_what_names_the_cause_stays() {
        for (error, expected) in [
            ("the entry has no field `payload`", "the entry has no field `payload`"),
            (
                "the body cannot be read: line_items[2].price: expected a number at line 1 column 482",
                "the body cannot be read: line_items[#].price: expected a number at line # column #",
            ),
            (
                "the warehouse rejects the data: SQLSTATE 22003: value \"99e99\" out of range",
                "the warehouse rejects the data: SQLSTATE 22003: value # out of range",
            ),
            ("order a2de5c54-d8da-5a26-b627-bab921270f23 is 'gone'", "order # is #"),
            (
                "since 2026-01-31T21:30:02.5+01:00, entry 1767225600123-4",
                "since #, entry #",
            ),
            ("expected i64,  not utf8; 3 of 12.50", "expected i64, not utf8; # of #"),
            ("the stream's entry isn't there", "the stream#t there"),
            ("the stream's entry", "the stream's entry"),
            ("", ""),
        ] {
            assert_eq!(pattern(error), expected, "{error}");
        }
        assert_ne!(fingerprint("SQLSTATE 22003"), fingerprint("SQLSTATE 23502"));
        assert_eq!(fingerprint("at line 1 column 2"), fingerprint("at line 13 column 254"));
    }

    proptest! {
        #[test]
        fn numbers_and_ids_never_matter(a in any::<u64>(), b in any::<u64>(), id in any::<u128>()) {
            let error = |number: u64, id: u128| {
                let id = uuid::Uuid::from_u128(id);
                format!("entry {number} of order {id}, '{number}': out of range")
            };
            prop_assert_eq!(fingerprint(&error(a, id)), fingerprint(&error(b, !id)));
        }

        #[test]
        fn a_pattern_is_bounded(error in ".{0,400}") {
            prop_assert!(pattern(&error).chars().count() <= LONGEST);
        }
    }
}
