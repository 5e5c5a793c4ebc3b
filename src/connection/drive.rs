//! The driver of a shard: turns of work, and sleep when there is none.
//!
//! A turn handles what the poller found, a bounded share of reading, then the engine: sequence, take, flush, in
//! slices of about a millisecond, with everything else of the thread (accepts, HTTP) between turns. While
//! subscribers are dirty the engine gets at least half of the time: its slice is as long as what ran between.

use std::{
    collections::hash_map::RandomState,
    future::poll_fn,
    hash::BuildHasher,
    io,
    pin::pin,
    sync::atomic::Ordering,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use super::{
    drain::Drain,
    local::{Local, State, until_next_slot},
    poller::EVENTS,
    socket::Flags,
    survey, unflushed,
};
use crate::{
    engine::{Encoding, Event, Goodbye, Key, Manner, TOPICS_FULL},
    limits::HELD_BACK_LOOK_MS,
    logging::sampled,
    node::{ConnectionName, Phase},
    protocol::error::{Code, error_json},
    units::milliseconds,
    websocket::{CloseCode, frame},
};

/// The shortest and the longest slice of the engine.
const SLICE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// Time for reading in one turn.
const READING: Duration = Duration::from_millis(1);
/// Ingress entries handled between two looks at the clock.
const SEQUENCE_CHUNK: usize = 256;
/// Fanout entries taken between two looks at the clock.
const TAKE_CHUNK: usize = 64;
/// Offers between two looks at the fanout queue and the clock.
const FLUSH_CHUNK: usize = 32;
/// Time between two looks at the ages of queued frames, milliseconds.
const AGE_CHECK_MS: u64 = 1_000;

/// Whether the driver may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Work,
    Sleep,
}

/// Drives a shard until stop was taken and its last connection has ended.
///
/// # Errors
/// When the runtime's readiness of the poller fails, or a task panicked while it had the state, which ends the shard.
pub(crate) async fn drive(local: Local) -> io::Result<()> {
    let questions = local.node().take_surveys(local.shard());
    tokio::task::spawn_local(survey::answer_all(local.clone(), questions));
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    let mut turn_ended = Instant::now();
    loop {
        if local.is_torn() {
            // What is half changed would lose messages, or give them to the wrong ones, and nobody would know.
            return Err(io::Error::other("a task of the shard panicked while it had the shard's state"));
        }
        let next = local.turn(turn_ended.elapsed());
        turn_ended = Instant::now();
        {
            let state = local.state();
            if state.stopped && state.is_empty() {
                return Ok(());
            }
        }
        match next {
            Next::Work => tokio::task::yield_now().await,
            Next::Sleep => {
                let mut time = until_next_slot(local.now());
                if local.state().shard.holds_back() {
                    time = time.min(Duration::from_millis(HELD_BACK_LOOK_MS));
                }
                let until = tokio::time::Instant::now() + time;
                sleep.as_mut().reset(until);
                local.sleep(sleep.as_mut()).await?;
                turn_ended = Instant::now();
            }
        }
    }
}

impl Local {
    /// One turn; `between` is how long the rest of the thread had since the last.
    fn turn(&self, between: Duration) -> Next {
        let now = self.now();
        let began = Instant::now();
        let state = &mut *self.state();
        self.node().metrics().shard(self.shard()).turns.add(1);
        state.shard.note_unflushed(state.unsent.load(Ordering::Relaxed));
        state.shard.note_half_messages(state.halves.bytes());
        state.shard.begin_turn(now);
        state.follow(&self.node().settings());
        let more_events = self.look_at_sockets(state);
        // At least one, however long the look at the poller took.
        while self.read_one(state, now) && began.elapsed() < READING {}
        self.tick(state, now, more_events);
        self.handle_events(state, now);
        let slice = (between + began.elapsed()).clamp(SLICE.0, SLICE.1);
        let began = Instant::now();
        run_engine(state, (began, self.node().micros(began)), slice);
        self.handle_events(state, now);
        let is_behind = state.drain.as_ref().is_some_and(|drain| drain.is_behind(now));
        let is_due = is_behind || unflushed::is_looking(state) || state.shard.has_work();
        if more_events || is_due || !state.ready.is_empty() { Next::Work } else { Next::Sleep }
    }

