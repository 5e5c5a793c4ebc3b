//! What travels between shards, and the mailboxes it travels through.
//!
//! Two mailboxes lead into each shard: *ingress* is work for a home, *fanout* is work for the shard that holds the
//! connections. No push can find one full (I2), because each kind of entry is bounded before it gets here:
//! publications by the node's credits, joins by `JOINS_INFLIGHT` of each shard, un-wants by one batch under way between
//! two shards, kicks and queries by the node's credits for them, stop by being one. The capacities below are the sums.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    encoding::Encoding,
    history::Resume,
    home::{JoinPoint, TopicsFull},
    order::Order,
    query::Query,
    subscribers::{Goodbye, Key},
    watched::Tally,
};
use crate::{
    limits::{JOINS_INFLIGHT, KICKS_INFLIGHT, QUERIES_INFLIGHT},
    mailbox::{Mailbox, Wakeup},
    publication::{Position, Publication},
    topic::Topic,
};

/// Where the answer to a publish goes.
pub type Reply = oneshot::Sender<Result<Position, TopicsFull>>;

/// Work for a home.
#[derive(Debug)]
pub enum Ingress {
    /// Sequence this publication and hand it to every interested shard.
    Publish(Box<Publication>, Reply),
    /// Give this publication its places in the topics of this home that are next, and hand it on to the next home.
    Order(Box<Order>),
    /// Note the interest of a shard, and answer with a [`Fanout::Joined`].
    Join(Box<Join>),
    /// Forget the interest of a shard in these topics, and answer with a [`Fanout::Unwanted`].
    Unwant {
        /// The shard.
        shard: u16,
        /// The topics, with the encoding in which each is not wanted any more.
        topics: Vec<(Topic, Encoding)>,
    },
    /// Say what is known of a topic. Not only for its home, and not in the fanout queue: a shard that is behind its
    /// audience is the one that is asked about.
    Query(Box<Query>),
}

/// Work for the shard that holds the connections.
#[derive(Debug)]
pub enum Fanout {
    /// Put this publication into the log and mark its subscribers.
    Deliver(Arc<Sequenced>),
    /// The join point: from here on the subscriber is to have what is published.
    Joined(Box<Joined>),
    /// A batch of un-wants arrived at this home.
    Unwanted {
        /// The home.
        home: u16,
    },
    /// Close this subscriber.
    Kick(Kick),
    /// The last entry there is: flush, say goodbye, close.
    Stop(Goodbye),
}

/// A publication with its place.
#[derive(Debug)]
pub struct Sequenced {
    /// What is published.
    pub publication: Publication,
    /// Its place in its topic.
    pub position: Position,
    /// The payload of its frame in [`Encoding::V1`], if a shard wanted that when it was sequenced.
    pub v1: Option<Bytes>,
    /// Which part of a publication to several topics it is.
    pub part: Option<Part>,
    /// Where its receipt is summed, if its publisher asked for one.
    pub(crate) tally: Option<Tally>,
}

/// One topic's part of a publication to several.
#[derive(Clone, Debug)]
pub struct Part {
    /// All its topics, in the order given. They are shared by its parts, and so stand for the publication.
    pub topics: Arc<[Topic]>,
    /// Which of them this is.
    pub place: usize,
    /// Where they stand.
    pub(crate) stands: PartPlaces,
}

/// Where the parts of a publication stand, in the order of its topics. Each is written once, by the home of its topic, before
/// any shard can see the part; that of a part that has no place yet, or gets none, is empty.
pub(crate) type PartPlaces = Arc<[OnceLock<Position>]>;

impl Part {
    /// Whether no other comes behind it.
    pub(super) fn is_last(&self) -> bool {
        self.place + 1 == self.topics.len()
    }

    /// The other topics.
    pub(super) fn also(&self) -> Vec<Topic> {
        let others = self.topics.iter().enumerate().filter(|&(place, _)| place != self.place);
        others.map(|(_, topic)| topic.clone()).collect()
    }

    /// The other topics that have taken it so far, with its place there.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = (&Topic, Position)> {
        let all = self.topics.iter().zip(&*self.stands).enumerate();
        let others = all.filter(|&(place, _)| place != self.place);
        others.filter_map(|(_, (topic, stands))| Some((topic, *stands.get()?)))
    }

    /// The same part with a list of topics of its own: the one that its parts share says that they are under way.
    pub(super) fn apart(&self) -> Self {
        Self { topics: self.topics.iter().cloned().collect(), ..self.clone() }
    }
}

