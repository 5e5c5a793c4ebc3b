//! A batch as a stream of lines: published as they arrive, answered as their results are there.

use std::pin::pin;

use bytes::Bytes;
use hyper::body::Body;
use tokio::time::timeout;

use super::queue::Queue;
use crate::http::{
    answer::Refusal,
    lines::{Line, Lines},
    results::Writer,
};

/// Publishes the lines of `body`, and writes a result for each, until the body ends, breaks off or takes too long, the node
/// stops, or nobody reads the results. Whatever ends it but the end of the body is told in a last line.
pub(super) async fn publish<B>(mut queue: Queue, mut body: Lines<B>, results: Writer)
where
    B: Body<Data = Bytes> + Unpin,
{
    let node = queue.local().node().clone();
    let stall = node.settings().batch_stall;
    let mut stopping = pin!(node.stopping());
    let mut end = None;
    while end.is_none() || !queue.is_empty() {
        tokio::select! {
            biased;
            () = results.unread() => return,
            result = queue.next(), if !queue.is_empty() => {
                if timeout(stall, results.room()).await.is_err() {
                    results.write(&Refusal::results_unread().json());
                    return;
                }
                results.write(&result);
            }
            () = &mut stopping, if end.is_none() => end = Some(Some(Refusal::stopping())),
            line = body.next(), if end.is_none() && queue.has_room() => match line {
                Line::Whole(line) => queue.publish(line).await,
                Line::TooLong => queue.refuse(&Refusal::line_too_long(node.settings().max_body)),
                Line::End => end = Some(None),
                Line::Broken => end = Some(Some(Refusal::body_broken())),
                Line::Late => end = Some(Some(Refusal::line_timeout())),
                Line::Overloaded => end = Some(Some(Refusal::overloaded())),
            },
        }
    }
    if let Some(Some(refusal)) = end {
        results.write(&refusal.json());
    }
}
