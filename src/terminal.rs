//! Which characters a terminal acts on instead of showing them.
//!
//! Pure. Texts from outside (an order's name, a field of an entry, the answer of a server) may
//! contain any of them: they would end a line, move the cursor, change colours or the direction of
//! what follows.

/// Whether the character does something on a terminal: controls, ends of lines and paragraphs,
/// marks of direction.
pub(crate) fn is_acted_on(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{206F}')
}

/// Text from outside as a part of a line: such characters are shown as `�`.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(is_acted_on, "\u{FFFD}")
}

/// The same for a text whose line ends are its own.
pub(crate) fn own_lines(text: &str) -> String {
    text.replace(|c| is_acted_on(c) && c != '\n', "\u{FFFD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_and_all_else_is_not() {
        for c in [
            '\n', '\r', '\t', '\x1b', '\x7f', '\u{85}', '\u{9b}', '\u{2028}', '\u{202E}', '\u{2066}', '\u{200F}',
        ] {
            assert!(is_acted_on(c), "{c:?}");
        }
        for c in ['a', ' ', 'é', 'ש', 'ع', '漢', '😀', '\u{200D}', '\u{FFFD}', '–'] {
            assert!(!is_acted_on(c), "{c:?}");
        }
    }

    #[test]
    fn a_text_keeps_its_own_line_ends_alone() {
        assert_eq!(own_lines("a\nb\r\x1b\u{202E}"), "a\nb\u{FFFD}\u{FFFD}\u{FFFD}");
        assert_eq!(one_line("a\nb"), "a\u{FFFD}b");
    }
}
