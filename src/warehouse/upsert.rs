//! What an insert does where its row is there already: one text for every store, in which `t` is
//! the table.

/// A row gives way to a version that is not older.
const NOT_OLDER: &str = "(excluded.version_at, excluded.version_triggered_at, excluded.last_event_id) \
                         >= (t.version_at, t.version_triggered_at, COALESCE(t.last_event_id, ''))";

/// Leaves version and whole-order columns alone: a deletion says nothing about what the order was.
pub(super) const DELETED_ORDER: &str = " ON CONFLICT (shop, order_id) DO UPDATE SET deleted_at = excluded.deleted_at \
                                        WHERE t.deleted_at IS NULL OR excluded.deleted_at < t.deleted_at";

/// An order of which nothing else is known yet gets a row with only its key.
pub(super) const EDITED_ORDER: &str = " ON CONFLICT (shop, order_id) DO UPDATE SET has_sale_rows = true";

/// The row takes all columns; the first `keys` are its key.
pub(super) fn replace(columns: &[&str], keys: usize) -> String {
    on_conflict(columns, keys, keys)
}

/// The row takes all columns but the first `kept`, unless it is newer; the first two are its key.
pub(super) fn replace_older(columns: &[&str], kept: usize) -> String {
    on_conflict(columns, 2, kept) + " WHERE " + NOT_OLDER
}

/// As [`replace_older`], of `orders`: an order whose sales differ from those of its older state may
/// have sales of several days.
pub(super) fn replace_older_order(columns: &[&str]) -> String {
    let sales = columns.iter().filter(|name| name.starts_with("sale_"));
    let [old, new] = ["t", "excluded"].map(|row| {
        let names = sales.clone().map(|name| format!("{row}.{name}"));
        Vec::from_iter(names).join(", ")
    });
    let has_rows = format!(", has_sale_rows = t.has_sale_rows OR ({old}) IS DISTINCT FROM ({new})");
    on_conflict(columns, 2, 2) + &has_rows + " WHERE " + NOT_OLDER
}

/// As [`replace_older`], but a final row gives way to final ones alone, and any other to all of
/// these.
pub(super) fn replace_unless_final(columns: &[&str], kept: usize) -> String {
    let newer = format!("excluded.is_final > t.is_final OR (excluded.is_final = t.is_final AND {NOT_OLDER})");
    on_conflict(columns, 2, kept) + " WHERE " + &newer
}

fn on_conflict(columns: &[&str], keys: usize, kept: usize) -> String {
    let assignments = columns
        .iter()
        .skip(kept)
        .map(|name| format!("{name} = excluded.{name}"));
    let key = columns.get(..keys).unwrap_or_default().join(", ");
    let assignments = Vec::from_iter(assignments).join(", ");
    format!(" ON CONFLICT ({key}) DO UPDATE SET {assignments}")
}
