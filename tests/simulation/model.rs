//! What every subscriber must see, kept naively: all publications in order, and for each subscriber and topic the
//! times in which it had the topic. It knows nothing of shards, logs, queues or ranges.
//!
//! Time is counted twice: `tick` is the number of publications sequenced so far, `clock` goes on with whatever is
//! asked or answered. A publication that was sequenced between the wish to have a topic and the word that it is had
//! may be seen or not, but from the first one seen on all are; what was sequenced after that word is owed.

use std::collections::HashSet;

use bytes::Bytes;
use fanfare::{
    identity::{ClientId, User},
    publication::{Audience, Epoch, Position},
    topic::Topic,
};

use super::stream::{BINARY, Frame, TEXT};

/// Where in a message its number stands.
const NUMBER_BYTES: usize = 4;

/// A topic, and all that was ever published to it.
#[derive(Debug)]
pub(crate) struct TopicModel {
    pub(crate) topic: Topic,
    pub(crate) home: usize,
    /// Publications, in the order in which its home sequenced them.
    pub(crate) sequenced: Vec<usize>,
    last: Option<Position>,
    epochs: HashSet<Epoch>,
}

/// A publication.
#[derive(Debug)]
pub(crate) struct PublicationModel {
    pub(crate) topic: usize,
    pub(crate) audience: Audience,
    pub(crate) bytes: Bytes,
    opcode: u8,
    submitted: u64,
    replied: u64,
    /// Which one it was of all that were sequenced; 0 before.
    pub(crate) tick: u64,
    /// Which one it was in its topic.
    place: usize,
}

/// A time in which a subscriber has, or may have, a topic.
#[derive(Debug)]
pub(crate) struct Window {
    requested: u64,
    joined: Option<u64>,
    /// Its end: when, in ticks and by the clock.
    until: Option<(u64, u64)>,
    /// Of what was sequenced in it, this much had been handed to the shard when it ended.
    handed: u64,
    seen: bool,
    /// Something of it was not seen that lay behind something seen: nothing more may come.
    cut: bool,
    /// The answer to the leave came: nothing more may come.
    passed: bool,
}

impl Window {
    fn holds(&self, tick: u64) -> bool {
        self.requested < tick && self.until.is_none_or(|(until, _)| tick <= until)
    }

    /// Whether what was sequenced at `tick`, in this window, must be seen.
    fn owes(&self, tick: u64) -> bool {
        let begun = self.seen || self.joined.is_some_and(|joined| joined < tick);
        begun && (self.until.is_none() || tick <= self.handed)
    }
}

/// One topic as one subscriber sees it.
#[derive(Debug, Default)]
struct View {
    windows: Vec<Window>,
    /// The first place of the topic that was not looked at.
    cursor: usize,
}

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) client: ClientId,
    pub(crate) user: Option<User>,
    views: Vec<View>,
    /// What it saw, in order.
    pub(crate) seen: Vec<usize>,
    /// For each home the tick of the last publication seen.
    homes: Vec<u64>,
    /// The latest submission of all that was seen.
    submitted: u64,
}

/// All topics and publications.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) topics: Vec<TopicModel>,
    pub(crate) publications: Vec<PublicationModel>,
    pub(crate) tick: u64,
    pub(crate) clock: u64,
}

impl Model {
    pub(crate) fn new(topics: usize, shards: usize) -> Self {
        let topic = |n| {
            let topic = Topic::parse(&format!("topic {n}")).expect("it is a topic");
            let home = topic.home(shards);
            TopicModel { topic, home, sequenced: Vec::new(), last: None, epochs: HashSet::new() }
        };
        Self { topics: (0..topics).map(topic).collect(), publications: Vec::new(), tick: 0, clock: 0 }
    }

    /// Someone who has no topic yet.
    pub(crate) fn viewer(&self, shards: usize, client: ClientId, user: Option<User>) -> Viewer {
        let views = self.topics.iter().map(|_| View::default()).collect();
        Viewer { client, user, views, seen: Vec::new(), homes: vec![0; shards], submitted: 0 }
    }

