//! The look at what a call of the engine brought about: events, frames, closes; and the books.

use fanfare::{
    engine::{Event, Manner, Shard, TopicsFull},
    metrics::Snapshot,
    websocket::CloseCode,
};

use super::{
    stream::{CLOSE, Frame, PING, PONG, control_frame},
    world::{Stage, World},
};

impl World {
    /// The subscriber has exactly these topics now, of those it wished for and was not told of.
    pub(crate) fn topics_are(&mut self, number: usize, wanted: &[usize]) {
        let subscriber = &mut self.subscribers[number];
        for topic in 0..self.model.topics.len() {
            if wanted.contains(&topic) {
                subscriber.viewer.joined(topic, &self.model);
            } else {
                subscriber.viewer.left(topic, self.handed[subscriber.shard], &mut self.model);
            }
        }
        subscriber.gave_up = false;
        self.state_topics(number);
    }

    fn topics_refused(&mut self, number: usize) {
        let subscriber = &mut self.subscribers[number];
        if !self.shards[subscriber.shard].is_open(subscriber.key) {
            // Closed since, in the same call; that is looked at next.
            return;
        }
        for topic in 0..self.model.topics.len() {
            let has =
                self.shards[subscriber.shard].has_topic(subscriber.key, &self.model.topics[topic].topic);
            if subscriber.viewer.has(topic) {
                assert!(has, "a refused change took a topic away");
            } else if has {
                assert!(subscriber.gave_up, "a refused change left a topic behind");
                // It is from a change before this one, given up when it was half done.
                subscriber.viewer.joined(topic, &self.model);
            } else {
                subscriber.viewer.left(topic, 0, &mut self.model);
            }
        }
        subscriber.gave_up = false;
        self.state_topics(number);
    }

    pub(crate) fn state_topics(&mut self, number: usize) {
        self.control += 1;
        self.model.clock += 1;
        let subscriber = &mut self.subscribers[number];
        let (shard, key) = (subscriber.shard, subscriber.key);
        if self.shards[shard].is_open(key) {
            subscriber.answers.push_back((self.control, self.model.clock));
        }
        self.shards[shard].answer(key, control_frame(PING, b'a', self.control));
    }

    /// Looks at everything a call may have brought about.
    pub(crate) fn look(&mut self, shard: usize) {
        self.look_at_frames(shard);
        let mut events: Vec<Event> = std::iter::from_fn(|| self.shards[shard].next_event()).collect();
        if events.contains(&Event::Stopped) {
            assert!(self.stopping && !self.stopped[shard]);
            self.stopped[shard] = true;
            // Stop comes behind everything that was accepted.
            self.handed[shard] = self.model.tick;
        }
        while !events.is_empty() {
            for event in std::mem::take(&mut events) {
                self.look_at_event(shard, event);
            }
            // The answers given meanwhile may have closed somebody.
            events.extend(std::iter::from_fn(|| self.shards[shard].next_event()));
        }
        for number in 0..self.subscribers.len() {
            let subscriber = &self.subscribers[number];
            if subscriber.shard == shard && !subscriber.closed && !self.shards[shard].is_open(subscriber.key)
            {
                assert_eq!(subscriber.stage, Stage::Attaching, "closed, and nobody was told");
                self.seen.kept_closes += 1;
                self.is_closed(number);
            }
        }
    }

    fn look_at_event(&mut self, shard: usize, event: Event) {
        let number_of = |key| *self.numbers.get(&(shard, key)).expect("an event of someone who is there");
        match event {
            Event::TopicsSet { key, outcome } => {
                let number = number_of(key);
                if !self.shards[shard].is_open(key) {
                    // A close is kept for it: whoever waits for its topics is told to go on.
                    self.subscribers[number].pending = None;
                    return;
                }
                let wanted = self.subscribers[number].pending.take().expect("a change waits for it");
                self.subscribers[number].outcomes.push(outcome);
                match outcome {
                    Ok(()) => self.topics_are(number, &wanted),
                    Err(TopicsFull) => {
                        self.seen.refused_changes += 1;
                        self.topics_refused(number);
                    }
                }
            }
            Event::Closing { key, .. } => {
                let number = number_of(key);
                // One that has no socket yet may be closed by a close of its peer only.
                self.is_closed(number);
                self.subscribers[number].stage = Stage::Closing;
            }
            Event::Ended { key } => {
                let number = number_of(key);
                let connection = self.nets[shard].get(key).expect("it has a socket");
                assert_eq!(self.subscribers[number].stage, Stage::Closing);
                assert!(connection.stream.closed && !connection.blocked, "ended without a close frame");
                self.subscribers[number].stage = Stage::Ended;
            }
            Event::Lost { key } => {
                let number = number_of(key);
                let connection = self.nets[shard].get(key).expect("it has a socket");
                let given_up = connection.blocked && self.subscribers[number].stage == Stage::Closing;
                assert!(connection.gone || given_up, "given up, and it was not to be closed");
                self.is_closed(number);
                self.subscribers[number].stage = Stage::Lost;
                self.seen.lost += u64::from(!given_up);
                self.seen.given_up += u64::from(given_up);
            }
            Event::Stopped => {}
        }
    }

