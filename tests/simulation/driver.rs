//! What the driver of a shard does, step by step as the simulation likes, and the end of a run.

use std::collections::VecDeque;

use fanfare::engine::{Shard, TopicsFull};

use super::{
    seen::Seen,
    steps::note,
    world::{Stage, World},
};

/// Bytes the engine may hold over `log_bytes` before a shard takes nothing: what it says, and one segment or large
/// frame more, with its index.
pub(crate) const LOG_SLACK: usize = 8 * 64 * 1024 + 2 * 66 * 1024;

impl World {
    pub(crate) fn begin_turn(&mut self, shard: usize) {
        self.shards[shard].begin_turn(self.now);
        self.shards[shard].sockets_looked_at();
        self.look(shard);
    }

    pub(crate) fn drop_overdue(&mut self, shard: usize) {
        note(|| format!("shard {shard} drops what is overdue at {}", self.now));
        self.shards[shard].drop_overdue();
        self.look(shard);
    }

    pub(crate) fn sequence(&mut self, home: usize, entries: usize) -> usize {
        let done = self.shards[home].sequence(entries);
        self.look(home);
        while let Some((number, answer)) = self.outstanding[home].front_mut() {
            let Ok(outcome) = answer.try_recv() else { break };
            let number = *number;
            self.outstanding[home].pop_front();
            match outcome {
                Ok(position) => {
                    let topic = self.model.publications[number].topic;
                    let last = self.model.last_tick(topic);
                    let kept = self.subscribers.iter().any(|one| one.viewer.had_before(topic, last));
                    self.model.sequenced(number, position, kept);
                }
                Err(TopicsFull) => self.seen.refused_publications += 1,
            }
        }
        for (_, answer) in &mut self.outstanding[home] {
            assert!(answer.try_recv().is_err(), "answered before one that was asked before");
        }
        done
    }

    /// Takes entries one by one, so that what each brings about is seen before the next.
    pub(crate) fn take(&mut self, shard: usize, entries: usize) -> usize {
        for done in 0..entries {
            let taken = self.shards[shard].take(1);
            self.look(shard);
            if taken == 0 {
                if self.shards[shard].keeps_up() {
                    self.handed[shard] = self.model.tick;
                } else {
                    self.seen.lagging += 1;
                }
                return done;
            }
            let crowd = self.settings.outbox_bytes * self.shards[shard].subscribers();
            let most = self.settings.log_bytes + LOG_SLACK + crowd;
            assert!(
                self.shards[shard].log_bytes() <= most,
                "{} bytes of log",
                self.shards[shard].log_bytes()
            );
        }
        entries
    }

    pub(crate) fn flush(&mut self, shard: usize, offers: usize) -> usize {
        let done = self.shards[shard].flush(&mut self.nets[shard], offers);
        self.look(shard);
        done
    }

    /// Lets every shard work until none has anything to do. Nobody's manners change; who is blocked stays blocked, and
    /// time passes only while a shard waits for them.
    pub(crate) fn settle(&mut self) {
        note(|| "all shards work until nothing is left to do".to_owned());
        for _ in 0..10_000 {
            let mut done = 0;
            for shard in 0..self.shards.len() {
                self.begin_turn(shard);
                done += self.sequence(shard, 64);
                done += self.take(shard, 64);
                done += self.flush(shard, 64);
            }
            if done == 0 && self.shards.iter().all(|shard| !shard.has_work()) {
                if !self.shards.iter().any(Shard::holds_back) {
                    return;
                }
                self.now += fanfare::limits::HELD_BACK_LOOK_MS;
            }
        }
        panic!("the shards do not come to rest");
    }

    /// As [`Self::settle`], and whoever is blocked takes bytes again.
    pub(crate) fn settle_unblocking(&mut self) {
        for _ in 0..10_000 {
            self.settle();
            let mut blocked = false;
            for number in 0..self.subscribers.len() {
                let (shard, key) = (self.subscribers[number].shard, self.subscribers[number].key);
                if self.nets[shard].get(key).is_some_and(|connection| connection.blocked && !connection.gone)
                {
                    self.writable(number);
                    blocked = true;
                }
            }
            if !blocked {
                return;
            }
        }
        panic!("somebody stays blocked");
    }

    /// Removes everybody, and checks that nothing is left: no credit, no log, no topic, no record.
    pub(crate) fn end(mut self) -> Seen {
        for number in 0..self.subscribers.len() {
            if self.subscribers[number].stage != Stage::Gone {
                self.remove(number);
            }
        }
        self.settle();
        self.check_books();
        assert_eq!(self.admission.inflight(), 0, "credits are missing");
        assert!(self.outstanding.iter().all(VecDeque::is_empty), "answers to publishers are missing");
        self.now += fanfare::limits::TOPIC_IDLE_MS + 1;
        for shard in 0..self.shards.len() {
            self.begin_turn(shard);
            self.begin_turn(shard);
            assert_eq!(self.shards[shard].subscribers(), 0);
            assert!(self.shards[shard].log_bytes() < 8 * 66 * 1024, "the logs are not empty");
        }
        let total = self.fabric.metrics.total();
        assert_eq!((total.subscribers, total.blocked, total.topics, total.records), (0, 0, 0, 0));
        self.count(&total);
        self.seen
    }
}
