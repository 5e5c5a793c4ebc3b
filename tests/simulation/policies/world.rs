//! Shards, their connections and what lies between them: the queues from shard to shard are kept here, so that what is
//! in them can be seen and held up. What a client or a publisher does is here; what shards do is in `turns`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
};

use fanfare::{
    admission::Admission,
    engine::{
        Answer, Change, Encoding, Fabric, Fanout, Goodbye, Key, Kick, Manner, Sequenced, Shard, TopicChange,
    },
    identity::{ClientId, User},
    protocol::v1::CommandId,
    publication::{Epoch, Position},
    settings::Settings,
    topic::{Topic, TopicMap},
    websocket::{CloseCode, frame},
};

use super::{
    books::Books,
    client::{Client, Stage},
    judge::Cause,
    op::{CLASSES, Manners, Op, Shape},
    publishing::{Outstanding, PublicationModel, ReceiptModel},
    wire::Wire,
};
use crate::{
    seen::Policed,
    steps::note,
    stream::{HASH_SEED, PING, control_frame},
};

/// Clients there are at once.
const CLIENTS: usize = 9;
/// Publications under way at once.
const UNDERWAY: usize = 300;
/// When operations let no more time pass, milliseconds: before any topic is idle for long enough to be forgotten.
const LATEST: u64 = 40_000;

/// A topic.
#[derive(Debug)]
pub(super) struct TopicModel {
    pub(super) topic: Topic,
    /// The place of its class in [`CLASSES`].
    pub(super) class: usize,
    /// Its epochs, in the order in which they were seen.
    epochs: Vec<Epoch>,
}

/// What of a rank is the offset. Offsets begin anew with each epoch, ranks go on.
pub(super) const OFFSETS: u64 = 1_000_000;

impl TopicModel {
    /// The rank of a position: its epoch among those of the topic, and its offset.
    pub(super) fn rank(&mut self, position: Position) -> u64 {
        let epoch = self.epochs.iter().position(|epoch| *epoch == position.epoch).unwrap_or_else(|| {
            self.epochs.push(position.epoch);
            self.epochs.len() - 1
        });
        epoch as u64 * OFFSETS + position.offset
    }

    /// As [`Self::rank`], of an epoch that was seen.
    pub(super) fn known_rank(&self, position: Position) -> u64 {
        let epoch = self.epochs.iter().position(|epoch| *epoch == position.epoch);
        epoch.expect("a shard was told of it") as u64 * OFFSETS + position.offset
    }
}

/// A publication that was handed to a shard, and which it may not have taken yet.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) publication: usize,
    pub(super) topic: usize,
    pub(super) position: Position,
    /// Bytes of its frame in each encoding, if there is one.
    pub(super) bytes: [Option<usize>; 2],
    /// Tells whether the shard still holds it.
    pub(super) weak: Weak<Sequenced>,
}

/// What leads into one shard.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// What its homes sent and it was not handed.
    pub(super) waiting: VecDeque<Fanout>,
    /// What it was handed.
    pub(super) handed: VecDeque<Handed>,
}

pub(crate) struct World {
    pub(super) settings: Settings,
    pub(super) fabric: Fabric,
    pub(super) shards: Vec<Shard>,
    pub(super) wires: Vec<Wire>,
    pub(super) inboxes: Vec<Inbox>,
    pub(super) admission: Admission,
    pub(super) topics: Vec<TopicModel>,
    pub(super) publications: Vec<PublicationModel>,
    pub(super) clients: Vec<Client>,
    pub(super) numbers: HashMap<(usize, Key), usize>,
    /// Answers to publishers that are still to come.
    pub(super) outstanding: Vec<(usize, Outstanding)>,
    pub(super) receipts: Vec<ReceiptModel>,
    pub(super) books: Books,
    pub(super) now: u64,
    /// For each shard the time of its turn.
    pub(super) turn_of: Vec<u64>,
    pub(super) control: u32,
    pub(super) counts: Policed,
}