    /// It is in no topic from now on.
    pub(crate) fn is_closed(&mut self, number: usize) {
        let subscriber = &mut self.subscribers[number];
        if subscriber.closed {
            return;
        }
        subscriber.closed = true;
        subscriber.pending = None;
        let connection = self.nets[subscriber.shard].get(subscriber.key);
        subscriber.was_blocked = connection.is_none_or(|connection| connection.blocked);
        for topic in 0..self.model.topics.len() {
            subscriber.viewer.left(topic, self.handed[subscriber.shard], &mut self.model);
        }
    }

    fn look_at_frames(&mut self, shard: usize) {
        for (key, frames) in self.nets[shard].take_frames() {
            let number = self.numbers[&(shard, key)];
            for frame in frames {
                self.look_at_frame(number, &frame);
            }
        }
    }

    fn look_at_frame(&mut self, number: usize, frame: &Frame) {
        let subscriber = &mut self.subscribers[number];
        match (frame.opcode, frame.payload.first()) {
            (PING, Some(b'a')) => {
                let (answer, clock) = subscriber.answers.pop_front().expect("it was given");
                assert_eq!(number_in(frame), answer, "answers come in order, and all of them");
                subscriber.viewer.pass(clock, &self.model);
            }
            (PING, _) => {
                // One that still waited when the next was given has made way for it.
                let ping = number_in(frame);
                while subscriber.pings.pop_front().expect("it was given") != ping {}
            }
            (PONG, _) => {
                let pong = number_in(frame);
                assert!(pong > subscriber.pongs.1 && pong <= subscriber.pongs.0);
                subscriber.pongs.1 = pong;
            }
            (CLOSE, _) => {
                let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                subscriber.code = Some(code);
                self.look_at_close(number, code);
            }
            _ => subscriber.viewer.receive(frame, &self.model),
        }
    }

    /// A close frame came: it was asked for, or the subscriber was slow; and what was to be written before it, was.
    fn look_at_close(&mut self, number: usize, code: u16) {
        let subscriber = &self.subscribers[number];
        assert!(subscriber.closed);
        if code == CloseCode::TRY_AGAIN_LATER.get() {
            self.seen.slow += 1;
            assert!(subscriber.was_blocked, "I9: a connection that takes bytes is no slow consumer");
            return;
        }
        let stop = (CloseCode::RESTART.get(), Manner::Flush);
        let asked = subscriber.asked.iter().chain(self.stopping.then_some(&stop));
        let asked = asked.copied().find(|&(other, _)| other == code);
        let (_, manner) = asked.unwrap_or_else(|| panic!("closed with {code}, and nobody asked for it"));
        if manner == Manner::Flush && !subscriber.given_up {
            self.seen.completed += 1;
            self.check_complete(number);
        }
    }

    /// Everything a subscriber is owed has come.
    pub(crate) fn check_complete(&self, number: usize) {
        let subscriber = &self.subscribers[number];
        subscriber.viewer.check_complete(&self.model);
        assert!(subscriber.answers.is_empty(), "answers are missing");
        if subscriber.code.is_none() {
            assert!(subscriber.pings.is_empty(), "pings are missing");
            assert_eq!(subscriber.pongs.0, subscriber.pongs.1, "the last pong is missing");
            let connection = self.nets[subscriber.shard].get(subscriber.key).expect("it has a socket");
            assert!(connection.stream.is_at_boundary(), "a frame is cut");
        }
    }

    /// I8, I6 and what the shards say of each subscriber, against what is known here.
    pub(crate) fn check_books(&self) {
        let total = self.fabric.metrics.total();
        let queued: u64 = self.shards.iter().map(Shard::queued_frames).sum();
        assert_eq!(total.matched, total.written + total.dropped() + queued, "I8: {total:?}");
        assert_eq!(total.written, self.nets.iter().map(|net| net.data_frames).sum::<u64>(), "I8: written");
        assert_eq!(total.bytes_written, self.nets.iter().map(|net| net.bytes).sum::<u64>());
        for subscriber in self.subscribers.iter().filter(|one| !one.closed && one.pending.is_none()) {
            for (topic, model) in self.model.topics.iter().enumerate() {
                let has = self.shards[subscriber.shard].has_topic(subscriber.key, &model.topic);
                assert_eq!(has, subscriber.viewer.has(topic), "{subscriber:?} has topic {topic}");
            }
        }
    }

    pub(crate) fn count(&mut self, total: &Snapshot) {
        let seen = &mut self.seen;
        seen.dropped_bound = total.dropped_bound;
        seen.dropped_age = total.dropped_age;
        seen.dropped_memory = total.dropped_memory;
        seen.dropped_closed = total.dropped_closed;
        seen.compactions = total.compactions;
        seen.would_block = total.would_block;
        seen.control_cuts = self.nets.iter().map(|net| net.control_cuts).sum();
        seen.frames = total.written;
    }
}

fn number_in(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.payload[1..5].try_into().expect("four bytes"))
}