/// A subscriber's joins at one home.
#[derive(Debug)]
pub struct Join {
    /// The subscriber's shard.
    pub shard: u16,
    /// The subscriber.
    pub key: Key,
    /// Which change of its topics this belongs to.
    pub ticket: u32,
    /// The encoding it gets.
    pub encoding: Encoding,
    /// The topics, all of this home, each with what it wants of the past.
    pub topics: Wanted,
}

/// Topics, each with what is wanted of its past.
pub type Wanted = SmallVec<[(Topic, Option<Resume>); 1]>;

impl Join {
    /// Whether it wants something of the past.
    pub(super) fn resumes(&self) -> bool {
        self.topics.iter().any(|(_, resume)| resume.is_some())
    }
}

/// The answer to a [`Join`].
#[derive(Debug)]
pub struct Joined {
    /// The subscriber.
    pub key: Key,
    /// Which change of its topics this belongs to.
    pub ticket: u32,
    /// The encoding it gets.
    pub encoding: Encoding,
    /// For each topic where it joined.
    pub topics: SmallVec<[(Topic, Result<JoinPoint, TopicsFull>); 1]>,
}

/// A close from outside the shard.
#[derive(Debug)]
pub struct Kick {
    /// The subscriber.
    pub key: Key,
    /// What it is told.
    pub goodbye: Goodbye,
    /// Whether what is queued is written first.
    pub manner: Manner,
    /// The kick's share of the node's budget, given back when it is carried out.
    pub credit: Option<OwnedSemaphorePermit>,
}

/// What becomes of the queue of a subscriber that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It is thrown away; a frame begun is finished.
    Discard,
    /// It is written before the close frame.
    Flush,
}

/// The mailboxes of all shards of a node.
#[derive(Debug)]
pub struct Mailboxes {
    ingress: Box<[Mailbox<Ingress>]>,
    fanout: Box<[Mailbox<Fanout>]>,
    wakeups: Box<[Arc<Wakeup>]>,
}

impl Mailboxes {
    /// The mailboxes of `shards` shards, for `publications` under way in the node.
    pub fn new(shards: usize, publications: usize) -> Self {
        let wakeups: Box<[_]> = (0..shards).map(|_| Wakeup::new()).collect();
        let ingress = ingress_capacity(shards, publications);
        let fanout = fanout_capacity(shards, publications);
        Self {
            ingress: wakeups.iter().map(|wakeup| Mailbox::new(ingress, wakeup.clone())).collect(),
            fanout: wakeups.iter().map(|wakeup| Mailbox::new(fanout, wakeup.clone())).collect(),
            wakeups,
        }
    }

    /// Hands a publication to the home of its topic. The position that it is given there can be waited for, or looked for
    /// after the home's next [`Shard::sequence`](super::Shard::sequence). Whoever does not care drops the receiver.
    pub fn publish(&self, publication: Publication) -> oneshot::Receiver<Result<Position, TopicsFull>> {
        let home = publication.topic.home(self.shards());
        let (reply, answer) = oneshot::channel();
        self.to_home(home, Ingress::Publish(Box::new(publication), reply));
        answer
    }

    /// Hands work to a home. That of a topic is [`Topic::home`].
    pub fn to_home(&self, shard: usize, entry: Ingress) {
        let pushed = self.ingress[shard].push(entry);
        pushed
            .map_err(|_| ())
            .expect("ingress holds every credit, join, batch of un-wants and query there can be");
    }

    /// Hands work to a shard that holds connections.
    pub fn to_shard(&self, shard: usize, entry: Fanout) {
        let pushed = self.fanout[shard].push(entry);
        pushed.map_err(|_| ()).expect("fanout holds every credit, join, batch and kick there can be");
    }

    /// The work for a home.
    pub fn ingress(&self, shard: usize) -> &Mailbox<Ingress> {
        &self.ingress[shard]
    }

    /// The work for a shard that holds connections.
    pub fn fanout(&self, shard: usize) -> &Mailbox<Fanout> {
        &self.fanout[shard]
    }

    /// What wakes a shard.
    pub fn wakeup(&self, shard: usize) -> &Arc<Wakeup> {
        &self.wakeups[shard]
    }

    /// Shards there are.
    pub fn shards(&self) -> usize {
        self.wakeups.len()
    }
}

/// Publications, the joins of every shard, a batch of un-wants of every shard, and queries.
const fn ingress_capacity(shards: usize, publications: usize) -> usize {
    publications + shards * JOINS_INFLIGHT + shards + QUERIES_INFLIGHT
}

/// Publications, the answers to this shard's joins and to its batches, kicks, and stop.
const fn fanout_capacity(shards: usize, publications: usize) -> usize {
    publications + JOINS_INFLIGHT + shards + KICKS_INFLIGHT + 1
}
