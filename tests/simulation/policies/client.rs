//! One client as the model knows it: what is queued for it, which topics it was told that it has, and what it was told of
//! losses. It is fed with what is done to it and with what it reads.

use std::collections::VecDeque;

use fanfare::{
    engine::{Encoding, Key},
    identity::{ClientId, User},
    publication::Audience,
};

use super::{books::Loss, world::OFFSETS};

/// A frame that is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) topic: usize,
    pub(super) rank: u64,
    pub(super) publication: usize,
    /// The book in which it was matched.
    pub(super) book: usize,
    /// When the shard took it, milliseconds.
    pub(super) at: u64,
    /// Length of the frame.
    pub(super) bytes: usize,
}

/// A change of topics whose answer has not come yet.
#[derive(Debug)]
struct Asked {
    id: u32,
    wanted: Vec<usize>,
}

/// A loss that the client has not been told of.
#[derive(Debug)]
struct Untold {
    rank: u64,
    /// Which of the client's losses it is.
    number: u64,
    reasons: Vec<Loss>,
}

/// What a client reads.
#[derive(Debug)]
pub(super) enum Said {
    Hello,
    Message {
        topic: usize,
        rank: u64,
    },
    Gap {
        topic: usize,
        from: u64,
        to: u64,
        conflated: u64,
        dropped: u64,
    },
    /// The change is in force; the ranks of the positions that it states.
    Ok {
        id: u32,
        positions: Vec<(usize, u64)>,
    },
    Refused {
        id: u32,
    },
    Ping,
    Bye,
    Close {
        code: u16,
    },
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Attaching,
    Attached,
    Closing,
    Ended,
    Lost,
    Gone,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) shard: usize,
    pub(super) key: Key,
    pub(super) id: ClientId,
    pub(super) user: Option<User>,
    pub(super) encoding: Encoding,
    pub(super) stage: Stage,
    /// Whether the engine took commands for it when it was looked at last.
    pub(super) open: bool,
    pub(super) kicked: bool,
    /// Whether its first topics were refused: it does not get a socket.
    pub(super) refused: bool,
    pub(super) queue: VecDeque<Queued>,
    /// How many frames at the end of the queue arrived in this step.
    pub(super) arrived: usize,
    /// Bytes that were queued when it was looked at last.
    pub(super) bytes: usize,
    /// For each topic that it has the rank that its shard took last.
    pub(super) has: Vec<Option<u64>>,
    /// Topics of its last change.
    pub(super) wanted: Vec<usize>,
    /// Topics of the change that waits for its joins.
    pub(super) pending: Option<Vec<usize>>,
    /// Topics of those that were given up when the client was closed: what is queued of those is written all the same.
    pub(super) given_up: Vec<usize>,
    /// Whether a place is kept for the answer to that.
    pub(super) is_held: bool,
    asked: VecDeque<Asked>,
    /// For each topic whether the client knows that it has it.
    granted: Vec<bool>,
    /// For each topic the epoch, by its number, that it was joined in last.
    pub(super) epochs: Vec<u64>,
    /// For each topic the last rank that came.
    seen: Vec<u64>,
    untold: Vec<Vec<Untold>>,
    /// Losses there were.
    lost: u64,
    greeted: bool,
    /// Messages and gaps that came.
    pub(super) messages: u64,
    pub(super) gaps: u64,
}

impl Client {
    pub(super) fn new(
        (shard, key): (usize, Key),
        id: ClientId,
        user: Option<User>,
        encoding: Encoding,
        topics: usize,
    ) -> Self {
        Self {
            shard,
            key,
            id,
            user,
            encoding,
            stage: Stage::Attaching,
            open: true,
            kicked: false,
            refused: false,
            queue: VecDeque::new(),
            arrived: 0,
            bytes: 0,
            has: vec![None; topics],
            wanted: Vec::new(),
            pending: None,
            given_up: Vec::new(),
            is_held: false,
            asked: VecDeque::new(),
            granted: vec![false; topics],
            epochs: vec![0; topics],
            seen: vec![0; topics],
            untold: (0..topics).map(|_| Vec::new()).collect(),
            lost: 0,
            greeted: encoding == Encoding::Plain,
            messages: 0,
            gaps: 0,
        }
    }

    pub(super) fn tells(&self) -> bool {
        self.encoding == Encoding::V1
    }

    /// Whether a change of its topics has to be in force before it gets a socket.
    pub(super) fn waits(&self) -> bool {
        self.pending.is_some() && self.open
    }

    pub(super) fn is_meant(&self, audience: &Audience) -> bool {
        (audience.user.is_none() || audience.user == self.user) && audience.exclude != Some(self.id)
    }

    /// It will be answered with `id` when it has these topics.
    pub(super) fn asks(&mut self, id: u32, wanted: Vec<usize>) {
        self.asked.push_back(Asked { id, wanted });
    }

    /// It knows which topics it has without an answer.
    pub(super) fn knows(&mut self, wanted: &[usize]) {
        for topic in 0..self.granted.len() {
            let has = wanted.contains(&topic);
            if has && !self.granted[topic] {
                self.seen[topic] = 0;
            }
            self.granted[topic] = has;
        }
    }

