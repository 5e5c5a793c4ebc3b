//! What the driver of a shard does, step by step, and the end of a run.

use fanfare::{
    engine::{Fanout, Holdings, Rung},
    limits::{HELD_BACK_LOOK_MS, TOPIC_IDLE_MS},
};

use super::{
    client::{Queued, Stage},
    judge::{Arrival, Cause, Joins},
    op::Manners,
    publishing::Became,
    world::{Handed, Inbox, World, number_of_publication},
};
use crate::{seen::Policed, steps::note};

/// Turns without anything to do, but for memory that is to be relieved, after which a shard is said to be stuck.
const IDLE_TURNS: usize = 300;

impl World {
    pub(super) fn turn(&mut self, shard: usize) {
        self.turn_of[shard] = self.now;
        self.shards[shard].begin_turn(self.now);
        self.shards[shard].sockets_looked_at();
        let rung = self.fabric.memory.rung();
        self.counts.conflating_for_memory += u64::from(rung == Rung::Conflate);
        self.counts.dropping_for_memory += u64::from(rung == Rung::Drop);
        self.counts.closing_for_memory += u64::from(rung >= Rung::Close);
        self.look(shard, Cause::Turn);
    }

    pub(super) fn drop_overdue(&mut self, shard: usize) {
        note(|| format!("shard {shard} drops what is overdue"));
        self.shards[shard].drop_overdue();
        self.look(shard, Cause::Overdue);
    }

    pub(super) fn sequence(&mut self, home: usize, entries: usize) -> usize {
        let done = self.shards[home].sequence(entries);
        if done > 0 {
            note(|| format!("home {home} does {done} entries"));
        }
        for shard in 0..self.shards.len() {
            while let Some(entry) = self.fabric.mailboxes.fanout(shard).pop() {
                if let Fanout::Deliver(sequenced) = &entry {
                    let number = number_of_publication(sequenced);
                    let part =
                        self.publications[number].part_in(self.number_of(&sequenced.publication.topic));
                    self.note_place(number, part, sequenced.position);
                }
                self.inboxes[shard].waiting.push_back(entry);
            }
        }
        self.look_at_answers();
        self.look(home, Cause::Sequence);
        done
    }

    pub(super) fn take(&mut self, shard: usize, entries: usize, together: usize) -> usize {
        for done in 0..entries {
            // Those it is done waiting for are closed before anything arrives.
            self.shards[shard].take(0);
            self.look(shard, Cause::Patience);
            let is_idle = self.inboxes[shard].handed.is_empty();
            let took =
                match is_idle && !matches!(self.inboxes[shard].waiting.front(), Some(Fanout::Deliver(_))) {
                    true => self.take_other(shard),
                    false => self.take_publications(shard, if is_idle { together } else { 0 }),
                };
            if !took {
                self.counts.lagging += u64::from(!self.inboxes[shard].waiting.is_empty());
                return done;
            }
        }
        entries
    }

    pub(super) fn flush(&mut self, shard: usize, offers: usize) -> usize {
        let done = self.shards[shard].flush(&mut self.wires[shard], offers);
        if done > 0 {
            note(|| format!("shard {shard} flushes {done} outboxes"));
        }
        self.look(shard, Cause::Flush);
        self.look_at_receipts();
        done
    }

    /// Takes an entry that is no publication. Returns whether it was taken.
    fn take_other(&mut self, shard: usize) -> bool {
        let Some(entry) = self.inboxes[shard].waiting.pop_front() else { return false };
        let cause = match &entry {
            Fanout::Joined(joined) => {
                let points = joined.topics.iter().map(|(topic, joined)| {
                    let topic = self.number_of(topic);
                    let point = joined.as_ref().ok();
                    (topic, point.map(|point| self.topics[topic].rank(point.position)))
                });
                Cause::Joined(Joins { key: joined.key, points: points.collect() })
            }
            Fanout::Kick(_) => Cause::Close,
            _ => Cause::Sequence,
        };
        note(|| format!("shard {shard} is handed {}", named(&entry)));
        self.fabric.mailboxes.to_shard(shard, entry);
        self.shards[shard].take(1);
        if let Some(entry) = self.fabric.mailboxes.fanout(shard).pop() {
            self.inboxes[shard].waiting.push_front(entry);
            return false;
        }
        if let Cause::Joined(joins) = &cause {
            self.note_held(shard, joins);
        }
        self.look(shard, cause);
        true
    }

