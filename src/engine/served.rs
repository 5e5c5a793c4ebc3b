//! Who was served already with a message that goes to several topics.
//!
//! Its parts come to a shard one behind the other, in the order of the topics. The first opens a set of the subscribers it
//! was marked for; later ones skip those and add theirs, so that a client in more than one of the topics gets the message
//! once, whatever topics it joins and leaves in between. A set is one bit for each place in the tables. It is freed
//! with the last part; where that does not come here, because nobody has its topic, when the publication is over: then
//! nobody holds its list of topics any more. So there are no more sets than there are publications with credits, and
//! those that ended since the turn began.

use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::traffic::Part;
use crate::topic::Topic;

/// The open sets of one shard, by the address of their publications' topics: nothing else can be there while a set
/// refers to it.
#[derive(Debug, Default)]
pub(super) struct Served(HashMap<usize, ServedSet, RandomState>);

/// The subscribers that one publication was marked for.
#[derive(Debug)]
pub(super) struct ServedSet {
    topics: Weak<[Topic]>,
    /// Bit n of word m is place 64 m + n.
    words: Vec<u64>,
}

impl Served {
    /// Takes out the set of a part's publication, for the marking of that part; an empty one if there is none yet.
    pub(super) fn take(&mut self, part: &Part) -> ServedSet {
        let set = self.0.remove(&address(&part.topics));
        set.unwrap_or_else(|| ServedSet { topics: Arc::downgrade(&part.topics), words: Vec::new() })
    }

    /// Puts it back, unless nothing comes behind this part.
    pub(super) fn put_back(&mut self, part: &Part, set: ServedSet) {
        if !part.is_last() && !set.words.is_empty() {
            self.0.insert(address(&part.topics), set);
        }
    }

    /// A place is given up: whoever takes it next was served with nothing.
    pub(super) fn forget(&mut self, index: u32) {
        for set in self.0.values_mut() {
            set.remove(index);
        }
    }

    /// Frees the sets of publications that are over.
    pub(super) fn sweep(&mut self) {
        if self.0.is_empty() {
            return;
        }
        self.0.retain(|_, set| set.topics.strong_count() > 0);
        if self.0.is_empty() && self.0.capacity() > 64 {
            self.0.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl ServedSet {
    /// Whether a subscriber is in it.
    pub(super) fn has(&self, index: u32) -> bool {
        self.words.get(index as usize / 64).is_some_and(|word| word & 1 << (index % 64) != 0)
    }

    /// Adds a subscriber.
    pub(super) fn insert(&mut self, index: u32) {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
    }

    fn remove(&mut self, index: u32) {
        if let Some(word) = self.words.get_mut(index as usize / 64) {
            *word &= !(1 << (index % 64));
        }
    }
}

fn address(topics: &Arc<[Topic]>) -> usize {
    topics.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(topics: &Arc<[Topic]>, place: usize) -> Part {
        Part { topics: topics.clone(), place, stands: Arc::from([]) }
    }

    #[test]
    fn sets_are_freed_with_the_last_part_or_with_their_publication() {
        let topics = |names: &[&str]| -> Arc<[Topic]> {
            names.iter().map(|name| Topic::parse(name).expect("a topic")).collect()
        };
        let mut served = Served::default();
        let (one, two) = (topics(&["a", "b"]), topics(&["a", "b"]));
        for topics in [&one, &two] {
            let mut set = served.take(&part(topics, 0));
            set.insert(3);
            set.insert(200);
            assert!(set.has(3) && set.has(200) && !set.has(4) && !set.has(2_000));
            served.put_back(&part(topics, 0), set);
        }
        served.sweep();
        assert_eq!(served.len(), 2);
        served.forget(200);
        let mut set = served.take(&part(&one, 1));
        assert!(set.has(3) && !set.has(200), "another has the place 200 now");
        set.insert(200);
        served.put_back(&part(&one, 1), set);
        assert_eq!(served.len(), 1, "nothing comes behind the last part");
        drop(two);
        served.sweep();
        assert_eq!(served.len(), 0);
    }
}
