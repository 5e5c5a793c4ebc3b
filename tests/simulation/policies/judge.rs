//! The look at what a call of the engine brought about: what was read, what is queued, and so what is lost; whether that
//! might be; and whether the books say the same.

use std::collections::HashSet;

use fanfare::{
    classes::{Class, Policy},
    engine::{Encoding, Event, Key},
    websocket::CloseCode,
};

use super::{
    books::Loss,
    client::{Queued, Said, Stage},
    op::CLASSES,
    publishing::Became,
    world::{OFFSETS, World},
};

/// Answers, gaps and greetings that may stand in a queue besides its frames, bytes.
const ANSWERS_BYTES: usize = 16 * 1024;

/// What was called.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// Publications of one topic arrived.
    Deliver(Arrival),
    /// A home answered a join.
    Joined(Joins),
    /// A connection takes bytes again, or for the first time.
    Unblock,
    /// A change of topics was asked for, or an answer queued.
    Change(usize),
    /// Somebody was closed, kicked or is gone.
    Close,
    Sequence,
    /// It was decided whether to wait for those who are behind.
    Patience,
    Flush,
    Turn,
    Overdue,
}

#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) class: usize,
    /// For each client of the shard the bytes that were queued before.
    pub(super) before: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
pub(super) struct Joins {
    pub(super) key: Key,
    /// For each topic the rank behind which it begins, if the home has room for it.
    pub(super) points: Vec<(usize, Option<u64>)>,
}

impl Joins {
    /// Whether the home has no room for some of them.
    fn are_refused(&self) -> bool {
        self.points.iter().any(|(_, point)| point.is_none())
    }
}

/// What became of one queue.
pub(super) struct Fates {
    /// The frames that were queued, those that arrived in this step last.
    pub(super) queue: Vec<Queued>,
    /// For each whether it was read, is queued, or is lost.
    fates: Vec<Fate>,
    /// The place of the first that arrived in this step.
    arrived: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Read,
    Queued,
    Lost,
}

impl World {
    /// Looks at everything that a call of a shard may have brought about.
    pub(super) fn look(&mut self, shard: usize, cause: Cause) {
        let were_blocked: Vec<usize> = self.there().filter(|&number| self.is_blocked(number)).collect();
        let has_events = self.look_at_events(shard);
        if matches!(cause, Cause::Patience) && !has_events {
            // Nobody was closed, and nothing else can come of it.
            return;
        }
        let here: Vec<usize> = self.there().filter(|&number| self.clients[number].shard == shard).collect();
        for &number in &here {
            self.look_at_topics(number, &cause);
        }
        for topic in 0..self.topics.len() {
            // A book is open before something is counted in it.
            for encoding in [Encoding::Plain, Encoding::V1] {
                let name = &self.topics[topic].topic;
                let ledger = self.shards[shard].ledger(name, encoding);
                if self.books.number(shard, topic, encoding).is_none() {
                    self.books.compare((shard, topic, encoding), ledger);
                }
            }
        }
        for &number in &here {
            let was_open = self.clients[number].open;
            let client = &self.clients[number];
            let is_open = self.shards[shard].is_open(client.key);
            self.clients[number].open = is_open;
            let read = self.look_at_frames(number);
            let fates = self.fates_of(number, &read, &cause);
            if was_open && !is_open {
                self.judge_close(number, &fates, &cause, were_blocked.contains(&number));
            }
            self.judge(number, &fates, &cause);
            let client = &mut self.clients[number];
            client.is_held &= client.pending.is_some();
        }
        for topic in 0..self.topics.len() {
            for encoding in [Encoding::Plain, Encoding::V1] {
                let ledger = self.shards[shard].ledger(&self.topics[topic].topic, encoding);
                self.books.compare((shard, topic, encoding), ledger);
            }
        }
        self.books.end_step();
        self.check_total();
    }

    /// I8 of the node.
    fn check_total(&self) {
        let total = self.fabric.metrics.total();
        let queued: u64 = self.clients.iter().map(|client| client.queue.len() as u64).sum();
        let lost = total.dropped() + total.conflated;
        assert_eq!(total.matched, total.written + lost + queued, "I8: {total:?}");
    }

