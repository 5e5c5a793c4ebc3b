//! What clients must have of messages that go to several topics, kept naively: where each message stands in each topic, what
//! each client read, and which positions it was told. It knows nothing of shards, sets of the served, or replays.

use std::collections::HashMap;

use fanfare::{
    engine::Places,
    identity::ClientId,
    publication::{Epoch, Position, Receipt},
};
use tokio::sync::watch;

/// All messages there ever were.
#[derive(Debug, Default)]
pub(crate) struct Messages(Vec<MessageModel>);

#[derive(Debug)]
struct MessageModel {
    topics: Vec<usize>,
    exclude: Option<ClientId>,
    /// For each topic where it stands there, once it is known and if it was taken there.
    stands: Vec<Option<(Epoch, u64)>>,
    receipts: Vec<Option<watch::Receiver<Receipt>>>,
    /// For each topic how often it was read, live and in all.
    live: Vec<u64>,
    read: Vec<u64>,
}

/// One topic of one client, as it was told.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) epoch: Epoch,
    /// Where the topic stood when the client was told last: what comes with no larger offset is of the past.
    pub(crate) head: u64,
    /// The offset behind which it gets everything.
    begin: u64,
}

/// What a client read since it connected, and what it said that it had before.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// For each message that it read how often it came live.
    read: HashMap<usize, u64>,
    /// Topics with the last offset that it says to have. What it says that it has by one topic is not replayed by another; if that is
    /// not true, it is not replayed by any.
    says: Vec<(usize, Epoch, u64)>,
}

impl Messages {
    /// A message is published. Returns its number.
    pub(crate) fn add(&mut self, topics: Vec<usize>, exclude: Option<ClientId>) -> usize {
        let count = topics.len();
        self.0.push(MessageModel {
            topics,
            exclude,
            stands: vec![None; count],
            receipts: vec![None; count],
            live: vec![0; count],
            read: vec![0; count],
        });
        self.0.len() - 1
    }

    /// Its publisher is told where it stands.
    pub(crate) fn placed(&mut self, number: usize, places: &Places) {
        let message = &mut self.0[number];
        assert_eq!(places.len(), message.topics.len(), "an answer for each topic");
        for (at, place) in places.iter().enumerate() {
            let Ok(place) = place else {
                assert_eq!((message.stands[at], message.read[at]), (None, 0), "it was not taken there");
                continue;
            };
            message.stand(at, place.position);
            message.receipts[at].clone_from(&place.receipt);
        }
    }

    pub(crate) fn topics(&self, number: usize) -> &[usize] {
        &self.0[number].topics
    }

    /// A client reads it.
    pub(crate) fn read(
        &mut self,
        number: usize,
        topic: usize,
        (epoch, offset): (Epoch, u64),
        is_past: bool,
        client: ClientId,
    ) {
        let message = &mut self.0[number];
        assert_ne!(message.exclude, Some(client), "message {number} is not meant for it");
        let at = message.place_of(topic).expect("it is published there");
        message.stand(at, Position { epoch, offset });
        message.read[at] += 1;
        message.live[at] += u64::from(!is_past);
    }

    /// What a client must have by a topic, and has not.
    pub(crate) fn missing(
        &self,
        topic: usize,
        subscription: &Subscription,
        client: ClientId,
        seen: &Seen,
    ) -> Vec<usize> {
        let is_owed = |message: &MessageModel| {
            let stands = message.place_of(topic).and_then(|at| message.stands[at]);
            message.exclude != Some(client)
                && stands.is_some_and(|(epoch, offset)| {
                    let is_live = offset > subscription.head;
                    epoch == subscription.epoch
                        && offset > subscription.begin
                        && (is_live || !seen.says_it_has(message))
                })
        };
        let all = self.0.iter().enumerate();
        all.filter(|(number, message)| is_owed(message) && !seen.read.contains_key(number))
            .map(|(number, _)| number)
            .collect()
    }

    /// All is read that can be: receipts that are complete are true. Returns how many there are.
    pub(crate) fn judge_receipts(&self) -> u64 {
        let mut count = 0;
        for (number, message) in self.0.iter().enumerate() {
            for (at, sums) in message.receipts.iter().enumerate() {
                let Some(sums) = sums else { continue };
                assert!(sums.has_changed().is_err(), "a receipt of message {number} is not complete");
                let Receipt { matched, written, queued, dropped, conflated } = *sums.borrow();
                assert_eq!(matched, written + queued + dropped + conflated, "a receipt of message {number}");
                let (live, read) = (message.live[at], message.read[at]);
                assert!(
                    written <= read && live <= written + queued,
                    "message {number} was read {live}, {read} times: {:?}",
                    *sums.borrow()
                );
                count += 1;
            }
        }
        count
    }
}

impl MessageModel {
    fn place_of(&self, topic: usize) -> Option<usize> {
        self.topics.iter().position(|other| *other == topic)
    }

    fn stand(&mut self, at: usize, Position { epoch, offset }: Position) {
        let before = self.stands[at].replace((epoch, offset));
        assert!(before.is_none_or(|before| before == (epoch, offset)), "it has one place in a topic");
    }
}

impl Subscription {
    pub(crate) fn new((epoch, head): (Epoch, u64), begin: u64) -> Self {
        Self { epoch, head, begin }
    }

    /// The client asked for the past of a topic that it has.
    pub(crate) fn resume(&mut self, other: &Self) {
        assert!(self.epoch == other.epoch && self.head <= other.head, "a topic that somebody has goes on");
        self.head = other.head;
        self.begin = self.begin.min(other.begin);
    }
}

impl Seen {
    /// It reads a message. Live it reads each once; of the past it may come again, as the guarantees say.
    pub(crate) fn read(&mut self, number: usize, is_past: bool) {
        let live = self.read.entry(number).or_default();
        *live += u64::from(!is_past);
        assert!(*live <= 1, "message {number} comes twice");
    }

    /// It says that it has what stands up to an offset of a topic.
    pub(crate) fn says(&mut self, topic: usize, epoch: Epoch, offset: u64) {
        self.says.push((topic, epoch, offset));
    }

    fn says_it_has(&self, message: &MessageModel) -> bool {
        self.says.iter().any(|&(topic, epoch, offset)| {
            let stands = message.place_of(topic).and_then(|at| message.stands[at]);
            stands.is_some_and(|(of, place)| of == epoch && place <= offset)
        })
    }
}
