//! The subscribers of one shard: their keys, their outboxes and what else is known of them.
//!
//! Outboxes stand in a table of their own, close together, because marking and flushing walk over them; the profile
//! (who it is, which topics it has) is in a second table under the same index. A key is an index and a generation:
//! a place that is used again has another key.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{
    change::Answer,
    encoding::Encoding,
    history::Resume,
    outbox::{ControlFrame, Flags, Outbox},
    traffic::Join,
};
use crate::{
    identity::ClientId,
    publication::Position,
    topic::{Topic, TopicMap},
    websocket::CloseCode,
};

/// Names one subscriber of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its place in the shard's tables.
    pub index: u32,
    /// Which occupant of that place it is.
    pub generation: u32,
}

/// One topic of a subscriber: the topic's number on this shard, its place among that topic's members, and the offset behind
/// which it has everything that is meant for it, or was told of a gap: what was replayed and what came live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) topic: u32,
    pub(crate) place: u32,
    pub(crate) has_from: u64,
}

// With one topic it takes no more than a list of topics on the heap.
const _: () = assert!(size_of::<SmallVec<[Membership; 1]>>() == size_of::<SmallVec<[u32; 1]>>());

/// A subscriber that has something to write, in the list of those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dirty {
    pub(crate) index: u32,
    /// Bytes ever appended to the log when it was listed, cut to 32 bits; the lag is far below that.
    pub(crate) mark: u32,
}

/// How a subscriber is to be closed: the code and the reason in its close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The close code.
    pub code: CloseCode,
    /// The reason, in a few words.
    pub reason: &'static str,
}

impl Goodbye {
    /// The node ends: its clients are to come back later, here or elsewhere.
    pub const RESTART: Self = Self { code: CloseCode::RESTART, reason: "restart" };
    /// The connection is as old as it may become: its client is to come back at once, here or elsewhere.
    pub const TOO_OLD: Self = Self { code: CloseCode::RESTART, reason: "connection age" };
}

/// A change of topics that waits for homes.
#[derive(Debug)]
pub(crate) struct PendingTopics {
    /// Which joins are this change's; others are late.
    pub(crate) ticket: u32,
    /// All topics the subscriber is to have.
    pub(crate) wanted: Arc<[Topic]>,
    /// What it wants of the past of each.
    pub(crate) resume: TopicMap<Resume>,
    /// Answers of homes still to come.
    pub(crate) missing: u32,
    /// Its joins, with their homes, while homes are asked whether they have room. What comes back meanwhile says only that.
    pub(crate) joins: Vec<(usize, Box<Join>)>,
    /// Topics that were left at the place of its answer, if it resumes any.
    pub(crate) left: Vec<Left>,
    /// What the subscriber is to be told.
    pub(crate) answer: Option<PendingAnswer>,
}

/// An answer to a change that waits for its joins.
#[derive(Debug)]
pub(crate) struct PendingAnswer {
    pub(crate) answer: Answer,
    /// Where the topics it names stand, as far as they are joined. `None` before the first join came back; from
    /// then on a place is kept for it in the outbox.
    pub(crate) positions: Option<Positions>,
    /// Frames that say what could not be replayed of those topics; they follow the answer.
    pub(crate) gaps: ControlFrame,
}

/// A topic that was left: of what was published to it the subscriber has what is behind an offset, up to a position.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) topic: Topic,
    pub(crate) has_from: u64,
    pub(crate) position: Position,
}

/// Where topics stand, and whether what was asked for of the past could be replayed, if something was.
pub(crate) type Positions = Vec<(Topic, Position, Option<bool>)>;

impl PendingAnswer {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, positions: None, gaps: ControlFrame::new() }
    }
}