    /// Looks at what a shard tells its driver. Returns whether there was something.
    fn look_at_events(&mut self, shard: usize) -> bool {
        let mut has_events = false;
        while let Some(event) = self.shards[shard].next_event() {
            has_events = true;
            let (Event::TopicsSet { key, .. }
            | Event::Closing { key, .. }
            | Event::Ended { key }
            | Event::Lost { key }) = event
            else {
                panic!("nobody stops it");
            };
            let number = *self.numbers.get(&(shard, key)).expect("an event of someone who is there");
            let client = &mut self.clients[number];
            match event {
                Event::TopicsSet { outcome, .. } => {
                    let wanted = client.pending.take();
                    match outcome {
                        // One that is closed meanwhile is told too.
                        Ok(()) => self.topics_are(number, &wanted.unwrap_or_default()),
                        Err(_) => {
                            client.refused |= client.stage == Stage::Attaching;
                            self.counts.refused_changes += 1;
                        }
                    }
                }
                Event::Closing { .. } => {
                    client.stage = Stage::Closing;
                    if let Some(wanted) = client.pending.take() {
                        client.given_up.extend(wanted);
                    }
                }
                Event::Ended { .. } => {
                    let connection = &self.wires[shard].connections[&key];
                    assert!(connection.stream.closed && !connection.blocked, "ended without a close frame");
                    client.stage = Stage::Ended;
                }
                Event::Lost { .. } => {
                    let connection = &self.wires[shard].connections[&key];
                    let given_up = client.stage == Stage::Closing && connection.blocked;
                    assert!(connection.gone || given_up, "given up, and it was not to be closed");
                    client.stage = Stage::Lost;
                    client.pending = None;
                }
                Event::Stopped => {}
            }
        }
        has_events
    }

    /// Which topics a client has now, and since when: only what was asked for changes that.
    fn look_at_topics(&mut self, number: usize, cause: &Cause) {
        let client = &mut self.clients[number];
        let shard = &self.shards[client.shard];
        let is_open = shard.is_open(client.key);
        for topic in 0..self.topics.len() {
            let has = shard.has_topic(client.key, &self.topics[topic].topic);
            match (client.has[topic], has) {
                (Some(_), false) => {
                    let may = matches!(cause, Cause::Change(of) if *of == number)
                        || matches!(cause, Cause::Joined(joins) if joins.key == client.key);
                    assert!(may || !is_open, "it has topic {topic} no longer, and did not ask for that");
                    let is_kept = client.wanted.contains(&topic)
                        || matches!(cause, Cause::Joined(joins) if joins.are_refused());
                    assert!(!is_kept || !is_open, "it has topic {topic} no longer, and was to keep it");
                    client.has[topic] = None;
                }
                (None, true) => {
                    let Cause::Joined(joins) = cause else {
                        panic!("it has topic {topic}, which it did not join")
                    };
                    assert_eq!(joins.key, client.key);
                    assert!(!joins.are_refused(), "it has topic {topic}, and its change is refused");
                    assert!(client.wanted.contains(&topic), "it has topic {topic}, and did not ask for it");
                    let point = joins.points.iter().find(|point| point.0 == topic);
                    client.has[topic] = point.and_then(|point| point.1);
                    if client.stage == Stage::Attaching {
                        client.epochs[topic] = client.has[topic].unwrap_or(0) / OFFSETS;
                    }
                    assert!(client.has[topic].is_some(), "it has topic {topic}, which its home refused");
                }
                _ => {}
            }
        }
    }

    /// What a client read since the last look: topic and rank of each message.
    fn look_at_frames(&mut self, number: usize) -> Vec<(usize, u64)> {
        let client = &self.clients[number];
        let Some(connection) = self.wires[client.shard].connections.get_mut(&client.key) else {
            return Vec::new();
        };
        let mut read = Vec::new();
        for frame in std::mem::take(&mut connection.frames) {
            let said = match self.clients[number].tells() {
                true => self.said_in_json(number, &frame),
                false => self.said_plainly(number, &frame),
            };
            if let Said::Message { topic, rank } = said {
                read.push((topic, rank));
            }
            if let Said::Close { code } = said {
                self.counts.closed_slow += u64::from(code == CloseCode::TRY_AGAIN_LATER.get());
            }
            let gaps = self.clients[number].gaps;
            self.clients[number].reads(&said);
            self.counts.gaps += self.clients[number].gaps - gaps;
        }
        read
    }

    /// What became of each frame that was queued for a client.
    fn fates_of(&mut self, number: usize, read: &[(usize, u64)], cause: &Cause) -> Fates {
        let client = &mut self.clients[number];
        let arrived = std::mem::take(&mut client.arrived);
        let queue: Vec<Queued> = client.queue.iter().copied().collect();
        let arrived = queue.len() - arrived;
        let bytes = self.shards[client.shard].queued_bytes(client.key);
        let is_same = bytes == client.bytes && read.is_empty() && arrived == queue.len();
        client.bytes = bytes;
        if is_same && !matches!(cause, Cause::Turn | Cause::Overdue | Cause::Close | Cause::Joined(_)) {
            return Fates { fates: vec![Fate::Queued; queue.len()], queue, arrived };
        }
        let now = self.shards[client.shard].queue_of(client.key);
        let mut now = now.iter().map(|(topic, offset)| (topic, *offset)).peekable();
        let mut read = read.iter().peekable();
        let mut fates = Vec::with_capacity(queue.len());
        for frame in &queue {
            let name = (&self.topics[frame.topic].topic, frame.rank % OFFSETS);
            fates.push(if read.next_if(|read| **read == (frame.topic, frame.rank)).is_some() {
                Fate::Read
            } else if read.peek().is_none() && now.next_if(|queued| *queued == name).is_some() {
                Fate::Queued
            } else {
                Fate::Lost
            });
        }
        assert_eq!(read.next(), None, "it reads what was not queued, or not in its place: {queue:?}");
        assert_eq!(
            now.next(),
            None,
            "something is queued that did not arrive, or not in its place: {queue:?}"
        );
        let is_queued = |(_, fate): &(&Queued, &Fate)| **fate == Fate::Queued;
        client.queue = queue.iter().zip(&fates).filter(is_queued).map(|(frame, _)| *frame).collect();
        Fates { queue, fates, arrived }
    }

