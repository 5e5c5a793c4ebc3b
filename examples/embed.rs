//! A program with a node inside: it serves clients on a port of its own and publishes from the same process.
//!
//! `cargo run --release --example embed`, then connect any WebSocket client to the URL that it prints: it is greeted, and a
//! number comes every second. Ctrl-C ends it, and the client is told to come back.

use std::{error::Error, time::Duration};

use fanfare::{
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

    // As POST /register does.
    let user = User::number(1);
    let id = node.register(user.clone(), [ticks.clone()])?;
    println!("ws://{}/ws/{id}", server.address());

    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_greeted = false;
    for tick in 0_u64.. {
        tokio::select! {
            _ = clock.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        // Nothing is kept for those who come later, as long as the topic's class has no history.
        if !is_greeted && node.client_count() > 0 {
            is_greeted = greet(&node, &ticks, user.clone()).await?;
        }
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

/// Publishes to the clients of one user only, and says what became of it: whether it was written to one of them.
async fn greet(node: &Node, topic: &Topic, user: User) -> Result<bool, PublishError> {
    let audience = Audience { user: Some(user), exclude: None };
    let content = Content { audience, ..Message::text("hello").into() };
    let wishes = Wishes { receipt: true, ..Wishes::default() };
    let mut written = 0;
    for published in node.publish_to([topic.clone()], content, wishes).await? {
        let Some(told) = published.outcome?.receipt else { continue };
        println!("hello in {}: {:?}", published.topic, told.receipt);
        written += told.receipt.written;
    }
    Ok(written > 0)
}
