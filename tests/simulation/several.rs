//! Runs of seeds in which messages go to several topics of several homes, while clients of `fanfare.v1` come, change their topics,
//! ask for the past, and are refused. What each client reads is judged by that alone: what it was told that it has comes once,
//! and all of it; and receipts add up.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use fanfare::{
    admission::Admission,
    classes::{Class, Classes, History, Policy, Which},
    engine::{
        Answer, Change, Encoding, Event, Fabric, Ingress, Key, Order, Outcome, Resume, Shard, TopicChange,
    },
    identity::ClientId,
    limits::TOPIC_IDLE_MS,
    protocol::v1::CommandId,
    publication::{Audience, Content, Epoch, Message},
    settings::Settings,
    topic::{Topic, TopicMap},
};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    net::{Manners, Net},
    random::Random,
    seen::Severally,
    several_model::{Messages, Seen, Subscription},
    steps::{Steps, note},
    world::defaults,
};

/// The bound of a queue: more than a run publishes.
const MUCH: usize = 4 * 1024 * 1024;

/// A change of topics whose answer has not come yet.
struct Asked {
    id: u64,
    joins: Vec<(usize, Option<Resume>)>,
    leaves: Vec<usize>,
    /// What the client had asked to have before.
    before: Vec<usize>,
}

struct Client {
    shard: usize,
    key: Key,
    number: usize,
    id: ClientId,
    /// What it has asked to have, all told and nothing refused.
    wanted: Vec<usize>,
    pending: bool,
    asked: VecDeque<Asked>,
    subscriptions: HashMap<usize, Subscription>,
    seen: Seen,
}

struct World {
    random: Random,
    fabric: Fabric,
    shards: Vec<Shard>,
    nets: Vec<Net>,
    admission: Admission,
    topics: Vec<Topic>,
    messages: Messages,
    outstanding: Vec<(usize, oneshot::Receiver<Outcome>)>,
    clients: Vec<Client>,
    /// The last position that each client, by its number, saw of a topic.
    positions: HashMap<(usize, usize), (Epoch, u64)>,
    now: u64,
    asked: u64,
    counts: Severally,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, made: &mut Steps<'_>) -> Severally {
    let mut random = Random::new(seed ^ 0x5E7E_BA11);
    let steps = random.within(200, 700);
    let mut world = World::new(random);
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
    fn new(mut random: Random) -> Self {
        let (shards, topics) = (random.within(1, 4), random.within(3, 6));
        let history = History { messages: 100_000, bytes: MUCH / 2, ttl: Duration::from_secs(600_000) };
        let class = |name: &str, history| Class {
            name: name.into(),
            policy: Policy::Disconnect,
            history,
            ..Class::default_with(MUCH, Duration::from_secs(3_600))
        };
        let kept = vec![class("kept", Some(history))];
        let rules = vec![(Which::Prefix("kept".into()), "kept".to_owned())];
        let classes = Classes::new(class("default", None), kept, rules).expect("they fit together");
        let settings = Settings {
            shards,
            outbox_bytes: MUCH,
            topics_max: random.pick(&[topics / 2, topics - 1, 1_000]),
            classes: Arc::new(classes),
            ..defaults()
        };
        let fabric = Fabric::new(&settings, 7);
        let forgotten = random.within(0, 2);
        let name = |n: usize| format!("{} {n}", if n < forgotten { "not" } else { "kept" });
        note(|| format!("{shards} shards, {} of {topics} topics, {forgotten} not kept", settings.topics_max));
        Self {
            shards: (0..shards).map(|number| Shard::new(number, fabric.clone())).collect(),
            nets: (0..shards).map(|_| Net::new(random.fork())).collect(),
            admission: Admission::new(8_000, 64 << 20),
            topics: (0..topics).map(|n| Topic::parse(&name(n)).expect("a topic")).collect(),
            messages: Messages::default(),
            outstanding: Vec::new(),
            clients: Vec::new(),
            positions: HashMap::new(),
            now: 0,
            asked: 0,
            counts: Severally::default(),
            random,
            fabric,
        }
    }

