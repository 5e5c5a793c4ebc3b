//! Changes of topics between several homes of which one has no room, and messages to several topics that pass meanwhile.

use super::*;

/// A node that has room for two topics, with a client that has one of the first home; with another of that home and one of
/// the other home, of which one is too many.
fn nearly_full() -> (Bench, Key, [Topic; 3]) {
    let mut bench = Bench::keeping(2);
    let key = bench.client(Encoding::V1);
    let (kept, near, far) = (topic_of(0, "kept"), topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&kept], &[]);
    bench.turns(&[0]);
    bench.read(key);
    (bench, key, [kept, near, far])
}

/// Lets the first home answer, and both shards work until nothing is left to do after `meanwhile`.
fn with_the_first_home_ahead(bench: &mut Bench, meanwhile: impl FnOnce(&mut Bench)) {
    bench.turns(&[0]);
    meanwhile(bench);
    bench.turns(&[0, 1, 0, 0, 1, 0]);
}

#[test]
fn message_to_a_new_and_a_kept_topic_comes_though_the_new_one_is_refused_with_another() {
    let (mut bench, key, [kept, near, far]) = nearly_full();
    bench.subscribe(key, &[&kept, &near, &far], &[&near, &far]);
    with_the_first_home_ahead(&mut bench, |bench| bench.order(&[&near, &kept], "both"));
    let texts = bench.read(key);
    assert_eq!(texts.iter().filter(|text| text.contains("both")).count(), 1, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("error")), "{texts:?}");
    assert_eq!(bench.shards[0].topics_of(key), [kept]);
}

#[test]
fn message_is_replayed_or_live_though_the_topic_it_came_by_is_refused() {
    let mut bench = Bench::keeping(2);
    let key = bench.client(Encoding::V1);
    let (near, kept, far) = (topic_of(0, "near"), topic_of(1, "kept"), topic_of(1, "far"));
    bench.subscribe(key, &[&kept], &[]);
    bench.turns(&[0, 1, 0]);
    bench.read(key);
    bench.resume(key, &[&near, &kept, &far], &kept);
    with_the_first_home_ahead(&mut bench, |bench| {
        // It is sequenced in the topic that is kept before that is joined again for its past.
        let join = bench.fabric.mailboxes.ingress(1).pop().expect("the join is on its way");
        bench.order(&[&near, &kept], "both");
        bench.turns(&[0, 1]);
        bench.fabric.mailboxes.to_home(1, join);
        bench.turns(&[0]);
    });
    let texts = bench.read(key);
    assert_eq!(texts.iter().filter(|text| text.contains("both")).count(), 1, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("error")), "{texts:?}");
}

#[test]
fn message_to_two_topics_of_which_one_was_to_be_left_comes_once_though_the_change_is_refused() {
    let (mut bench, key, [old, near, far]) = nearly_full();
    let kept = near;
    bench.subscribe(key, &[&old, &kept], &[]);
    bench.turns(&[0]);
    bench.read(key);
    // One of the same home that somebody has is joined before the other home refuses.
    let other = bench.client(Encoding::Plain);
    bench.shards[0].set_topics(other, vec![kept.clone()]);
    bench.turns(&[0]);
    bench.resume(key, &[&kept, &far], &kept);
    with_the_first_home_ahead(&mut bench, |bench| bench.order(&[&old, &kept], "both"));
    let texts = bench.read(key);
    assert_eq!(texts.iter().filter(|text| text.contains("both")).count(), 1, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("error")), "{texts:?}");
    assert_eq!(bench.shards[0].topics_of(key).len(), 2, "nothing was left");
}

#[test]
fn refused_change_replays_nothing() {
    let (mut bench, key, [kept, near, far]) = nearly_full();
    bench.order(&[&kept], "past");
    bench.turns(&[0]);
    bench.read(key);
    // Of the home that refuses, and of the one that would not.
    for named in [vec![&kept, &near, &far], vec![&kept, &far, &near], vec![&near, &far, &kept]] {
        bench.resume(key, &named, &kept);
        with_the_first_home_ahead(&mut bench, |_| {});
        let texts = bench.read(key);
        assert!(texts[0].contains("error"), "{texts:?}");
        assert_eq!(texts.len(), 1, "{texts:?}");
    }
}

#[test]
fn single_home_refuses_all_or_nothing() {
    let (mut bench, key, [kept, near, _]) = nearly_full();
    bench.order(&[&kept], "past");
    bench.turns(&[0]);
    bench.read(key);
    bench.resume(key, &[&kept, &near, &topic_of(0, "more")], &kept);
    bench.turns(&[0]);
    let texts = bench.read(key);
    assert!(texts[0].contains("error"), "{texts:?}");
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(bench.shards[0].topics_of(key), [kept]);
}

#[test]
fn refused_change_leaves_nothing_behind_at_homes_that_had_room() {
    let (mut bench, key, [kept, near, far]) = nearly_full();
    for _ in 0..3 {
        bench.subscribe(key, &[&kept, &near, &far], &[&near, &far]);
        with_the_first_home_ahead(&mut bench, |_| {});
    }
    assert_eq!(bench.read(key).iter().filter(|text| text.contains("error")).count(), 3);
    assert_eq!(bench.fabric.metrics.total().topics, 1);
    bench.shards[0].remove(key);
    bench.turns(&[0, 1, 0]);
    bench.shards.iter_mut().for_each(|shard| shard.begin_turn(limits::TOPIC_IDLE_MS + 1));
    bench.shards.iter_mut().for_each(|shard| shard.begin_turn(limits::TOPIC_IDLE_MS + 1));
    let total = bench.fabric.metrics.total();
    assert_eq!((total.topics, total.records), (0, 0));
}

#[test]
fn homes_are_asked_only_about_what_nobody_of_the_shard_has() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let (near, far) = (topic_of(0, "near"), topic_of(1, "far"));
    let clients = [(); 3].map(|()| bench.client(Encoding::V1));
    let under_way = |bench: &Bench| [0, 1].map(|home| bench.fabric.mailboxes.ingress(home).len());
    bench.subscribe(clients[0], &[&near], &[&near]);
    bench.turns(&[0]);
    bench.subscribe(clients[1], &[&near, &far], &[&near, &far]);
    assert_eq!(under_way(&bench), [0, 1], "the other home is asked first");
    bench.turns(&[1, 0]);
    assert_eq!(bench.shards[0].topics_of(clients[1]), []);
    bench.turns(&[0, 1, 0]);
    bench.subscribe(clients[2], &[&near, &far], &[&near, &far]);
    assert_eq!(under_way(&bench), [1, 1], "both are joined at once");
    bench.turns(&[0, 1, 0]);
    for key in &clients[1..] {
        assert_eq!(bench.shards[0].topics_of(*key).len(), 2);
        assert!(bench.read(*key)[0].contains("positions"));
    }
}
