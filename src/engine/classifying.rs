//! Other topic classes while the shard runs: each topic is of the class that its name has now.
//!
//! Called between two turns, when the settings were changed; a walk over all topics of the shard if the rules are others. Nobody
//! loses a topic for it, and nothing that is queued is dropped at once.

use super::{outbox::Flags, shard::Shard};
use crate::settings::Settings;

impl Shard {
    /// Has topics be of the classes that these settings name, if those are others. What is queued already stays, and is
    /// judged by its topic's class as that is now when there is reason to.
    pub fn change_classes(&mut self, settings: &Settings) {
        if self.fabric.classes == settings.classes {
            return;
        }
        if !settings.classes.has_rules_of(&self.fabric.classes) {
            self.log.books.classify(&settings.classes);
        }
        self.fabric.change_classes(settings);
        self.home.change_classes(settings.classes.clone(), self.now);
        // What was found out about queues was so with other policies.
        self.subscribers.outboxes.iter_mut().for_each(|outbox| outbox.flags.clear(Flags::ONLY_NEWEST));
    }
}
