//! `SharedTopics`: one copy of topic lists that many clients have alike.
//!
//! Most clients of an audience ask for the same few topics, each in a body of its own. What was parsed is looked up
//! here, and where it was seen lately the copy that others hold is taken instead. It is a cache with fixed places,
//! the newest wins: a miss costs memory, never correctness.

use std::sync::Arc;

use super::Topic;
use crate::limits::{SHARED_LIST_TOPICS, SHARED_LISTS, SHARED_TOPICS};

/// What one shard has seen lately.
#[derive(Debug)]
pub(crate) struct SharedTopics {
    topics: Box<[Option<Topic>]>,
    lists: Box<[Option<Arc<[Topic]>>]>,
}

impl Default for SharedTopics {
    fn default() -> Self {
        Self { topics: vec![None; SHARED_TOPICS].into(), lists: vec![None; SHARED_LISTS].into() }
    }
}

impl SharedTopics {
    /// The same list, where possible the copy that others hold.
    pub(crate) fn share(&mut self, mut list: Arc<[Topic]>) -> Arc<[Topic]> {
        if list.is_empty() || list.len() > SHARED_LIST_TOPICS {
            self.share_each(&mut list);
            return list;
        }
        let hash = list.iter().fold(0_u64, |hash, topic| hash.rotate_left(5) ^ topic.kept_hash());
        let place = hash as usize % SHARED_LISTS;
        match &self.lists[place] {
            Some(known) if *known == list => known.clone(),
            _ => {
                self.share_each(&mut list);
                self.lists[place] = Some(list.clone());
                list
            }
        }
    }

    /// Takes known copies of the topics, if nobody else has the list yet.
    fn share_each(&mut self, list: &mut Arc<[Topic]>) {
        for topic in Arc::get_mut(list).into_iter().flatten() {
            let known = &mut self.topics[topic.kept_hash() as usize % SHARED_TOPICS];
            match known {
                Some(known) if *known == *topic => *topic = known.clone(),
                _ => *known = Some(topic.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Arc<[Topic]> {
        names.iter().map(|name| Topic::parse(name).unwrap()).collect()
    }

    #[test]
    fn alike_lists_become_one() {
        let mut shared = SharedTopics::default();
        let first = shared.share(list(&["a", "b"]));
        let second = shared.share(list(&["a", "b"]));
        assert!(Arc::ptr_eq(&first, &second));
        let other = shared.share(list(&["b", "a"]));
        assert_eq!(other, list(&["b", "a"]), "the order is another");
        assert_eq!(other[1].as_str().as_ptr(), first[0].as_str().as_ptr(), "its topics are the same");
    }

    #[test]
    fn long_lists_share_their_topics_only() {
        let names: Vec<String> = (0..=SHARED_LIST_TOPICS).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut shared = SharedTopics::default();
        let (first, second) = (shared.share(list(&names)), shared.share(list(&names)));
        assert_eq!(first, second);
        assert!(!Arc::ptr_eq(&first, &second));
        let same = |n: usize| first[n].as_str().as_ptr() == second[n].as_str().as_ptr();
        assert!((0..first.len()).filter(|&n| same(n)).count() > SHARED_LIST_TOPICS / 2);
    }

    #[test]
    fn whatever_was_seen_the_list_is_what_was_asked_for() {
        let mut shared = SharedTopics::default();
        for n in 0..10 * SHARED_LISTS {
            let names = [n.to_string(), (n % 7).to_string()];
            let names = [names[0].as_str(), names[1].as_str()];
            assert_eq!(shared.share(list(&names)), list(&names));
        }
        assert_eq!(shared.share(list(&[])), list(&[]));
    }
}
