//! Changes of topics between several homes, whose answer is awaited: what follows it, what it costs, who is judged.

use super::*;

#[test]
fn nothing_of_a_left_topic_follows_the_answer_though_homes_answer_one_after_the_other() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let key = bench.client(Encoding::V1);
    let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&old], &[]);
    bench.turns(&[0]);
    assert_eq!(bench.read(key).len(), 1);
    bench.wire.shut = true;
    bench.publish(&old, "ahead");
    bench.turns(&[0]);
    bench.subscribe(key, &[&near, &far], &[&near, &far]);
    bench.ask();
    bench.turns(&[0]);
    bench.publish(&old, "between");
    bench.publish(&near, "between");
    bench.publish(&old, "between");
    bench.turns(&[0, 1, 0]);
    bench.publish(&old, "after");
    bench.wire.shut = false;
    bench.shards[0].writable(key);
    bench.turns(&[0]);
    let texts = bench.read(key);
    assert!(is_message(&texts[0], &old) && texts[0].contains("ahead"), "{texts:?}");
    assert!(texts[1].starts_with(r#"{"ok":7"#), "{texts:?}");
    assert!(is_message(&texts[2], &near), "{texts:?}");
    assert_eq!(texts.len(), 3, "{texts:?}");
    let total = bench.fabric.metrics.total();
    assert_eq!((total.matched, total.written), (2, 2), "it leaves the old one at the place of the answer");
}

#[test]
fn refused_change_takes_nothing_that_was_queued_before() {
    let mut bench = Bench::new(Policy::Disconnect, 1);
    let key = bench.client(Encoding::V1);
    let (near, far) = (topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&near], &[]);
    bench.turns(&[0]);
    bench.wire.shut = true;
    bench.publish(&near, "before");
    bench.turns(&[0]);
    bench.subscribe(key, &[], &[]);
    bench.subscribe(key, &[&near, &far], &[&near, &far]);
    bench.turns(&[0]);
    bench.publish(&near, "between");
    bench.turns(&[0, 1, 0]);
    bench.wire.shut = false;
    bench.shards[0].writable(key);
    bench.turns(&[0]);
    let texts = bench.read(key);
    assert!(is_message(&texts[1], &near) && texts[1].contains("before"), "{texts:?}");
    assert!(texts[3].contains("error"), "{texts:?}");
    assert_eq!(texts.len(), 4, "{texts:?}");
}

