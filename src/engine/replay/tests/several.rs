//! Messages to several topics that are replayed: each client gets them once.

use super::*;
use crate::engine::{Event, Order};

/// A node whose topics all have a history, with connections that take everything.
struct Node {
    shards: Vec<Shard>,
    wires: Vec<Wire>,
    fabric: Fabric,
    admission: Admission,
    sent: u64,
}

impl Node {
    fn new(shards: usize) -> Self {
        let history = History { messages: 10_000, bytes: BOUND / 2, ttl: Duration::from_millis(TTL_MS) };
        let class = Class { history: Some(history), ..Class::default_with(BOUND, Duration::from_secs(60)) };
        let classes = Arc::new(Classes::only(class));
        let fabric = Fabric::new(&Settings { shards, classes, ..Settings::default() }, 1);
        Self {
            shards: (0..shards).map(|number| Shard::new(number, fabric.clone())).collect(),
            wires: (0..shards).map(|_| Wire::default()).collect(),
            fabric,
            admission: Admission::new(8_000, 64 << 20),
            sent: 0,
        }
    }

    fn client(&mut self, shard: usize) -> Client {
        let key = self.shards[shard].add(None, None, Encoding::V1);
        self.shards[shard].attached(key);
        Client { shard, key }
    }

    /// Publishes the next number to topics, and has it delivered.
    fn publish(&mut self, names: &[&str]) {
        self.sent += 1;
        let topics: Arc<[Topic]> = names.iter().map(|name| topic(name)).collect();
        let credits = self.admission.try_admit_all(topics.len() as u32, 1).expect("little is under way");
        let home = topics[0].home(self.shards.len());
        let content = Message::text(self.sent.to_string()).into();
        let (order, _) = Order::new(topics, content, None, false, credits);
        self.fabric.mailboxes.to_home(home, Ingress::Order(Box::new(order)));
        self.run();
    }

    /// Has a client change its topics to these. What it is sent then, answers aside.
    fn change(&mut self, client: Client, wanted: &[(&str, Option<Resume>)]) -> Vec<Value> {
        let topics: Arc<[Topic]> = wanted.iter().map(|(name, _)| topic(name)).collect();
        let resume = wanted.iter().filter_map(|(name, resume)| Some((topic(name), (*resume)?))).collect();
        let answer = Some(Answer { id: None, topics: topics.clone() });
        let change = TopicChange { wanted: topics, resume, answer };
        self.shards[client.shard].change_topics(client.key, change);
        self.run();
        self.read(client)
    }

    fn run(&mut self) {
        while (0..self.shards.len()).any(|shard| self.turn(shard)) {}
    }

    fn turn(&mut self, number: usize) -> bool {
        let (shard, wire) = (&mut self.shards[number], &mut self.wires[number]);
        shard.begin_turn(0);
        let done = shard.sequence(64) + shard.take(64) + shard.flush(wire, 64);
        while let Some(event) = shard.next_event() {
            assert!(matches!(event, Event::TopicsSet { .. }), "{event:?}");
        }
        done > 0 || shard.has_work()
    }

    /// The messages that came to a client since the last look.
    fn read(&mut self, client: Client) -> Vec<Value> {
        let bytes = self.wires[client.shard].taken.remove(&client.key).unwrap_or_default();
        let told = frames(&bytes).map(|frame| serde_json::from_slice::<Value>(frame).expect("JSON"));
        told.filter(|told| told.get("ok").is_none()).collect()
    }

    fn join_point(&self, client: Client, name: &str) -> Position {
        let positions = self.shards[client.shard].positions(client.key);
        positions.into_iter().find(|(has, _)| has.as_str() == name).expect("it has the topic").1
    }

    fn epoch(&mut self, name: &str) -> Epoch {
        let topic = topic(name);
        let home = topic.home(self.shards.len());
        self.shards[home].home.history(&topic, 0).expect("something was published").0.epoch
    }
}

#[derive(Clone, Copy)]
struct Client {
    shard: usize,
    key: Key,
}

fn texts(told: &[Value]) -> Vec<&str> {
    told.iter().map(|told| told["message"].as_str().unwrap_or_else(|| panic!("a message: {told}"))).collect()
}

#[test]
fn message_to_several_topics_that_are_resumed_together_comes_once_and_names_the_others() {
    for shards in [1, 3] {
        let mut node = Node::new(shards);
        for _ in 0..3 {
            node.publish(&["a", "b"]);
            node.publish(&["b", "a"]);
        }
        let (a, b) = (node.epoch("a"), node.epoch("b"));
        for names in [["a", "b"], ["b", "a"]] {
            let client = node.client(0);
            let wanted = names.map(|name| (name, Some(since(if name == "a" { a } else { b }, 1))));
            let told = node.change(client, &wanted);
            // The first is behind the position in neither.
            let mut came = texts(&told);
            came.sort_unstable();
            assert_eq!(came, ["2", "3", "4", "5", "6"], "{told:?}");
            for message in &told {
                let other = if message["topic"] == "a" { "b" } else { "a" };
                assert_eq!(message["also"], serde_json::json!([other]), "{message}");
            }
        }
        let client = node.client(0);
        let told = node.change(client, &[("b", Some(since(b, 4)))]);
        assert_eq!(texts(&told), ["5", "6"], "in one of them alone it comes");
        let told = node.change(client, &[("b", None), ("a", Some(since(a, 0)))]);
        assert_eq!(texts(&told), ["1", "2", "3", "4"], "what was replayed is not replayed by another");
    }
}

