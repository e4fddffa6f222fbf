//! Entry fields ↔ event: the public format of the stream.
//!
//! Owns names and order of the fields (contract: the first four are what every reader and plain producer knows).
//! Pure. Invariant: decode(encode(x)) = x.
