//! Orders: publications that ask for more than one place. Several topics, once for a key, a receipt.
//!
//! An order goes from the home of its first topic to that of the next and so on, and each gives it a place and hands it to
//! the interested shards, before the next home has it: so all shards see its parts in the order of the topics. It has
//! the credits of all parts from the start, and each part takes its share along: while an order is in a home's queue it
//! holds at least one publication's credits, so the queue has room for it. Whoever waits for the answer may go away; the
//! order goes on.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::{Arc, OnceLock},
};

use tokio::sync::{oneshot, watch};

use super::{
    home::TopicsFull,
    shard::Shard,
    traffic::{Ingress, Mailboxes, Part, PartPlaces},
    watched::Tally,
};
use crate::{
    admission::Credits,
    publication::{Content, Message, Position, Publication, Receipt, ScopedKey},
    topic::Topic,
};

/// A publication that asks for more than one place.
#[derive(Debug)]
pub struct Order {
    topics: Arc<[Topic]>,
    content: Content,
    /// Those of the parts that have no place yet.
    credits: Credits,
    /// Its key, until it was looked for.
    key: Option<(ScopedKey, Digest)>,
    receipt: bool,
    /// Where its parts stand, if they are several.
    stands: PartPlaces,
    /// What it came to in the first topics.
    places: Vec<Result<Place, TopicsFull>>,
    reply: Option<oneshot::Sender<Outcome>>,
    /// Where repeats that come meanwhile learn what it came to.
    repeats: Option<watch::Sender<Option<Places>>>,
}

/// A publication's place in one topic.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it stands.
    pub position: Position,
    /// If that was asked for, what became of it: sums that grow until the channel is closed.
    pub receipt: Option<watch::Receiver<Receipt>>,
}

/// What a publication came to in each of its topics, in their order.
pub type Places = Arc<[Result<Place, TopicsFull>]>;

/// The answer to an order.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is over, or one with its key was before.
    Placed(Places),
    /// One with its key is under way, and its places will be here.
    Underway(watch::Receiver<Option<Places>>),
    /// Another one has its key.
    Conflict,
}

/// What stands for the whole of a publication: two that differ have the same with a chance of one in 2^128.
pub(crate) type Digest = u128;

impl Order {
    /// An order, and where its outcome will be. `topics` are at least one, each once; `credits` those of as many
    /// publications.
    pub fn new(
        topics: Arc<[Topic]>,
        content: Content,
        key: Option<ScopedKey>,
        receipt: bool,
        credits: Credits,
    ) -> (Self, oneshot::Receiver<Outcome>) {
        debug_assert!(!topics.is_empty());
        let key = key.map(|key| (key, digest(&topics, &content)));
        let places = Vec::with_capacity(topics.len());
        let (reply, outcome) = oneshot::channel();
        let parts = if topics.len() > 1 { topics.len() } else { 0 };
        let stands = (0..parts).map(|_| OnceLock::new()).collect();
        let reply = Some(reply);
        let order = Self { topics, content, credits, key, receipt, stands, places, reply, repeats: None };
        (order, outcome)
    }

    /// The topic that has no place yet and is next.
    fn next(&self) -> Option<&Topic> {
        self.topics.get(self.places.len())
    }

    /// The part for that topic, and where its receipt goes.
    fn part(&mut self, topic: Topic) -> (Publication, Option<Part>, Option<Tally>) {
        let place = self.places.len();
        let several = self.topics.len() > 1;
        let part = several.then(|| Part { topics: self.topics.clone(), place, stands: self.stands.clone() });
        let tally = self.receipt.then(|| watch::Sender::new(Receipt::default()));
        (Publication { topic, content: self.content.clone(), credits: self.credits.share() }, part, tally)
    }

    /// Tells everyone who waits what it came to.
    fn answer(mut self, outcome: Outcome) {
        if let Some(repeats) = &self.repeats
            && let Outcome::Placed(places) = &outcome
        {
            repeats.send_replace(Some(places.clone()));
        }
        // Whoever asked may be gone; the publication goes on all the same.
        let _gone = self.reply.take().map(|reply| reply.send(outcome));
    }
}

impl Shard {
    /// Gives an order its places in the topics of this home that are next, and hands it on.
    pub(super) fn take_order(&mut self, mut order: Box<Order>, mailboxes: &Mailboxes) {
        let key = order.key.take();
        if let Some((key, digest)) = &key
            && let Some(outcome) = self.repeats.find(&order.topics[0], key, *digest, self.now)
        {
            return order.answer(outcome);
        }
        if let Some((key, digest)) = &key
            && order.topics.len() > 1
        {
            let (sender, underway) = watch::channel(None);
            order.repeats = Some(sender);
            self.repeats.begin((order.topics[0].clone(), key.clone()), *digest, underway, self.now);
        }
        while let Some(topic) = order.next() {
            let home = topic.home(mailboxes.shards());
            if home != usize::from(self.number) {
                mailboxes.to_home(home, Ingress::Order(order));
                return;
            }
            let topic = topic.clone();
            let (publication, part, tally) = order.part(topic);
            let receipt = tally.as_ref().map(watch::Sender::subscribe);
            let position = self.sequence_publication(publication, part, tally, mailboxes);
            order.places.push(position.map(|position| Place { position, receipt }));
        }
        let places: Places = std::mem::take(&mut order.places).into();
        if let Some((key, digest)) = key
            && order.topics.len() == 1
            && places[0].is_ok()
        {
            self.repeats.keep((order.topics[0].clone(), key), digest, places.clone(), self.now);
        }
        order.answer(Outcome::Placed(places));
    }
}

/// Digests everything that makes a publication another one. Seeded per process, for strangers choose what is digested.
fn digest(topics: &[Topic], content: &Content) -> Digest {
    static SEEDS: OnceLock<[foldhash::quality::RandomState; 2]> = OnceLock::new();
    let seeds = SEEDS.get_or_init(Default::default);
    let [high, low] = [0, 1].map(|nth| {
        let mut hasher = seeds[nth].build_hasher();
        (nth, topics.len()).hash(&mut hasher);
        topics.iter().for_each(|topic| topic.as_str().hash(&mut hasher));
        let kind: u8 = match &content.message {
            Message::Text(_) => 0,
            Message::Binary(_) => 1,
            Message::Data(_) => 2,
        };
        (kind, content.message.bytes()).hash(&mut hasher);
        (&content.audience.user, &content.audience.exclude, &content.key).hash(&mut hasher);
        hasher.finish()
    });
    Digest::from(high) << 64 | Digest::from(low)
}

#[cfg(test)]
mod tests;