    /// Notes whether a client has some of the topics it asked for and not yet all.
    fn note_held(&mut self, shard: usize, joins: &Joins) {
        let Some(&number) = self.numbers.get(&(shard, joins.key)) else { return };
        let client = &self.clients[number];
        let has = |topic: &usize| self.shards[shard].has_topic(joins.key, &self.topics[*topic].topic);
        let is_told = client.tells() && client.stage == Stage::Attached;
        let is_half = is_told && client.pending.as_ref().is_some_and(|wanted| !wanted.iter().all(has));
        // A home that was only asked has none of them joined.
        let is_held = is_half && joins.points.iter().any(|(topic, _)| has(topic));
        self.counts.held += u64::from(is_held && !client.queue.is_empty());
        self.clients[number].is_held |= is_held;
    }

    /// Hands over some publications that follow one another, and has the shard take as many of them as it does at once.
    fn take_publications(&mut self, shard: usize, together: usize) -> bool {
        for _ in 0..together {
            let Some(Fanout::Deliver(_)) = self.inboxes[shard].waiting.front() else { break };
            let Some(Fanout::Deliver(sequenced)) = self.inboxes[shard].waiting.pop_front() else { break };
            let handed = self.handed(&sequenced);
            self.inboxes[shard].handed.push_back(handed);
            self.fabric.mailboxes.to_shard(shard, Fanout::Deliver(sequenced));
        }
        // Only this shard acts now: one whose count is smaller afterwards was taken.
        let before: Vec<usize> =
            self.inboxes[shard].handed.iter().map(|one| one.weak.strong_count()).collect();
        self.shards[shard].take(1);
        let left: Vec<Fanout> = std::iter::from_fn(|| self.fabric.mailboxes.fanout(shard).pop()).collect();
        let Inbox { waiting, handed } = &mut self.inboxes[shard];
        let is_taken = |(one, before): (&Handed, &usize)| one.weak.strong_count() < *before;
        let count = handed.iter().zip(&before).take_while(|&pair| is_taken(pair)).count();
        assert!(!handed.iter().zip(&before).skip(count).any(is_taken), "taken out of order");
        let taken: Vec<Handed> = handed.drain(..count).collect();
        // What it did not look at waits again; it may hold on to one.
        handed.truncate(handed.len() - left.len());
        assert!(handed.len() <= 1, "a shard holds on to several publications");
        left.into_iter().rev().for_each(|entry| waiting.push_front(entry));
        let numbers = || taken.iter().map(|one| one.publication).collect::<Vec<_>>();
        if count > 0 {
            note(|| format!("shard {shard} takes publications {:?}", numbers()));
        }
        let before = self.bytes_before(shard);
        for one in &taken {
            self.arrive(shard, one);
        }
        if let Some(first) = taken.first() {
            let class = self.topics[first.topic].class;
            self.look(shard, Cause::Deliver(Arrival { class, before }));
        }
        count > 0
    }

    fn bytes_before(&self, shard: usize) -> Vec<(usize, usize)> {
        let here = self.there().filter(|&number| self.clients[number].shard == shard);
        here.map(|number| (number, self.clients[number].bytes)).collect()
    }

    /// A shard took a publication: everyone it is meant for has it queued.
    fn arrive(&mut self, shard: usize, handed: &Handed) {
        let Handed { publication, topic, position, bytes, .. } = *handed;
        let rank = self.topics[topic].rank(position);
        for number in 0..self.clients.len() {
            let (client, model) = (&mut self.clients[number], &mut self.publications[publication]);
            if client.shard != shard {
                continue;
            }
            let Some(taken) = &mut client.has[topic] else { continue };
            assert_eq!(*taken + 1, rank, "I5: topic {topic} has a hole, or comes twice");
            *taken = rank;
            if !client.is_meant(&model.audience) {
                continue;
            }
            if model.served.contains(&number) {
                // It has it by another of its topics.
                self.counts.passed_over += 1;
                continue;
            }
            model.served.push(number);
            let book = self.books.number(shard, topic, client.encoding).expect("somebody has the topic");
            self.books.matched(book);
            let bytes = bytes[client.encoding as usize].expect("it was encoded for those who have the topic");
            let at = self.turn_of[shard];
            let frame = Queued { topic, rank, publication, book, at, bytes };
            client.queue.push_back(frame);
            client.arrived += 1;
            self.counts.matched += 1;
            self.count_part(&frame, Became::Matched);
        }
    }

