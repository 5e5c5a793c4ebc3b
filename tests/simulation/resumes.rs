//! Runs of seeds in which clients of `fanfare.v1` come, leave, and come back with the position they had, another, or none:
//! what is replayed, what is live and what gaps count must be exactly what was meant for each.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use fanfare::{
    admission::Admission,
    classes::{Class, Classes, History, Policy, Which},
    engine::{Answer, Change, Encoding, Event, Fabric, Ingress, Key, Resume, Shard, TopicChange},
    identity::{ClientId, User},
    limits::{REPLAY_SHARED_MS, TOPIC_IDLE_MS},
    protocol::v1::CommandId,
    publication::{Audience, Content, Epoch, Message, Position, Publication},
    settings::Settings,
    topic::{Topic, TopicMap},
};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    net::{Manners, Net},
    random::Random,
    resumes_model::{All, Gap, Published, Subscription, Who},
    seen::Resumed,
    steps::{Steps, note},
    world::defaults,
};

/// Bounds of the classes: enough for all of a run, and less than it may take.
const MUCH: usize = 4 * 1024 * 1024;
const LITTLE: usize = 8 * 1024;

/// A change of topics whose answer has not come yet.
struct Asked {
    id: u64,
    joins: Vec<(usize, Option<Resume>)>,
    leaves: Vec<usize>,
}

struct Client {
    shard: usize,
    key: Key,
    who: Who,
    /// What it has asked to have, all told.
    wanted: Vec<usize>,
    /// Whether a change waits for its joins.
    pending: bool,
    asked: VecDeque<Asked>,
    subscriptions: HashMap<usize, Subscription>,
}

/// The answer to a publish, on its way.
struct Outstanding {
    topic: usize,
    text: Arc<str>,
    audience: Audience,
    answer: oneshot::Receiver<Result<Position, fanfare::engine::TopicsFull>>,
}

struct World {
    random: Random,
    fabric: Fabric,
    classes: Arc<Classes>,
    shards: Vec<Shard>,
    nets: Vec<Net>,
    admission: Admission,
    topics: Vec<Topic>,
    all: All,
    clients: Vec<Client>,
    outstanding: Vec<Outstanding>,
    /// The last position of each topic that somebody was told, and how many were before.
    positions: HashMap<usize, Vec<(Epoch, u64)>>,
    now: u64,
    published: u64,
    asked: u64,
    counts: Resumed,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, made: &mut Steps<'_>) -> Resumed {
    let mut random = Random::new(seed ^ 0x5EED);
    let shards = random.within(1, 3);
    let topics = random.within(2, 6);
    let steps = random.within(200, 700);
    let mut world = World::new(shards, topics, random);
    for n in 0..steps {
        let Some(random) = made.begin(n) else { continue };
        world.random = random;
        world.step();
    }
    made.end();
    world.calm();
    world.end()
}

impl World {
    fn new(shards: usize, topics: usize, mut random: Random) -> Self {
        let mut class = |name: &str, policy, outbox_bytes, kept: bool| {
            let ttl = Duration::from_millis(random.pick(&[50, 2_000, 600_000]));
            let messages = random.pick(&[1, 5, 30, 200]);
            let bytes = random.pick(&[600, 2_000, 4_000]);
            let history = kept.then_some(History { messages, bytes, ttl });
            let age = Duration::from_secs(3_600);
            Class { name: name.into(), policy, history, ..Class::default_with(outbox_bytes, age) }
        };
        let none = class("none", Policy::Disconnect, MUCH, false);
        let further = vec![
            class("much", Policy::Disconnect, MUCH, true),
            class("oldest", Policy::DropOldest, LITTLE, true),
            class("newest", Policy::DropNewest, LITTLE, true),
        ];
        let names = ["none", "much", "oldest", "newest", "much", "oldest"];
        let rules = ["much", "oldest", "newest"].map(|name| (Which::Prefix(name.into()), name.to_owned()));
        let classes = Arc::new(Classes::new(none, further, rules.into()).expect("they fit together"));
        let settings = Settings { shards, outbox_bytes: MUCH, classes: classes.clone(), ..defaults() };
        let fabric = Fabric::new(&settings, 7);
        let topic = |n: usize| Topic::parse(&format!("{}{n}", names[n])).expect("a topic");
        Self {
            shards: (0..shards).map(|number| Shard::new(number, fabric.clone())).collect(),
            nets: (0..shards).map(|_| Net::new(random.fork())).collect(),
            admission: Admission::new(8_000, 64 << 20),
            topics: (0..topics).map(topic).collect(),
            all: All::default(),
            clients: Vec::new(),
            outstanding: Vec::new(),
            positions: HashMap::new(),
            now: 0,
            published: 0,
            asked: 0,
            counts: Resumed::default(),
            random,
            fabric,
            classes,
        }
    }