    /// Judges what a client lost.
    fn judge(&mut self, number: usize, fates: &Fates, cause: &Cause) {
        for (frame, fate) in fates.queue.iter().zip(&fates.fates) {
            match fate {
                Fate::Read => self.count_part(frame, Became::Read),
                Fate::Lost => self.count_part(frame, Became::Lost),
                Fate::Queued => {}
            }
        }
        let lost = fates.lost();
        if !lost.is_empty() {
            let replaced = self.replaced(fates);
            let is_shortened = self.may_be_shortened(fates, cause);
            for &place in &lost {
                let frame = &fates.queue[place];
                let reasons = self.reasons(number, frame, cause, replaced[place], is_shortened);
                assert!(!reasons.is_empty(), "{frame:?} is lost, and nothing allows that: {cause:?}");
                self.count(&reasons, frame);
                if self.clients[number].tells() && !matches!(reasons[..], [Loss::Closed]) {
                    self.clients[number].misses(frame, reasons.clone());
                }
                self.books.lost(frame.book, reasons);
            }
        }
        if self.clients[number].open {
            match cause {
                Cause::Deliver(arrival) if !lost.is_empty() => self.judge_arrival(number, fates, arrival),
                Cause::Overdue => self.judge_age(number, fates),
                _ => {}
            }
        }
    }

    /// For each frame whether a younger one has its topic and key.
    fn replaced(&self, fates: &Fates) -> Vec<bool> {
        let mut seen = HashSet::new();
        let mut replaced: Vec<bool> = Vec::with_capacity(fates.queue.len());
        for frame in fates.queue.iter().rev() {
            let key = self.publications[frame.publication].key;
            let conflates = self.policy_of(frame) == Policy::Conflate && key > 0;
            replaced.push(conflates && !seen.insert((frame.book, key)));
        }
        replaced.reverse();
        replaced
    }

    /// Whether a queue may be over the largest bound when it is offered or answered: it may have become so long while an
    /// answer was awaited. Answers are in it besides.
    fn may_be_shortened(&self, fates: &Fates, cause: &Cause) -> bool {
        let bytes: usize = fates.queue.iter().map(|frame| frame.bytes).sum();
        matches!(cause, Cause::Flush | Cause::Joined(_)) && bytes + ANSWERS_BYTES > self.settings.outbox_bytes
    }

    /// Why a frame may be lost.
    fn reasons(
        &self,
        number: usize,
        frame: &Queued,
        cause: &Cause,
        is_replaced: bool,
        is_shortened: bool,
    ) -> Vec<Loss> {
        let client = &self.clients[number];
        let policy = self.policy_of(frame);
        let mut reasons = Vec::new();
        let conflates = matches!(cause, Cause::Deliver(_) | Cause::Turn | Cause::Unblock | Cause::Joined(_));
        if is_replaced && (conflates || is_shortened) {
            reasons.push(Loss::Conflated);
        }
        let lets_go = !client.open || policy != Policy::Disconnect;
        if is_shortened && (!client.open || matches!(policy, Policy::DropOldest | Policy::DropNewest)) {
            reasons.push(Loss::Bound);
        }
        match cause {
            Cause::Deliver(_) if client.open && matches!(policy, Policy::Conflate | Policy::Disconnect) => {}
            Cause::Deliver(_) | Cause::Change(_) if lets_go => reasons.push(Loss::Bound),
            Cause::Joined(joins) => {
                assert_eq!(joins.key, client.key, "somebody else loses something");
                if !client.open && !is_shortened {
                    reasons.push(Loss::Bound);
                }
            }
            Cause::Patience if !client.open => reasons.push(Loss::Bound),
            Cause::Turn if lets_go => reasons.push(Loss::Memory),
            Cause::Overdue if lets_go => reasons.push(Loss::Age),
            Cause::Close | Cause::Flush if !client.open => reasons.push(Loss::Closed),
            _ => {}
        }
        reasons
    }

