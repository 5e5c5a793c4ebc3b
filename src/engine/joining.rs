//! Joins and un-wants of one shard that are under way or wait: data only; `membership` decides on them.
//!
//! Both are bounded: joins under way by `JOINS_INFLIGHT`, those that wait by one change of topics a subscriber, un-wants
//! by one batch under way for each home and by the topics this shard has an entry for.

use std::collections::VecDeque;

use super::traffic::Join;

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

impl Joining {
    pub(super) fn new(shards: u16) -> Self {
        let unwants = vec![Unwants::default(); shards.into()].into();
        Self { inflight: 0, waiting: VecDeque::new(), unwants }
    }
}
