//! What commands of `fanfare.v1` do: changes of topics, and publications of clients.
//!
//! Commands of one connection take effect in order: while a change of topics waits for its joins, or a publication for its
//! place or its receipt, nothing further of that connection is read. A client that publishes waits for credits as long as
//! it takes, by not being read; but no longer than its connection is there, and not so many at once that they would fill the
//! memory.

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    admitted::{may_have, may_publish},
    local::{Local, State},
    socket::Flags,
};
use crate::{
    engine::{Answer, Change, Key, Resume, TopicChange},
    node::{PublishError, Published, Wishes},
    protocol::{
        error::Code,
        publish_answer::TopicResult,
        publish_body::PublishBody,
        v1::{CommandId, commands::Subscription, encode},
    },
    publication::{Publisher, Stands},
    session::{PublishCommand, TopicsCommand, TopicsKind},
    topic::{Topic, TopicMap},
    websocket::frame,
};

/// How long a client's publication may wait for credits: as good as for ever.
const PUBLISH_WAIT: Duration = Duration::from_secs(365 * 24 * 3_600);

impl Local {
    /// Changes a client's topics. Returns whether that is done, and the next command may be read.
    pub(super) fn change_topics(&self, state: &mut State, key: Key, command: TopicsCommand) -> Change {
        let TopicsCommand { id, kind, subscription } = command;
        let resume = resume(&subscription);
        let named = state.shared_topics.share(subscription.topics);
        if kind == TopicsKind::Remove {
            for topic in &*named {
                state.shard.leave(key, topic);
            }
            let left: Arc<[Topic]> = state.shard.topics_of(key).into();
            self.keep(state, key, left);
            say(state, key, |text| encode::ok(text, id.as_ref()));
            return Change::Done;
        }
        let wanted = match kind {
            TopicsKind::Add => with(state.shard.topics_of(key), &named),
            TopicsKind::Replace | TopicsKind::Remove => named.clone(),
        };
        let settings = self.node().settings();
        if let Err((code, message)) = may_have(state, &settings, key, &named) {
            say(state, key, |text| encode::error(text, code, message, id.as_ref()));
            return Change::Done;
        }
        let most = settings.max_topics_per_client;
        if wanted.len() > most {
            let message = format!("a client has at most {most} topics; nothing was changed");
            say(state, key, |text| encode::error(text, Code::BadRequest, &message, id.as_ref()));
            return Change::Done;
        }
        let answer = Some(Answer { id, topics: named });
        let change = state.shard.change_topics(key, TopicChange { wanted: wanted.clone(), resume, answer });
        match change {
            Change::Done => self.keep(state, key, wanted),
            Change::Pending => {
                state.changing.insert(key, wanted);
            }
        }
        change
    }

    /// Publishes for a client, in a task of its own, which answers and has the client read again. The caller pauses it.
    pub(super) fn publish_for(&self, state: &mut State, key: Key, command: PublishCommand) {
        let (local, place) = (self.clone(), self.may_wait());
        let may = may_publish(state, &self.node().settings(), key, &command.body.topics);
        let publisher =
            command.body.idempotency_key.as_ref().map(|_| publisher(state, key)).unwrap_or_default();
        let task = tokio::task::spawn_local(async move {
            let PublishCommand { id, body } = command;
            let answer = match may {
                Ok(()) => local.publish_and_tell(body, publisher, id.as_ref(), place).await,
                Err((code, message)) => {
                    let mut answer = Vec::with_capacity(128);
                    encode::error(&mut answer, code, message, id.as_ref());
                    answer
                }
            };
            let state = &mut *local.state();
            state.publishing.remove(&key);
            state.shard.answer(key, frame::text(&answer));
            if let Some(socket) = state.sockets.get_mut(key) {
                socket.clear(Flags::PAUSED);
            }
            state.list_ready(key);
            local.wake();
        });
        state.publishing.insert(key, task.abort_handle());
    }
}

