//! The engine without sockets: two shards, driven by one thread over a transport of their own, which here is memory.
//!
//! `cargo run --release --example shards`. A program with another transport (a game's UDP, a message bus, a test) does the same with a
//! thread for each shard, and sleeps where this one asks whether there is work: see `fanfare::mailbox::Wakeup`.

use std::{collections::HashMap, error::Error, io::IoSlice, time::Instant};

use fanfare::{
    admission::Admission,
    engine::{Encoding, Event, Fabric, Key, Offered, Shard, Transport},
    publication::{Message, Publication},
    settings::Settings,
    topic::Topic,
};

/// The connections of one shard: what each was written, as WebSocket frames.
#[derive(Default)]
struct Memory(HashMap<Key, Vec<u8>>);

impl Transport for Memory {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        let written = self.0.entry(key).or_default();
        slices.iter().for_each(|slice| written.extend_from_slice(slice));
        Offered::Wrote { bytes: slices.iter().map(|slice| slice.len()).sum(), unflushed: false }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings { shards: 2, ..Settings::default() };
    let admission = Admission::new(settings.inflight_publications, settings.inflight_bytes);
    // The number makes the epochs of this start different from those of any other.
    let fabric = Fabric::new(&settings, 42);
    let mut shards: Vec<_> =
        (0..2).map(|number| (Shard::new(number, fabric.clone()), Memory::default())).collect();

    let cats: Topic = "cats".parse()?;
    let mut keys = Vec::new();
    for (shard, _) in &mut shards {
        let key = shard.add(None, None, Encoding::Plain);
        shard.set_topics(key, [cats.clone()]);
        shard.attached(key);
        keys.push(key);
    }
    let began = Instant::now();
    run(&mut shards, began);

    let mut positions = Vec::new();
    for text in ["one", "two", "three"] {
        let message = Message::text(text);
        // Without credits a publisher waits: `Admission::admit`.
        let credits = admission.try_admit(message.bytes().len()).ok_or("too much is under way")?;
        let publication = Publication { topic: cats.clone(), content: message.into(), credits };
        positions.push(fabric.mailboxes.publish(publication));
    }
    run(&mut shards, began);

    for mut position in positions {
        println!("published as {:?}", position.try_recv()??);
    }
    for ((shard, memory), key) in shards.iter_mut().zip(keys) {
        println!("written: {}", memory.0[&key].escape_ascii());
        shard.remove(key);
    }
    assert_eq!(admission.inflight(), 0);
    Ok(())
}

/// Turns of all shards, until none has anything to do.
fn run(shards: &mut [(Shard, Memory)], began: Instant) {
    while shards.iter().any(|(shard, _)| shard.has_work()) {
        for (shard, memory) in &mut *shards {
            turn(shard, memory, began);
        }
    }
}

/// What the driver of a shard does each turn.
fn turn(shard: &mut Shard, memory: &mut Memory, began: Instant) {
    shard.begin_turn(began.elapsed().as_millis() as u64);
    // Before: `Shard::writable` for each connection that takes bytes again after it answered `Offered::WouldBlock`.
    shard.sockets_looked_at();
    shard.sequence(256);
    shard.take(64);
    shard.flush(memory, 64);
    while let Some(event) = shard.next_event() {
        match event {
            Event::TopicsSet { key, outcome } => println!("{key:?} has its topics: {outcome:?}"),
            // The connection is over: whoever carries it closes it.
            Event::Ended { key } | Event::Lost { key } => shard.remove(key),
            Event::Closing { .. } | Event::Stopped => {}
        }
    }
}