#[test]
fn who_waits_for_an_answer_is_no_slow_consumer() {
    for policy in [Policy::DropOldest, Policy::Disconnect] {
        let mut bench = Bench::new(policy, 100);
        let key = bench.client(Encoding::V1);
        let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
        bench.subscribe(key, &[&old], &[]);
        bench.turns(&[0]);
        bench.subscribe(key, &[&old, &near, &far], &[&near, &far]);
        bench.ask();
        bench.turns(&[0]);
        bench.read(key);
        let text = "x".repeat(1_000);
        for _ in 0..100 {
            bench.publish(&old, &text);
            bench.turns(&[0]);
            // The answer comes by the same queue: nothing may be held back for the sake of who waits for it.
            assert!(!bench.shards[0].holds_back());
        }
        assert!(bench.shards[0].queued_bytes(key) > BOUND);
        bench.turns(&[1, 0]);
        let texts = bench.read(key);
        assert!(texts[0].starts_with(r#"{"ok":7"#), "{}", texts[0]);
        assert_eq!(texts.iter().filter(|text| is_message(text, &old)).count(), 100);
    }
}

#[test]
fn queue_that_got_long_while_its_answer_was_awaited_is_cut_when_its_socket_takes_nothing() {
    for (policy, drops) in
        [(Policy::DropOldest, true), (Policy::DropNewest, true), (Policy::Disconnect, false)]
    {
        let mut bench = Bench::new(policy, 100);
        let key = bench.client(Encoding::V1);
        let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
        bench.subscribe(key, &[&old], &[]);
        bench.turns(&[0]);
        bench.subscribe(key, &[&old, &near, &far], &[&near, &far]);
        bench.ask();
        bench.turns(&[0]);
        bench.read(key);
        let text = "x".repeat(1_000);
        (0..100).for_each(|_| bench.publish(&old, &text));
        bench.turns(&[0, 0]);
        bench.wire.shut = true;
        bench.shards[1].sequence(64);
        bench.shards[0].take(64);
        while bench.shards[0].flush(&mut bench.wire, 64) > 0 {}
        // Where nothing may go it is behind, and judged when it was seen whether its socket takes anything.
        assert!(bench.shards[0].is_open(key), "{policy:?}");
        assert_eq!(bench.shards[0].queued_bytes(key) <= BOUND, drops, "{policy:?}");
        if drops {
            bench.wire.shut = false;
            bench.shards[0].writable(key);
            bench.turns(&[0]);
            let texts = bench.read(key);
            let got = texts.iter().filter(|text| is_message(text, &old)).count() as u64;
            let lost = bench.fabric.metrics.total().dropped_bound;
            assert_eq!(got + lost, 100);
            let told = if policy == Policy::DropOldest { (1, lost) } else { (got + 1, 100) };
            assert_eq!(gaps(&texts), [(told.0, told.1, lost)], "{policy:?}");
        } else {
            bench.wire.shut = false;
            bench.shards[0].writable(key);
            bench.turns(&[0]);
            let texts = bench.read(key);
            assert_eq!(
                texts.iter().filter(|text| is_message(text, &old)).count(),
                100,
                "it reads, and has it all"
            );
        }
    }
}

#[test]
fn memory_is_taken_from_who_waits_for_an_answer_too() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
    let clients: Vec<Key> = (0..60).map(|_| bench.client(Encoding::V1)).collect();
    let own: Vec<Topic> = (0..60).map(|n| topic_of(0, &format!("own{n}-"))).collect();
    for (&key, own) in clients.iter().zip(&own) {
        bench.subscribe(key, &[own, &old], &[]);
    }
    bench.turns(&[0]);
    for (&key, own) in clients.iter().zip(&own) {
        bench.subscribe(key, &[own, &old, &near, &far], &[&near, &far]);
    }
    bench.ask();
    bench.turns(&[0]);
    let text = "x".repeat(1_000);
    // Each may have 64 KiB queued; all together may not have 60 times that.
    for _ in 0..50 {
        for own in &own {
            bench.publish(own, &text);
            bench.shards[0].begin_turn(0);
            bench.shards[0].sockets_looked_at();
            bench.shards[0].sequence(64);
            while bench.shards[0].take(64) + bench.shards[0].flush(&mut bench.wire, 64) > 0 {}
        }
    }
    let total = bench.fabric.metrics.total();
    assert_eq!(total.sequenced, 50 * 60);
    assert!(bench.fabric.mailboxes.fanout(0).is_empty(), "everything was taken");
    assert!(total.closed_slow > 0 && total.dropped_memory > 0, "{total:?}");
    assert!(bench.shards[0].log_bytes() < 2 * LOG_BYTES, "{}", bench.shards[0].log_bytes());
}

#[test]
fn joins_of_those_who_are_gone_are_not_sent() {
    let mut bench = Bench::new(Policy::Disconnect, 1_000);
    let clients: Vec<Key> = (0..JOINS_INFLIGHT + 50).map(|_| bench.client(Encoding::V1)).collect();
    let far: Vec<Topic> = (0..clients.len()).map(|n| topic_of(1, &format!("far{n}-"))).collect();
    for (&key, far) in clients.iter().zip(&far) {
        bench.subscribe(key, &[far], &[far]);
    }
    assert_eq!(bench.shards[0].joining.waiting.len(), 50);
    for &key in &clients[JOINS_INFLIGHT..] {
        bench.shards[0].remove(key);
    }
    for _ in 0..10 {
        bench.turns(&[1, 0]);
    }
    assert_eq!(bench.shards[0].joining.waiting.len(), 0);
    let total = bench.fabric.metrics.total();
    assert_eq!((total.topics, total.records), (JOINS_INFLIGHT as u64, JOINS_INFLIGHT as u64));
}

#[test]
fn greeting_is_kept_when_what_is_queued_is_thrown_away_before_there_is_a_socket() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let topic = topic_of(0, "near");
    let key = bench.shards[0].add(None, None, Encoding::V1);
    bench.shards[0].keep_place(key);
    bench.shards[0].set_topics(key, vec![topic.clone()]);
    bench.turns(&[0]);
    bench.publish(&topic, "one");
    bench.turns(&[0]);
    let goodbye = Goodbye { code: CloseCode::REPLACED, reason: "replaced" };
    bench.shards[0].close(key, goodbye, Manner::Discard);
    bench.shards[0].fill_place(key, b"\x81\x05hello".to_vec());
    bench.shards[0].attached(key);
    bench.shards[0].begin_turn(0);
    while bench.shards[0].flush(&mut bench.wire, 64) > 0 {}
    let bytes = bench.wire.taken.remove(&key).expect("something came");
    assert_eq!(&bytes[..7], b"\x81\x05hello");
    assert!(bytes.ends_with(b"replaced"), "the close follows");
}

