//! The `fanfare` server.
fn main() {}
