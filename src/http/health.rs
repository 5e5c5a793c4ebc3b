//! `GET /health`: 200 as long as this shard answers at all, while the node is stopping too.

use super::answer::{Answer, json};

/// Answers it.
pub(super) fn health(stopping: bool) -> Answer {
    json(if stopping { r#"{"status":"stopping"}"# } else { r#"{"status":"ok"}"# })
}
