//! Everything that is Shopify's: signature, headers, topics, bodies.
//!
//! Pure: bytes and headers in, an [`OrderEvent`](crate::event::OrderEvent) or a reason out; no I/O,
//! no clock. Invariants: nothing of a body is looked at before [`SignatureClaim::verify`] (the caller's
//! duty, held by the extractor's type); headers are not signed and therefore only hints; no error
//! text repeats a value; no personal field gets into an event.

mod admin_order;
mod attributes;
mod convert;
mod event_delivery;
mod fit;
mod headers;
mod identity;
mod money;
mod named_order;
mod order;
mod partial;
mod read_paths;
mod redact;
mod refund;
mod secret_usage;
mod shop_number;
mod signature;
mod tolerant;
mod topic;
mod transaction;
mod zone;

pub use admin_order::{AdminOrder, Asked, Request, deleted_order, keep_known_fields, rest_order};
pub use attributes::{KeptNames, keep_attributes};
pub use convert::{ConvertError, convert};
pub use event_delivery::{EventDelivery, EventDeliveryError};
pub use headers::{DeliveryHints, shop, signature};
pub use identity::{EVENT_NAMESPACE, REUSED_WEBHOOK_ID, digest, event_id};
pub use named_order::named_order;
pub use read_paths::{JsonType, SeenMember, compare as compare_body};
pub use redact::{PERSONAL_FIELDS, redact, without_customer};
pub use secret_usage::Usage;
pub use shop_number::shop_number;
pub use signature::{InvalidKeyring, Keyring, SecretInUse, SignatureClaim, SignatureError};
pub use topic::{Shape, Topic, TopicError};
pub use zone::ShopZone;