/// What is known of a subscriber besides its outbox.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) client: Option<ClientId>,
    /// The encoding it gets.
    pub(crate) encoding: Encoding,
    /// Its user's number on this shard.
    pub(crate) user: Option<u32>,
    /// Its place among that user's subscribers.
    pub(crate) user_place: u32,
    pub(crate) memberships: SmallVec<[Membership; 1]>,
    pub(crate) pending: Option<Box<PendingTopics>>,
    /// The ticket of its last change of topics.
    pub(crate) ticket: u32,
}

const _: () = assert!(size_of::<Profile>() <= 72);

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    pub(crate) outboxes: Vec<Outbox>,
    pub(crate) profiles: Vec<Profile>,
    /// Closes that came while a subscriber waited for its socket, by its place.
    kept_closes: HashMap<u32, Goodbye, RandomState>,
    vacant: Vec<u32>,
}

impl Subscribers {
    /// Takes a place for a subscriber that waits for its socket.
    pub(crate) fn add(&mut self, client: Option<ClientId>, encoding: Encoding) -> Key {
        let flags = Flags::ATTACHING;
        let profile = Profile {
            client,
            encoding,
            user: None,
            user_place: 0,
            memberships: SmallVec::new(),
            pending: None,
            ticket: 0,
        };
        let Some(index) = self.vacant.pop() else {
            let index = u32::try_from(self.outboxes.len()).expect("descriptors run out long before");
            self.outboxes.push(Outbox::new(0, flags));
            self.profiles.push(profile);
            return Key { index, generation: 0 };
        };
        let generation = self.outboxes[index as usize].generation;
        self.outboxes[index as usize] = Outbox::new(generation, flags);
        self.profiles[index as usize] = profile;
        Key { index, generation }
    }

    /// Keeps a close for the moment when the subscriber has its socket.
    pub(crate) fn keep_close(&mut self, key: Key, goodbye: Goodbye) {
        self.kept_closes.insert(key.index, goodbye);
    }

    /// Whether a close is kept for a subscriber.
    pub(crate) fn has_kept_close(&self, key: Key) -> bool {
        self.kept_closes.contains_key(&key.index)
    }

    /// The close that was kept for a subscriber: its time has come.
    pub(crate) fn take_kept_close(&mut self, key: Key) -> Option<Goodbye> {
        self.kept_closes.remove(&key.index)
    }

    /// Gives up the place of a subscriber whose outbox is empty and who has no topics left.
    pub(crate) fn vacate(&mut self, key: Key) {
        let outbox = &mut self.outboxes[key.index as usize];
        debug_assert!(outbox.generation == key.generation && outbox.is_empty());
        *outbox = Outbox::new(key.generation.wrapping_add(1), Flags::VACANT);
        self.kept_closes.remove(&key.index);
        self.vacant.push(key.index);
    }

    /// Whether the subscriber `key` names is there.
    pub(crate) fn lives(&self, key: Key) -> bool {
        self.outboxes
            .get(key.index as usize)
            .is_some_and(|outbox| outbox.generation == key.generation && !outbox.flags.has(Flags::VACANT))
    }

    /// The key of the subscriber at `index`.
    pub(crate) fn key(&self, index: u32) -> Key {
        Key { index, generation: self.outboxes[index as usize].generation }
    }

    /// Subscribers there are.
    pub(crate) fn len(&self) -> usize {
        self.outboxes.len() - self.vacant.len()
    }

    /// Places there are, vacant ones included.
    pub(crate) fn places(&self) -> u32 {
        self.outboxes.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reused_place_has_another_key() {
        let mut subscribers = Subscribers::default();
        let first = subscribers.add(None, Encoding::Plain);
        assert!(subscribers.lives(first));
        subscribers.vacate(first);
        assert!(!subscribers.lives(first));
        assert_eq!(subscribers.len(), 0);
        let second = subscribers.add(None, Encoding::Plain);
        assert_eq!(second.index, first.index);
        assert_ne!(second, first);
        assert!(subscribers.lives(second) && !subscribers.lives(first));
        assert_eq!(subscribers.key(second.index), second);
    }
}
