//! Publications of clients that wait: for credits, for their place, for a receipt. Shards are driven by hand.

use std::{collections::HashMap, io::IoSlice, time::Duration};

use serde_json::Value;
use tokio::task::LocalSet;

use super::*;
use crate::{
    classes::{Class, Classes, Needs},
    engine::{Encoding, Offered, Shard, Transport},
    limits::CLIENT_PUBLICATIONS_WAITING,
    node::Node,
    publication::{Audience, Content, IdempotencyKey, Message},
    settings::Settings,
};

/// Connections that take everything.
#[derive(Default)]
struct Wire(HashMap<Key, Vec<u8>>);

impl Transport for Wire {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        let taken = self.0.entry(key).or_default();
        slices.iter().for_each(|slice| taken.extend_from_slice(slice));
        Offered::Wrote { bytes: slices.iter().map(|slice| slice.len()).sum(), unflushed: false }
    }
}

/// A node whose clients may publish, and its first shard on this thread.
struct Bench {
    node: Arc<Node>,
    local: Local,
    wire: Wire,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let class = Class {
            publishers: Needs::Public,
            ..Class::default_with(settings.outbox_bytes, settings.outbox_age)
        };
        let node = Node::new(Settings { classes: Arc::new(Classes::only(class)), ..settings });
        let local = Local::new(node.clone(), 0).expect("a descriptor");
        Self { node, local, wire: Wire::default() }
    }

    fn client(&self) -> Key {
        let shard = &mut self.local.state().shard;
        let key = shard.add(None, None, Encoding::V1);
        shard.attached(key);
        key
    }

    fn publish(&self, key: Key, topic: &Topic, receipt: bool) {
        let content = Content { message: Message::text("purr"), audience: Audience::default(), key: None };
        let topics = [topic.clone()].into_iter().collect();
        let idempotency_key: Option<IdempotencyKey> = None;
        let body = PublishBody { topics, is_list: false, content, idempotency_key, receipt };
        let command = PublishCommand { id: CommandId::parse("4").ok(), body };
        self.local.publish_for(&mut self.local.state(), key, command);
    }

    /// What a client is answered, in the end.
    async fn answer(&mut self, key: Key) -> Value {
        let local = self.local.clone();
        until("it is answered", || local.state().shard.queued_bytes(key) > 0).await;
        local.state().shard.flush(&mut self.wire, usize::MAX);
        let frame = self.wire.0.remove(&key).expect("it was flushed");
        let payload = if frame[1] < 126 { &frame[2..] } else { &frame[4..] };
        serde_json::from_slice(payload).expect("one answer")
    }
}

/// A topic whose home is a shard of two.
fn topic_at(home: usize) -> Topic {
    let topics = (0..).map(|n| Topic::parse(&format!("t{n}")).expect("a topic"));
    topics.into_iter().find(|topic| topic.home(2) == home).expect("there are many")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let turns = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), turns)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn publications_that_wait_for_credits_are_bounded_and_end_with_their_connections() {
    run(async {
        let mut bench = Bench::new(Settings { shards: 1, ..Settings::default() });
        let local = bench.local.clone();
        let topic = Topic::parse("cats").expect("a topic");
        let credits = bench.node.take_all_credits();
        let keys: Vec<Key> = (0..CLIENT_PUBLICATIONS_WAITING).map(|_| bench.client()).collect();
        keys.iter().for_each(|&key| bench.publish(key, &topic, false));
        let late = bench.client();
        bench.publish(late, &topic, false);
        let refused = bench.answer(late).await;
        assert_eq!((&refused["error"]["code"], &refused["error"]["id"]), (&"overloaded".into(), &4.into()));
        assert_eq!(local.waiting_publications(), CLIENT_PUBLICATIONS_WAITING);
        assert!(keys.iter().all(|&key| local.state().shard.queued_bytes(key) == 0), "the others wait");
        keys[1..].iter().for_each(|&key| local.drop_connection(&mut local.state(), key));
        until("the tasks of those who are gone end", || local.waiting_publications() == 1).await;
        assert_eq!(local.state().publishing.len(), 1);
        drop(credits);
        until("the one that is left is taken", || local.waiting_publications() == 0).await;
        local.state().shard.sequence(usize::MAX);
        assert_eq!(bench.answer(keys[0]).await["position"]["offset"], 1);
        bench.publish(late, &topic, false);
        until("there are credits", || bench.node.mailboxes().ingress(0).is_empty()).await;
        assert_eq!(bench.answer(late).await["position"]["offset"], 2, "of the others nothing was taken");
        assert!(local.state().publishing.is_empty());
    });
}

#[test]
fn connection_that_begins_to_close_gives_up_what_waits_for_credits() {
    run(async {
        let bench = Bench::new(Settings { shards: 1, ..Settings::default() });
        let local = bench.local.clone();
        let _credits = bench.node.take_all_credits();
        let key = bench.client();
        bench.publish(key, &Topic::parse("cats").expect("a topic"), false);
        local.closing(&mut local.state(), key, 0);
        until("its task ends", || local.waiting_publications() == 0).await;
        assert!(local.state().publishing.is_empty());
    });
}

#[test]
fn publication_that_has_credits_goes_on_though_its_connection_is_gone() {
    run(async {
        let bench = Bench::new(Settings { shards: 2, ..Settings::default() });
        let (local, topic) = (bench.local.clone(), topic_at(1));
        let key = bench.client();
        bench.publish(key, &topic, false);
        until("it is at its home", || bench.node.mailboxes().ingress(1).len() == 1).await;
        assert_eq!(local.waiting_publications(), 0, "it has credits");
        local.drop_connection(&mut local.state(), key);
        tokio::task::yield_now().await;
        assert_eq!(Shard::new(1, bench.node.fabric().clone()).sequence(usize::MAX), 1);
        assert_eq!(bench.node.metrics().total().sequenced, 1);
    });
}

#[test]
fn receipt_is_partial_where_a_shard_stalls_and_whole_where_none_does() {
    run(async {
        let hour = Duration::from_secs(3_600);
        for (stalls, receipt_wait) in [(true, Duration::ZERO), (false, hour)] {
            let mut bench = Bench::new(Settings { shards: 2, receipt_wait, ..Settings::default() });
            let (local, topic) = (bench.local.clone(), topic_at(0));
            let mut other = Shard::new(1, bench.node.fabric().clone());
            let key = other.add(None, None, Encoding::Plain);
            other.attached(key);
            other.set_topics(key, [topic.clone()]);
            local.state().shard.sequence(usize::MAX);
            other.take(usize::MAX);
            let publisher = bench.client();
            bench.publish(publisher, &topic, true);
            until("it is in the other's queue", || !bench.node.mailboxes().fanout(1).is_empty()).await;
            if !stalls {
                other.take(usize::MAX);
                other.flush(&mut Wire::default(), usize::MAX);
            }
            let told = bench.answer(publisher).await;
            let (matched, partial) = if stalls { (0, Some(&Value::Bool(true))) } else { (1, None) };
            let position = &told["position"];
            assert_eq!((&told["ok"], &position["offset"]), (&4.into(), &1.into()));
            assert_eq!((&position["matched"], position.get("partial")), (&matched.into(), partial), "{told}");
        }
    });
}