    /// Lets every shard work until none has anything to do. Who is blocked stays so; time passes only while a shard waits.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < IDLE_TURNS {
            let mut done = 0;
            for shard in 0..self.shards.len() {
                self.turn(shard);
                done += self.sequence(shard, 64) + self.take(shard, 64, 10) + self.flush(shard, 64);
            }
            idle = if done == 0 { idle + 1 } else { 0 };
            let waits = |shard: usize| {
                let inbox = &self.inboxes[shard];
                !inbox.waiting.is_empty() || !inbox.handed.is_empty()
            };
            let waiting: Vec<usize> = (0..self.shards.len()).filter(|&shard| waits(shard)).collect();
            if done == 0 && waiting.is_empty() {
                return;
            }
            if waiting.iter().any(|&shard| self.shards[shard].holds_back()) {
                self.now += HELD_BACK_LOOK_MS;
            }
        }
        panic!("a shard takes nothing, and nothing will change that");
    }

    /// Everyone whose connection takes bytes gets what is owed, whatever the others do (I9).
    pub(super) fn calm(&mut self) {
        note(|| "all shards work until nothing is left to do".to_owned());
        self.settle();
        if self.inboxes.iter().any(|inbox| !inbox.waiting.is_empty() || !inbox.handed.is_empty()) {
            return;
        }
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            if client.stage == Stage::Attached && !self.is_blocked(number) {
                assert!(client.pending.is_none(), "a change of topics is never answered");
                client.check_complete();
            }
        }
    }

    /// Everyone reads and everything comes; then everyone goes, and nothing is left.
    pub(crate) fn finish(mut self) -> Policed {
        note(|| "everyone reads".to_owned());
        for number in 0..self.clients.len() {
            let key = (self.clients[number].shard, self.clients[number].key);
            if let Some(connection) = self.wires[key.0].connections.get_mut(&key.1) {
                connection.manners = Manners::Willing;
            }
        }
        self.calm();
        for number in 0..self.clients.len() {
            if self.clients[number].stage != Stage::Attaching {
                continue;
            }
            match self.clients[number].waits() {
                true => self.remove(number),
                false => self.attach(number, Manners::Willing),
            }
        }
        loop {
            self.calm();
            let is_stopped = |number: &usize| {
                let stage = self.clients[*number].stage;
                self.is_blocked(*number) && matches!(stage, Stage::Attached | Stage::Closing)
            };
            let blocked: Vec<usize> = self.there().filter(is_stopped).collect();
            if blocked.is_empty() {
                break;
            }
            blocked.into_iter().for_each(|number| self.writable(number));
        }
        for client in &self.clients {
            assert_ne!(client.stage, Stage::Closing, "a close frame did not come");
        }
        for number in self.there().collect::<Vec<_>>() {
            self.remove(number);
        }
        self.settle();
        assert_eq!(self.credits_inflight(), 0, "credits are missing");
        for _ in 0..3 {
            self.now += TOPIC_IDLE_MS + 1;
            (0..self.shards.len()).for_each(|shard| self.turn(shard));
        }
        for shard in &self.shards {
            assert_eq!(shard.holdings(), Holdings::default(), "something is held for nobody");
        }
        self.judge_receipts();
        let total = self.fabric.metrics.total();
        let left = (total.subscribers, total.blocked, total.topics, total.records, total.history_bytes);
        assert_eq!(left, (0, 0, 0, 0, 0));
        self.counts.written = total.written;
        self.counts.compactions = total.compactions;
        self.counts
    }

    pub(super) fn number_of(&self, topic: &fanfare::topic::Topic) -> usize {
        let number = self.topics.iter().position(|other| other.topic == *topic);
        number.expect("one of those there are")
    }
}

fn named(entry: &Fanout) -> String {
    match entry {
        Fanout::Joined(joined) => format!("the answer to a join of {:?}: {:?}", joined.key, joined.topics),
        Fanout::Kick(kick) => format!("a kick of {:?}", kick.key),
        _ => "something else".to_owned(),
    }
}