#[test]
fn message_to_a_left_and_a_new_topic_comes_once_in_the_new_one() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let key = bench.client(Encoding::V1);
    let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&old], &[]);
    bench.turns(&[0]);
    bench.subscribe(key, &[&near, &far], &[&near, &far]);
    bench.ask();
    bench.turns(&[0]);
    bench.read(key);
    let topics = Arc::from([old.clone(), near.clone()]);
    let credits = bench.admission.try_admit_all(2, 10).expect("little is under way");
    let (order, _) = Order::new(topics, Message::text("both").into(), None, false, credits);
    bench.fabric.mailboxes.to_home(0, Ingress::Order(Box::new(order)));
    bench.turns(&[0, 1, 0]);
    let texts = bench.read(key);
    assert!(texts[0].starts_with(r#"{"ok":7"#) && is_message(&texts[1], &near), "{texts:?}");
    assert_eq!(texts.len(), 2, "{texts:?}");
}

#[test]
fn message_to_a_left_and_a_kept_topic_comes_once_though_the_client_is_closed_before_the_answer() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let key = bench.client(Encoding::V1);
    let (old, kept) = (topic_of(0, "old"), topic_of(0, "kept"));
    let (near, far) = (topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&old, &kept], &[]);
    bench.turns(&[0]);
    bench.read(key);
    bench.subscribe(key, &[&kept, &near, &far], &[&near, &far]);
    bench.ask();
    bench.turns(&[0]);
    bench.order(&[&old, &kept], "both");
    bench.turns(&[0]);
    bench.shards[0].close(key, Goodbye { code: CloseCode::RESTART, reason: "restart" }, Manner::Flush);
    while bench.shards[0].flush(&mut bench.wire, 64) > 0 {}
    let texts = bench.read(key);
    assert_eq!(texts.iter().filter(|text| text.contains("both")).count(), 1, "{texts:?}");
}

