//! A run of one seed: what happens next is picked at random, until it is enough; then everyone becomes willing, and
//! everything that is owed has to come.

use fanfare::{engine::Manner, limits::OUTBOX_AGE_MS, publication::Audience, settings::Settings};

use super::{
    net::Manners,
    random::Random,
    seen::Seen,
    steps::{Steps, note},
    world::{Stage, World, defaults},
};

/// The shape of one run.
#[derive(Clone, Debug)]
struct Shape {
    shards: usize,
    topics: usize,
    subscribers: usize,
    steps: usize,
    /// How many of 100 connections are not willing.
    unwilling: usize,
    /// How many of 100 messages are large, and how many tiny.
    large: usize,
    tiny: usize,
    stops: bool,
}

/// One run under way.
struct Chaos {
    random: Random,
    shape: Shape,
    world: World,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, steps: &mut Steps<'_>) -> Seen {
    let mut random = Random::new(seed);
    let shape = Shape {
        shards: random.within(1, 4),
        topics: random.within(2, 14),
        subscribers: random.within(3, 20),
        steps: random.within(300, 2_000),
        unwilling: random.pick(&[5, 30, 60]),
        large: random.pick(&[0, 3, 25]),
        tiny: random.pick(&[20, 60, 97]),
        stops: random.chance(40),
    };
    let settings = Settings {
        shards: shape.shards,
        outbox_bytes: random.pick(&[24, 64, 64, 192, 512]) * 1024,
        log_bytes: random.pick(&[450, 512, 600, 1024]) * 1024,
        shard_lag: random.pick(&[1, 4, 32, 256]) * 1024,
        topics_max: random.within(shape.topics / 2, shape.topics + 2),
        inflight_publications: random.pick(&[4, 20, 100, 300]),
        inflight_bytes: random.pick(&[64, 256, 2048]) * 1024,
        ..defaults()
    };
    let world = World::new(settings, shape.topics, random.fork());
    let mut chaos = Chaos { random, shape, world };
    for n in 0..chaos.shape.steps {
        let Some(random) = steps.begin(n) else { continue };
        chaos.random = random;
        chaos.step();
        if n % 16 == 0 {
            chaos.world.check_books();
        }
    }
    steps.end();
    chaos.finish()
}

impl Chaos {
    fn step(&mut self) {
        let shard = self.random.below(self.shape.shards);
        match self.random.below(100) {
            _ if self.random.below(300) == 0 => self.calm(),
            0..14 => {
                let entries = self.random.pick(&[1, 3, 10, 40]);
                note(|| format!("home {shard} does {entries} entries"));
                self.world.sequence(shard, entries);
            }
            14..34 => {
                let entries = self.random.pick(&[1, 3, 10, 40]);
                note(|| format!("shard {shard} takes {entries} entries"));
                self.world.take(shard, entries);
            }
            34..49 => {
                let offers = self.random.pick(&[1, 2, 3, 100]);
                note(|| format!("shard {shard} flushes {offers} outboxes"));
                self.world.flush(shard, offers);
            }
            49..54 => self.turn(shard),
            54..74 => self.publish(),
            74..78 => self.add(shard),
            _ => self.touch_someone(),
        }
    }

    fn turn(&mut self, shard: usize) {
        self.world.now += match self.random.below(40) {
            0 => OUTBOX_AGE_MS / 2,
            1 => OUTBOX_AGE_MS + 1,
            _ => self.random.within(0, 50) as u64,
        };
        note(|| format!("shard {shard} begins a turn at {}", self.world.now));
        self.world.begin_turn(shard);
        if self.random.chance(20) {
            self.world.drop_overdue(shard);
        }
    }

    fn publish(&mut self) {
        let topic = self.topic();
        let tiny = self.random.chance(self.shape.tiny);
        let len = match tiny {
            true => self.random.within(4, 40),
            false if self.random.chance(self.shape.large) => self.random.within(16_000, 40_000),
            false => self.random.pick(&[121, 125, 126, 500, 3_000, 9_000]),
        };
        let mut audience = Audience::default();
        if self.random.chance(15) {
            audience.user = Some(fanfare::identity::User::number(self.random.below(5) as u64));
        }
        if self.random.chance(15) && !self.world.subscribers.is_empty() {
            let number = self.random.below(self.world.subscribers.len());
            audience.exclude = Some(self.world.subscribers[number].viewer.client);
        }
        let burst = if self.random.chance(20) { self.random.within(2, 30) } else { 1 };
        for _ in 0..burst {
            let text = self.random.chance(50);
            self.world.publish(topic, audience.clone(), len, text);
        }
    }

    fn add(&mut self, shard: usize) {
        let there = self.world.subscribers.iter().filter(|one| one.stage != Stage::Gone).count();
        if there >= self.shape.subscribers || self.world.stopping {
            return;
        }
        let user = self.random.chance(60).then(|| self.random.below(4) as u64);
        let number = self.world.add(shard, user);
        let topics = self.topics();
        self.world.set_topics(number, &topics);
    }

