//! By name: stuck and slow connections, shards with too much to do, full logs, and stop.

use fanfare::{engine::Manner, publication::Audience, settings::Settings};

use super::{
    net::Manners,
    random::Random,
    world::{Stage, World, small},
};

fn world(settings: Settings) -> World {
    World::new(settings, 8, Random::new(1))
}

fn manners(world: &mut World, number: usize, manners: Manners) {
    let (shard, key) = (world.subscribers[number].shard, world.subscribers[number].key);
    world.nets[shard].get_mut(key).expect("it has a socket").manners = manners;
}

/// Subscribers of one shard that read nothing; each is found out by its next message.
fn stuck(world: &mut World, count: usize, topics: &[usize]) -> Vec<usize> {
    let numbers: Vec<usize> = (0..count).map(|_| world.add(0, None)).collect();
    for &number in &numbers {
        world.set_topics(number, topics);
    }
    world.settle();
    for &number in &numbers {
        world.attach(number, Manners::Stuck);
    }
    numbers
}

#[test]
fn stuck_subscriber_is_closed_at_its_bound_and_neighbours_miss_nothing() {
    let mut world = world(small(2));
    let willing = [world.subscribe(0, None, &[0]), world.subscribe(1, None, &[0])];
    let stuck = world.subscribe(0, None, &[0]);
    manners(&mut world, stuck, Manners::Stuck);
    let mut published = Vec::new();
    while !world.subscribers[stuck].closed {
        let queued = world.shards[0].queued_bytes(world.subscribers[stuck].key);
        assert!(queued <= world.settings.outbox_bytes);
        published.push(world.tell_everyone(0, 1_000));
        world.settle();
    }
    assert_eq!(published.len(), 64 * 1024 / 1_004 + 1, "it is closed at its bound, not before");
    for _ in 0..10 {
        published.push(world.tell_everyone(0, 1_000));
        world.settle();
    }
    for number in willing {
        assert_eq!(world.subscribers[number].viewer.seen, published);
        assert_eq!(world.subscribers[number].stage, Stage::Attached);
    }
    manners(&mut world, stuck, Manners::Willing);
    world.writable(stuck);
    world.settle();
    assert_eq!((world.subscribers[stuck].code, world.subscribers[stuck].viewer.seen.len()), (Some(1013), 0));
    assert_eq!(world.end().dropped_bound, 66);
}

#[test]
fn stuck_subscriber_is_closed_at_its_age_while_little_goes_on() {
    let mut world = world(small(1));
    let willing = world.subscribe(0, None, &[0]);
    let stuck = stuck(&mut world, 1, &[0])[0];
    let (age, step) = (fanfare::limits::OUTBOX_AGE_MS, 1_000);
    while !world.subscribers[stuck].closed {
        world.tell_everyone(0, 20);
        world.settle();
        world.now += step;
        world.begin_turn(0);
        world.drop_overdue(0);
        assert!(world.now <= age + 2 * step, "one message a second");
    }
    assert!(world.now > age, "{} ms", world.now);
    world.settle();
    assert_eq!(world.subscribers[willing].stage, Stage::Attached);
    assert!(world.end().dropped_age > 0);
}

#[test]
fn overloaded_shard_takes_nothing_more_and_closes_nobody() {
    let mut settings = small(1);
    settings.inflight_publications = 200;
    let mut world = world(settings);
    let numbers: Vec<usize> = (0..5).map(|_| world.subscribe(0, None, &[0])).collect();
    let mut published = Vec::new();
    // The shard sequences and takes as it likes, and is never given the time to flush.
    while let Some(number) = world.publish(0, Audience::default(), 2_000, true) {
        published.push(number);
        world.sequence(0, 64);
        world.take(0, 64);
    }
    assert!(!world.shards[0].keeps_up());
    assert_eq!(world.admission.inflight(), 200, "what is not taken holds its credits");
    assert!(published.len() < 200 + 2 * (16 * 1024) / 2_000, "hardly more than the lag was taken");
    for &number in &numbers {
        assert!(world.shards[0].queued_bytes(world.subscribers[number].key) <= 2 * (16 * 1024 + 2_004));
    }
    world.settle();
    for &number in &numbers {
        assert_eq!(world.subscribers[number].viewer.seen, published);
        assert_eq!(world.subscribers[number].stage, Stage::Attached);
    }
    assert_eq!(world.end().slow, 0);
}

