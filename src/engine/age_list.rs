//! A list of slab entries in order of age: log segments by when they were filled, topic records by when they were
//! last used. It owns no entries, only their order; each entry carries its two neighbours.

use slab::Slab;

/// No entry.
const NONE: u32 = u32::MAX;

/// The neighbours of an entry that stands in a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbours {
    older: u32,
    younger: u32,
}

impl Neighbours {
    pub(crate) const NONE: Self = Self { older: NONE, younger: NONE };
}

/// What can stand in an [`AgeList`].
pub(crate) trait Aged {
    fn neighbours(&mut self) -> &mut Neighbours;
}

/// The ends of one list. An entry stands in at most one list; the caller knows in which.
#[derive(Debug)]
pub(crate) struct AgeList {
    oldest: u32,
    youngest: u32,
}

impl AgeList {
    pub(crate) const fn new() -> Self {
        Self { oldest: NONE, youngest: NONE }
    }

    /// Appends an entry that stands in no list.
    pub(crate) fn push_youngest<T: Aged>(&mut self, slab: &mut Slab<T>, id: u32) {
        *slab[id as usize].neighbours() = Neighbours { older: self.youngest, younger: NONE };
        match self.youngest {
            NONE => self.oldest = id,
            youngest => slab[youngest as usize].neighbours().younger = id,
        }
        self.youngest = id;
    }

    /// Takes out an entry that stands in this list.
    pub(crate) fn remove<T: Aged>(&mut self, slab: &mut Slab<T>, id: u32) {
        let Neighbours { older, younger } =
            std::mem::replace(slab[id as usize].neighbours(), Neighbours::NONE);
        match older {
            NONE => self.oldest = younger,
            older => slab[older as usize].neighbours().younger = younger,
        }
        match younger {
            NONE => self.youngest = older,
            younger => slab[younger as usize].neighbours().older = older,
        }
    }

    /// The entry that was pushed first.
    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The entry that was pushed next after one that stands in a list.
    pub(crate) fn next_younger<T: Aged>(slab: &mut Slab<T>, id: u32) -> Option<u32> {
        let younger = slab[id as usize].neighbours().younger;
        (younger != NONE).then_some(younger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(Neighbours);

    impl Aged for Item {
        fn neighbours(&mut self) -> &mut Neighbours {
            &mut self.0
        }
    }

    fn drain(list: &mut AgeList, slab: &mut Slab<Item>) -> Vec<u32> {
        std::iter::from_fn(|| {
            let id = list.oldest()?;
            list.remove(slab, id);
            Some(id)
        })
        .collect()
    }

    #[test]
    fn entries_leave_from_anywhere_and_the_order_holds() {
        for gone in 0..4 {
            let (mut list, mut slab) = (AgeList::new(), Slab::new());
            for _ in 0..4 {
                let id = slab.insert(Item(Neighbours::NONE)) as u32;
                list.push_youngest(&mut slab, id);
            }
            list.remove(&mut slab, gone);
            list.push_youngest(&mut slab, gone);
            let expected: Vec<u32> = (0..4).filter(|&id| id != gone).chain([gone]).collect();
            assert_eq!(drain(&mut list, &mut slab), expected);
            assert_eq!(list.oldest(), None);
        }
    }
}
