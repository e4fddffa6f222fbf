//! How values are written: durations, sizes, addresses. Pure; bounds are in the table of settings.

use std::net::SocketAddr;
use std::time::Duration;

use super::model::Durability;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

/// `500ms`, `2s`, `5m`, `6h`, `1d`: a whole number and one unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let (_, factor) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(whole(number)?.checked_mul(factor)?))
}

/// `64KiB`, `5MiB`, `1GiB`, or plain bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        _ => SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?.1,
    };
    whole(number)?.checked_mul(factor)
}

/// A whole number without sign, spaces or separators.
pub(super) fn whole(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// `50` or `50%`.
pub(super) fn percent(text: &str) -> Option<u64> {
    whole(text.strip_suffix('%').unwrap_or(text)).filter(|share| *share <= 100)
}

/// Any count, shares of 100 included.
pub(super) fn percent_or_whole(text: &str) -> Option<u64> {
    whole(text).or_else(|| percent(text))
}

/// An IP address and a port; `localhost` is 127.0.0.1.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// A name as it stands in a URL, without a port: letters, digits, `-` and, as containers are named,
/// `_`.
pub(super) fn host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// `received`, `fsynced`, or `replicated:N` with 1 to 100 replicas.
pub(super) fn durability(text: &str) -> Option<Durability> {
    match text {
        "received" => Some(Durability::Received),
        "fsynced" => Some(Durability::Fsynced),
        _ => {
            let replicas = whole(text.strip_prefix("replicated:")?)?;
            let replicas = u32::try_from(replicas).ok().filter(|count| (1..=100).contains(count));
            replicas.map(Durability::Replicated)
        }
    }
}

/// Items of a list, at commas and line ends, without surrounding space; empty ones are none.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty())
}

/// An unquoted PostgreSQL name that no system or other program's schema has.
pub(super) fn schema(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && text.len() <= 63
        && !text.starts_with("pg_")
        && !["public", "information_schema"].contains(&text)
}

/// Writes a duration as [`duration`] reads it, in the largest unit that fits.
pub(super) fn show_duration(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = DURATION_UNITS
        .into_iter()
        .rev()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(*factor))
        .unwrap_or(("s", 1000));
    format!("{}{unit}", millis / factor)
}

/// Writes a size as [`size`] reads it, in the largest unit that fits.
pub(super) fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS[..3]
        .iter()
        .rev()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(
        || bytes.to_string(),
        |(name, factor)| format!("{}{name}", bytes / factor),
    )
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2000),
            ("5m", 300_000),
            ("6h", 21_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(
                duration(&show_duration(Duration::from_millis(millis))),
                duration(text),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1h30m",
            "5 s",
            "5S",
            "5sec",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_or_plain_bytes() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("5MiB", 5_242_880),
            ("1GiB", 1 << 30),
            ("512", 512),
            ("512B", 512),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size(&show_size(bytes)), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "5MB", "5mib", "-5", "1.5GiB", "5 MiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durability_names_its_replicas() {
        assert_eq!(durability("received"), Some(Durability::Received));
        assert_eq!(durability("fsynced"), Some(Durability::Fsynced));
        assert_eq!(durability("replicated:2"), Some(Durability::Replicated(2)));
        for text in [
            "",
            "replicated",
            "replicated:",
            "replicated:0",
            "replicated:-1",
            "replicated:101",
            "Fsynced",
        ] {
            assert_eq!(durability(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_numbers_or_localhost() {
        for (text, shown) in [
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:1", "127.0.0.1:1"),
        ] {
            assert_eq!(address(text).map(|addr| addr.to_string()).as_deref(), Some(shown));
        }
        for text in [
            "8080",
            ":8080",
            "127.0.0.1",
            "example.com:80",
            "localhost:99999",
            "http://127.0.0.1:80",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_have_neither_scheme_nor_port() {
        for text in [
            "orders",
            "orderstream-admin.shop.svc.cluster.local",
            "my_container",
            "10.0.0.7",
        ] {
            assert!(host(text), "{text}");
        }
        for text in [
            "",
            ".",
            "orders.",
            "a..b",
            "*.internal",
            "orders:9090",
            "http://orders",
            "a b",
            "ä.example",
        ] {
            assert!(!host(text), "{text}");
        }
        let labels = |count, length| vec!["a".repeat(length); count].join(".");
        assert!(host(&labels(4, 62)) && !host(&labels(4, 63)) && !host(&labels(1, 64)));
    }

    #[test]
    fn schemas_are_our_own_and_need_no_quotes() {
        assert!(schema("orderstream") && schema("_o2"));
        for text in [
            "",
            "public",
            "pg_x",
            "information_schema",
            "Orders",
            "2x",
            "a-b",
            "a;drop",
            "é",
        ] {
            assert!(!schema(text), "{text}");
        }
        assert!(!schema(&"a".repeat(64)));
    }

    #[test]
    fn percents_end_at_a_hundred() {
        assert_eq!(
            (percent("50"), percent("90%"), percent("101"), percent("-1")),
            (Some(50), Some(90), None, None)
        );
    }
}