#[test]
fn what_a_member_of_another_topic_got_live_is_not_replayed() {
    for shards in [1, 2, 3] {
        let mut node = Node::new(shards);
        node.publish(&["a", "b"]);
        let client = node.client(0);
        node.change(client, &[("a", None)]);
        node.publish(&["b", "a"]);
        node.publish(&["b"]);
        node.publish(&["a", "b"]);
        node.publish(&["b", "c"]);
        assert_eq!(texts(&node.read(client)), ["2", "4"]);
        let told = node.change(client, &[("a", None), ("b", Some(Resume::Last(3)))]);
        assert_eq!(texts(&told), ["1", "3", "5"], "the last that it does not have");
        node.change(client, &[("b", None)]);
        node.publish(&["a", "b"]);
        assert_eq!(texts(&node.read(client)), ["6"]);
        let epoch = node.epoch("a");
        let told = node.change(client, &[("a", Some(since(epoch, 0))), ("b", None)]);
        assert!(told.is_empty(), "all of it came by b: {told:?}");
    }
}

#[test]
fn what_came_by_the_topic_named_first_is_not_replayed_by_one_whose_offset_it_did_not_see() {
    for shards in [1, 2, 3] {
        let mut node = Node::new(shards);
        let client = node.client(0);
        node.change(client, &[("a", None), ("b", None)]);
        (0..5).for_each(|_| node.publish(&["a", "b"]));
        let told = node.read(client);
        assert!(told.iter().all(|told| told["topic"] == "a"), "{told:?}");
        (0..2).for_each(|_| node.publish(&["b", "a"]));
        node.shards[0].remove(client.key);
        (0..2).for_each(|_| node.publish(&["a", "b"]));
        let (a, b) = (node.epoch("a"), node.epoch("b"));
        for (last_a, last_b) in [(5, 7), (7, 5), (0, 7), (7, 0)] {
            let back = node.client(0);
            let told = node.change(back, &[("a", Some(since(a, last_a))), ("b", Some(since(b, last_b)))]);
            assert_eq!(texts(&told), ["8", "9"], "with each position it says that it has what is before");
        }
        let alone = node.client(0);
        let told = node.change(alone, &[("b", Some(since(b, 0)))]);
        assert_eq!(told.len(), 9, "by itself a topic is replayed whole");
    }
}

#[test]
fn clients_that_come_back_to_what_they_had_get_each_message_once() {
    let mut random = 7_u64;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    let names = ["a", "b", "c", "d"];
    for round in 0..40 {
        let mut node = Node::new(below(4) + 1);
        let mut followers = Vec::new();
        for _ in 0..6 {
            let has = names.into_iter().filter(|_| below(2) == 0).collect();
            followers.push(Follower::new(&mut node, has));
        }
        for _ in 0..60 {
            let mut to = names.to_vec();
            (0..4).for_each(|n| to.swap(n, below(4)));
            to.truncate(below(4) + 1);
            node.publish(&to);
            for follower in &mut followers {
                if follower.last.keys().any(|topic| to.contains(topic)) {
                    follower.meant.push(node.sent);
                }
            }
            let follower = &mut followers[below(6)];
            follower.read(&mut node);
            match (below(4), follower.client) {
                (0, Some(_)) => follower.vanish(&mut node),
                (1, None) => follower.come_back(&mut node, below(4)),
                _ => {}
            }
        }
        for (nth, follower) in followers.iter_mut().enumerate() {
            follower.come_back(&mut node, below(4));
            follower.came.sort_unstable();
            assert_eq!(follower.came, follower.meant, "round {round}, client {nth} of {:?}", follower.last);
        }
    }
}

/// A client that remembers the last offset it saw of each of its topics, and comes back with them.
struct Follower {
    client: Option<Client>,
    last: HashMap<&'static str, Position>,
    came: Vec<u64>,
    meant: Vec<u64>,
}

impl Follower {
    fn new(node: &mut Node, topics: Vec<&'static str>) -> Self {
        let client = node.client(0);
        let wanted: Vec<_> = topics.iter().map(|&name| (name, None)).collect();
        node.change(client, &wanted);
        let last = topics.into_iter().map(|name| (name, node.join_point(client, name))).collect();
        Self { client: Some(client), last, came: Vec::new(), meant: Vec::new() }
    }

    fn read(&mut self, node: &mut Node) {
        if let Some(client) = self.client {
            let told = node.read(client);
            self.note(&told);
        }
    }

    fn vanish(&mut self, node: &mut Node) {
        if let Some(client) = self.client.take() {
            node.shards[client.shard].remove(client.key);
        }
    }

    fn come_back(&mut self, node: &mut Node, shard: usize) {
        self.read(node);
        self.vanish(node);
        let client = node.client(shard % node.shards.len());
        let wanted: Vec<_> =
            self.last.iter().map(|(&name, at)| (name, Some(since(at.epoch, at.offset)))).collect();
        let told = node.change(client, &wanted);
        self.client = Some(client);
        self.note(&told);
    }

    fn note(&mut self, told: &[Value]) {
        for message in told {
            let topic = message["topic"].as_str().unwrap_or_else(|| panic!("a message: {message}"));
            let last = self.last.get_mut(topic).expect("it is of a topic it has");
            last.offset = message["offset"].as_u64().expect("a number");
            self.came.push(message["message"].as_str().and_then(|text| text.parse().ok()).expect("a number"));
        }
    }
}
