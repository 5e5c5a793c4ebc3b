//! By name: joins, leaves, kicks and keys that meet each other on the way.

use fanfare::{
    engine::{Change, Manner, TopicsFull},
    publication::Audience,
};

use super::{
    net::Manners,
    random::Random,
    world::{Stage, World, small},
};

/// Topics of a script.
const TOPICS: usize = 6;

fn world(shards: usize) -> World {
    World::new(small(shards), TOPICS, Random::new(1))
}

/// A topic whose home is not `shard`, so that what one does to it there takes its time.
fn topic_away_from(world: &World, shard: usize) -> usize {
    world.model.topics.iter().position(|topic| topic.home != shard).expect("homes are spread")
}

#[test]
fn last_leave_with_a_join_in_flight() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let home = 1;
    let first = world.subscribe(0, None, &[topic]);
    let second = world.add(0, None);
    assert_eq!(world.set_topics(second, &[topic]), Change::Pending);
    assert!(world.leave(first, topic), "the last member leaves while a join is under way");
    let before = world.tell_everyone(topic, 10);
    world.sequence(home, 64);
    world.attach(second, Manners::Willing);
    world.settle();
    let after = world.tell_everyone(topic, 10);
    world.settle();
    assert_eq!(world.subscribers[second].viewer.seen, [before, after], "the topic was not un-wanted");
    assert!(world.subscribers[first].viewer.seen.is_empty());
    world.end();
}

#[test]
fn last_leave_before_a_join_is_answered_late() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let first = world.subscribe(0, None, &[topic]);
    // The un-want is on its way before the join is: the home forgets this shard and hears of it again.
    assert!(world.leave(first, topic));
    let second = world.add(0, None);
    world.set_topics(second, &[topic]);
    let published = world.tell_everyone(topic, 10);
    world.attach(second, Manners::Willing);
    world.settle();
    assert_eq!(world.subscribers[second].viewer.seen, [published]);
    world.end();
}

#[test]
fn subscribe_unsubscribe_late_joined() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let one = world.subscribe(0, None, &[]);
    assert_eq!(world.set_topics(one, &[topic]), Change::Pending);
    world.sequence(1, 64);
    assert_eq!(world.set_topics(one, &[]), Change::Done, "the change under way is given up");
    world.tell_everyone(topic, 10);
    world.settle();
    assert!(world.subscribers[one].viewer.seen.is_empty(), "what came back late has no effect");
    assert!(world.subscribers[one].outcomes.is_empty());
    world.end();
}

#[test]
fn leave_and_rejoin() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let one = world.subscribe(0, None, &[topic]);
    let first = world.tell_everyone(topic, 10);
    world.settle();
    let between = world.tell_everyone(topic, 10);
    world.sequence(1, 64);
    assert!(world.leave(one, topic), "with a publication in the queue that is not taken yet");
    assert_eq!(world.set_topics(one, &[topic]), Change::Pending);
    world.settle();
    let last = world.tell_everyone(topic, 10);
    world.settle();
    assert_eq!(world.subscribers[one].viewer.seen, [first, last], "{between} fell between leave and join");
    world.end();
}

#[test]
fn key_reuse_with_a_join_in_flight() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let gone = world.add(0, None);
    world.set_topics(gone, &[topic]);
    world.sequence(1, 64);
    world.remove(gone);
    let heir = world.subscribe(0, None, &[]);
    assert_eq!(world.subscribers[heir].key.index, world.subscribers[gone].key.index);
    world.tell_everyone(topic, 10);
    world.settle();
    assert!(world.subscribers[heir].viewer.seen.is_empty(), "the join was another one's");
    world.set_topics(heir, &[topic]);
    world.settle();
    let published = world.tell_everyone(topic, 10);
    world.settle();
    assert_eq!(world.subscribers[heir].viewer.seen, [published]);
    world.end();
}

#[test]
fn kick_while_attaching() {
    for manner in [Manner::Flush, Manner::Discard] {
        let mut world = world(2);
        let topic = topic_away_from(&world, 0);
        let one = world.add(0, None);
        world.set_topics(one, &[topic]);
        world.settle();
        let kept = world.tell_everyone(topic, 10);
        world.settle();
        world.kick(one, manner);
        world.settle();
        assert!(world.subscribers[one].closed, "it is in no topic from now on");
        world.tell_everyone(topic, 10);
        world.settle();
        assert_eq!(world.subscribers[one].stage, Stage::Attaching, "the close waits for the socket");
        world.attach(one, Manners::Willing);
        world.settle();
        assert_eq!(world.subscribers[one].stage, Stage::Ended);
        let (code, seen) = match manner {
            Manner::Flush => (4409, vec![kept]),
            Manner::Discard => (1000, vec![]),
        };
        assert_eq!(world.subscribers[one].code, Some(code));
        assert_eq!(world.subscribers[one].viewer.seen, seen);
        world.end();
    }
}

#[test]
fn kick_while_attaching_with_a_join_in_flight() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let one = world.add(0, None);
    world.set_topics(one, &[topic]);
    world.kick(one, Manner::Flush);
    world.take(0, 64);
    world.settle();
    world.attach(one, Manners::Choppy(3));
    world.settle_unblocking();
    assert_eq!(world.subscribers[one].code, Some(4409));
    assert!(world.subscribers[one].outcomes.is_empty());
    world.end();
}

#[test]
fn refused_topic_changes_nothing() {
    let mut settings = small(2);
    settings.topics_max = 2;
    let mut world = World::new(settings, TOPICS, Random::new(1));
    let home = world.model.topics[0].home;
    let same_home = (1..TOPICS).find(|&topic| world.model.topics[topic].home == home);
    let new = same_home.expect("homes are few");
    let other = (1..TOPICS).find(|&topic| topic != new).expect("there are more");
    let one = world.subscribe(0, None, &[0, other]);
    assert_eq!(world.set_topics(one, &[other, new]), Change::Pending);
    world.settle();
    assert_eq!(world.subscribers[one].outcomes.last(), Some(&Err(TopicsFull)));
    assert!(world.publish(new, Audience::default(), 10, true).is_some());
    let published = [world.tell_everyone(0, 10), world.tell_everyone(other, 10)];
    world.settle();
    assert_eq!(world.seen.refused_publications, 1);
    let mut seen = world.subscribers[one].viewer.seen.clone();
    seen.sort_unstable();
    assert_eq!(seen, published, "it has the topics it had");
    world.set_topics(one, &[other]);
    world.settle();
    world.set_topics(one, &[other, new]);
    world.settle();
    assert_eq!(world.subscribers[one].outcomes.last(), Some(&Ok(())), "a topic nobody has makes room");
    world.end();
}

#[test]
fn joins_beyond_the_limit_wait_and_all_come_back() {
    let mut world = world(2);
    let topic = topic_away_from(&world, 0);
    let count = fanfare::limits::JOINS_INFLIGHT + 300;
    let numbers: Vec<usize> = (0..count).map(|_| world.add(0, None)).collect();
    for &number in &numbers {
        assert_eq!(world.set_topics(number, &[topic]), Change::Pending);
    }
    assert_eq!(world.fabric.mailboxes.ingress(1).len(), fanfare::limits::JOINS_INFLIGHT);
    for &number in &numbers[..count / 2] {
        world.attach(number, Manners::Willing);
    }
    for &number in &numbers[count / 2..] {
        world.remove(number);
    }
    world.settle();
    let published = world.tell_everyone(topic, 10);
    world.settle();
    for &number in &numbers[..count / 2] {
        assert_eq!(world.subscribers[number].viewer.seen, [published]);
    }
    world.end();
}
