//! What a client that resumes must see, kept naively: all publications of each epoch, and for each topic of a client where
//! it began and what came since. It knows nothing of rings, replays or ranges: what is kept follows from the list of all
//! publications.

use std::{collections::HashMap, sync::Arc};

use fanfare::{
    classes::{Class, History, Policy},
    engine::Resume,
    identity::{ClientId, User},
    limits::HISTORY_MESSAGE_OVERHEAD,
    publication::{Audience, Epoch},
};

use super::seen::Resumed;

/// A publication that has its offset.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) text: Arc<str>,
    pub(crate) audience: Audience,
    /// When it was sequenced, milliseconds.
    pub(crate) at: u64,
}

/// Everything ever published: for each topic and epoch, in order of the offsets.
#[derive(Debug, Default)]
pub(crate) struct All(HashMap<(usize, String), Vec<Published>>);

/// Who looks.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) client: ClientId,
    pub(crate) user: Option<User>,
}

/// One topic of one client, from the answer to its subscribe on.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: usize,
    resume: Option<Resume>,
    epoch: String,
    /// The join point.
    head: u64,
    recovered: Option<bool>,
    /// What could not be replayed: from, to.
    missed: Option<(u64, u64)>,
    /// Offsets that came.
    pub(crate) seen: Vec<u64>,
    /// What was lost since for being slow: from, to, how many.
    slow: Vec<(u64, u64, u64)>,
}

/// What a gap says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap<'a> {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) reason: &'a str,
    pub(crate) lost: u64,
}

impl All {
    /// Takes note of a publication.
    pub(crate) fn add(&mut self, topic: usize, (epoch, offset): (Epoch, u64), published: Published) {
        let list = self.0.entry((topic, epoch.to_string())).or_default();
        assert_eq!(list.len() as u64 + 1, offset, "offsets count up");
        list.push(published);
    }