impl Local {
    /// Publishes, and gives the answer. With a `place` among those who may it waits for credits.
    async fn publish_and_tell(
        &self,
        body: PublishBody,
        publisher: Publisher,
        id: Option<&CommandId>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Vec<u8> {
        let mut answer = Vec::with_capacity(128);
        if let Err(error) = self.publish_body(body, publisher, id, place, &mut answer).await {
            let (code, message) = told(error);
            encode::error(&mut answer, code, message, id);
        }
        answer
    }

    async fn publish_body(
        &self,
        body: PublishBody,
        publisher: Publisher,
        id: Option<&CommandId>,
        place: Option<OwnedSemaphorePermit>,
        answer: &mut Vec<u8>,
    ) -> Result<(), PublishError> {
        let PublishBody { topics, is_list, content, idempotency_key, receipt } = body;
        let now = Instant::now();
        let until = if place.is_some() { now + PUBLISH_WAIT } else { now };
        if let ([topic], false, None, false) = (&topics[..], is_list, &idempotency_key, receipt) {
            let submitted = self.submit(topic.clone(), content, until).await?;
            // From here on it waits for no credits.
            drop(place);
            let stands = Stands { position: submitted.position().await?, receipt: None };
            encode::ok_position(answer, id, topic, &stands);
            return Ok(());
        }
        let wishes = Wishes { idempotency_key, publisher, receipt };
        let ordered = self.order(topics.into_iter().collect(), content, wishes, until).await?;
        drop(place);
        let placed = ordered.placed().await?;
        let published = placed.published(Instant::now() + self.node().settings().receipt_wait).await;
        let results: Vec<TopicResult<'_>> = published.iter().map(Published::result).collect();
        match &results[..] {
            [TopicResult { topic, outcome: Ok(stands) }] if !is_list => {
                encode::ok_position(answer, id, topic, stands);
            }
            results => encode::ok_results(answer, id, results),
        }
        Ok(())
    }

    /// Keeps the topics a client has now in its registration.
    fn keep(&self, state: &mut State, key: Key, topics: Arc<[Topic]>) {
        let Some(socket) = state.sockets.get_mut(key) else { return };
        self.keep_topics(socket.session.client(), key, topics);
    }
}

/// Whose idempotency keys a client uses: those of its user, by registration or by token, and so the same on each of its
/// connections.
fn publisher(state: &State, key: Key) -> Publisher {
    state.shard.user(key).cloned().map_or(Publisher::Anonymous, Publisher::User)
}

/// Why a client's publication was not taken: for programs, and for people.
fn told(error: PublishError) -> (Code, &'static str) {
    match error {
        PublishError::MessageTooLarge => (Code::MessageTooLarge, "the message is longer than max_message"),
        PublishError::Overloaded => (Code::Overloaded, "the node has too much in work"),
        PublishError::TopicsFull => (Code::Full, "the node keeps as many topics as it may"),
        PublishError::Conflict => (Code::Conflict, "another publication has this key"),
        PublishError::TopicCount { .. } => (Code::BadRequest, "it goes to no such number of topics"),
        PublishError::Stopping => (Code::Stopping, "the node is stopping"),
    }
}

/// What is wanted of the past of each topic.
fn resume(subscription: &Subscription) -> TopicMap<Resume> {
    let last = subscription.last.map(Resume::Last);
    let mut resume: TopicMap<Resume> =
        subscription.topics.iter().filter_map(|topic| Some((topic.clone(), last?))).collect();
    for (topic, since) in &subscription.since {
        resume.insert(topic.clone(), Resume::Since { epoch: since.epoch, offset: since.offset });
    }
    resume
}

/// Answers behind everything that is queued.
pub(super) fn say(state: &mut State, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::with_capacity(64);
    write(&mut text);
    state.shard.answer(key, frame::text(&text));
}

/// The topics there are and those named, each once.
fn with(mut topics: Vec<Topic>, named: &[Topic]) -> Arc<[Topic]> {
    for topic in named {
        if !topics.contains(topic) {
            topics.push(topic.clone());
        }
    }
    topics.into()
}

#[cfg(test)]
mod tests;
