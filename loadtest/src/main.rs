//! A load-test harness for WebSocket broadcast servers.
fn main() {}