impl World {
    pub(crate) fn new(shape: &Shape) -> Self {
        assert_eq!(Topic::fix_hash_seed(HASH_SEED), HASH_SEED, "a topic was parsed before");
        let settings = shape.settings.clone();
        let shards = settings.shards;
        let fabric = Fabric::new(&settings, 7);
        let topic = |(n, &class): (usize, &usize)| {
            let topic = Topic::parse(&format!("{} {n}", CLASSES[class].0)).expect("a topic");
            TopicModel { topic, class, epochs: Vec::new() }
        };
        note(|| {
            let classes: Vec<_> = settings.classes.iter().collect();
            let Settings { outbox_bytes, log_bytes, memory_bytes, shard_lag, topics_max, .. } = settings;
            format!(
                "{shards} shards, outbox {outbox_bytes}, log {log_bytes}, memory {memory_bytes}, lag {shard_lag}, \
                 {topics_max} topics; {classes:?}"
            )
        });
        Self {
            shards: (0..shards).map(|number| Shard::new(number, fabric.clone())).collect(),
            wires: (0..shards).map(|_| Wire::default()).collect(),
            inboxes: (0..shards).map(|_| Inbox::default()).collect(),
            admission: Admission::new(UNDERWAY, 64 << 20),
            topics: shape.topics.iter().enumerate().map(topic).collect(),
            publications: Vec::new(),
            clients: Vec::new(),
            numbers: HashMap::new(),
            outstanding: Vec::new(),
            receipts: Vec::new(),
            books: Books::default(),
            now: 0,
            turn_of: vec![0; shards],
            control: 0,
            counts: Policed::default(),
            fabric,
            settings,
        }
    }

    /// Does one operation, if there is somebody it can be done to.
    pub(crate) fn step(&mut self, op: Op) {
        let shards = self.shards.len();
        match op {
            Op::Publish { topic, bytes, key, to, count } => {
                let topic = topic % self.topics.len();
                note(|| {
                    let (name, first) = (self.topics[topic].topic.as_str(), self.publications.len());
                    format!(
                        "{count} publications from {first} on to \"{name}\" of {bytes} bytes, key {key}, for {to}"
                    )
                });
                for _ in 0..count {
                    self.publish(topic, bytes, key, to);
                }
            }
            Op::Order { first, mask, is_back, bytes, key, to, receipt } => {
                let topics = self.chosen_topics(first, mask, is_back);
                self.order(&topics, bytes, key, to, receipt);
            }
            Op::Sequence { shard, entries } => {
                self.sequence(shard % shards, entries);
            }
            Op::Take { shard, entries, together } => {
                self.take(shard % shards, entries, together);
            }
            Op::Flush { shard, offers } => {
                self.flush(shard % shards, offers);
            }
            Op::Turn { shard, passed } => {
                if self.now + passed < LATEST {
                    self.now += passed;
                }
                note(|| format!("shard {} begins a turn at {} ms", shard % shards, self.now));
                self.turn(shard % shards);
            }
            Op::DropOverdue { shard } => self.drop_overdue(shard % shards),
            Op::Come { shard, is_v1, topics } => self.come(shard % shards, is_v1, topics),
            Op::Calm => self.calm(),
            Op::Attach { client, manners } => {
                let is_due = |client: &Client| client.stage == Stage::Attaching && !client.waits();
                self.with(client, is_due, |world, number| world.attach(number, manners));
            }
            Op::Change { client, topics } => {
                let free = |client: &Client| {
                    client.stage == Stage::Attached && client.open && client.pending.is_none()
                };
                self.with(client, free, |world, number| world.change(number, topics));
            }
            Op::Behave { client, manners } => {
                let has_socket = |client: &Client| matches!(client.stage, Stage::Attached | Stage::Closing);
                self.with(client, has_socket, |world, number| world.behave(number, manners));
            }
            Op::Writable { client } => {
                self.with_blocked(client, Self::writable);
            }
            Op::Ping { client } => {
                let is_attached = |client: &Client| client.stage == Stage::Attached;
                self.with(client, is_attached, Self::ping);
            }
            Op::Remove { client } => self.with(client, |_| true, Self::remove),
            Op::Kick { client, manner } => {
                self.with(client, |client| !client.kicked, |world, number| world.kick(number, manner));
            }
            Op::Close { client, manner } => {
                self.with(client, |client| client.open, |world, number| world.close(number, manner));
            }
        }
    }