#[test]
fn loss_of_a_topic_that_was_left_and_joined_again_is_told_behind_the_answers() {
    let mut bench = Bench::new(Policy::DropOldest, 100);
    let (key, other, topic) = (bench.client(Encoding::V1), bench.client(Encoding::V1), topic_of(0, "near"));
    // The other one keeps the topic, so that to this shard it is the same one all the time.
    bench.shards[0].set_topics(other, vec![topic.clone()]);
    bench.shards[0].set_topics(key, vec![topic.clone()]);
    bench.turns(&[0]);
    bench.wire.shut = true;
    let publish_many = |bench: &mut Bench| {
        for _ in 0..200 {
            bench.publish(&topic, &"x".repeat(1_000));
            bench.turns(&[0]);
        }
    };
    publish_many(&mut bench);
    bench.subscribe(key, &[], &[]);
    bench.subscribe(key, &[&topic], &[&topic]);
    bench.turns(&[0]);
    publish_many(&mut bench);
    bench.wire.shut = false;
    bench.shards[0].writable(key);
    bench.turns(&[0]);
    let texts = bench.read(key);
    let joined = texts.iter().rposition(|text| text.starts_with(r#"{"ok""#)).expect("it is answered");
    let (before, after) = (gaps(&texts[..joined]), gaps(&texts[joined..]));
    assert_eq!((before.len(), after.len()), (1, 1), "{before:?}, {after:?}");
    assert!(before[0].1 <= 200 && after[0].0 == 201, "{before:?}, {after:?}");
}

#[test]
fn small_messages_make_room_for_an_answer_and_for_the_gap_that_tells_of_them() {
    let mut bench = Bench::new(Policy::DropOldest, 100);
    let key = bench.client(Encoding::V1);
    let topics: Vec<Topic> = (0..20).map(|n| topic_of(0, &format!("near{n}-"))).collect();
    bench.subscribe(key, &topics.iter().collect::<Vec<_>>(), &[]);
    bench.turns(&[0]);
    bench.wire.shut = true;
    for n in 0..3_000 {
        bench.publish(&topics[n % 20], "x");
        bench.turns(&[0]);
    }
    for _ in 0..1_000 {
        bench.shards[0].answer(key, b"\x81\x04pong".to_vec());
        assert!(bench.shards[0].queued_bytes(key) <= BOUND);
    }
    assert!(bench.shards[0].is_open(key));
    assert!(bench.fabric.metrics.total().dropped_bound > 0);
}

#[test]
fn message_to_a_left_and_a_resumed_topic_is_replayed_if_it_came_behind_the_place_of_the_answer() {
    let mut bench = Bench::keeping(100);
    let key = bench.client(Encoding::V1);
    let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&old], &[]);
    bench.turns(&[0]);
    let order = |bench: &mut Bench, text: &'static str| {
        let topics = Arc::from([old.clone(), far.clone()]);
        let credits = bench.admission.try_admit_all(2, 10).expect("little is under way");
        let (order, _) = Order::new(topics, Message::text(text).into(), None, false, credits);
        bench.fabric.mailboxes.to_home(0, Ingress::Order(Box::new(order)));
        bench.turns(&[0]);
        bench.shards[1].sequence(64);
    };
    order(&mut bench, "first");
    bench.turns(&[0]);
    assert!(bench.read(key).iter().any(|text| text.contains("first")));
    let answer = Answer { id: CommandId::parse("7").ok(), topics: [near.clone(), far.clone()].into() };
    let mut resume = TopicMap::default();
    resume.insert(far.clone(), Resume::Last(10));
    let wanted = [near.clone(), far.clone()].into();
    bench.shards[0].change_topics(key, TopicChange { wanted, resume, answer: Some(answer) });
    bench.ask();
    // The far home is asked last, though what is published goes there before.
    let held = bench.fabric.mailboxes.ingress(1).pop().expect("the join is on its way");
    bench.turns(&[0]);
    order(&mut bench, "second");
    bench.fabric.mailboxes.to_home(1, held);
    bench.turns(&[1, 0]);
    let texts = bench.read(key);
    assert!(texts[0].starts_with(r#"{"ok":7"#), "{texts:?}");
    assert_eq!(texts.iter().filter(|text| text.contains("second")).count(), 1, "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("first") || is_message(text, &old)), "{texts:?}");
}

#[test]
fn what_younger_messages_replace_goes_when_the_answer_is_there_or_the_socket() {
    let mut bench = Bench::new(Policy::Conflate, 100);
    let (held, attaching) = (bench.client(Encoding::V1), bench.shards[0].add(None, None, Encoding::V1));
    let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(held, &[&old], &[]);
    bench.shards[0].set_topics(attaching, vec![old.clone()]);
    bench.turns(&[0]);
    bench.subscribe(held, &[&old, &near, &far], &[&near, &far]);
    bench.ask();
    bench.turns(&[0]);
    bench.read(held);
    for text in ["one", "two", "three"] {
        bench.publish_keyed(&old, text);
        bench.turns(&[0]);
    }
    bench.shards[0].attached(attaching);
    bench.turns(&[1, 0]);
    let (answered, attached) = (bench.read(held), bench.read(attaching));
    assert!(answered[0].starts_with(r#"{"ok":7"#), "{answered:?}");
    for texts in [&answered[1..], &attached[..]] {
        assert_eq!((texts.len(), gaps(texts)), (2, vec![(1, 2, 2)]), "{texts:?}");
        assert!(texts[1].contains("three"), "{texts:?}");
    }
    assert_eq!(bench.fabric.metrics.total().conflated, 4);
}

#[test]
fn who_is_behind_is_not_waited_for_while_it_waits_for_an_answer() {
    for is_held in [false, true] {
        let mut bench = Bench::new(Policy::Disconnect, 100);
        let key = bench.client(Encoding::V1);
        let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
        bench.subscribe(key, &[&old], &[]);
        bench.turns(&[0]);
        bench.subscribe(key, &[&old, &near, &far], &[&near, &far]);
        bench.ask();
        let join = bench.fabric.mailboxes.ingress(0).pop().expect("the join is on its way");
        bench.wire.shut = true;
        let behind = BOUND / 4 * limits::BEHIND_QUARTERS;
        let text = "x".repeat(1_000);
        while bench.shards[0].queued_bytes(key) + 2 * text.len() < behind {
            bench.publish(&old, &text);
            bench.turns(&[0]);
        }
        (0..3).for_each(|_| bench.publish(&old, &text));
        if is_held {
            bench.fabric.mailboxes.to_home(0, join);
        }
        bench.shards[0].sequence(64);
        // It falls behind, and is held, in one step.
        bench.shards[0].take(64);
        assert!(bench.shards[0].queued_bytes(key) > behind);
        bench.shards[0].sockets_looked_at();
        bench.shards[0].take(0);
        assert_eq!(
            bench.shards[0].holds_back(),
            !is_held,
            "what it waits for comes by what would be held back"
        );
    }
}

#[test]
fn audience_that_waits_for_sockets_or_answers_does_not_count_as_draining() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let (old, near, far) = (topic_of(0, "old"), topic_of(0, "near"), topic_of(1, "far"));
    let [blocked, held] = [(); 2].map(|()| bench.client(Encoding::V1));
    let attaching = bench.shards[0].add(None, None, Encoding::V1);
    for key in [blocked, held, attaching] {
        bench.shards[0].set_topics(key, vec![old.clone()]);
    }
    bench.turns(&[0]);
    bench.subscribe(held, &[&old, &near, &far], &[&near, &far]);
    bench.ask();
    bench.turns(&[0]);
    bench.wire.shut = true;
    bench.publish(&old, "one");
    bench.turns(&[0]);
    assert_eq!(bench.fabric.metrics.total().blocked, 2, "as it was at the begin of the turn");
    let audience = bench.shards[0].audience();
    assert_eq!((audience.size, audience.draining), (3, 1));
}
