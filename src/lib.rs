//! Fanfare: a WebSocket broadcast engine.
