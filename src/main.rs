//! orderstream: see `lib.rs`.
fn main() {}