    /// Sleeps until there is work, an event, or the next slot of the clock.
    async fn sleep(&self, mut sleep: std::pin::Pin<&mut Sleep>) -> io::Result<()> {
        poll_fn(|context| {
            self.node().mailboxes().wakeup(self.shard()).about_to_sleep(context.waker());
            let state = &mut *self.state();
            if state.shard.has_work() || !state.ready.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let State { poller, happened, .. } = state;
            if let Poll::Ready(result) = poller.poll_ready(context, happened) {
                return Poll::Ready(result);
            }
            sleep.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// Asks the poller, and tells the sockets and the shard. Returns whether there may be more.
    fn look_at_sockets(&self, state: &mut State) -> bool {
        let mut more_events = state.poller.poll_now(&mut state.happened);
        if state.shard.awaits_look() {
            // Events come in the order in which they happened, one for each socket at most: when there were as many as
            // there are sockets, those that had happened by now are among them.
            for _ in 0..=state.sockets.places() as usize / EVENTS {
                if !more_events {
                    break;
                }
                more_events = state.poller.poll_now(&mut state.happened);
            }
        }
        let looked_at_all = !more_events || state.shard.awaits_look();
        self.note_happened(state);
        if looked_at_all {
            state.shard.sockets_looked_at();
        }
        more_events
    }

    /// Turns what the poller found into bits of the sockets.
    fn note_happened(&self, state: &mut State) {
        let mut happened = std::mem::take(&mut state.happened);
        for event in happened.drain(..) {
            let Some(socket) = state.sockets.get_mut(event.key) else { continue };
            let is_free = event.writable && socket.flush();
            if event.read_closed {
                socket.set(Flags::READ_CLOSED);
            }
            if event.readable {
                socket.set(Flags::READABLE);
                state.list_ready(event.key);
            }
            if is_free {
                state.shard.writable(event.key);
            }
        }
        state.happened = happened;
    }

    fn handle_events(&self, state: &mut State, now: u64) {
        while let Some(event) = state.shard.next_event() {
            match event {
                Event::TopicsSet { key, outcome } => match state.attaching.remove(&key) {
                    // The upgrade may have given up waiting.
                    Some(joined) => drop(joined.send(outcome)),
                    None => self.topics_set(state, key, outcome.is_ok()),
                },
                Event::Closing { key, code } => {
                    self.tell_closing(key, code);
                    self.closing(state, key, now);
                }
                Event::Ended { key } => {
                    let Some(socket) = state.sockets.get_mut(key) else { continue };
                    socket.shut();
                    if socket.has(Flags::PEER_GONE) {
                        self.drop_connection(state, key);
                    } else {
                        // What was not read while it closed is read now, up to the peer's end.
                        state.list_ready(key);
                    }
                }
                Event::Lost { key } => {
                    if let Some(socket) = state.sockets.get_mut(key) {
                        // The kernel is not to keep what it still has for a peer that reads nothing.
                        socket.reset_on_drop();
                    }
                    self.drop_connection(state, key);
                }
                Event::Stopped => state.stopped = true,
            }
        }
    }

    /// Logs a close that its client did not ask for, and that is no part of stopping.
    fn tell_closing(&self, key: Key, code: Option<CloseCode>) {
        let connection = ConnectionName(self.claim_of(key));
        match code {
            Some(code @ (CloseCode::TRY_AGAIN_LATER | CloseCode::POLICY)) => {
                sampled!(INFO, %connection, %code, "a client is closed");
            }
            Some(code) if ![CloseCode::NORMAL, CloseCode::RESTART].contains(&code) => {
                sampled!(DEBUG, %connection, %code, "a client is closed");
            }
            _ => {}
        }
    }

    /// Logs what is done because memory is short, when that changes. All shards see the same, so one of them says it.
    fn tell_memory(&self, state: &mut State) {
        let rung = self.metrics().memory_rung.get();
        if self.shard() != 0 || rung == state.told_rung {
            return;
        }
        let memory = self.node().memory();
        let (used, budget, done) = (memory.used(), memory.budget(), memory.rung().as_str());
        if rung > state.told_rung {
            sampled!(WARN, used, budget, done, "memory is short");
        } else {
            sampled!(INFO, used, budget, done, "memory is less short");
        }
        state.told_rung = rung;
    }

    fn topics_set(&self, state: &mut State, key: Key, in_force: bool) {
        let Some(topics) = state.changing.remove(&key) else { return };
        let Some(socket) = state.sockets.get_mut(key) else { return };
        socket.clear(Flags::PAUSED);
        if in_force {
            self.keep_topics(socket.session.client(), key, topics);
        } else if socket.encoding == Encoding::Plain {
            // In other protocols the engine has answered, in its place.
            state.shard.answer(key, frame::text(error_json(Code::Full, TOPICS_FULL).as_bytes()));
        }
        state.list_ready(key);
    }

    pub(super) fn closing(&self, state: &mut State, key: Key, now: u64) {
        state.changing.remove(&key);
        state.admitted.remove(key);
        state.halves.remove(key);
        state.give_up_publishing(key);
        let Some(socket) = state.begin_closing(key, now) else { return };
        let client = socket.session.client();
        self.release(state, client, key);
        state.list_ready(key);
    }

    /// What time brings: pings, silent clients, ends that take too long, registrations that are due.
    fn tick(&self, state: &mut State, now: u64, more_events: bool) {
        let places = state.sockets.places();
        // With events left in the poller nobody can be called silent: the sign of life may be among them.
        while !more_events && let Some(group) = state.liveness.next_to_judge(now) {
            group.indexes(places).for_each(|index| close_if_silent(state, index));
        }
        while let Some(group) = state.liveness.next_to_ping(now) {
            group.indexes(places).for_each(|index| ping(state, index));
        }
        while let Some(group) = state.ages.next_to_look_at(now) {
            group.indexes(places).for_each(|index| close_if_too_old(state, index, now));
        }
        while let Some(&(at, key)) = state.closing.front()
            && at <= now
        {
            state.closing.pop_front();
            if let Some(socket) = state.sockets.get_mut(key) {
                socket.reset_on_drop();
                self.node().metrics().shard(self.shard()).reset.add(1);
                self.drop_connection(state, key);
            }
        }
        self.close_overdue(state, now);
        if !more_events {
            // The end of a message may be among those.
            self.close_unfinished(state, now);
        }
        if self.node().phase() == Phase::Closing {
            self.close_those_due(state, now);
        } else {
            // Stopping closes those who are left.
            state.drain = None;
        }
        self.tell_memory(state);
        unflushed::end_some(state, now);
        state.trim.trim_if_due(now);
        if now >= state.next_age_check {
            state.next_age_check = now + AGE_CHECK_MS;
            state.shard.drop_overdue();
        }
        let (due, clients) = (Instant::now(), self.node().clients());
        state.deadlines.take_unassigned(clients);
        if state.deadlines.is_due(due, clients) {
            state.deadlines.expire(due, clients);
        }
    }

    /// Closes those whose turn it is while the node drains; what is queued for them is written first.
    fn close_those_due(&self, state: &mut State, now: u64) {
        let State { shard, drain, .. } = state;
        let drain = drain.get_or_insert_with(|| {
            let seed = RandomState::new().hash_one(self.shard());
            Drain::new(shard.keys(), seed, now, milliseconds(self.node().settings().drain_duration))
        });
        for &key in drain.due(now) {
            shard.close(key, Goodbye::RESTART, Manner::Flush);
        }
        if drain.ends(shard.subscribers()) {
            self.node().shard_closed();
        }
    }
}

/// Gives the engine its slice: takes while it keeps up, and flushes between. When it began is said in microseconds of the
/// node's clock too.
fn run_engine(state: &mut State, (began, micros): (Instant, u64), slice: Duration) {
    let State { shard, sockets, .. } = state;
    loop {
        let sequenced = shard.sequence(SEQUENCE_CHUNK);
        let taken = shard.take(TAKE_CHUNK);
        let flushed = shard.flush(sockets, FLUSH_CHUNK);
        let elapsed = began.elapsed();
        shard.note_passes(micros + elapsed.as_micros() as u64);
        if sequenced + taken + flushed == 0 || elapsed >= slice {
            return;
        }
    }
}

fn ping(state: &mut State, index: u32) {
    let Some(socket) = state.sockets.at(index) else { return };
    if socket.has(Flags::CLOSING) {
        return;
    }
    socket.clear(Flags::ALIVE);
    socket.set(Flags::PINGED);
    let key = Key { index, generation: socket.generation };
    state.shard.answer_ahead(key, frame::ping().to_vec());
}

fn close_if_too_old(state: &mut State, index: u32, now: u64) {
    let Some(socket) = state.sockets.at(index) else { return };
    let key = Key { index, generation: socket.generation };
    if state.ages.is_over(key, now) {
        state.shard.close(key, Goodbye::TOO_OLD, Manner::Flush);
    }
}

fn close_if_silent(state: &mut State, index: u32) {
    let Some(socket) = state.sockets.at(index) else { return };
    let judged = socket.has(Flags::PINGED) && !socket.has(Flags::CLOSING);
    // While we do not read, its silence is ours; so it is while there is something that we have not come to read.
    if !judged || socket.has(Flags::ALIVE) || socket.has(Flags::PAUSED) || socket.has(Flags::READABLE) {
        return;
    }
    let key = Key { index, generation: socket.generation };
    let goodbye = Goodbye { code: CloseCode::NO_PONG, reason: "no pong" };
    state.shard.close(key, goodbye, Manner::Discard);
}

#[cfg(test)]
mod tests {
    use tokio::{
        task::{LocalSet, spawn_local},
        time::timeout,
    };

    use super::*;
    use crate::{node::Node, settings::Settings};

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Borrows the state when it is dropped, as an upgrade does that comes to nothing.
    struct BorrowsAtEnd(Local);

    impl Drop for BorrowsAtEnd {
        fn drop(&mut self) {
            let _state = self.0.state();
        }
    }

    async fn panics(task: impl Future<Output = ()> + 'static) {
        assert!(spawn_local(task).await.is_err_and(|error| error.is_panic()), "the runtime catches it");
    }

    #[tokio::test]
    async fn shard_ends_when_a_task_panics_with_its_state_and_not_when_one_does_without() {
        let test = async {
            let node = Node::new(Settings { shards: 1, ..Settings::default() });
            let local = Local::new(node, 0).expect("a descriptor");
            let driven = spawn_local(drive(local.clone()));
            let borrows = BorrowsAtEnd(local.clone());
            panics(async move {
                let _borrows = borrows;
                panic!("without the state")
            })
            .await;
            assert!(!local.is_torn());
            let has_it = local.clone();
            panics(async move {
                let _state = has_it.state();
                panic!("with the state")
            })
            .await;
            let ended = timeout(DEADLINE, driven).await.expect("it looks in each turn");
            let error = ended.expect("the driver itself does not panic").expect_err("it does not go on");
            assert!(error.to_string().contains("panicked"), "{error}");
        };
        LocalSet::new().run_until(test).await;
    }
}