#[test]
fn subscriber_that_just_became_writable_is_not_closed_by_a_pong() {
    let mut settings = small(1);
    settings.shard_lag = 32 * 1024;
    let mut world = world(settings);
    let one = world.subscribe(0, None, &[0]);
    manners(&mut world, one, Manners::Stuck);
    for _ in 0..3 {
        world.tell_everyone(0, 15_000);
        world.settle();
    }
    manners(&mut world, one, Manners::Willing);
    world.writable(one);
    for _ in 0..2 {
        world.tell_everyone(0, 15_000);
    }
    world.sequence(0, 64);
    world.take(0, 64);
    assert!(world.shards[0].queued_bytes(world.subscribers[one].key) > world.settings.outbox_bytes);
    world.pong(one);
    world.settle();
    assert_eq!(world.subscribers[one].viewer.seen.len(), 5);
    assert_eq!(world.end().slow, 0);
}

#[test]
fn large_frame_that_closes_everyone_it_is_for() {
    let mut world = world(small(1));
    let numbers = stuck(&mut world, 3, &[0]);
    world.tell_everyone(0, 30_000);
    world.settle();
    world.tell_everyone(0, 40_000);
    world.settle();
    assert!(numbers.iter().all(|&number| world.subscribers[number].closed));
    for &number in &numbers {
        manners(&mut world, number, Manners::Willing);
    }
    world.settle_unblocking();
    let seen = world.end();
    assert_eq!((seen.slow, seen.dropped_bound), (3, 6));
}

#[test]
fn thousand_stalled_subscribers_cost_one_backlog() {
    let mut settings = small(1);
    settings.outbox_bytes = 512 * 1024;
    settings.log_bytes = 8 * 1024 * 1024;
    let mut world = world(settings);
    let willing = world.subscribe(0, None, &[0]);
    let stalled = stuck(&mut world, 1_000, &[0]);
    let empty = world.shards[0].log_bytes();
    let mut published = Vec::new();
    for n in 0..400 {
        published.push(world.tell_everyone(0, if n % 40 == 0 { 20_000 } else { 500 }));
        world.settle();
    }
    let backlog = world.shards[0].queued_bytes(world.subscribers[stalled[0]].key);
    assert!(backlog > 350_000);
    let cost = world.shards[0].log_bytes() - empty;
    assert!(cost < backlog + 3 * 66 * 1024, "{cost} bytes of log for a backlog of {backlog}");
    for &number in &stalled {
        manners(&mut world, number, Manners::Willing);
    }
    world.settle_unblocking();
    for &number in stalled.iter().chain([&willing]) {
        assert_eq!(world.subscribers[number].viewer.seen, published);
    }
    world.end();
}