    /// A message of `len` bytes, about, that no other is equal to.
    pub(crate) fn publish(&mut self, topic: usize, audience: Audience, len: usize, text: bool) -> usize {
        let number = self.publications.len();
        let (opcode, mut bytes) = match text {
            true => (TEXT, format!("{number:04}").into_bytes()),
            false => (BINARY, (number as u32).to_be_bytes().to_vec()),
        };
        let letter = b'a' + (number % 26) as u8;
        bytes.resize(len.max(bytes.len()), letter);
        self.clock += 1;
        self.publications.push(PublicationModel {
            topic,
            audience,
            bytes: bytes.into(),
            opcode,
            submitted: self.clock,
            replied: 0,
            tick: 0,
            place: 0,
        });
        number
    }

    /// A publication got its position. I3: one offset once an epoch, one behind the other.
    pub(crate) fn sequenced(&mut self, number: usize, position: Position, kept: bool) {
        let publication = &mut self.publications[number];
        let topic = &mut self.topics[publication.topic];
        match topic.last {
            Some(last) if last.epoch == position.epoch => assert_eq!(position.offset, last.offset + 1),
            last => {
                assert!(!kept || last.is_none(), "a topic somebody has lost its epoch");
                assert_eq!(position.offset, 1, "the first of an epoch");
                assert!(topic.epochs.insert(position.epoch), "an epoch came back");
            }
        }
        topic.last = Some(position);
        self.tick += 1;
        self.clock += 1;
        publication.tick = self.tick;
        publication.replied = self.clock;
        publication.place = topic.sequenced.len();
        topic.sequenced.push(number);
    }

    /// The tick of the last publication of a topic.
    pub(crate) fn last_tick(&self, topic: usize) -> u64 {
        self.topics[topic].sequenced.last().map_or(0, |&number| self.publications[number].tick)
    }

    fn number_of(&self, frame: &Frame) -> usize {
        let number = &frame.payload[..NUMBER_BYTES];
        match frame.opcode {
            TEXT => {
                let digits = frame.payload.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let text = std::str::from_utf8(&frame.payload[..digits]).expect("digits");
                text.parse().expect("a number")
            }
            _ => u32::from_be_bytes(number.try_into().expect("four bytes")) as usize,
        }
    }
}

impl Viewer {
    /// It wishes to have a topic.
    pub(crate) fn request(&mut self, topic: usize, model: &Model) {
        if !self.is_open(topic) {
            self.views[topic].windows.push(Window {
                requested: model.tick,
                joined: None,
                until: None,
                handed: 0,
                seen: false,
                cut: false,
                passed: false,
            });
        }
    }

    /// It was told that it has a topic, if it has not left it meanwhile.
    pub(crate) fn joined(&mut self, topic: usize, model: &Model) {
        if let Some(window) = self.open(topic) {
            window.joined.get_or_insert(model.tick);
        }
    }

    /// It has a topic no longer; `handed` ticks had been handed to its shard.
    pub(crate) fn left(&mut self, topic: usize, handed: u64, model: &mut Model) {
        model.clock += 1;
        if let Some(window) = self.open(topic) {
            window.until = Some((model.tick, model.clock));
            window.handed = handed;
        }
    }

    /// Whether it has a topic, or wishes to.
    pub(crate) fn is_open(&self, topic: usize) -> bool {
        self.views[topic].windows.last().is_some_and(|window| window.until.is_none())
    }

    /// Whether it was told that it has a topic.
    pub(crate) fn has(&self, topic: usize) -> bool {
        self.views[topic]
            .windows
            .last()
            .is_some_and(|window| window.until.is_none() && window.joined.is_some())
    }

    /// Whether it was told that it has a topic, before `tick`.
    pub(crate) fn had_before(&self, topic: usize, tick: u64) -> bool {
        let window = self.views[topic].windows.last().filter(|window| window.until.is_none());
        window.and_then(|window| window.joined).is_some_and(|joined| joined < tick)
    }