    /// Frames of a queue at its bound make way as classes say: the right ones, and no others.
    fn judge_arrival(&self, number: usize, fates: &Fates, arrival: &Arrival) {
        let bound = self.bound(arrival.class);
        let before = arrival.before.iter().find(|(client, _)| *client == number).map_or(0, |before| before.1);
        let arrived: usize = fates.queue[fates.arrived..].iter().map(|frame| frame.bytes).sum();
        assert!(fates.arrived < fates.queue.len(), "it loses something, and nothing arrived for it");
        let conflates = self.policy(arrival.class) == Policy::Conflate;
        assert!(
            before + arrived > bound || conflates,
            "{before} and {arrived} bytes are not more than {bound}, and something is dropped"
        );
        let mut is_older_kept = false;
        for (place, frame) in fates.queue.iter().enumerate() {
            let policy = self.policy_of(frame);
            let bound_of = self.bound(self.topics[frame.topic].class);
            let is_lost = fates.fates[place] == Fate::Lost;
            match policy {
                Policy::DropOldest if is_lost => {
                    assert!(bound_of <= bound, "{frame:?} may have more queued than what arrived");
                    assert!(!is_older_kept, "{frame:?} is dropped, and an older one stays");
                }
                // The first may be partly written; it cannot go alone.
                Policy::DropOldest if place > 0 && bound_of <= bound => {
                    is_older_kept = true;
                }
                Policy::DropNewest if is_lost => {
                    assert!(place >= fates.arrived, "{frame:?} is dropped, and it did not just arrive");
                }
                Policy::DropNewest if place >= fates.arrived => {
                    let is_lost = |other: &usize| fates.fates[*other] == Fate::Lost;
                    let older = (fates.arrived..place).find(is_lost);
                    assert_eq!(older, None, "{frame:?} stays, and one that arrived before it is dropped");
                }
                Policy::Conflate if is_lost => {
                    let key = self.publications[frame.publication].key;
                    let is_alike = |other: &&Queued| {
                        other.book == frame.book && self.publications[other.publication].key == key
                    };
                    let youngest = fates.queue.iter().rposition(|other| is_alike(&other));
                    let youngest = youngest.expect("the frame itself is there");
                    assert_ne!(
                        fates.fates[youngest],
                        Fate::Lost,
                        "the youngest of its key is lost: {frame:?}"
                    );
                }
                _ => {}
            }
        }
    }

    /// What is dropped for its age is old enough, and nothing that is too old stays.
    fn judge_age(&self, number: usize, fates: &Fates) {
        let client = &self.clients[number];
        if !self.is_blocked(number) {
            assert!(fates.lost().is_empty(), "frames of one whose connection takes bytes are not too old");
            return;
        }
        for (place, frame) in fates.queue.iter().enumerate() {
            let age = self.turn_of[client.shard] - frame.at;
            let class = self.class(self.topics[frame.topic].class);
            let most = class.outbox_age.min(self.settings.outbox_age).as_millis() as u64;
            match fates.fates[place] {
                Fate::Lost => assert!(age > most, "{frame:?} is dropped at {age} of {most} ms"),
                // The first may be partly written; it cannot go alone.
                _ if place > 0 || self.policy_of(frame) == Policy::Disconnect => {
                    assert!(age <= most, "{frame:?} stays at {age} of {most} ms");
                }
                _ => {}
            }
        }
    }

    fn count(&mut self, reasons: &[Loss], frame: &Queued) {
        let policy = self.policy_of(frame);
        let counts = &mut self.counts;
        *match reasons {
            [Loss::Conflated, ..] => &mut counts.conflated,
            [Loss::Bound, ..] if policy == Policy::DropOldest => &mut counts.oldest_dropped,
            [Loss::Bound, ..] if policy == Policy::DropNewest => &mut counts.newest_dropped,
            [Loss::Bound, ..] => &mut counts.dropped_bound,
            [Loss::Age, ..] => &mut counts.dropped_age,
            [Loss::Memory, ..] => &mut counts.dropped_memory,
            _ => &mut counts.dropped_closed,
        } += 1;
    }

    pub(super) fn policy(&self, class: usize) -> Policy {
        CLASSES[class].1
    }

    pub(super) fn policy_of(&self, frame: &Queued) -> Policy {
        self.policy(self.topics[frame.topic].class)
    }

    /// Bytes that may be queued when a frame of a class arrives.
    fn bound(&self, class: usize) -> usize {
        self.class(class).outbox_bytes.min(self.settings.outbox_bytes)
    }

    fn class(&self, class: usize) -> &Class {
        let name = CLASSES[class].0;
        self.settings.classes.iter().find(|class| &*class.name == name).expect("it is one of them")
    }
}

impl Fates {
    fn lost(&self) -> Vec<usize> {
        (0..self.queue.len()).filter(|&place| self.fates[place] == Fate::Lost).collect()
    }
}
