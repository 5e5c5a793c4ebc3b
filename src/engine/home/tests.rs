//! Offsets, interest and histories of a home, and when its records go.

use std::time::Duration;

use super::*;
use crate::{
    classes::{self, Class},
    limits::MEMORY_HISTORIES_MS,
    publication::Message,
};

fn topic(n: usize) -> Topic {
    Topic::parse(&format!("t{n}")).expect("it is a topic")
}

fn home(max: usize) -> Home {
    home_keeping(None, max)
}

fn home_keeping(history: Option<classes::History>, max: usize) -> Home {
    let class = Class { history, ..Class::default_with(1 << 20, Duration::from_secs(60)) };
    Home::new((0, 1), 9, RecordBudget::new(max), Arc::new(Classes::only(class)), 100)
}

fn sequence(home: &mut Home, topic: &Topic, now: u64) -> Result<(Position, Interest), TopicsFull> {
    home.sequence(topic, &Message::text("purr").into(), None, now)
}

fn join(home: &mut Home, topic: &Topic, shard: u16, now: u64) -> Result<Position, TopicsFull> {
    home.join(topic, (shard, Encoding::Plain), None, now).map(|joined| joined.position)
}

#[test]
fn offsets_count_up_from_one_and_joins_see_the_last() {
    let mut home = home(10);
    assert_eq!(join(&mut home, &topic(1), 3, 0).expect("there is room").offset, 0);
    for offset in 1..=3 {
        let (position, shards) = sequence(&mut home, &topic(1), 0).expect("it is there");
        assert_eq!(position.offset, offset);
        assert_eq!(shards.shards().iter().collect::<Vec<_>>(), [3]);
    }
    assert_eq!(join(&mut home, &topic(1), 0, 0).expect("it is there").offset, 3);
    let (_, shards) = sequence(&mut home, &topic(1), 0).expect("it is there");
    assert_eq!(shards.shards().iter().collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn histories_go_by_halves_and_not_several_times_at_once() {
    let history = classes::History { messages: 1_000, bytes: 1 << 19, ttl: Duration::from_secs(60) };
    let mut home = home_keeping(Some(history), 10);
    for _ in 0..100 {
        sequence(&mut home, &topic(1), 0).expect("there is room");
    }
    let all = home.history_bytes();
    home.thin_out(16, 10);
    let half = home.history_bytes();
    assert!(half < all * 6 / 10 && half > all * 4 / 10, "{half} of {all}");
    home.thin_out(16, 10 + MEMORY_HISTORIES_MS - 1);
    assert_eq!(home.history_bytes(), half, "it has not been long");
    home.thin_out(16, 10 + MEMORY_HISTORIES_MS);
    assert!(home.history_bytes() < half);
}

#[test]
fn idle_record_is_freed_and_comes_back_in_another_epoch() {
    let mut home = home(10);
    let (first, _) = sequence(&mut home, &topic(1), 0).expect("there is room");
    home.expire(99);
    let (second, _) = sequence(&mut home, &topic(1), 50).expect("it is there");
    assert_eq!((second.epoch, second.offset), (first.epoch, 2));
    home.expire(149);
    assert_eq!(home.len(), 1);
    home.expire(150);
    assert_eq!(home.len(), 0);
    let (third, _) = sequence(&mut home, &topic(1), 160).expect("there is room");
    assert_ne!(third.epoch, first.epoch);
    assert_eq!(third.offset, 1);
}

#[test]
fn wanted_record_is_never_freed() {
    let mut home = home(10);
    join(&mut home, &topic(1), 0, 0).expect("there is room");
    join(&mut home, &topic(1), 1, 0).expect("there is room");
    home.unwant(&topic(1), (0, Encoding::Plain), 10);
    home.expire(1_000_000);
    assert_eq!(home.len(), 1);
    home.unwant(&topic(1), (1, Encoding::Plain), 1_000_000);
    home.unwant(&topic(1), (1, Encoding::Plain), 1_000_000);
    home.expire(1_000_100);
    assert_eq!(home.len(), 0);
}

#[test]
fn at_the_limit_the_longest_idle_topic_goes_and_then_new_ones_are_refused() {
    let mut home = home(2);
    sequence(&mut home, &topic(1), 0).expect("there is room");
    sequence(&mut home, &topic(2), 1).expect("there is room");
    sequence(&mut home, &topic(1), 2).expect("it is there");
    join(&mut home, &topic(3), 0, 3).expect("topic 2 is the longest idle");
    assert!(home.number(&topic(1)).is_some() && home.number(&topic(2)).is_none());
    join(&mut home, &topic(1), 0, 4).expect("it is there");
    assert_eq!(sequence(&mut home, &topic(4), 5), Err(TopicsFull));
    assert_eq!(join(&mut home, &topic(4), 0, 5), Err(TopicsFull));
    sequence(&mut home, &topic(3), 6).expect("it is there");
}

#[test]
fn record_with_a_history_lives_until_time_has_emptied_it_and_as_long_as_others_then() {
    let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_millis(1_000) };
    let mut home = home_keeping(Some(history), 10);
    let (first, _) = sequence(&mut home, &topic(1), 0).expect("there is room");
    let (second, _) = sequence(&mut home, &topic(1), 900).expect("it is there");
    home.expire(1_899);
    let (head, run) = home.history(&topic(1), 1_899).expect("it is there");
    assert_eq!((head, run.map(|run| run.len())), (second, Some(1)));
    assert!(home.history_bytes() > 0);
    home.expire(1_900);
    assert_eq!(home.history_bytes(), 0);
    home.expire(1_999);
    let (head, run) = home.history(&topic(1), 1_999).expect("it is there");
    assert_eq!((head.epoch, head.offset, run.is_none()), (first.epoch, 2, true));
    home.expire(2_000);
    assert_eq!((home.len(), home.history(&topic(1), 2_000).is_none()), (0, true));
}

#[test]
fn other_classes_bound_what_is_kept_at_once_and_by_their_own_time() {
    let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_secs(60) };
    let mut home = home_keeping(Some(history), 10);
    for _ in 0..5 {
        sequence(&mut home, &topic(1), 0).expect("there is room");
    }
    let classes = |history: Option<classes::History>| {
        let class = Class { history, ..Class::default_with(1 << 20, Duration::from_secs(60)) };
        Arc::new(Classes::only(class))
    };
    let kept = |home: &mut Home, now| {
        let (_, run) = home.history(&topic(1), now).expect("it is there");
        run.map_or(0, |run| run.len())
    };
    let shorter = classes::History { messages: 3, ttl: Duration::from_secs(1), ..history };
    home.change_classes(classes(Some(shorter)), 500);
    assert_eq!(kept(&mut home, 500), 3);
    home.expire(1_000);
    assert_eq!(home.history_bytes(), 0, "it was not to be looked at for a minute");
    sequence(&mut home, &topic(1), 1_000).expect("it is there");
    home.change_classes(classes(None), 1_000);
    assert_eq!((home.history_bytes(), kept(&mut home, 1_000)), (0, 0));
    home.expire(1_000);
    home.expire(1_200);
    assert_eq!(home.len(), 0, "nothing keeps it");
}