    /// A publication came. I4 and I5: it was meant for this one, it comes once and in order, and nothing owed was left
    /// out before it.
    pub(crate) fn receive(&mut self, frame: &Frame, model: &Model) {
        let number = model.number_of(frame);
        let publication = model.publications.get(number).expect("someone published it");
        assert!(publication.tick > 0, "publication {number} is seen before it has an offset");
        assert_eq!(frame.opcode, publication.opcode);
        assert_eq!(frame.payload, publication.bytes, "publication {number} has other bytes");
        assert!(self.is_meant(publication), "publication {number} is not meant for this one");
        let place = publication.place;
        let topic = &model.topics[publication.topic];
        let cursor = self.views[publication.topic].cursor;
        assert!(place >= cursor, "publication {number} comes twice, or behind a later one");
        for &skipped in &topic.sequenced[cursor..place] {
            self.skip(skipped, model);
        }
        let view = &mut self.views[publication.topic];
        view.cursor = place + 1;
        let window = view.windows.iter_mut().find(|window| window.holds(publication.tick));
        let window = window.unwrap_or_else(|| panic!("publication {number} is of a topic it does not have"));
        assert!(!window.passed, "publication {number} comes behind the answer to the leave");
        assert!(!window.cut, "publication {number} comes behind a hole");
        window.seen = true;
        self.check_order(publication, topic.home);
        self.seen.push(number);
    }

    /// Whatever is owed by now of all topics was seen.
    pub(crate) fn check_complete(&self, model: &Model) {
        for view in 0..self.views.len() {
            self.check_owed(view, model, |_| true);
        }
    }

    /// The answer to all leaves up to `clock` came: what is owed of those topics was seen, and nothing more may come.
    pub(crate) fn pass(&mut self, clock: u64, model: &Model) {
        let passes = |window: &Window| window.until.is_some_and(|(_, at)| at <= clock);
        for view in 0..self.views.len() {
            self.check_owed(view, model, |window| passes(window) && !window.passed);
            for window in self.views[view].windows.iter_mut().filter(|window| passes(window)) {
                window.passed = true;
            }
        }
    }

    fn open(&mut self, topic: usize) -> Option<&mut Window> {
        self.views[topic].windows.last_mut().filter(|window| window.until.is_none())
    }

    fn is_meant(&self, publication: &PublicationModel) -> bool {
        let audience = &publication.audience;
        (audience.user.is_none() || audience.user == self.user) && audience.exclude != Some(self.client)
    }

    /// A publication will not be seen any more.
    fn skip(&mut self, number: usize, model: &Model) {
        let publication = &model.publications[number];
        if !self.is_meant(publication) {
            return;
        }
        let windows = &mut self.views[publication.topic].windows;
        if let Some(window) = windows.iter_mut().find(|window| window.holds(publication.tick)) {
            assert!(!window.owes(publication.tick), "publication {number} is missing");
            window.cut |= window.seen || window.joined.is_some_and(|joined| joined < publication.tick);
        }
    }

    fn check_owed(&self, view: usize, model: &Model, of: impl Fn(&Window) -> bool) {
        let view_of = &self.views[view];
        for &number in &model.topics[view].sequenced[view_of.cursor..] {
            let publication = &model.publications[number];
            let window = view_of.windows.iter().find(|window| window.holds(publication.tick));
            if let Some(window) = window.filter(|window| of(window))
                && self.is_meant(publication)
            {
                assert!(
                    !window.owes(publication.tick),
                    "publication {number} is missing: {:?} {:?} {window:?} {:?}",
                    (publication.topic, publication.tick),
                    publication.audience,
                    self.seen,
                );
            }
        }
    }

    /// The order of each home, and of each publisher that waited for its answers.
    fn check_order(&mut self, publication: &PublicationModel, home: usize) {
        assert!(publication.tick > self.homes[home], "not in the order of the home");
        self.homes[home] = publication.tick;
        assert!(publication.replied > self.submitted, "behind one that was published after its answer");
        self.submitted = self.submitted.max(publication.submitted);
    }
}
