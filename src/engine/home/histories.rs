//! What a home keeps of the past of its topics: histories, when they are looked at, and how they are let go.
//!
//! A record with a history stands among those that are due until its history is empty; exactly as long it is not idle. What
//! all histories cost is counted with each change of one.

use std::{cmp::Reverse, sync::Arc};

use super::Home;
use crate::{
    classes::Classes,
    engine::{
        history::{History, Run},
        traffic::Part,
    },
    limits::MEMORY_HISTORIES_MS,
    publication::{Content, Position},
    topic::Topic,
};

impl Home {
    /// Where `topic` stands, and what is kept of it if anything is; `None` if it has no record.
    pub(crate) fn history(&mut self, topic: &Topic, now: u64) -> Option<(Position, Option<Run>)> {
        let number = self.number(topic)?;
        self.expire_history(number, now);
        let run = self.records[number as usize].history.as_mut().map(|history| history.run());
        Some((self.head(number), run))
    }

    /// Lets go of the older half of so many histories at most, those first whose oldest message is due first; not again
    /// before [`MEMORY_HISTORIES_MS`] have passed, for it takes a while until what queues hold of them is gone too.
    pub(crate) fn thin_out(&mut self, histories: usize, now: u64) {
        if self.thinned_out_at.is_some_and(|at| now < at + MEMORY_HISTORIES_MS) {
            return;
        }
        self.thinned_out_at = Some(now);
        let chosen: Vec<u32> = std::iter::from_fn(|| self.due.pop().map(|Reverse((_, number))| number))
            .take(histories)
            .collect();
        for number in chosen {
            self.change_history(number, History::drop_older_half);
            self.list_due_again(number, now);
        }
    }

    /// What all histories cost, bytes.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Has topics be of these classes from now on: what is kept of each is what its class says now.
    pub(crate) fn change_classes(&mut self, classes: Arc<Classes>, now: u64) {
        let is_to_ask = !classes.has_rules_of(&self.classes);
        self.classes = classes;
        let numbers: Vec<u32> = self.records.iter().map(|(number, _)| number as u32).collect();
        for number in numbers {
            let record = &mut self.records[number as usize];
            if is_to_ask {
                record.class = self.classes.of(&record.topic);
            }
            let bounds = self.classes.get(record.class).history;
            self.change_history(number, |history| match bounds {
                Some(bounds) => history.change_bounds(bounds, now),
                None => history.clear(),
            });
        }
        // What is kept for a shorter time than before is due earlier.
        let records = &self.records;
        let due = |Reverse((_, number)): &Reverse<(u64, u32)>| {
            let history = records[*number as usize].history.as_ref();
            Reverse((history.and_then(|history| history.due()).unwrap_or(now), *number))
        };
        self.due = self.due.iter().map(due).collect();
    }

    /// Keeps what was published last.
    pub(super) fn keep(&mut self, number: u32, content: &Content, part: Option<&Part>, now: u64) {
        let record = &mut self.records[number as usize];
        let Some(bounds) = self.classes.get(record.class).history else { return };
        let history = record.history.get_or_insert_with(|| Box::new(History::new(bounds)));
        let before = history.bytes();
        history.push(record.next - 1, content, part, now);
        self.history_bytes = self.history_bytes - before + history.bytes();
        let was_idle = record.is_idle();
        self.list_due(number);
        if was_idle && !self.records[number as usize].is_idle() {
            self.idle.remove(&mut self.records, number);
        }
    }

    pub(super) fn expire_history(&mut self, number: u32, now: u64) {
        self.change_history(number, |history| history.expire(now));
    }

    /// Lets go of some of a record's history, if it has one.
    fn change_history(&mut self, number: u32, change: impl FnOnce(&mut History)) {
        let record = &mut self.records[number as usize];
        let Some(history) = &mut record.history else { return };
        let before = history.bytes();
        change(history);
        self.history_bytes = self.history_bytes - before + history.bytes();
        if history.due().is_none() {
            record.history = None;
        }
    }

    /// As [`Self::list_due`], for a record that has just been taken from among those.
    pub(super) fn list_due_again(&mut self, number: u32, now: u64) {
        self.records[number as usize].is_due_listed = false;
        self.list_due(number);
        let record = &mut self.records[number as usize];
        if record.is_idle() {
            record.touched = now;
            self.idle.push_youngest(&mut self.records, number);
        }
    }

    /// Has the history of a record looked at when its oldest message is due, unless that is going to happen.
    fn list_due(&mut self, number: u32) {
        let record = &mut self.records[number as usize];
        let Some(due) = record.history.as_ref().and_then(|history| history.due()) else { return };
        if !record.is_due_listed {
            record.is_due_listed = true;
            self.due.push(Reverse((due, number)));
        }
    }
}
