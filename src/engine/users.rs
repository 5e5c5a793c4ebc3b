//! The user index of one shard: user → subscribers that belong to it.
//!
//! An entry lives while its user has a subscriber here. Each subscriber knows its place, so that one user with very
//! many clients costs no more a disconnect than many users with one each.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::subscribers::Subscribers;
use crate::identity::User;

#[derive(Debug)]
struct Entry {
    user: User,
    members: Members,
}

/// The subscribers of one user. Nearly all have one only, and there are very many of those.
#[derive(Debug)]
enum Members {
    One(u32),
    /// Any number, and none for a moment.
    #[expect(clippy::box_collection, reason = "so an entry of the common case has 32 bytes, not 48")]
    Many(Box<Vec<u32>>),
}

const _: () = assert!(size_of::<Option<Entry>>() <= 32);

impl Members {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(members) => members,
        }
    }

    fn push(&mut self, subscriber: u32) {
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, subscriber])),
            Self::Many(members) => members.push(subscriber),
        }
    }
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct UserIndex {
    numbers: HashTable<u32>,
    entries: Slab<Entry>,
    hasher: RandomState,
}

impl UserIndex {
    /// Notes that `subscriber` belongs to `user`.
    pub(crate) fn add(&mut self, user: User, subscriber: u32, subscribers: &mut Subscribers) {
        let number = match self.number(&user) {
            Some(number) => {
                self.entries[number as usize].members.push(subscriber);
                number
            }
            None => {
                let hash = self.hasher.hash_one(&user);
                let number = self.entries.insert(Entry { user, members: Members::One(subscriber) }) as u32;
                let (entries, hasher) = (&self.entries, &self.hasher);
                let rehash = |&other: &u32| hasher.hash_one(&entries[other as usize].user);
                self.numbers.insert_unique(hash, number, rehash);
                number
            }
        };
        let profile = &mut subscribers.profiles[subscriber as usize];
        profile.user = Some(number);
        profile.user_place = self.members(number).len() as u32 - 1;
    }

    /// Forgets `subscriber`.
    pub(crate) fn remove(&mut self, subscriber: u32, subscribers: &mut Subscribers) {
        let profile = &mut subscribers.profiles[subscriber as usize];
        let Some(number) = profile.user.take() else { return };
        let place = profile.user_place as usize;
        if let Members::Many(members) = &mut self.entries[number as usize].members {
            members.swap_remove(place);
            if let Some(&moved) = members.get(place) {
                subscribers.profiles[moved as usize].user_place = place as u32;
            }
            if !members.is_empty() {
                return;
            }
        }
        let entry = self.entries.remove(number as usize);
        let hash = self.hasher.hash_one(&entry.user);
        if let Ok(found) = self.numbers.find_entry(hash, |&other| other == number) {
            found.remove();
        }
    }

    /// The number of `user`, if it has a subscriber here.
    pub(crate) fn number(&self, user: &User) -> Option<u32> {
        let hash = self.hasher.hash_one(user);
        self.numbers.find(hash, |&number| self.entries[number as usize].user == *user).copied()
    }

    /// The user with a number.
    pub(crate) fn user(&self, number: u32) -> &User {
        &self.entries[number as usize].user
    }

    /// The subscribers of a user.
    pub(crate) fn members(&self, number: u32) -> &[u32] {
        self.entries[number as usize].members.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Encoding;

    #[test]
    fn users_come_and_go_with_their_subscribers() {
        let (mut index, mut subscribers) = (UserIndex::default(), Subscribers::default());
        let keys: Vec<u32> = (0..6).map(|_| subscribers.add(None, Encoding::Plain).index).collect();
        for &key in &keys {
            index.add(User::number(u64::from(key % 2)), key, &mut subscribers);
        }
        let odd = index.number(&User::number(1)).expect("it has subscribers");
        assert_eq!(index.members(odd), [1, 3, 5]);
        index.remove(1, &mut subscribers);
        assert_eq!(index.members(odd), [5, 3]);
        index.remove(5, &mut subscribers);
        index.remove(3, &mut subscribers);
        assert_eq!(index.number(&User::number(1)), None);
        assert!(index.number(&User::number(0)).is_some());
    }
}
