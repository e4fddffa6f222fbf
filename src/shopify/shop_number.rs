//! The number of the shop that an order is of, as its body says it.

use crate::event::json;

const MEMBER: &[u8] = b"\"order_status_url\":";
/// Shops of the sample orders that Shopify sends as test notifications, under any shop's name.
const SAMPLES: [&str; 2] = ["548380009", "690933842"];

/// The number in `order_status_url` (`https://HOST/NUMBER/orders/...`); `None` where there is none, or
/// it is a sample's.
///
/// The body is searched, not parsed: within a text the quotes of these bytes would be escaped, so
/// that only a member of that name has them.
#[must_use]
pub fn shop_number(body: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(body, MEMBER)?;
    let value = body.get(at + MEMBER.len()..)?.trim_ascii_start();
    let end = memchr::memchr(b'"', value.get(1..)?)? + 2;
    let url = json::string(std::str::from_utf8(value.get(..end)?).ok()?)?;
    let (_, path) = url.strip_prefix("https://")?.split_once('/')?;
    let (number, rest) = path.split_once('/')?;
    let is_number = !number.is_empty() && number.len() <= 20 && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && rest.starts_with("orders/") && !SAMPLES.contains(&number)).then(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_orders_own_address() {
        for (body, number) in [
            (
                r#"{"id":1,"order_status_url":"https:\/\/a.example\/62873829630\/orders\/ce0e\/authenticate?key=1"}"#,
                Some("62873829630"),
            ),
            (r#"{"order_status_url" : "https://a.example/7/orders/x"}"#, None),
            (r#"{"order_status_url": "https://a.example/7/orders/x"}"#, Some("7")),
            (r#"{"note":"\"order_status_url\":\"https://a/7/orders/x\""}"#, None),
            (
                r#"{"order_status_url":"https://jsmith.myshopify.com/548380009/orders/x"}"#,
                None,
            ),
            (
                r#"{"order_status_url":"https://checkout.shopify.com/112233/checkouts/x"}"#,
                None,
            ),
            (r#"{"order_status_url":"https://www.example.com/"}"#, None),
            (r#"{"order_status_url":null,"x":"https://a/7/orders/x"}"#, None),
            (r#"{"order_status_url":"#, None),
            ("{}", None),
        ] {
            assert_eq!(shop_number(body.as_bytes()).as_deref(), number, "{body}");
        }
    }
}
