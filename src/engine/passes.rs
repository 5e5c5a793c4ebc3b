//! How long publications take from their publisher to the sockets: measured once for each publication and shard, when the
//! flush pass that carries it is over.
//!
//! A publication is marked for its subscribers in one step, and reached by the flush in the order of marking. When the
//! head of the dirty list was marked later than the publication was, or nobody is dirty, everyone it was for has been
//! offered it. So one entry in a queue is all that a publication costs here, whoever gets it, and a delivery costs
//! nothing. [`Shard::note_passes`] is called by the driver, which has the time.

use std::collections::VecDeque;

use super::shard::Shard;
use crate::{limits::MEASURED_PUBLICATIONS, metrics::publish_latency_bucket};

/// The publications of one shard that are measured, from when they are appended to the log.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// When those were asked for that are in the log and not marked yet, microseconds of the node's clock.
    fresh: Vec<u64>,
    /// Those that are marked: the bytes ever appended then, cut to 32 bits, and when they were asked for. In the order of
    /// marking, at most [`MEASURED_PUBLICATIONS`].
    marked: VecDeque<(u32, u64)>,
}

impl Passes {
    /// A publication that was asked for then is in the log.
    #[inline]
    pub(super) fn begin(&mut self, asked: Option<u64>) {
        if let Some(asked) = asked
            && self.marked.len() + self.fresh.len() < MEASURED_PUBLICATIONS
        {
            self.fresh.push(asked);
        }
    }

    /// Those in the log are marked, for somebody or for nobody.
    #[inline]
    pub(super) fn mark(&mut self, appended: u32, for_somebody: bool) {
        if for_somebody {
            self.marked.extend(self.fresh.iter().map(|&asked| (appended, asked)));
        }
        self.fresh.clear();
    }

    /// When the next one was asked for whose pass is over, if `head` is the mark of the head of the dirty list.
    fn next_over(&mut self, head: Option<u32>) -> Option<u64> {
        let &(mark, asked) = self.marked.front()?;
        if head.is_some_and(|head| head.wrapping_sub(mark) as i32 <= 0) {
            return None;
        }
        self.marked.pop_front();
        Some(asked)
    }
}

impl Shard {
    /// Measures the publications whose pass is over at `now`, in microseconds of the node's clock.
    pub fn note_passes(&mut self, now: u64) {
        let head = self.dirty.front().map(|dirty| dirty.mark);
        while let Some(asked) = self.passes.next_over(head) {
            let took = now.saturating_sub(asked);
            let metrics = self.metrics();
            metrics.publish_latency.count(publish_latency_bucket(took), 1);
            metrics.publish_latency_us.add(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::{
        admission::Admission,
        engine::{Encoding, Fabric, Ingress, Key, Offered, Transport},
        publication::{Message, Publication},
        settings::Settings,
        topic::Topic,
    };

    /// Takes everything, or nothing.
    struct Sockets {
        full: bool,
    }

    impl Transport for Sockets {
        fn offer(&mut self, _: Key, slices: &[IoSlice<'_>]) -> Offered {
            match self.full {
                true => Offered::WouldBlock,
                false => {
                    Offered::Wrote { bytes: slices.iter().map(|slice| slice.len()).sum(), unflushed: false }
                }
            }
        }
    }

    fn topic() -> Topic {
        Topic::parse("cats").expect("a topic")
    }

    /// A shard with so many subscribers of a topic.
    fn shard_with(subscribers: usize) -> (Shard, Admission) {
        let settings = Settings { shards: 1, ..Settings::default() };
        let mut shard = Shard::new(0, Fabric::new(&settings, 1));
        for _ in 0..subscribers {
            let key = shard.add(None, None, Encoding::Plain);
            shard.set_topics(key, [topic()]);
            shard.attached(key);
        }
        shard.begin_turn(1);
        shard.sequence(usize::MAX);
        shard.take(usize::MAX);
        (shard, Admission::new(64, 1 << 20))
    }

    /// Publishes something that was asked for at a time, or nobody knows when, up to the marking.
    fn publish(shard: &mut Shard, admission: &Admission, asked: Option<u64>) {
        let mut credits = admission.try_admit(4).expect("little is under way");
        if let Some(asked) = asked {
            credits.note_asked(asked);
        }
        let publication = Publication { topic: topic(), content: Message::text("purr").into(), credits };
        let (reply, _position) = tokio::sync::oneshot::channel();
        shard.fabric.mailboxes.to_home(0, Ingress::Publish(Box::new(publication), reply));
        shard.sequence(1);
        shard.take(1);
    }

    /// How many were measured, and how long they took together.
    fn measured(shard: &Shard) -> (u64, u64) {
        let metrics = shard.metrics();
        (metrics.publish_latency.get().0.iter().sum(), metrics.publish_latency_us.get())
    }

    #[test]
    fn publication_is_measured_once_when_everyone_was_reached() {
        let (mut shard, admission) = shard_with(3);
        publish(&mut shard, &admission, Some(1_000));
        let mut sockets = Sockets { full: false };
        assert_eq!(shard.flush(&mut sockets, 2), 2);
        shard.note_passes(5_000);
        assert_eq!(measured(&shard), (0, 0), "one is not reached yet");
        // A later one does not delay the first, whose subscribers come first in the pass.
        publish(&mut shard, &admission, Some(4_000));
        shard.flush(&mut sockets, 1);
        shard.note_passes(9_000);
        assert_eq!(measured(&shard), (1, 8_000));
        shard.flush(&mut sockets, 9);
        shard.note_passes(10_000);
        shard.note_passes(11_000);
        assert_eq!(measured(&shard), (2, 14_000));
    }

    #[test]
    fn who_is_blocked_is_not_waited_for() {
        let (mut shard, admission) = shard_with(2);
        publish(&mut shard, &admission, Some(1_000));
        shard.flush(&mut Sockets { full: true }, 9);
        shard.note_passes(1_500);
        assert_eq!(measured(&shard), (1, 500));
    }

    #[test]
    fn what_is_for_nobody_or_came_at_no_known_time_is_not_measured() {
        let (mut shard, admission) = shard_with(1);
        publish(&mut shard, &admission, None);
        shard.flush(&mut Sockets { full: false }, 9);
        let (mut empty, _) = shard_with(0);
        publish(&mut empty, &admission, Some(1));
        for shard in [&mut shard, &mut empty] {
            shard.note_passes(2);
            assert_eq!(measured(shard), (0, 0));
        }
    }

    #[test]
    fn so_many_are_measured_at_a_time_and_no_more() {
        let (mut shard, admission) = shard_with(1);
        for _ in 0..MEASURED_PUBLICATIONS + 9 {
            publish(&mut shard, &admission, Some(1));
        }
        shard.flush(&mut Sockets { full: false }, 9);
        shard.note_passes(2);
        assert_eq!(measured(&shard).0, MEASURED_PUBLICATIONS as u64);
    }
}
