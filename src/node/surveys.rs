//! What operators ask shards, and how the answers travel: a shard's own task answers, in steps between which the shard
//! works.
//!
//! One question is about one shard. The node bounds how many surveys are under way; the queue to each shard holds all of
//! those.

use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{KickReason, Node, QueryError};
use crate::{
    clients::Claim,
    engine::{ClientFigures, ClientRank, Key, TopicFigures, TopicRank},
    identity::ClientId,
    limits::SURVEYS_OPEN,
    topic::Topic,
};

/// A question to one shard.
#[derive(Debug)]
pub(crate) enum Survey {
    /// Its first topics by a rank.
    Topics { by: TopicRank, most: usize, reply: oneshot::Sender<Vec<Topic>> },
    /// What it knows of these topics, in their order.
    TopicFigures { topics: Arc<[Topic]>, reply: oneshot::Sender<Vec<TopicFigures>> },
    /// The first of its clients that have something queued, by a rank.
    Clients { by: ClientRank, most: usize, reply: oneshot::Sender<Vec<SlowClient>> },
    /// The id of a client; none if it is not connected.
    ClientId { key: Key, reply: oneshot::Sender<Option<ClientId>> },
}

/// A client with something queued.
#[derive(Clone, Debug)]
pub(crate) struct SlowClient {
    /// How it compares.
    pub(crate) rank: u64,
    pub(crate) name: ConnectionName,
    pub(crate) figures: ClientFigures,
    /// Where its packets come from.
    pub(crate) peer: Option<std::net::SocketAddr>,
}

/// Names a connection while it is there, and says nothing that its client would have to keep to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionName(pub(crate) Claim);

impl std::fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Claim { shard, key } = self.0;
        write!(f, "{shard}-{}-{}", key.index, key.generation)
    }
}

impl ConnectionName {
    /// Reads a name as it is written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('-').map(|number| {
            let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
            is_number.then(|| number.parse::<u32>().ok()).flatten()
        });
        let [shard, index, generation] = [numbers.next()??, numbers.next()??, numbers.next()??];
        let claim = Claim { shard: u16::try_from(shard).ok()?, key: Key { index, generation } };
        numbers.next().is_none().then_some(Self(claim))
    }
}

/// The way to the shards.
#[derive(Debug)]
pub(super) struct Surveys {
    /// One permit a survey.
    open: Arc<Semaphore>,
    /// The queue to each shard, once it takes questions.
    shards: Box<[OnceLock<mpsc::Sender<Survey>>]>,
}

impl Surveys {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            open: Arc::new(Semaphore::new(SURVEYS_OPEN)),
            shards: (0..shards).map(|_| OnceLock::new()).collect(),
        }
    }
}

/// The right to ask all shards, one question after another.
#[derive(Debug)]
pub(crate) struct SurveyCredit {
    _permit: OwnedSemaphorePermit,
}

impl Node {
    /// Where a shard finds what it is asked; to be called by it, once.
    pub(crate) fn take_surveys(&self, shard: usize) -> mpsc::Receiver<Survey> {
        let (queue, questions) = mpsc::channel(SURVEYS_OPEN);
        // A second one would find nobody who asks.
        let _is_first = self.surveys.shards[shard].set(queue);
        questions
    }

    /// The right to ask shards; none if as many surveys as may be are under way.
    pub(crate) fn survey_credit(&self) -> Result<SurveyCredit, QueryError> {
        let permit = self.surveys.open.clone().try_acquire_owned();
        permit.map(|permit| SurveyCredit { _permit: permit }).map_err(|_| QueryError::Overloaded)
    }

    /// Asks one shard, and gives a way to its answer. When nobody waits for that any more the shard stops looking.
    pub(crate) fn ask_shard<T>(
        &self,
        _credit: &SurveyCredit,
        shard: usize,
        question: impl FnOnce(oneshot::Sender<T>) -> Survey,
    ) -> Result<oneshot::Receiver<T>, QueryError> {
        let queue = self.surveys.shards.get(shard).and_then(OnceLock::get).ok_or(QueryError::Stopping)?;
        let (reply, answer) = oneshot::channel();
        match queue.try_send(question(reply)) {
            Ok(()) => Ok(answer),
            // One that nobody waits for any more is still there.
            Err(mpsc::error::TrySendError::Full(_)) => Err(QueryError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(QueryError::Stopping),
        }
    }

    /// Asks every shard, one like the other, and waits for their answers, which are in the order of the shards.
    pub(crate) async fn ask_shards<T>(
        &self,
        credit: &SurveyCredit,
        question: impl Fn(oneshot::Sender<T>) -> Survey,
    ) -> Result<Vec<T>, QueryError> {
        let ask = |shard| self.ask_shard(credit, shard, &question);
        let asked = (0..self.mailboxes().shards()).map(ask).collect::<Result<Vec<_>, _>>()?;
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.map_err(|_| QueryError::Stopping)?);
        }
        Ok(answers)
    }

    /// Closes a connection as one whose registration is removed, and removes that if it has one. Says whether it was there.
    ///
    /// # Errors
    /// When its shard cannot be asked.
    pub(crate) async fn dismiss_connection(&self, name: ConnectionName) -> Result<bool, QueryError> {
        let Claim { shard, key } = name.0;
        if usize::from(shard) >= self.mailboxes().shards() {
            return Ok(false);
        }
        let credit = self.survey_credit()?;
        let answer = self.ask_shard(&credit, shard.into(), |reply| Survey::ClientId { key, reply })?;
        let Some(id) = answer.await.map_err(|_| QueryError::Stopping)? else { return Ok(false) };
        let credit = self.kick_credit().await;
        // Without a registration, or with one that another connection has taken over by now, this is the one to be closed.
        let claim = self.clients.unregister(id).flatten().unwrap_or(name.0);
        self.kick(credit, claim, KickReason::Unregistered);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn connection_is_named_by_three_numbers_and_by_nothing_else() {
        let name = ConnectionName::parse("3-17-4294967295").expect("it is a name");
        assert_eq!(name.0, Claim { shard: 3, key: Key { index: 17, generation: u32::MAX } });
        assert_eq!(name.to_string(), "3-17-4294967295");
        for bad in [
            "",
            "-",
            "--",
            "1-2",
            "1-2-",
            "1-2-3-4",
            "1-2-+3",
            "65536-1-1",
            "1-2-4294967296",
            "a-1-2",
            " 1-2-3",
        ] {
            assert_eq!(ConnectionName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn surveys_under_way_are_bounded_and_a_shard_that_does_not_answer_yet_is_not_waited_for() {
        let node = Node::new(Settings { shards: 1, ..Settings::default() });
        let credits: Vec<_> =
            (0..SURVEYS_OPEN).map(|_| node.survey_credit().expect("there is room")).collect();
        assert_eq!(node.survey_credit().err(), Some(QueryError::Overloaded));
        let key = Key { index: 0, generation: 0 };
        let ask = || node.ask_shard(&credits[0], 0, |reply| Survey::ClientId { key, reply });
        assert_eq!(ask().err(), Some(QueryError::Stopping));
        let questions = node.take_surveys(0);
        (0..SURVEYS_OPEN).for_each(|_| assert!(ask().is_ok()));
        assert_eq!(ask().err(), Some(QueryError::Overloaded));
        drop(questions);
        assert_eq!(ask().err(), Some(QueryError::Stopping));
        drop(credits);
        assert!(node.survey_credit().is_ok());
    }
}
