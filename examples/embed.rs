//! A program with a node inside: it serves clients on a port of its own and publishes from the same process.
//!
//! `cargo run --example embed`, then connect any WebSocket client to the URL that it prints: a number comes every second.
//! Ctrl-C ends it, and the client is told to come back.

use std::{error::Error, sync::Arc, time::Duration};

use fanfare::{
    clients::Deadlines,
    identity::User,
    node::{Node, PublishError, Wishes},
    publication::{Audience, Content, Message},
    server::Server,
    settings::Settings,
    topic::Topic,
};
use tokio::time::{MissedTickBehavior, interval};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The node has threads of its own, one a shard: this runtime only publishes.
    let server = Server::start("127.0.0.1:0".parse()?, Settings { shards: 2, ..Settings::default() })?;
    let node = server.node().clone();
    let ticks: Topic = "ticks".parse()?;

    // As POST /register does. A program that registers clients itself also looks after those that never connect.
    let mut deadlines = Deadlines::default();
    let user = User::Number(1);
    let (id, due) =
        node.clients.register(user.clone(), Arc::from([ticks.clone()]), std::time::Instant::now())?;
    deadlines.push(due);
    println!("ws://{}/ws/{id}", server.address());
    greet(&node, &ticks, user).await?;

    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        tokio::select! {
            _ = clock.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        deadlines.expire(std::time::Instant::now(), &node.clients);
        match node.publish(ticks.clone(), Message::text(tick.to_string())).await {
            Ok(position) => println!("tick {tick} is message {} of its topic", position.offset),
            // It was not taken. Nothing is lost by trying again later, or by leaving it out.
            Err(PublishError::Overloaded) => eprintln!("tick {tick} is left out"),
            Err(error) => return Err(error.into()),
        }
    }

    // Waiting blocks until everybody has what was published, so it is not done on the runtime's thread.
    server.stop();
    tokio::task::spawn_blocking(|| server.wait()).await??;
    println!("{} messages were written", node.metrics().total().written);
    Ok(())
}

/// Publishes to the clients of one user only, and says what became of it.
async fn greet(node: &Node, topic: &Topic, user: User) -> Result<(), PublishError> {
    let audience = Audience { user: Some(user), exclude: None };
    let content = Content { audience, ..Message::text("hello").into() };
    let wishes = Wishes { receipt: true, ..Wishes::default() };
    for published in node.publish_to([topic.clone()], content, wishes).await? {
        let receipt = published.outcome?.receipt;
        println!("{}: {receipt:?}", published.topic);
    }
    Ok(())
}
