//! Tables and durations for a terminal.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table};

use crate::terminal::one_line;

/// Lines of a table without borders, two blanks between columns. Cells may hold text from outside.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heading);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| one_line(&cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt().lines().map(str::to_owned).collect()
}

/// A value that may be absent, as a cell.
pub(super) fn cell(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// `0.4s`, `12s`, `3m 5s`, `2h 4m`, `9d 1h`: two units are enough for a person.
pub(super) fn span(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", age.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["1".to_owned(), "long cell".to_owned()], ["äöü".to_owned(), cell(None)]];
        assert_eq!(table(["id", "why"], rows), ["id   why", "1    long cell", "äöü  -"]);
    }

    #[test]
    fn spans_have_two_units() {
        for (millis, shown) in [
            (400, "0.4s"),
            (12_000, "12s"),
            (185_000, "3m 5s"),
            (7_440_000, "2h 4m"),
            (781_200_000, "9d 1h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), shown);
        }
    }
}