    fn step(&mut self) {
        let shard = self.random.below(self.shards.len());
        let entries = self.random.pick(&[1, 3, 40]);
        match self.random.below(100) {
            0 => self.calm(),
            1 => self.sleep(),
            2..5 => self.now += self.random.within(1, REPLAY_SHARED_MS as usize) as u64,
            5..25 => self.sequence(shard, entries),
            25..40 => self.take(shard, entries),
            40..55 => self.flush(shard, entries),
            55..75 => self.publish(),
            75..80 => self.come(),
            80..95 => self.change(),
            95..97 => self.leave(),
            _ => self.improve(),
        }
    }

    /// Long enough for topics nobody has to be forgotten, after a while in which everyone reads.
    fn sleep(&mut self) {
        note(|| "everyone reads, and topics are forgotten".to_owned());
        self.calm();
        if self.random.chance(50) {
            for client in std::mem::take(&mut self.clients) {
                self.remove(&client);
            }
            self.settle();
        }
        self.now += TOPIC_IDLE_MS + 1;
        (0..self.shards.len()).for_each(|shard| self.shards[shard].begin_turn(self.now));
    }

    fn publish(&mut self) {
        let topic = self.random.below(self.topics.len());
        let burst = self.random.pick(&[1, 1, 3, 20]);
        for _ in 0..burst {
            let mut audience = Audience::default();
            if self.random.chance(20) {
                audience.user = Some(User::number(self.random.below(4) as u64));
            }
            if self.random.chance(15) && !self.clients.is_empty() {
                let one = self.random.below(self.clients.len());
                audience.exclude = Some(self.clients[one].who.client);
            }
            self.published += 1;
            let length = self.random.pick(&[8, 60, 250]);
            // What must be escaped takes more room when it is replayed than it does in the history.
            let quotes = if self.random.chance(5) { "\"".repeat(1_500) } else { String::new() };
            let text: Arc<str> = format!("{:0length$}{quotes}", self.published).into();
            note(|| {
                format!("publication {} to {} for {audience:?}", self.published, self.topics[topic].as_str())
            });
            let credits = self.admission.try_admit(text.len()).expect("little is under way");
            let message = Message::text(&*text);
            let content = Content { message, audience: audience.clone(), key: None };
            let (name, home) = (self.topics[topic].clone(), self.topics[topic].home(self.shards.len()));
            let (reply, answer) = oneshot::channel();
            let publication = Box::new(Publication { topic: name, content, credits });
            self.fabric.mailboxes.to_home(home, Ingress::Publish(publication, reply));
            self.outstanding.push(Outstanding { topic, text, audience, answer });
        }
    }

    /// A client connects: one of few, so that most have been here.
    fn come(&mut self) {
        if self.clients.len() == 8 {
            return;
        }
        let number = self.random.below(12);
        let client = ClientId::parse(&format!("{number:032x}")).expect("32 digits");
        let user = (!number.is_multiple_of(3)).then_some(User::number(number as u64 % 4));
        let shard = self.random.below(self.shards.len());
        let key = self.shards[shard].add(Some(client), user.clone(), Encoding::V1);
        let manners =
            self.random.pick(&[Manners::Willing, Manners::Fickle, Manners::Fickle, Manners::Choppy(500)]);
        self.nets[shard].connect(key, manners);
        self.shards[shard].attached(key);
        note(|| format!("client {key:?} comes to shard {shard}: {manners:?}"));
        self.clients.push(Client {
            shard,
            key,
            who: Who { client, user },
            wanted: Vec::new(),
            pending: false,
            asked: VecDeque::new(),
            subscriptions: HashMap::new(),
        });
    }