    fn come(&mut self, shard: usize, is_v1: bool, topics: u8) {
        if self.there().count() == CLIENTS {
            return;
        }
        let number = self.clients.len();
        let id = ClientId::parse(&format!("{number:032x}")).expect("32 digits");
        let user = (number % 4 < 3).then_some(User::number(number as u64 % 4));
        let encoding = if is_v1 { Encoding::V1 } else { Encoding::Plain };
        note(|| format!("client {number} comes to shard {shard}: {encoding:?}, user {user:?}"));
        let key = self.shards[shard].add(Some(id), user.clone(), encoding);
        if is_v1 {
            self.shards[shard].keep_place(key);
        }
        let before = self.numbers.insert((shard, key), number);
        assert!(before.is_none(), "a key is given twice");
        self.clients.push(Client::new((shard, key), id, user, encoding, self.topics.len()));
        self.change(number, topics);
    }

    pub(super) fn attach(&mut self, number: usize, manners: Manners) {
        if self.clients[number].refused {
            return self.remove(number);
        }
        note(|| format!("client {number} has its socket: {manners:?}"));
        let client = &mut self.clients[number];
        let (shard, key) = (client.shard, client.key);
        client.stage = Stage::Attached;
        if client.tells() {
            self.shards[shard].fill_place(key, frame::text(br#"{"hello":{}}"#));
        }
        self.wires[shard].connect(key, manners);
        self.shards[shard].attached(key);
        self.look(shard, Cause::Unblock);
    }

    fn change(&mut self, number: usize, topics: u8) {
        let wanted: Vec<usize> =
            (0..self.topics.len()).filter(|topic| topics >> (topic % 8) & 1 == 1).collect();
        note(|| format!("client {number} is to have topics {wanted:?}"));
        self.control += 1;
        let id = self.control;
        let client = &mut self.clients[number];
        let (shard, key) = (client.shard, client.key);
        let name = |topic: &usize| self.topics[*topic].topic.clone();
        let is_told = client.tells() && client.stage == Stage::Attached;
        if is_told {
            client.asks(id, wanted.clone());
        }
        let answer = is_told.then(|| Answer {
            id: CommandId::parse(&id.to_string()).ok(),
            topics: wanted.iter().filter(|topic| client.has[**topic].is_none()).map(name).collect(),
        });
        let resume = TopicMap::default();
        let change = TopicChange { wanted: wanted.iter().map(name).collect(), resume, answer };
        client.pending = Some(wanted.clone());
        client.wanted.clone_from(&wanted);
        if self.shards[shard].change_topics(key, change) == Change::Done {
            self.topics_are(number, &wanted);
        }
        self.look(shard, Cause::Change(number));
    }

    /// A change is in force.
    pub(super) fn topics_are(&mut self, number: usize, wanted: &[usize]) {
        self.clients[number].pending = None;
        if self.clients[number].tells() {
            if self.clients[number].stage == Stage::Attaching {
                // The greeting will say so.
                self.clients[number].knows(wanted);
            }
            return;
        }
        self.control += 1;
        let id = self.control;
        let client = &mut self.clients[number];
        let (shard, key) = (client.shard, client.key);
        if self.shards[shard].is_open(key) {
            client.asks(id, wanted.to_vec());
            self.shards[shard].answer(key, control_frame(PING, b'a', id));
        } else {
            client.given_up.extend(wanted);
        }
    }

    fn behave(&mut self, number: usize, manners: Manners) {
        note(|| format!("the socket of client {number} becomes {manners:?}"));
        let client = &self.clients[number];
        let connection = self.wires[client.shard].connections.get_mut(&client.key);
        connection.expect("it has a socket").manners = manners;
    }

    pub(super) fn writable(&mut self, number: usize) {
        note(|| format!("the socket of client {number} takes bytes again"));
        let (shard, key) = (self.clients[number].shard, self.clients[number].key);
        self.wires[shard].connections.get_mut(&key).expect("it has a socket").blocked = false;
        self.shards[shard].writable(key);
        self.look(shard, Cause::Unblock);
    }

    fn ping(&mut self, number: usize) {
        note(|| format!("client {number} is sent a ping"));
        let (shard, key) = (self.clients[number].shard, self.clients[number].key);
        self.shards[shard].answer_ahead(key, control_frame(PING, b'p', 0));
        self.look(shard, Cause::Change(number));
    }

    fn kick(&mut self, number: usize, manner: Manner) {
        note(|| format!("client {number} is kicked: {manner:?}"));
        let client = &mut self.clients[number];
        client.kicked = true;
        let goodbye = Goodbye { code: CloseCode::REPLACED, reason: "kicked" };
        let kick = Kick { key: client.key, goodbye, manner, credit: None };
        self.inboxes[client.shard].waiting.push_back(Fanout::Kick(kick));
    }

    fn close(&mut self, number: usize, manner: Manner) {
        note(|| format!("client {number} is closed: {manner:?}"));
        let (shard, key) = (self.clients[number].shard, self.clients[number].key);
        self.shards[shard].close(key, Goodbye { code: CloseCode::POLICY, reason: "asked for" }, manner);
        self.look(shard, Cause::Close);
    }

    pub(super) fn remove(&mut self, number: usize) {
        note(|| format!("client {number} is gone"));
        let (shard, key) = (self.clients[number].shard, self.clients[number].key);
        self.shards[shard].remove(key);
        self.look(shard, Cause::Close);
        self.clients[number].stage = Stage::Gone;
        self.numbers.remove(&(shard, key));
        self.wires[shard].connections.remove(&key);
    }

    /// Clients that are there.
    pub(super) fn there(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.clients.len()).filter(|&number| self.clients[number].stage != Stage::Gone)
    }

    pub(super) fn is_blocked(&self, number: usize) -> bool {
        let client = &self.clients[number];
        let connection = self.wires[client.shard].connections.get(&client.key);
        connection.is_none_or(|connection| connection.blocked)
    }

    /// Does something to one of those that fit, if there are any.
    fn with(&mut self, which: usize, fits: impl Fn(&Client) -> bool, act: impl FnOnce(&mut Self, usize)) {
        let fitting: Vec<usize> = self.there().filter(|&number| fits(&self.clients[number])).collect();
        if !fitting.is_empty() {
            act(self, fitting[which % fitting.len()]);
        }
    }

    fn with_blocked(&mut self, which: usize, act: impl FnOnce(&mut Self, usize)) {
        let has_socket = |number: &usize| {
            let client = &self.clients[*number];
            matches!(client.stage, Stage::Attached | Stage::Closing) && self.is_blocked(*number)
        };
        let fitting: Vec<usize> = self.there().filter(has_socket).collect();
        if !fitting.is_empty() {
            act(self, fitting[which % fitting.len()]);
        }
    }

    pub(super) fn credits_inflight(&self) -> usize {
        self.admission.inflight()
    }

    /// What was just handed over.
    pub(super) fn handed(&self, sequenced: &Arc<Sequenced>) -> Handed {
        let text = sequenced.publication.content.message.bytes();
        let frame = |len: usize| {
            len + if len < 126 {
                2
            } else if len <= 0xFFFF {
                4
            } else {
                10
            }
        };
        Handed {
            publication: number_of_publication(sequenced),
            topic: self.number_of(&sequenced.publication.topic),
            position: sequenced.position,
            bytes: [Some(frame(text.len())), sequenced.v1.as_ref().map(|v1| frame(v1.len()))],
            weak: Arc::downgrade(sequenced),
        }
    }
}

/// The number of a publication, with which its text begins.
pub(super) fn number_of_publication(sequenced: &Sequenced) -> usize {
    let text = sequenced.publication.content.message.bytes();
    std::str::from_utf8(&text[..6]).ok().and_then(|digits| digits.parse().ok()).expect("digits")
}
