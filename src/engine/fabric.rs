//! `Fabric`: what ties the shards of a node together: their mailboxes, metrics, memory and bounds, and what topic classes say
//! within those. Each shard has a clone of it, made before the first begins; what they share in it is behind an `Arc`. Nothing
//! here decides anything about a subscriber.

use std::sync::Arc;

use super::{home::RecordBudget, memory::Memory, retry::Retry, slow_consumer::Rule, traffic::Mailboxes};
use crate::{
    classes::{ClassId, Classes, Policy},
    limits,
    metrics::Metrics,
    settings::Settings,
    units::milliseconds,
};

/// What all shards of a node share.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// The mailboxes of all shards.
    pub mailboxes: Arc<Mailboxes>,
    /// The metrics of all shards.
    pub metrics: Arc<Metrics>,
    /// What the shards hold together.
    pub memory: Memory,
    /// When clients are asked to come back that are closed for a restart.
    pub(crate) retry: Retry,
    pub(super) bounds: Bounds,
    pub(super) classes: Arc<Classes>,
    /// For each class what it says of slow consumers, within the node's own bounds.
    pub(super) rules: Arc<[Rule]>,
    /// Whether there is a class that conflates.
    pub(super) conflates: bool,
    pub(super) records: RecordBudget,
    /// Publications with a key that each home remembers.
    pub(super) repeats: usize,
    /// How long, milliseconds.
    pub(super) repeats_ms: u64,
    /// Random, of this start of the node: the first half of every epoch.
    pub(super) node: u64,
}

/// The limits an operator may set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) outbox_bytes: usize,
    pub(super) log_bytes: usize,
    pub(super) shard_lag: usize,
}

impl Bounds {
    /// Bytes from which on a blocked subscriber is far behind.
    #[inline]
    pub(super) fn behind_bytes(&self) -> usize {
        self.outbox_bytes / 4 * limits::BEHIND_QUARTERS
    }

    /// Half of what lies between being behind and the bound. So much goes to one who is behind and moves before the
    /// sockets are looked at, and several frames that are marked together are not more.
    pub(super) fn step_bytes(&self) -> usize {
        (self.outbox_bytes - self.behind_bytes()) / 2
    }
}

impl Fabric {
    /// What the shards of a node with these settings share. `node` makes its epochs different from those of any
    /// other start.
    ///
    /// # Panics
    /// When there are no shards, or more than [`limits::SHARDS_MAX`]. [`Settings::check`] says of the other fields it looks at
    /// what they should be.
    pub fn new(settings: &Settings, node: u64) -> Self {
        // A set of shards is one machine word: a further shard would be taken for one of the first.
        assert!(
            (1..=limits::SHARDS_MAX).contains(&settings.shards),
            "a node has 1 to {} shards",
            limits::SHARDS_MAX
        );
        Self {
            mailboxes: Arc::new(Mailboxes::new(settings.shards, settings.inflight_publications)),
            metrics: Arc::new(Metrics::new(settings.shards)),
            memory: Memory::new(settings.shards, settings.memory_bytes),
            retry: Retry::default(),
            bounds: Bounds {
                outbox_bytes: settings.outbox_bytes,
                log_bytes: settings.log_bytes,
                shard_lag: shard_lag(settings, settings.outbox_bytes),
            },
            rules: settings.classes.iter().map(|class| Rule::new(class, settings)).collect(),
            conflates: conflates(settings),
            classes: settings.classes.clone(),
            records: RecordBudget::new(settings.topics_max),
            repeats: settings.idempotency_keys / settings.shards,
            repeats_ms: milliseconds(settings.idempotency_ttl),
            node,
        }
    }
}

impl Fabric {
    /// Has classes, and what goes with them, be those of other settings, for one shard.
    pub(super) fn change_classes(&mut self, settings: &Settings) {
        self.bounds.shard_lag = shard_lag(settings, self.bounds.outbox_bytes);
        self.rules = settings.classes.iter().map(|class| Rule::new(class, settings)).collect();
        self.conflates = conflates(settings);
        self.classes = settings.classes.clone();
    }

    /// Bytes queued for a blocked subscriber from which on it is to be looked at when a frame of `class` arrives. Where
    /// older frames may go for the sake of younger ones that is always, so that it is known that there are such.
    #[inline]
    pub(super) fn watched_bytes(&self, class: ClassId) -> usize {
        let rule = &self.rules[class.index()];
        match rule.policy {
            Policy::Disconnect => self.bounds.behind_bytes().min(rule.outbox_bytes),
            Policy::DropNewest => rule.outbox_bytes,
            Policy::DropOldest | Policy::Conflate => 0,
        }
    }
}

fn conflates(settings: &Settings) -> bool {
    settings.classes.iter().any(|class| class.policy == Policy::Conflate)
}

/// The lag that is set, or half of the least that may be queued for a client: a shard that flushed less often could make one
/// slow that reads all it is sent.
fn shard_lag(settings: &Settings, outbox_bytes: usize) -> usize {
    let least = settings.classes.iter().map(|class| class.outbox_bytes).fold(outbox_bytes, usize::min);
    settings.shard_lag.min(least / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::classes::Class;

    #[test]
    fn a_shard_flushes_often_enough_for_the_smallest_bound_of_a_class() {
        let class = |name: &str, outbox_bytes| Class {
            name: name.into(),
            ..Class::default_with(outbox_bytes, Duration::from_secs(1))
        };
        let lag = |bounds: [usize; 2]| {
            let further = vec![class("a", bounds[0]), class("b", bounds[1])];
            let classes = Classes::new(class("default", usize::MAX), further, Vec::new()).expect("they fit");
            let settings = Settings { shards: 1, classes: Arc::new(classes), ..Settings::default() };
            Fabric::new(&settings, 1).bounds.shard_lag
        };
        assert_eq!(lag([300 << 10, 256 << 10]), 128 << 10);
        assert_eq!(lag([512 << 10, usize::MAX]), limits::SHARD_LAG_BYTES);
    }

    #[test]
    fn a_class_that_conflates_is_known_from_the_change_on_that_brings_it() {
        let with = |policy| {
            let default = Class { policy, ..Class::default_with(1 << 20, Duration::from_secs(1)) };
            let classes = Classes::new(default, Vec::new(), Vec::new()).expect("it fits");
            Settings { shards: 1, classes: Arc::new(classes), ..Settings::default() }
        };
        let mut fabric = Fabric::new(&with(Policy::Disconnect), 1);
        assert!(!fabric.conflates);
        fabric.change_classes(&with(Policy::Conflate));
        assert!(fabric.conflates && fabric.rules[0].policy == Policy::Conflate);
    }
}
