//! Questions about a topic from outside its shards, and what a shard answers.
//!
//! A shard says what it has at hand and does no more: the history as one reference, counts as they stand. Whoever asks
//! filters and adds up. The node bounds how many are under way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{books::TopicLedger, encoding::Encoding, history::Run, shard::Shard};
use crate::{publication::Position, topic::Topic};

/// A question about a topic, to one shard.
#[derive(Debug)]
pub struct Query {
    /// The topic.
    pub topic: Topic,
    /// Where the answer goes.
    pub reply: oneshot::Sender<AtShard>,
    /// The question's share of the node's budget; it is in one mailbox of each shard at most.
    pub credit: Option<Arc<OwnedSemaphorePermit>>,
}

/// What one shard knows of a topic.
#[derive(Clone, Debug, Default)]
pub struct AtShard {
    /// The position of the last publication, if the shard is the topic's home and has a record of it.
    pub position: Option<Position>,
    /// What the topic's history holds, if the shard is its home and it holds something.
    pub run: Option<Run>,
    /// Subscribers here.
    pub subscribers: usize,
    /// What became of the topic's frames here, as far back as the shard remembers it.
    pub ledger: TopicLedger,
}

impl Shard {
    /// Answers a question.
    pub(super) fn answer_query(&mut self, query: Query) {
        let Query { topic, reply, credit } = query;
        let (position, run) = self.home.history(&topic, self.now).unzip();
        let numbers = Encoding::ALL.iter().filter_map(|&encoding| self.topics.number(&topic, encoding));
        let subscribers = numbers.map(|number| self.topics.entry(number).members.len()).sum();
        let ledger = self.topic_ledger(&topic).unwrap_or_default();
        // Whoever asked may be gone.
        let _gone = reply.send(AtShard { position, run: run.flatten(), subscribers, ledger });
        drop(credit);
    }
}