    /// Something happens to one subscriber, or one wants something.
    fn touch_someone(&mut self) {
        let there = |stage: Stage| ![Stage::Gone].contains(&stage);
        let numbers: Vec<usize> =
            (0..self.world.subscribers.len()).filter(|&n| there(self.world.subscribers[n].stage)).collect();
        if numbers.is_empty() {
            return;
        }
        let number = self.random.pick(&numbers);
        match self.world.subscribers[number].stage {
            Stage::Attaching => self.touch_attaching(number),
            Stage::Attached => self.touch_attached(number),
            Stage::Closing if self.random.chance(80) => self.improve(number),
            Stage::Closing | Stage::Ended | Stage::Lost => self.world.remove(number),
            Stage::Gone => {}
        }
    }

    fn touch_attaching(&mut self, number: usize) {
        match self.random.below(20) {
            0 => self.world.remove(number),
            1..3 => self.kick(number),
            3 => self.set_topics(number),
            4 => {
                let manner = self.random.pick(&[Manner::Flush, Manner::Discard]);
                self.world.close(number, manner);
            }
            5..12 => {}
            _ => {
                let manners = self.manners();
                self.world.attach(number, manners);
            }
        }
    }

    fn touch_attached(&mut self, number: usize) {
        match self.random.below(100) {
            0..20 => self.set_topics(number),
            20..28 => {
                let topic = self.topic();
                self.world.leave(number, topic);
            }
            28..32 => self.world.ping(number),
            32..38 => self.world.pong(number),
            38..41 => self.world.answer(number),
            41..43 => self.kick(number),
            43 => {
                let manner = self.random.pick(&[Manner::Flush, Manner::Discard]);
                self.world.close(number, manner);
            }
            44 => self.world.close_replying(number),
            45 => self.world.remove(number),
            46..60 => {
                let manners = self.manners();
                self.manners_of(number, manners);
            }
            _ => self.improve(number),
        }
    }

    /// Some change of topics; seldom while another one waits.
    fn set_topics(&mut self, number: usize) {
        if self.world.subscribers[number].pending.is_none() || self.random.chance(15) {
            let topics = self.topics();
            self.world.set_topics(number, &topics);
        }
    }

    fn kick(&mut self, number: usize) {
        if !self.world.subscribers[number].kicked {
            let manner = self.random.pick(&[Manner::Flush, Manner::Discard]);
            self.world.kick(number, manner);
        }
    }

    /// A connection takes bytes again.
    fn improve(&mut self, number: usize) {
        let (shard, key) = (self.world.subscribers[number].shard, self.world.subscribers[number].key);
        if self.world.nets[shard].get(key).is_some_and(|connection| connection.blocked) {
            self.world.writable(number);
        }
    }

    fn manners_of(&mut self, number: usize, manners: Manners) {
        note(|| format!("the socket of client {number} becomes {manners:?}"));
        let (shard, key) = (self.world.subscribers[number].shard, self.world.subscribers[number].key);
        self.world.nets[shard].get_mut(key).expect("it has a socket").manners = manners;
    }

    fn manners(&mut self) -> Manners {
        if !self.random.chance(self.shape.unwilling) {
            return self.random.pick(&[Manners::Willing, Manners::Willing, Manners::Fickle]);
        }
        match self.random.below(20) {
            0..4 => Manners::Choppy(7),
            4..8 => Manners::Choppy(300),
            8..10 => Manners::Choppy(20_000),
            10..16 => Manners::Stuck,
            16..18 => Manners::Unflushed,
            18 => Manners::Fickle,
            _ => Manners::Vanishing,
        }
    }

    fn topic(&mut self) -> usize {
        // Some topics are busier than others.
        let (a, b) = (self.random.below(self.shape.topics), self.random.below(self.shape.topics));
        a.min(b)
    }

    fn topics(&mut self) -> Vec<usize> {
        let count = self.random.pick(&[0, 1, 1, 2, 3, 5]);
        let mut topics: Vec<usize> = (0..count).map(|_| self.topic()).collect();
        if self.random.chance(95) {
            topics.sort_unstable();
            topics.dedup();
        }
        topics
    }

    /// Everyone whose connection takes bytes gets what is owed, whatever the others do (I9).
    fn calm(&mut self) {
        self.world.settle();
        for number in 0..self.world.subscribers.len() {
            let subscriber = &self.world.subscribers[number];
            let connection = self.world.nets[subscriber.shard].get(subscriber.key);
            if !subscriber.closed && connection.is_some_and(|connection| !connection.blocked) {
                self.world.check_complete(number);
            }
        }
        self.world.check_books();
    }

    /// Everyone becomes willing, and everything that is owed comes.
    fn finish(mut self) -> Seen {
        self.calm();
        if self.shape.stops {
            self.world.stop();
        }
        for number in 0..self.world.subscribers.len() {
            if self.world.subscribers[number].stage == Stage::Attaching {
                self.world.attach(number, Manners::Willing);
            }
            if [Stage::Attached, Stage::Closing].contains(&self.world.subscribers[number].stage) {
                self.manners_of(number, Manners::Willing);
                self.improve(number);
            }
        }
        self.world.settle_unblocking();
        self.world.check_books();
        for number in 0..self.world.subscribers.len() {
            let subscriber = &self.world.subscribers[number];
            assert_ne!(subscriber.stage, Stage::Closing, "a close frame did not come");
            if subscriber.stage == Stage::Attached {
                assert!(!self.shape.stops, "stop did not close everyone");
                assert!(subscriber.pending.is_none(), "a change of topics is never answered");
                self.world.check_complete(number);
            }
        }
        self.world.end()
    }
}
