//! Webhook bodies for every test: the files of `tests/fixtures/shopify/`, in Shopify's wire style (compact, `\/`,
//! `\u0026`) or pretty printed, and what is too large to keep.

/// The body of that name.
pub fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/shopify/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A whole order with that many lines; line `n` is `SKU-n`, of `n % 9 + 1` units at `n % 100` and 5 cents.
pub fn big_order(lines: u64) -> Vec<u8> {
    let lines: Vec<_> = (0..lines)
        .map(|n| {
            format!(
                r#"{{"id":{},"sku":"SKU-{n}","title":"Article {n} \/ large","quantity":{},"price":"{}.05","properties":[]}}"#,
                9_007_199_254_740_993 + n,
                n % 9 + 1,
                n % 100
            )
        })
        .collect();
    format!(
        r#"{{"id":9100000000000000999,"currency":"USD","total_price":"12345.60","customer":null,"updated_at":"2026-02-01T00:00:00Z","line_items":[{}]}}"#,
        lines.join(",")
    )
    .into_bytes()
}