    fn step(&mut self) {
        let shard = self.random.below(self.shards.len());
        let entries = self.random.pick(&[1, 1, 3, 40]);
        match self.random.below(100) {
            0 => self.calm(),
            1 => self.now += TOPIC_IDLE_MS + 1,
            2..22 => self.sequence(shard, entries),
            22..42 => self.take(shard, entries),
            42..52 => self.flush(shard, entries),
            52..70 => self.publish(),
            70..76 => self.come(),
            76..94 => self.change(),
            94..96 => self.leave(),
            _ => self.improve(),
        }
    }

    /// Some of the topics, in any order.
    fn some_topics(&mut self, most: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.topics.len()).collect();
        (0..all.len()).for_each(|place| all.swap(place, self.random.within(place, self.topics.len() - 1)));
        all.truncate(self.random.within(0, most.min(self.topics.len())));
        all
    }

    fn publish(&mut self) {
        let topics = self.some_topics(4);
        if topics.is_empty() {
            return;
        }
        let mut audience = Audience::default();
        if self.random.chance(15) && !self.clients.is_empty() {
            let one = self.random.below(self.clients.len());
            audience.exclude = Some(self.clients[one].id);
        }
        let receipt = self.random.chance(60);
        let number = self.messages.add(topics.clone(), audience.exclude);
        note(|| format!("message {number} to {topics:?} for {audience:?}, receipt {receipt}"));
        self.counts.to_several += u64::from(topics.len() > 1);
        let credits = self.admission.try_admit_all(topics.len() as u32, 10).expect("little is under way");
        let content = Content { message: Message::text(number.to_string()), audience, key: None };
        let names: Arc<[Topic]> = topics.iter().map(|&topic| self.topics[topic].clone()).collect();
        let home = names[0].home(self.shards.len());
        let (order, outcome) = Order::new(names, content, None, receipt, credits);
        self.fabric.mailboxes.to_home(home, Ingress::Order(Box::new(order)));
        self.outstanding.push((number, outcome));
    }

    /// A client connects: one of few, so that most have been here.
    fn come(&mut self) {
        if self.clients.len() == 7 {
            return;
        }
        let number = self.random.below(12);
        let id = ClientId::parse(&format!("{number:032x}")).expect("32 digits");
        let shard = self.random.below(self.shards.len());
        let key = self.shards[shard].add(Some(id), None, Encoding::V1);
        let manners =
            self.random.pick(&[Manners::Willing, Manners::Willing, Manners::Fickle, Manners::Choppy(300)]);
        self.nets[shard].connect(key, manners);
        self.shards[shard].attached(key);
        note(|| format!("client {number} comes to shard {shard} as {key:?}: {manners:?}"));
        self.clients.push(Client {
            shard,
            key,
            number,
            id,
            wanted: Vec::new(),
            pending: false,
            asked: VecDeque::new(),
            subscriptions: HashMap::new(),
            seen: Seen::default(),
        });
    }

    /// A client asks for topics, leaves some, and wants the past of some that are new to it, or that it has.
    fn change(&mut self) {
        let free: Vec<usize> = (0..self.clients.len()).filter(|&n| !self.clients[n].pending).collect();
        if free.is_empty() {
            return;
        }
        let at = self.random.pick(&free);
        let mut wanted = self.some_topics(4);
        let has = self.clients[at].wanted.clone();
        if self.random.chance(50) {
            // It keeps what it has.
            has.iter().for_each(|&topic| wanted.extend((!wanted.contains(&topic)).then_some(topic)));
        }
        let leaves = has.iter().copied().filter(|topic| !wanted.contains(topic)).collect();
        let number = self.clients[at].number;
        let mut joins = Vec::new();
        for &topic in &wanted {
            let is_new = !has.contains(&topic);
            let wants_past = self.random.chance(if is_new { 60 } else { 10 });
            let resume = if wants_past { self.resume(number, topic) } else { None };
            if is_new || resume.is_some() {
                joins.push((topic, resume));
            }
        }
        self.asked += 1;
        let name = |topic: &usize| self.topics[*topic].clone();
        let resume = joins.iter().filter_map(|(topic, resume)| Some((name(topic), (*resume)?)));
        let change = TopicChange {
            wanted: wanted.iter().map(name).collect(),
            resume: resume.collect::<TopicMap<Resume>>(),
            answer: Some(Answer {
                id: CommandId::parse(&self.asked.to_string()).ok(),
                topics: joins.iter().map(|(topic, _)| name(topic)).collect(),
            }),
        };
        let client = &mut self.clients[at];
        note(|| format!("client {:?} asks for {wanted:?}, with {joins:?} to join", client.key));
        let before = std::mem::replace(&mut client.wanted, wanted);
        client.asked.push_back(Asked { id: self.asked, joins, leaves, before });
        client.pending = self.shards[client.shard].change_topics(client.key, change) == Change::Pending;
        let shard = client.shard;
        self.look(shard);
    }

    /// What a client wants of a topic's past: mostly what is behind the last it saw.
    fn resume(&mut self, number: usize, topic: usize) -> Option<Resume> {
        let (epoch, offset) = *self.positions.get(&(number, topic))?;
        match self.random.below(10) {
            0..7 => Some(Resume::Since { epoch: Some(epoch), offset }),
            7 => Some(Resume::Since {
                epoch: Some(epoch),
                offset: self.random.below(offset as usize + 1) as u64,
            }),
            8 => Some(Resume::Since { epoch: None, offset }),
            _ => Some(Resume::Last(self.random.pick(&[1, 3, 100]))),
        }
    }

    fn leave(&mut self) {
        if !self.clients.is_empty() {
            let at = self.random.below(self.clients.len());
            let client = self.clients.swap_remove(at);
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
        for client in &self.clients {
            let connection = self.nets[client.shard].get_mut(client.key).expect("it is connected");
            if std::mem::take(&mut connection.blocked) {
                self.shards[client.shard].writable(client.key);
            }
        }
    }

    fn sequence(&mut self, shard: usize, entries: usize) {
        note(|| format!("home {shard} does {entries} entries"));
        self.shards[shard].begin_turn(self.now);
        self.shards[shard].sequence(entries);
        for (number, mut outcome) in std::mem::take(&mut self.outstanding) {
            match outcome.try_recv() {
                Ok(Outcome::Placed(places)) => {
                    self.counts.refused_parts += places.iter().filter(|place| place.is_err()).count() as u64;
                    self.messages.placed(number, &places);
                }
                Ok(other) => panic!("it has no key: {other:?}"),
                Err(_) => self.outstanding.push((number, outcome)),
            }
        }
    }

    fn take(&mut self, shard: usize, entries: usize) {
        note(|| format!("shard {shard} takes {entries} entries"));
        self.shards[shard].begin_turn(self.now);
        self.shards[shard].sockets_looked_at();
        self.shards[shard].take(entries);
        self.look(shard);
    }

    fn flush(&mut self, shard: usize, offers: usize) {
        note(|| format!("shard {shard} flushes {offers} outboxes"));
        self.shards[shard].flush(&mut self.nets[shard], offers);
        self.look(shard);
    }

    fn settle(&mut self) {
        while self.shards.iter().any(Shard::has_work) {
            for shard in 0..self.shards.len() {
                self.sequence(shard, 64);
                self.take(shard, 64);
                self.flush(shard, 64);
            }
        }
    }

    /// Everyone reads everything; then it must be what was meant for each.
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
        assert!(self.outstanding.is_empty(), "an answer to a publisher is missing");
        for client in &self.clients {
            assert!(client.asked.is_empty() && !client.pending, "an answer is missing");
            for (&topic, subscription) in &client.subscriptions {
                let missing = self.messages.missing(topic, subscription, client.id, &client.seen);
                assert!(
                    missing.is_empty(),
                    "client {:?} has no message of {missing:?} by {topic}",
                    client.key
                );
            }
        }
        let total = self.fabric.metrics.total();
        let queued: u64 = self.shards.iter().map(Shard::queued_frames).sum();
        assert_eq!((total.matched, queued), (total.written + total.dropped() + total.conflated, 0), "I8");
        self.counts.receipts = self.messages.judge_receipts();
    }

    fn look(&mut self, shard: usize) {
        while let Some(event) = self.shards[shard].next_event() {
            let Event::TopicsSet { key, outcome } = event else { panic!("nobody is closed: {event:?}") };
            let client = self.clients.iter_mut().find(|client| (client.shard, client.key) == (shard, key));
            let client = client.expect("it is there");
            client.pending = false;
            if outcome.is_err() {
                // Of its changes the last was pending.
                let asked = client.asked.back().expect("its answer has not been read");
                client.wanted.clone_from(&asked.before);
                let mut has: Vec<Topic> = self.shards[shard].topics_of(key);
                let mut before: Vec<Topic> =
                    asked.before.iter().map(|&topic| self.topics[topic].clone()).collect();
                has.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
                before.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
                assert_eq!(has, before, "a refused change changed something");
            }
        }
        for (key, frames) in self.nets[shard].take_frames() {
            let at = self.clients.iter().position(|client| (client.shard, client.key) == (shard, key));
            let at = at.expect("it is there");
            for frame in frames {
                let said = serde_json::from_slice(&frame.payload).expect("it is JSON");
                self.receive(at, &said);
            }
        }
    }

    fn receive(&mut self, at: usize, said: &Value) {
        let int = |value: &Value| value.as_u64().expect("a number");
        let client = &mut self.clients[at];
        if let Some(id) = said.get("ok") {
            let asked = client.asked.pop_front().expect("it asked for something");
            assert_eq!(int(id), asked.id, "answers come in order");
            client.subscriptions.retain(|topic, _| !asked.leaves.contains(topic));
            for (topic, resume) in asked.joins {
                let position = &said["positions"][self.topics[topic].as_str()];
                let epoch = Epoch::parse(position["epoch"].as_str().expect("a text")).expect("an epoch");
                let head = int(&position["offset"]);
                let recovered = position.get("recovered").and_then(Value::as_bool);
                assert_eq!(recovered.is_some(), matches!(resume, Some(Resume::Since { .. })));
                let begin = match (resume, recovered) {
                    (Some(Resume::Since { offset, .. }), Some(true)) => offset,
                    _ => head,
                };
                self.counts.recovered += u64::from(begin < head);
                if let Some(Resume::Since { epoch: Some(of), offset }) = resume {
                    client.seen.says(topic, of, offset);
                }
                let subscription = Subscription::new((epoch, head), begin);
                match client.subscriptions.get_mut(&topic) {
                    Some(has) => has.resume(&subscription),
                    None => {
                        client.subscriptions.insert(topic, subscription);
                    }
                }
                self.positions.insert((client.number, topic), (epoch, head));
            }
        } else if let Some(error) = said.get("error") {
            let asked = client.asked.pop_front().expect("it asked for something");
            assert_eq!((int(&error["id"]), error["code"].as_str()), (asked.id, Some("full")));
            self.counts.refused_changes += 1;
        } else {
            let name = said.get("gap").unwrap_or(said)["topic"].as_str().expect("a text");
            let topic =
                self.topics.iter().position(|topic| topic.as_str() == name).expect("a topic there is");
            let subscription = client.subscriptions.get(&topic);
            let subscription = subscription.unwrap_or_else(|| panic!("I10: it has no topic {topic}: {said}"));
            if let Some(gap) = said.get("gap") {
                assert_ne!(gap["reason"], "slow", "there is room for everything");
                return;
            }
            let number = said["message"].as_str().and_then(|text| text.parse().ok()).expect("a number");
            let offset = int(&said["offset"]);
            let is_past = offset <= subscription.head;
            self.counts.replayed += u64::from(is_past);
            self.messages.read(number, topic, (subscription.epoch, offset), is_past, client.id);
            let also: Vec<&str> = said
                .get("also")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let others = self.messages.topics(number).iter().filter(|&&other| other != topic);
            assert!(also.into_iter().eq(others.map(|&other| self.topics[other].as_str())), "{said}");
            self.counts.in_several += u64::from(
                self.messages
                    .topics(number)
                    .iter()
                    .filter(|topic| client.subscriptions.contains_key(topic))
                    .count()
                    > 1,
            );
            client.seen.read(number, is_past);
            self.positions.insert((client.number, topic), (subscription.epoch, offset));
        }
    }

    /// Removes everybody, and checks that nothing is left.
    fn end(mut self) -> Severally {
        for client in std::mem::take(&mut self.clients) {
            self.remove(&client);
        }
        self.settle();
        assert_eq!(self.admission.inflight(), 0, "credits are missing");
        for _ in 0..3 {
            self.now += 600_000_000 + TOPIC_IDLE_MS;
            self.shards.iter_mut().for_each(|shard| shard.begin_turn(self.now));
        }
        let total = self.fabric.metrics.total();
        assert_eq!((total.records, total.topics, total.history_bytes), (0, 0, 0));
        for shard in &self.shards {
            assert_eq!(
                shard.holdings(),
                fanfare::engine::Holdings::default(),
                "something is held for nobody"
            );
        }
        self.counts
    }
}