#[test]
fn compaction_keeps_every_wanted_frame() {
    let mut settings = small(1);
    settings.outbox_bytes = 256 * 1024;
    settings.inflight_bytes = 8 * 1024 * 1024;
    let mut world = world(settings);
    let willing = world.subscribe(0, None, &[0]);
    let seldom = [world.subscribe(0, None, &[1]), world.subscribe(0, None, &[1, 2])];
    for &number in &seldom {
        // One has read half of its first frame.
        manners(&mut world, number, Manners::Choppy(40));
    }
    let mut published = vec![world.tell_everyone(1, 60)];
    world.settle();
    for &number in &seldom {
        manners(&mut world, number, Manners::Stuck);
    }
    for n in 0..1_500 {
        match n % 25 {
            0 => published.push(world.tell_everyone(1, 900)),
            1 => drop(world.tell_everyone(2, 900)),
            _ => drop(world.tell_everyone(0, 1_200)),
        }
        world.settle();
    }
    let held = world.shards[0].log_bytes();
    assert!(held <= world.settings.log_bytes + 2 * 66 * 1024, "{held}");
    let compactions = world.fabric.metrics.total().compactions;
    assert!(compactions >= 5, "{compactions}");
    for &number in &seldom {
        manners(&mut world, number, Manners::Choppy(700));
    }
    world.settle_unblocking();
    assert_eq!(world.subscribers[seldom[0]].viewer.seen, published);
    assert_eq!(world.subscribers[seldom[1]].viewer.seen.len(), 2 * published.len() - 1);
    assert_eq!(world.subscribers[willing].viewer.seen.len(), 1_500 - 2 * (published.len() - 1));
    assert_eq!(world.end().slow, 0);
}

#[test]
fn stop_delivers_what_was_accepted_then_says_goodbye() {
    let mut world = world(small(3));
    let topics = [0, 1, 2, 3];
    let mut numbers: Vec<usize> = (0..9).map(|n| world.subscribe(n % 3, None, &topics)).collect();
    let late = world.add(1, None);
    world.set_topics(late, &topics);
    world.settle();
    for &number in &numbers[..3] {
        manners(&mut world, number, Manners::Choppy(100));
    }
    let published: Vec<usize> = (0..40).map(|n| world.tell_everyone(topics[n % 4], 300)).collect();
    world.stop();
    for shard in [2, 0, 1] {
        world.take(shard, 64);
    }
    world.attach(late, Manners::Willing);
    world.settle_unblocking();
    numbers.push(late);
    for &number in &numbers {
        assert_eq!(world.subscribers[number].code, Some(1012));
        assert_eq!(world.subscribers[number].viewer.seen.len(), published.len());
        assert_eq!(world.subscribers[number].stage, Stage::Ended);
    }
    assert!(world.stopped.iter().all(|&stopped| stopped));
    assert_eq!(world.end().dropped_closed, 0);
}

#[test]
fn polite_close_of_many_who_read_nothing_does_not_stop_their_shard() {
    let mut settings = small(1);
    settings.outbox_bytes = 256 * 1024;
    settings.inflight_bytes = 8 * 1024 * 1024;
    let mut world = world(settings);
    let willing = world.subscribe(0, None, &[0]);
    // Together they hold far more than the logs may; each holds less than its bound; all are being closed.
    for topic in [1, 2, 3, 4, 5, 6, 7] {
        let stalled = stuck(&mut world, 2, &[topic]);
        for _ in 0..12 {
            world.tell_everyone(topic, 20_000);
            world.settle();
        }
        for number in stalled {
            if !world.subscribers[number].closed {
                world.close(number, Manner::Flush);
            }
        }
    }
    let published: Vec<usize> = (0..20).map(|_| world.tell_everyone(0, 1_000)).collect();
    world.settle();
    assert_eq!(world.subscribers[willing].viewer.seen, published);
    assert_eq!(world.admission.inflight(), 0);
    world.end();
}

/// A turn of a shard, `ms` milliseconds after the last. Returns whether it holds back then.
fn turn(world: &mut World, ms: u64) -> bool {
    world.now += ms;
    world.begin_turn(0);
    while world.sequence(0, 64) + world.take(0, 64) + world.flush(0, 64) > 0 {}
    world.shards[0].holds_back()
}

/// Subscribers of one shard that take a few bytes at a time; `bytes` at most.
fn choppy(world: &mut World, count: usize, bytes: usize) -> Vec<usize> {
    let numbers: Vec<usize> = (0..count).map(|_| world.subscribe(0, None, &[0])).collect();
    for &number in &numbers {
        manners(world, number, Manners::Choppy(bytes));
    }
    numbers
}

