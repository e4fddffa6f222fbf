//! Exact arithmetic on decimal text, in SQL that SQLite and DuckDB both understand.
//!
//! Owns what `{...}` means in a migration. SQLite counts only in 64-bit integers and floats, so an amount is taken apart
//! into three integers, its *limbs*: the whole part, and twice nine decimals. What is linear (sum, difference, product
//! with a quantity) is done limb by limb, then carried over and written as text again. Pure; part of the migrations
//! that are released, so that its output for them never changes.
//!
//! Exact up to 18 decimals (more are cut off; the tables keep them), for totals below 9 * 10^18 and 9 * 10^9 units a
//! group; beyond that SQLite's `sum` fails with `integer overflow`. [`LIMIT`] keeps single amounts far from it.

/// Amounts, and price times quantity of a line, must stay below this.
pub(super) const LIMIT: i64 = 1_000_000_000_000_000_000;

/// One more than the greatest value of a limb of decimals.
const BASE: &str = "1000000000";

/// SQLite does not merge a subquery with a limit into a query with a `WHERE`. `AS MATERIALIZED` says it outright, but an
/// SQLite before 3.35 would not open the file.
const ONCE: &str = "LIMIT 9223372036854775807";

/// Writes out every `{macro ...}`:
///
/// - `{limbs amount AS x}` takes text apart into `x_1`, `x_2`, `x_3` (`{limbs x}` where the names are the same);
/// - `{each a formula with #x AS y}` applies the formula to each limb of `x`;
/// - `{carry x}` brings sums of limbs into range: `x_whole`, rounded down, and `x_part`, in units of 10^-18;
/// - `{text x}` writes what was carried, with two decimals or as many as it needs;
/// - `{micros time AS x}` counts the microseconds of a time;
/// - `{once}` ends a subquery whose formulas are to be worked out once a row, and not again in each place that names
///   them. Whoever selects from it must have a `WHERE`.
pub(super) fn write_out(sql: &str) -> String {
    let mut written = String::with_capacity(sql.len() * 4);
    let mut parts = sql.split('{');
    written.extend(parts.next());
    for part in parts {
        let (call, rest) = part.split_once('}').unwrap_or((part, ""));
        let (name, argument) = call.split_once(' ').unwrap_or((call, ""));
        let (formula, column) = argument.rsplit_once(" AS ").unwrap_or((argument, argument));
        written.push_str(&match name {
            "limbs" => limbs(formula, column),
            "each" => each(formula, column),
            "carry" => carry(column),
            "text" => text(column),
            "micros" => micros(formula, column),
            "once" => ONCE.to_owned(),
            // As it stood: only a comment may hold one.
            _ => format!("{{{call}}}"),
        });
        written.push_str(rest);
    }
    written
}

fn limbs(amount: &str, column: &str) -> String {
    let dot = format!("instr({amount} || '.', '.')");
    let sign = format!("CASE WHEN substr({amount}, 1, 1) = '-' THEN '-' ELSE '' END");
    let decimals = |from: u32| {
        format!("CAST({sign} || substr(substr({amount}, {dot} + 1) || '000000000000000000', {from}, 9) AS BIGINT)")
    };
    format!(
        "CAST(substr({amount}, 1, {dot} - 1) AS BIGINT) AS {column}_1, {} AS {column}_2, {} AS {column}_3",
        decimals(1),
        decimals(10)
    )
}

fn each(formula: &str, column: &str) -> String {
    let limb = |n: u32| {
        let mut pieces = formula.split('#');
        let mut sql = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
            sql.push_str(&format!("{name}_{n}{rest}"));
        }
        format!("{sql} AS {column}_{n}")
    };
    [1, 2, 3].map(limb).join(", ")
}

fn carry(column: &str) -> String {
    let modulo = |x: &str| format!("(({x}) % {BASE} + {BASE}) % {BASE}");
    // A multiple of BASE: the quotient is exact, also as the float that DuckDB makes of it.
    let quotient = |x: &str| format!("CAST((({x}) - {}) / {BASE} AS BIGINT)", modulo(x));
    let low = format!("{column}_3");
    let high = format!("{column}_2 + {}", quotient(&low));
    format!(
        "{column}_1 + {} AS {column}_whole, {} * {BASE} + {} AS {column}_part",
        quotient(&high),
        modulo(&high),
        modulo(&low)
    )
}

fn text(column: &str) -> String {
    let (whole, part) = (format!("{column}_whole"), format!("{column}_part"));
    let write = |sign: &str, whole: &str, part: &str| {
        // The first digit is LIMIT's own; it keeps the zeros behind it.
        let digits = format!("CAST({LIMIT} + {part} AS TEXT)");
        format!("{sign}CAST({whole} AS TEXT) || '.' || substr({digits}, 2, 2) || rtrim(substr({digits}, 4), '0')")
    };
    format!(
        "CASE WHEN {whole} < 0 AND {part} > 0 THEN {} ELSE {} END AS {column}",
        write("'-' || ", &format!("(-{whole} - 1)"), &format!("({LIMIT} - {part})")),
        write("", &whole, &part),
    )
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

    /// The sum of amount times quantity, as a view works it out.
    fn total(lines: &[(String, i64)]) -> String {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch("CREATE TABLE line (amount TEXT, qty INTEGER)")
            .unwrap();
        for line in lines {
            file.execute("INSERT INTO line VALUES (?1, ?2)", (&line.0, line.1))
                .unwrap();
        }
        let sql = write_out(
            "WITH l AS (SELECT qty, {limbs amount} FROM line), \
             f AS (SELECT {each sum(#amount * qty) AS total} FROM l {once}), \
             c AS (SELECT {carry total} FROM f WHERE total_1 IS NOT NULL) SELECT {text total} FROM c",
        );
        file.query_row(&sql, (), |row| row.get(0)).unwrap()
    }

    /// In units of 10^-18.
    fn units(text: &str) -> i128 {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{part:0<18}").parse().unwrap()
    }

    #[test]
    fn totals_are_written_as_money() {
        for (amounts, expected) in [
            (&["5900"][..], "5900.00"),
            (&["0.10"], "0.10"),
            (&["0.1", "0.2"], "0.30"),
            (&["-0.50"], "-0.50"),
            (&["-0.50", "0.25"], "-0.25"),
            (&["1", "-0.000000000000000001"], "0.999999999999999999"),
            (&["-1", "0.000000000000000001"], "-0.999999999999999999"),
            (&["-1", "1"], "0.00"),
            (&["0.30000000000000004"], "0.30000000000000004"),
            (
                &["999999999999999999.99", "999999999999999999.99"],
                "1999999999999999999.98",
            ),
        ] {
            let lines: Vec<(String, i64)> = amounts.iter().map(|amount| ((*amount).to_owned(), 1)).collect();
            assert_eq!(total(&lines), expected, "{amounts:?}");
        }
    }

    proptest! {
        #[test]
        fn totals_are_exact(lines in prop::collection::vec((-1_000_000_000_000..1_000_000_000_000_i64, 0..19_u32, 0..1000_i64), 1..50)) {
            let lines: Vec<(String, i64)> = lines
                .into_iter()
                .map(|(digits, scale, qty)| (rust_decimal::Decimal::new(digits, scale).to_string(), qty))
                .collect();
            let expected: i128 = lines.iter().map(|(amount, qty)| units(amount) * i128::from(*qty)).sum();
            prop_assert_eq!(units(&total(&lines)), expected);
        }

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