    /// A client asks for topics, or leaves some.
    fn change(&mut self) {
        let free: Vec<usize> = (0..self.clients.len()).filter(|&n| !self.clients[n].pending).collect();
        if free.is_empty() {
            return;
        }
        let number = self.random.pick(&free);
        let has = self.clients[number].wanted.clone();
        let count = self.random.pick(&[0, 1, 1, 2, 3]);
        let mut wanted: Vec<usize> = (0..count).map(|_| self.random.below(self.topics.len())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let new: Vec<usize> = wanted.iter().copied().filter(|topic| !has.contains(topic)).collect();
        let leaves = has.into_iter().filter(|topic| !wanted.contains(topic)).collect();
        let joins: Vec<_> = new.iter().map(|&topic| (topic, self.resume(topic))).collect();
        self.counts.several_topics +=
            u64::from(joins.iter().filter(|(_, resume)| resume.is_some()).count() > 1);
        self.asked += 1;
        let name = |topic: &usize| self.topics[*topic].clone();
        let resume = joins.iter().filter_map(|(topic, resume)| Some((name(topic), (*resume)?)));
        let change = TopicChange {
            wanted: wanted.iter().map(name).collect(),
            resume: resume.collect::<TopicMap<Resume>>(),
            answer: Some(Answer {
                id: CommandId::parse(&self.asked.to_string()).ok(),
                topics: new.iter().map(name).collect(),
            }),
        };
        let client = &mut self.clients[number];
        note(|| format!("client {:?} asks for {wanted:?}, with {joins:?} new", client.key));
        client.wanted = wanted;
        client.asked.push_back(Asked { id: self.asked, joins, leaves });
        client.pending = self.shards[client.shard].change_topics(client.key, change) == Change::Pending;
        let shard = client.shard;
        self.look(shard);
    }

    /// What somebody wants of a topic's past.
    fn resume(&mut self, topic: usize) -> Option<Resume> {
        let known = self.positions.get(&topic).filter(|known| !known.is_empty());
        let (epoch, head) = known.map_or((None, 0), |known| {
            let (epoch, offset) = known[known.len() - 1];
            (Some(epoch), offset)
        });
        let since = |epoch, offset| Some(Resume::Since { epoch, offset });
        match self.random.below(20) {
            0..5 => {
                // Some position that somebody was told, lately or long ago.
                let known = known?.clone();
                let back = self.random.pick(&[1, 2, 5, 20, 1_000]).min(known.len());
                let (epoch, offset) = known[known.len() - back];
                self.counts.comebacks += 1;
                since(Some(epoch), offset)
            }
            5..10 => since(epoch, self.random.below(head as usize + 1) as u64),
            10 => since(epoch, head + 1_000),
            11 => since(None, head),
            12 => since(Some(Epoch { node: 8, incarnation: 0 }), head),
            13..17 => Some(Resume::Last(self.random.pick(&[0, 1, 3, 10, 1_000]))),
            _ => None,
        }
    }

    /// A client goes, whatever it has not read.
    fn leave(&mut self) {
        if !self.clients.is_empty() {
            let number = self.random.below(self.clients.len());
            let client = self.clients.swap_remove(number);
            self.remove(&client);
        }
    }

    fn remove(&mut self, client: &Client) {
        note(|| format!("client {:?} is gone", client.key));
        self.shards[client.shard].remove(client.key);
        self.nets[client.shard].disconnect(client.key);
    }

    fn improve(&mut self) {
        note(|| "all sockets take bytes again".to_owned());
        for number in 0..self.clients.len() {
            let (shard, key) = (self.clients[number].shard, self.clients[number].key);
            let connection = self.nets[shard].get_mut(key).expect("it is connected");
            if std::mem::take(&mut connection.blocked) {
                self.shards[shard].writable(key);
            }
        }
    }

    fn sequence(&mut self, shard: usize, entries: usize) {
        note(|| format!("home {shard} does {entries} entries"));
        self.shards[shard].begin_turn(self.now);
        self.shards[shard].sequence(entries);
        for mut one in std::mem::take(&mut self.outstanding) {
            match one.answer.try_recv() {
                Ok(position) => {
                    let Position { epoch, offset } = position.expect("there is room for all topics");
                    let Outstanding { topic, text, audience, .. } = one;
                    self.counts.epochs_lost += u64::from(offset == 1);
                    self.all.add(topic, (epoch, offset), Published { text, audience, at: self.now });
                }
                Err(_) => self.outstanding.push(one),
            }
        }
    }

    fn take(&mut self, shard: usize, entries: usize) {
        note(|| format!("shard {shard} takes {entries} entries"));
        self.shards[shard].begin_turn(self.now);
        self.shards[shard].take(entries);
        self.look(shard);
    }

    fn flush(&mut self, shard: usize, offers: usize) {
        note(|| format!("shard {shard} flushes {offers} outboxes"));
        self.shards[shard].flush(&mut self.nets[shard], offers);
        self.look(shard);
    }

    /// Lets every shard work until nothing is left to do; whoever is blocked stays so.
    fn settle(&mut self) {
        while self.shards.iter().any(Shard::has_work) {
            for shard in 0..self.shards.len() {
                self.sequence(shard, 64);
                self.take(shard, 64);
                self.flush(shard, 64);
            }
        }
    }

    /// Everyone reads everything; then it must be exactly what was meant for each.
    fn calm(&mut self) {
        let is_blocked = |world: &Self| {
            let connection = |client: &Client| world.nets[client.shard].get(client.key);
            world.clients.iter().any(|client| connection(client).expect("it is connected").blocked)
        };
        self.settle();
        while is_blocked(self) {
            self.improve();
            self.settle();
        }
        let total = self.fabric.metrics.total();
        let queued: u64 = self.shards.iter().map(Shard::queued_frames).sum();
        assert_eq!((total.matched, queued), (total.written + total.dropped() + total.conflated, 0), "I8");
        for client in &self.clients {
            assert!(client.asked.is_empty() && !client.pending, "an answer is missing");
            for subscription in client.subscriptions.values() {
                let class = self.classes.get(self.classes.of(&self.topics[subscription.topic]));
                subscription.check(&client.who, &self.all, class, self.now, &mut self.counts);
            }
        }
    }

    fn look(&mut self, shard: usize) {
        while let Some(event) = self.shards[shard].next_event() {
            let Event::TopicsSet { key, outcome } = event else { panic!("nobody is closed: {event:?}") };
            outcome.expect("there is room for all topics");
            let client = self.clients.iter_mut().find(|client| (client.shard, client.key) == (shard, key));
            client.expect("it is there").pending = false;
        }
        for (key, frames) in self.nets[shard].take_frames() {
            let client = self.clients.iter().position(|client| (client.shard, client.key) == (shard, key));
            let client = client.expect("it is there");
            for frame in frames {
                let said = serde_json::from_slice(&frame.payload).expect("it is JSON");
                self.receive(client, &said);
            }
        }
    }

    fn receive(&mut self, number: usize, said: &Value) {
        let topic_of = |name: &Value| {
            let of = self.topics.iter().position(|topic| name == topic.as_str());
            of.expect("a topic there is")
        };
        let int = |value: &Value| value.as_u64().expect("a number");
        let client = &mut self.clients[number];
        if let Some(id) = said.get("ok") {
            let asked = client.asked.pop_front().expect("it asked for something");
            assert_eq!(int(id), asked.id, "answers come in order");
            asked.leaves.iter().for_each(|topic| drop(client.subscriptions.remove(topic)));
            for (topic, resume) in asked.joins {
                let position = &said["positions"][self.topics[topic].as_str()];
                let (epoch, head) = (position["epoch"].as_str().expect("a text"), int(&position["offset"]));
                let recovered =
                    position.get("recovered").map(|recovered| recovered.as_bool().expect("a bool"));
                let subscription = Subscription::new(topic, resume, (epoch, head), recovered, &self.all);
                client.subscriptions.insert(topic, subscription);
                let known = parse_epoch(epoch);
                self.positions.entry(topic).or_default().push((known, head));
            }
        } else if let Some(gap) = said.get("gap") {
            let topic = topic_of(&gap["topic"]);
            let subscription = client.subscriptions.get_mut(&topic).expect("it has the topic");
            let reason = gap["reason"].as_str().expect("a text");
            let lost = int(&gap["conflated"]) + int(&gap["dropped"]);
            let gap = Gap { from: int(&gap["from"]), to: int(&gap["to"]), reason, lost };
            let class = self.classes.get(self.classes.of(&self.topics[topic]));
            subscription.gap(gap, &client.who, &self.all, class, self.now, &mut self.counts);
        } else {
            let topic = topic_of(&said["topic"]);
            let subscription = client.subscriptions.get_mut(&topic).expect("it has the topic");
            let text = said["message"].as_str().expect("a text");
            let offset = int(&said["offset"]);
            subscription.receive(offset, text, &client.who, &self.all, &mut self.counts);
            if let Some(known) = self.positions.get_mut(&topic) {
                let (epoch, _) = known[known.len() - 1];
                known.push((epoch, offset));
            }
        }
    }

    /// Removes everybody, and checks that nothing is left: no credit, no log, no history, no record.
    fn end(mut self) -> Resumed {
        for client in std::mem::take(&mut self.clients) {
            self.remove(&client);
        }
        self.settle();
        assert_eq!(self.admission.inflight(), 0, "credits are missing");
        // A history ends with its time, and its record a while later.
        for _ in 0..2 {
            self.now += 600_000 + TOPIC_IDLE_MS;
            self.shards.iter_mut().for_each(|shard| shard.begin_turn(self.now));
        }
        self.shards.iter_mut().for_each(|shard| shard.begin_turn(self.now));
        let total = self.fabric.metrics.total();
        assert_eq!((total.records, total.topics, total.history_bytes), (0, 0, 0));
        assert!(self.shards.iter().all(|shard| shard.log_bytes() < 10 * 66 * 1024), "the logs are not empty");
        self.counts
    }
}

fn parse_epoch(text: &str) -> Epoch {
    let (node, incarnation) = text.split_once('-').expect("it has two parts");
    let number = |digits| u64::from_str_radix(digits, 16).expect("hex digits");
    Epoch { node: number(node), incarnation: number(incarnation) }
}