/// Tells the shard that the connection of a subscriber takes bytes again, if it is there and did not.
fn may_take(world: &mut World, number: usize) {
    let (shard, key) = (world.subscribers[number].shard, world.subscribers[number].key);
    if world.nets[shard].get(key).is_some_and(|connection| connection.blocked && !connection.gone) {
        world.writable(number);
    }
}

#[test]
fn readers_in_overload_are_never_closed() {
    let mut world = world(small(1));
    let readers = choppy(&mut world, 40, 8_000);
    let (mut published, mut refused) = (Vec::new(), 0);
    for tick in 0..2_000 {
        // Each takes 4,000 bytes every 20 ms; three times of that are offered.
        for _ in 0..3 {
            match world.publish(0, Audience::default(), 1_000, false) {
                Some(number) => published.push(number),
                None => refused += 1,
            }
        }
        turn(&mut world, 5);
        for &number in readers.iter().skip(tick % 4).step_by(4) {
            may_take(&mut world, number);
        }
    }
    let offered = published.len() + refused;
    assert!(refused > offered / 2, "publishers wait: {refused} of {offered} refused");
    assert!(published.len() > offered / 5, "and the audience is kept busy: {} of {offered}", published.len());
    assert_eq!(world.fabric.metrics.total().closed_slow, 0);
    for &number in &readers {
        manners(&mut world, number, Manners::Willing);
        may_take(&mut world, number);
    }
    world.settle();
    for &number in &readers {
        assert!(world.subscribers[number].viewer.seen == published, "reader {number} has everything");
        assert_eq!(world.subscribers[number].stage, Stage::Attached);
    }
    assert_eq!(world.end().slow, 0);
}

#[test]
fn stalled_subscribers_are_closed_at_their_bound_and_nobody_waits_for_them() {
    let mut world = world(small(1));
    let willing = world.subscribe(0, None, &[0]);
    let stalled = stuck(&mut world, 50, &[0]);
    let mut published = Vec::new();
    while !stalled.iter().all(|&number| world.subscribers[number].closed) {
        published.push(world.tell_everyone(0, 1_000));
        assert!(!turn(&mut world, 10));
        assert_eq!(world.subscribers[willing].viewer.seen, published, "it has each at once");
    }
    assert_eq!(published.len(), 64 * 1024 / 1_004 + 1, "they are closed at their bound, not before");
    assert_eq!(world.fabric.metrics.total().held_back, 0);
    for number in stalled {
        manners(&mut world, number, Manners::Willing);
        may_take(&mut world, number);
    }
    world.settle_unblocking();
    assert_eq!(world.end().slow, 50);
}

#[test]
fn subscribers_that_dribble_hold_up_the_others_for_a_small_share_of_the_time() {
    let mut world = world(small(1));
    let willing: Vec<usize> = (0..20).map(|_| world.subscribe(0, None, &[0])).collect();
    let mut dribbling = choppy(&mut world, 1, 500)[0];
    const LONG: u64 = 20_000;
    let (mut held, mut published) = (0, 0);
    for now in 0..LONG {
        if now % 10 == 0 {
            published += usize::from(world.publish(0, Audience::default(), 2_000, false).is_some());
        }
        held += u64::from(turn(&mut world, 1));
        if now % 50 == 0 {
            may_take(&mut world, dribbling);
        }
        if world.subscribers[dribbling].closed {
            dribbling = choppy(&mut world, 1, 500)[0];
        }
    }
    assert!(held > 0, "it is tried");
    assert!(held <= LONG / 200, "held for {held} of {LONG} ms");
    assert_eq!(published as u64, LONG / 10, "publishers do not notice");
    world.settle();
    for number in willing {
        assert_eq!(world.subscribers[number].viewer.seen.len(), published);
    }
    assert!(world.fabric.metrics.total().closed_slow > 10);
}
