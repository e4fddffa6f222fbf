//! Differences of times, in SQL that SQLite and DuckDB both understand.
//!
//! Owns `{micros time AS x}` in a migration: the microseconds of a time that is written as this
//! file writes it.

/// Writes out every `{micros ...}`.
pub(super) fn write_out(sql: &str) -> String {
    let mut written = String::with_capacity(sql.len() * 2);
    let mut parts = sql.split("{micros ");
    written.extend(parts.next());
    for part in parts {
        let (call, rest) = part.split_once('}').unwrap_or((part, ""));
        let (time, column) = call.split_once(" AS ").unwrap_or((call, call));
        written.push_str(&micros(time, column));
        written.push_str(rest);
    }
    written
}

/// By the digits alone: no function on times is the same in SQLite and DuckDB.
fn micros(time: &str, column: &str) -> String {
    let digits = |from: u32, count: u32| format!("CAST(substr(CAST({time} AS TEXT), {from}, {count}) AS BIGINT)");
    let (year, month) = (digits(1, 4), digits(6, 2));
    // Leap days are counted up to the last February that is over.
    let leap_year = format!("({year} - CASE WHEN {month} > 2 THEN 0 ELSE 1 END)");
    let every = |n: u32| format!("CAST(({leap_year} - {leap_year} % {n}) / {n} AS BIGINT)");
    let months = format!("CAST(substr('000031059090120151181212243273304334', 3 * {month} - 2, 3) AS BIGINT)");
    let days = format!(
        "365 * {year} + {} - {} + {} + {months} + {}",
        every(4),
        every(100),
        every(400),
        digits(9, 2)
    );
    let seconds = format!(
        "(({days}) * 24 + {}) * 3600 + {} * 60 + {}",
        digits(12, 2),
        digits(15, 2),
        digits(18, 2)
    );
    let rest = format!("CAST(substr(substr(CAST({time} AS TEXT), 21) || '000000', 1, 6) AS BIGINT)");
    format!("({seconds}) * 1000000 + {rest} AS {column}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;
    use time::OffsetDateTime;

    use super::*;

    proptest! {
        #[test]
        fn times_differ_by_what_lies_between(a in 0..253_402_300_799_999_999_i64, b in 0..253_402_300_799_999_999_i64) {
            let text = |micros: i64| {
                let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap();
                let (hour, minute, second, micro) = at.to_hms_micro();
                format!("{}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z", at.date())
            };
            let sql = write_out("SELECT a - b FROM (SELECT {micros ?1 AS a}, {micros ?2 AS b})");
            let file = Connection::open_in_memory().unwrap();
            let found: i64 = file.query_row(&sql, (text(a), text(b)), |row| row.get(0)).unwrap();
            prop_assert_eq!(found, a - b);
        }
    }
}
