//! Tables for a terminal: columns as wide as their widest cell, the last one as long as it is.

/// Rows under a heading; two blanks between columns.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: [&str; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heading)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines
}

/// What may be absent, as a cell.
pub(super) fn cell(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["1".to_owned(), "long cell".to_owned()], ["äöü".to_owned(), cell(None)]];
        assert_eq!(table(["id", "why"], &rows), ["id   why", "1    long cell", "äöü  -"]);
    }
}