    fn of(&self, topic: usize, epoch: &str) -> &[Published] {
        self.0.get(&(topic, epoch.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The offset of the oldest publication that is kept now, or the one behind the last if none is.
    fn oldest(&self, topic: usize, epoch: &str, history: Option<History>, now: u64) -> u64 {
        let all = self.of(topic, epoch);
        let Some(History { messages, bytes, ttl }) = history else { return all.len() as u64 + 1 };
        let (mut count, mut cost) = (0, 0);
        for published in all.iter().rev() {
            cost += published.text.len() + HISTORY_MESSAGE_OVERHEAD;
            if count == messages || cost > bytes || published.at + ttl.as_millis() as u64 <= now {
                break;
            }
            count += 1;
        }
        (all.len() - count) as u64 + 1
    }
}

impl Who {
    fn is_meant(&self, published: &Published) -> bool {
        let Audience { user, exclude } = &published.audience;
        (user.is_none() || *user == self.user) && *exclude != Some(self.client)
    }
}

impl Subscription {
    /// The answer came. `position` is where it says that the topic stands.
    pub(crate) fn new(
        topic: usize,
        resume: Option<Resume>,
        (epoch, head): (&str, u64),
        recovered: Option<bool>,
        all: &All,
    ) -> Self {
        assert!(head <= all.of(topic, epoch).len() as u64, "the head is not published yet");
        assert_eq!(recovered.is_some(), matches!(resume, Some(Resume::Since { .. })));
        let (missed, seen, slow) = (None, Vec::new(), Vec::new());
        Self { topic, resume, epoch: epoch.to_owned(), head, recovered, missed, seen, slow }
    }

    /// A gap came.
    pub(crate) fn gap(
        &mut self,
        gap: Gap<'_>,
        who: &Who,
        all: &All,
        class: &Class,
        now: u64,
        counts: &mut Resumed,
    ) {
        if gap.reason == "slow" {
            assert!(gap.lost > 0 && gap.from <= gap.to && class.policy != Policy::Disconnect);
            self.slow.push((gap.from, gap.to, gap.lost));
            counts.gaps_of_slow += 1;
            return;
        }
        assert!(self.seen.is_empty() && self.missed.is_none(), "it comes ahead of what is replayed");
        assert_eq!(self.recovered, Some(false), "a gap of the past, and it was recovered");
        let Some(Resume::Since { epoch, offset }) = self.resume else { panic!("it asked for nothing") };
        let is_reset = epoch.map(|epoch| epoch.to_string()) != Some(self.epoch.clone()) || offset > self.head;
        // A reset that replays all there is says so too: one that has no room for it, likewise.
        assert_eq!(gap.reason, if is_reset { "reset" } else { "history" });
        assert_eq!(gap.from, if is_reset { 1 } else { offset + 1 });
        assert!(gap.to <= self.head && (is_reset || gap.lost > 0 && gap.from <= gap.to), "{gap:?}");
        let within = &all.of(self.topic, &self.epoch)[gap.from as usize - 1..gap.to as usize];
        let meant = within.iter().filter(|published| who.is_meant(published)).count() as u64;
        assert!(
            (meant..=within.len() as u64).contains(&gap.lost),
            "{gap:?}, of which {meant} were meant for it"
        );
        if gap.to < all.oldest(self.topic, &self.epoch, class.history, now) {
            counts.resets += u64::from(is_reset);
            counts.gaps_of_history += u64::from(!is_reset);
        } else {
            assert_ne!(class.policy, Policy::Disconnect, "a class with much room: {gap:?}");
            counts.without_room += 1;
        }
        if class.policy == Policy::Disconnect {
            assert_eq!(gap.lost, within.len() as u64);
        }
        self.missed = Some((gap.from, gap.to));
    }

    /// A message came.
    pub(crate) fn receive(&mut self, offset: u64, text: &str, who: &Who, all: &All, counts: &mut Resumed) {
        let published = &all.of(self.topic, &self.epoch)[offset as usize - 1];
        assert_eq!(&*published.text, text, "offset {offset}");
        assert!(who.is_meant(published), "offset {offset} is not meant for it");
        assert!(
            self.seen.last().is_none_or(|&last| last < offset),
            "I4: {offset} comes behind {:?}",
            self.seen
        );
        let is_past = offset <= self.head;
        counts.frames += 1;
        counts.replayed_to_one_user += u64::from(is_past && published.audience.user.is_some());
        let behind_replay = self.seen.last().is_some_and(|&last| last <= self.head);
        counts.live_behind_replay += u64::from(!is_past && behind_replay);
        self.seen.push(offset);
    }

    /// Everything has come: what was replayed, what is live and what gaps count is exactly what was meant for it.
    pub(crate) fn check(&self, who: &Who, all: &All, class: &Class, now: u64, counts: &mut Resumed) {
        let published = all.of(self.topic, &self.epoch);
        let past = self.begin();
        let is_meant = |offset: u64| who.is_meant(&published[offset as usize - 1]);
        let owed: Vec<u64> = (past + 1..=published.len() as u64).filter(|&offset| is_meant(offset)).collect();
        assert!(
            self.seen.iter().all(|offset| *offset > past),
            "something came that was not asked for: {self:?}"
        );
        let missing: Vec<u64> =
            owed.into_iter().filter(|offset| self.seen.binary_search(offset).is_err()).collect();
        let lost: u64 = self.slow.iter().map(|(_, _, lost)| lost).sum();
        assert_eq!(missing.len() as u64, lost, "{missing:?} are missing, behind {past}: {self:?}");
        for offset in missing {
            assert!(
                self.slow.iter().any(|&(from, to, _)| (from..=to).contains(&offset)),
                "{offset}: {self:?}"
            );
        }
        let oldest = all.oldest(self.topic, &self.epoch, class.history, now);
        let replayed = self.seen.iter().take_while(|&&offset| offset <= self.head).count();
        counts.hidden_from_others +=
            (past + 1..=self.head).filter(|&offset| !is_meant(offset)).count() as u64;
        match self.resume {
            Some(Resume::Since { .. }) => {
                assert_eq!(self.recovered, Some(self.missed.is_none()), "what is missing is told");
                counts.recovered += u64::from(self.missed.is_none());
                counts.recovered_with_replay += u64::from(self.missed.is_none() && replayed > 0);
            }
            Some(Resume::Last(most)) => {
                let came = (past + 1..=self.head).filter(|&offset| is_meant(offset)).count();
                assert!(came <= most as usize, "{came} came of the last {most}");
                // With little room it may be less.
                if class.policy == Policy::Disconnect {
                    let more = (oldest..=past).any(is_meant);
                    assert!(came == most as usize || !more, "{came} came of the last {most}: {self:?}");
                }
                counts.last_messages += came as u64;
            }
            None => {}
        }
    }

    /// The offset behind which everything is owed.
    fn begin(&self) -> u64 {
        match (self.resume, self.missed) {
            (Some(Resume::Since { .. }), Some((_, to))) => to,
            (Some(Resume::Since { offset, .. }), None) => offset,
            (Some(Resume::Last(_)), _) => {
                let first = self.seen.first().copied().into_iter().chain(self.slow.iter().map(|slow| slow.0));
                first.min().map_or(self.head, |first| self.head.min(first - 1))
            }
            (None, _) => self.head,
        }
    }
}
