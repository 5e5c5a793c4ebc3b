//! What the node says of a topic when it is asked: its history, and how it stands.

use std::sync::Arc;

use super::{Node, QueryError};
use crate::{
    engine::{Kept, TopicLedger},
    publication::Position,
    topic::Topic,
};

/// A part of a topic's history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The position of the topic's last publication; `None` if the node has no record of the topic.
    pub position: Option<Position>,
    /// Whether nothing that was published behind `since` (0 where nothing was said) has gone from the history, and `since`
    /// is not beyond the topic's last publication. What is hidden from whoever asks counts as there.
    pub reaches: bool,
    /// Whether the history holds more messages behind the last of these.
    pub more: bool,
    /// Messages, in the order of their offsets.
    pub messages: Vec<Arc<Kept>>,
}

/// Who asks for a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Anyone: messages for one user are hidden.
    Anyone,
    /// Whoever may see everything.
    Admin,
}

/// How a topic stands.
#[derive(Clone, Debug)]
pub struct TopicState {
    /// The position of its last publication; `None` if the node has no record of the topic.
    pub position: Option<Position>,
    /// The name of its class.
    pub class: Arc<str>,
    /// Messages in its history.
    pub kept: usize,
    /// Its subscribers on each shard.
    pub subscribers: Vec<usize>,
    /// What became of its frames on all shards, as far back as each remembers the topic. Shards are asked one by one, and
    /// what is in their queues is not counted yet.
    pub ledger: TopicLedger,
}

impl Node {
    /// Messages of a topic's history: the first behind offset `since`, or the last there are if it is not given; `limit`
    /// of them at most. Must be called in a tokio runtime with its time enabled.
    ///
    /// # Errors
    /// When there was no answer within `join_wait`.
    pub async fn history(
        &self,
        topic: &Topic,
        since: Option<u64>,
        limit: usize,
        viewer: Viewer,
    ) -> Result<HistoryPage, QueryError> {
        let home = topic.home(self.settings().shards);
        let at_home = self.ask(topic, [home].into_iter()).await?.pop().unwrap_or_default();
        let head = at_home.position.map_or(0, |position| position.offset);
        let run = at_home.run.as_deref().unwrap_or_default();
        let oldest = run.first().map_or(head + 1, |kept| kept.offset);
        let after = since.unwrap_or(0);
        let reaches = after <= head && after + 1 >= oldest;
        let is_shown = |kept: &&Arc<Kept>| viewer == Viewer::Admin || kept.content.audience.user.is_none();
        let behind = &run[run.partition_point(|kept| kept.offset <= after)..];
        let (messages, more) = match since {
            Some(_) => {
                let mut shown = behind.iter().filter(is_shown);
                let messages: Vec<_> = shown.by_ref().take(limit).cloned().collect();
                (messages, shown.next().is_some())
            }
            None => {
                let mut messages: Vec<_> =
                    behind.iter().rev().filter(is_shown).take(limit).cloned().collect();
                messages.reverse();
                (messages, false)
            }
        };
        Ok(HistoryPage { position: at_home.position, reaches, more, messages })
    }

    /// How a topic stands, on all shards. Must be called in a tokio runtime with its time enabled.
    ///
    /// # Errors
    /// When there was no answer within `join_wait`.
    pub async fn topic(&self, topic: &Topic) -> Result<TopicState, QueryError> {
        let answers = self.ask(topic, 0..self.settings().shards).await?;
        let classes = self.settings().classes.clone();
        let mut state = TopicState {
            position: None,
            class: classes.get(classes.of(topic)).name.clone(),
            kept: 0,
            subscribers: Vec::with_capacity(answers.len()),
            ledger: TopicLedger::default(),
        };
        for at_shard in answers {
            state.position = state.position.or(at_shard.position);
            state.kept += at_shard.run.map_or(0, |run| run.len());
            state.subscribers.push(at_shard.subscribers);
            state.ledger += at_shard.ledger;
        }
        Ok(state)
    }
}