    /// A frame is lost, for one of these reasons, and the client is to be told.
    pub(super) fn misses(&mut self, frame: &Queued, reasons: Vec<Loss>) {
        let untold = &mut self.untold[frame.topic];
        let at = untold.partition_point(|other| other.rank < frame.rank);
        self.lost += 1;
        untold.insert(at, Untold { rank: frame.rank, number: self.lost, reasons });
    }

    /// It reads something.
    pub(super) fn reads(&mut self, said: &Said) {
        match *said {
            Said::Hello => self.greeted = true,
            // These go ahead of everything.
            Said::Close { .. } | Said::Ping => {}
            _ => assert!(self.greeted, "{said:?} comes ahead of the greeting"),
        }
        match said {
            Said::Message { topic, rank } => self.reads_message(*topic, *rank),
            Said::Gap { topic, from, to, conflated, dropped } => {
                self.may_come(*topic);
                self.gaps += 1;
                self.reads_gap(*topic, (*from, *to), *conflated, *dropped);
            }
            Said::Ok { id, positions } => {
                let asked = self.asked.pop_front().expect("it asked for something");
                assert_eq!(*id, asked.id, "answers come in order, and all of them");
                let granted = self.granted.clone();
                self.knows(&asked.wanted);
                for &(topic, rank) in positions {
                    assert!(asked.wanted.contains(&topic), "a position of a topic that it did not ask for");
                    if !granted[topic] {
                        // I5: nothing up to there comes.
                        self.seen[topic] = rank;
                        self.epochs[topic] = rank / OFFSETS;
                    }
                }
            }
            Said::Refused { id } => {
                let asked = self.asked.pop_front().expect("it asked for something");
                assert_eq!(*id, asked.id, "answers come in order, and all of them");
            }
            Said::Hello | Said::Ping | Said::Bye | Said::Close { .. } => {}
        }
    }

    /// Everything has come that it is owed.
    pub(super) fn check_complete(&self) {
        assert!(self.queue.is_empty(), "not everything that is queued came: {:?}", self.queue);
        assert!(self.asked.is_empty(), "an answer is missing: {:?}", self.asked);
        assert!(self.greeted, "it was not greeted");
        let untold: Vec<_> =
            self.untold.iter().enumerate().filter(|(_, untold)| !untold.is_empty()).collect();
        assert!(untold.is_empty(), "I5: losses it was never told of: {untold:?}");
    }

    /// I10 and the order of answers: what comes is of a topic that the client knows it has. Without answers ahead of what is
    /// new, it may come before the answer.
    fn may_come(&self, topic: usize) {
        let is_asked = || self.asked.iter().any(|asked| asked.wanted.contains(&topic));
        let is_pending = || self.pending.as_ref().is_some_and(|wanted| wanted.contains(&topic));
        let may = self.granted[topic]
            || self.given_up.contains(&topic)
            || !self.tells() && (is_asked() || is_pending() || self.has[topic].is_some());
        assert!(
            may,
            "I10: something of topic {topic} comes, and the client does not have it: {:?} {:?}",
            self.key, self.asked
        );
    }

    fn reads_message(&mut self, topic: usize, rank: u64) {
        self.may_come(topic);
        assert!(rank > self.seen[topic], "I4: {rank} of topic {topic} comes behind {}", self.seen[topic]);
        let untold = self.untold[topic].first();
        let is_told = untold.is_none_or(|untold| untold.rank > rank);
        assert!(is_told, "I5: {rank} comes, and of {untold:?} nothing was told");
        self.seen[topic] = rank;
        self.messages += 1;
    }

    fn reads_gap(&mut self, topic: usize, (from, to): (u64, u64), conflated: u64, dropped: u64) {
        let epoch = self.epochs[topic] * OFFSETS;
        let (from, to) = (epoch + from, epoch + to);
        let untold = &mut self.untold[topic];
        let count = (conflated + dropped) as usize;
        assert!(count > 0 && from <= to, "a gap of nothing");
        // What was lost after the gap was begun is told by another.
        let within = untold.iter().filter(|untold| (from..=to).contains(&untold.rank));
        let mut numbers: Vec<u64> = within.map(|untold| untold.number).collect();
        numbers.sort_unstable();
        assert!(
            numbers.len() >= count,
            "a gap says {count} are missing, and of {untold:?} it can be no more"
        );
        let last = numbers[count - 1];
        let is_told = |untold: &mut Untold| (from..=to).contains(&untold.rank) && untold.number <= last;
        let told: Vec<Untold> = untold.extract_if(.., is_told).collect();
        let ends = (told[0].rank, told[count - 1].rank);
        assert_eq!(ends, (from, to), "a gap begins and ends with what is lost: {told:?}");
        let must = told.iter().filter(|told| told.reasons == [Loss::Conflated]).count() as u64;
        let may = told.iter().filter(|told| told.reasons.contains(&Loss::Conflated)).count() as u64;
        assert!((must..=may).contains(&conflated), "a gap says {conflated} are conflated: {told:?}");
        assert!(from > self.seen[topic], "a gap from {from} comes behind {}", self.seen[topic]);
    }
}
