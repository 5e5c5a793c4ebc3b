//! Joins and un-wants of one shard that are under way or wait, and joins with a replay that wait at a home: data only;
//! `change` decides on the former, `shard` on the latter.
//!
//! All are bounded: joins under way by `JOINS_INFLIGHT` of each shard, and so those that wait at a home; those that wait in
//! the subscriber's shard by one change of topics a subscriber; un-wants by one batch under way for each home and by the
//! topics this shard has an entry for.

use std::collections::VecDeque;

use super::traffic::{Ingress, Join};
use crate::{limits::REPLAYS_BETWEEN_PUBLICATIONS, mailbox::Mailbox};

/// Joins and un-wants of one shard that are under way or wait.
#[derive(Debug)]
pub(super) struct Joining {
    /// Joins sent and not answered.
    pub(super) inflight: usize,
    /// Joins that wait for others to be answered, with their homes.
    pub(super) waiting: VecDeque<(usize, Box<Join>)>,
    /// For each home the topics to be un-wanted.
    pub(super) unwants: Box<[Unwants]>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Unwants {
    /// Numbers of topics; each at most once.
    pub(super) listed: Vec<u32>,
    /// Whether a batch is under way.
    pub(super) inflight: bool,
}

/// Joins with a replay at one home. They come in order, and no more than [`REPLAYS_BETWEEN_PUBLICATIONS`] between two
/// publications, so that a storm of them does not hold up what is live.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    /// Those that wait.
    waiting: VecDeque<Box<Join>>,
    /// How many may come before the next publication.
    left: usize,
}

impl Resuming {
    /// The next work of the home: joins with a replay as far as they may come, else what is in its ingress.
    ///
    /// A join that waits here may be overtaken by un-wants of its shard, but not by one of its topics: no shard un-wants a
    /// topic while a join of it is under way.
    pub(super) fn next(&mut self, ingress: &Mailbox<Ingress>) -> Option<Ingress> {
        loop {
            if self.left > 0
                && let Some(join) = self.waiting.pop_front()
            {
                self.left -= 1;
                return Some(Ingress::Join(join));
            }
            match ingress.pop() {
                Some(Ingress::Join(join)) if join.resumes() => self.waiting.push_back(join),
                Some(entry) => {
                    if matches!(entry, Ingress::Publish(..) | Ingress::Order(_)) {
                        self.left = REPLAYS_BETWEEN_PUBLICATIONS;
                    }
                    return Some(entry);
                }
                None if self.waiting.is_empty() => return None,
                // Nothing is published that could be held up.
                None => self.left = REPLAYS_BETWEEN_PUBLICATIONS,
            }
        }
    }

    /// Whether some wait.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Joining {
    pub(super) fn new(shards: u16) -> Self {
        let unwants = vec![Unwants::default(); shards.into()].into();
        Self { inflight: 0, waiting: VecDeque::new(), unwants }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::Admission,
        engine::{Encoding, Key, Order, Resume},
        mailbox::Wakeup,
        publication::{Message, Publication},
        topic::Topic,
    };

    fn join(topic: &Topic) -> Ingress {
        let key = Key { index: 0, generation: 0 };
        let topics = [(topic.clone(), Some(Resume::Last(1)))].into_iter().collect();
        Ingress::Join(Box::new(Join { shard: 0, key, ticket: 0, encoding: Encoding::V1, topics }))
    }

    #[test]
    fn joins_with_a_replay_come_between_publications_of_either_kind_and_so_many_at_once() {
        let (ingress, admission) = (Mailbox::new(1_000, Wakeup::new()), Admission::new(8_000, 64 << 20));
        let push = |entry| ingress.push(entry).map_err(|_| ()).expect("there is room");
        let topic = Topic::parse("cats").expect("a topic");
        (0..2 * REPLAYS_BETWEEN_PUBLICATIONS + 5).for_each(|_| push(join(&topic)));
        let content = || Message::text("purr").into();
        for _ in 0..2 {
            let credits = admission.try_admit_all(1, 4).expect("little is under way");
            push(Ingress::Order(Box::new(
                Order::new([topic.clone()].into(), content(), None, true, credits).0,
            )));
        }
        let credits = admission.try_admit(4).expect("little is under way");
        let publication = Box::new(Publication { topic: topic.clone(), content: content(), credits });
        push(Ingress::Publish(publication, tokio::sync::oneshot::channel().0));
        let mut resuming = Resuming::default();
        let mut runs: Vec<(char, usize)> = Vec::new();
        while let Some(entry) = resuming.next(&ingress) {
            let kind = match entry {
                Ingress::Join(_) => 'j',
                Ingress::Order(_) => 'o',
                _ => 'p',
            };
            match runs.last_mut() {
                Some((last, count)) if *last == kind => *count += 1,
                _ => runs.push((kind, 1)),
            }
        }
        let all = REPLAYS_BETWEEN_PUBLICATIONS;
        assert_eq!(runs, [('o', 1), ('j', all), ('o', 1), ('j', all), ('p', 1), ('j', 5)]);
        assert!(resuming.is_empty());
    }
}