#[test]
fn history_is_not_served_for_longer_than_it_may_be_though_nobody_has_looked() {
    let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_millis(1_000) };
    let mut home = home_keeping(Some(history), 10);
    sequence(&mut home, &topic(1), 0).expect("there is room");
    let since = Resume::Since { epoch: Some(home.epoch(0)), offset: 0 };
    let past = |home: &mut Home, now| {
        let joined = home.join(&topic(1), (0, Encoding::V1), Some(since), now).expect("it is there");
        joined.past.expect("it asked for it")
    };
    assert_eq!(past(&mut home, 999).run.len(), 1);
    let late = past(&mut home, 1_000);
    assert_eq!((late.run.len(), late.missed.map(|missed| missed.count())), (0, Some(1)));
    assert_eq!(home.history_bytes(), 0);
}

#[test]
fn record_with_a_history_makes_no_room_for_others_and_wanted_ones_outlive_their_history() {
    let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_millis(1_000) };
    let mut home = home_keeping(Some(history), 2);
    sequence(&mut home, &topic(1), 0).expect("there is room");
    sequence(&mut home, &topic(2), 0).expect("there is room");
    join(&mut home, &topic(2), 0, 0).expect("it is there");
    assert_eq!(sequence(&mut home, &topic(3), 500), Err(TopicsFull));
    home.expire(1_000);
    sequence(&mut home, &topic(3), 1_000).expect("topic 1 is idle now");
    assert!(home.number(&topic(1)).is_none() && home.number(&topic(2)).is_some());
    home.unwant(&topic(2), (0, Encoding::Plain), 1_500);
    home.expire(2_000);
    home.expire(2_100);
    assert_eq!(home.len(), 0);
}

#[test]
fn message_too_large_for_its_history_leaves_a_record_that_is_freed_like_any() {
    let history = classes::History { messages: 10, bytes: 300, ttl: Duration::from_millis(50) };
    let mut home = home_keeping(Some(history), 10);
    home.sequence(&topic(1), &Message::text("x".repeat(400)).into(), None, 0).expect("there is room");
    sequence(&mut home, &topic(2), 0).expect("there is room");
    home.sequence(&topic(2), &Message::text("x".repeat(400)).into(), None, 10).expect("it is there");
    assert_eq!(home.history_bytes(), 0);
    home.expire(50);
    home.expire(100);
    assert_eq!(home.len(), 1, "topic 2 was looked at for its history");
    home.expire(150);
    assert_eq!(home.len(), 0);
}
