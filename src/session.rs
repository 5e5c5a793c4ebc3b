//! One client's protocol state: what arrives from it, turned into what is to be done. No socket, no clock. Which protocol
//! it speaks was agreed in the handshake: plain, or `fanfare.v1`.
//!
//! The connection hands in each message as it is read, with the time; it gets back one [`Effect`]. Commands take
//! effect in the order in which they arrive: whoever is told to change topics asks for nothing further until the
//! change is in force. Answers go in order too, errors among them, so that a client can match them by counting.

use std::sync::Arc;

use crate::{
    engine::{Encoding, Goodbye},
    identity::ClientId,
    limits::{FRAGMENTS_PER_COMMAND, TOKENS_AT_ONCE},
    protocol::{
        plain::{self, Command, CommandError},
        publish_body::PublishBody,
        v1::{
            CommandId,
            commands::{self, Bearer, CommandLimits, Subscription, What},
            encode,
        },
    },
    settings::Settings,
    topic::{Topic, TopicMap},
    websocket::{CloseCode, Incoming, Violation, frame},
};

/// How a client is told whose TLS records carry next to nothing.
pub(crate) const TOO_MANY_RECORDS: Goodbye = Goodbye { code: CloseCode::POLICY, reason: "too many records" };

/// Thousandths of a command: one millisecond refills as many as commands per second are allowed.
const COMMAND: u32 = 1_000;

/// The protocol state of one client.
#[derive(Debug)]
pub(crate) struct Session {
    client: ClientId,
    /// What it may still send at once, in thousandths of a command.
    allowance: u32,
    /// When the allowance was last refilled: milliseconds, the low half.
    refilled: u32,
}

/// What is to be done about a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Replace the client's topics.
    SetTopics(Arc<[Topic]>),
    /// Change the client's topics, and answer.
    Change(Box<TopicsCommand>),
    /// Publish for the client, and answer. Nothing more of it is read until then.
    Publish(Box<PublishCommand>),
    /// Take a token of the client, and answer.
    Authenticate(Box<AuthCommand>),
    /// Write this frame behind everything that is queued.
    Answer(Vec<u8>),
    /// Write this frame at the next frame boundary.
    AnswerAhead(Vec<u8>),
    /// Answer the peer's close with this frame, and end.
    CloseReply(Vec<u8>),
    /// Close.
    Close(Goodbye),
}

/// A change of topics that a client of `fanfare.v1` wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TopicsCommand {
    pub(crate) id: Option<CommandId>,
    pub(crate) kind: TopicsKind,
    pub(crate) subscription: Subscription,
}

/// How a list of topics changes those a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicsKind {
    /// It has them too.
    Add,
    /// It has them no longer.
    Remove,
    /// It has only them.
    Replace,
}

/// A publication that a client of `fanfare.v1` wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PublishCommand {
    pub(crate) id: Option<CommandId>,
    pub(crate) body: PublishBody,
}

/// A token that a client of `fanfare.v1` sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AuthCommand {
    pub(crate) id: Option<CommandId>,
    pub(crate) token: Bearer,
}

impl Session {
    pub(crate) fn new(client: ClientId, now: u64, settings: &Settings) -> Self {
        let allowance = settings.commands_burst.saturating_mul(COMMAND);
        Self { client, allowance, refilled: now as u32 }
    }

    /// Takes a message of the agreed protocol that arrived at `now`, in milliseconds.
    pub(crate) fn receive(
        &mut self,
        incoming: Incoming<'_>,
        encoding: Encoding,
        now: u64,
        settings: &Settings,
    ) -> Effect {
        if let Incoming::Close(code) = incoming {
            return Effect::CloseReply(frame::close_reply(code).to_vec());
        }
        if !self.may_command(now, settings) {
            return Effect::Close(Goodbye { code: CloseCode::POLICY, reason: "too many commands" });
        }
        match incoming {
            Incoming::Text(text) => match encoding {
                Encoding::Plain => command(text, settings.max_topics_per_client),
                Encoding::V1 => match v1_command(text, settings) {
                    Effect::Authenticate(_) if !self.may_authenticate(settings) => {
                        Effect::Close(Goodbye { code: CloseCode::POLICY, reason: "too many tokens" })
                    }
                    effect => effect,
                },
            },
            Incoming::Binary(_) => match encoding {
                Encoding::Plain => answer(CommandError::binary().to_json().as_bytes()),
                Encoding::V1 => v1_error(&commands::CommandError::binary()),
            },
            Incoming::Ping(payload) => Effect::AnswerAhead(frame::pong(payload).to_vec()),
            Incoming::Pong(_) | Incoming::Close(_) => Effect::None,
        }
    }

    /// Counts a message for what its fragments cost besides: each is a frame to be read. It was served; what follows may not be.
    pub(crate) fn charge_fragments(&mut self, fragments: u32) {
        let commands = fragments / FRAGMENTS_PER_COMMAND;
        self.allowance = self.allowance.saturating_sub(commands.saturating_mul(COMMAND));
    }

    /// Counts so many commands that did not come as such. Returns whether the client may go on.
    pub(crate) fn charge(&mut self, commands: u32, now: u64, settings: &Settings) -> bool {
        let may_go_on = self.may_command(now, settings);
        self.allowance = self.allowance.saturating_sub(commands.saturating_sub(1).saturating_mul(COMMAND));
        may_go_on
    }

    pub(crate) fn client(&self) -> ClientId {
        self.client
    }

    fn may_command(&mut self, now: u64, settings: &Settings) -> bool {
        let passed = (now as u32).wrapping_sub(self.refilled);
        self.refilled = now as u32;
        let refill = passed.saturating_mul(settings.commands_per_second);
        let most = settings.commands_burst.saturating_mul(COMMAND);
        self.allowance = self.allowance.saturating_add(refill).min(most);
        self.pay(COMMAND)
    }

    /// A token costs as much to verify as many commands: it is paid for like those, beside the one that it is.
    fn may_authenticate(&mut self, settings: &Settings) -> bool {
        let share = settings.commands_burst.saturating_mul(COMMAND) / TOKENS_AT_ONCE;
        self.pay(share.saturating_sub(COMMAND))
    }

    fn pay(&mut self, price: u32) -> bool {
        let Some(left) = self.allowance.checked_sub(price) else { return false };
        self.allowance = left;
        true
    }
}

/// How a client that broke the protocol is told.
pub(crate) fn goodbye(violation: Violation) -> Goodbye {
    Goodbye { code: violation.close_code(), reason: violation.reason() }
}

fn command(text: &str, max_topics: usize) -> Effect {
    match plain::parse(text.as_bytes(), max_topics) {
        Ok(Command::SetTopics(topics)) => Effect::SetTopics(topics),
        Ok(Command::Ping) => answer(plain::PONG),
        Err(error) => answer(error.to_json().as_bytes()),
    }
}

fn answer(text: &[u8]) -> Effect {
    Effect::Answer(frame::text(text))
}

fn v1_command(text: &str, settings: &Settings) -> Effect {
    let limits =
        CommandLimits { max_topics: settings.max_topics_per_client, max_message: settings.max_message };
    let commands::Command { id, what } = match commands::parse(text.as_bytes(), &limits) {
        Ok(command) => command,
        Err(error) => return v1_error(&error),
    };
    let change =
        |kind, subscription| Effect::Change(Box::new(TopicsCommand { id: id.clone(), kind, subscription }));
    match what {
        What::Subscribe(subscription) => change(TopicsKind::Add, subscription),
        What::Topics(subscription) => change(TopicsKind::Replace, subscription),
        What::Unsubscribe(topics) => {
            change(TopicsKind::Remove, Subscription { topics, since: TopicMap::default(), last: None })
        }
        What::Auth(token) => Effect::Authenticate(Box::new(AuthCommand { id, token })),
        What::Publish(body) => Effect::Publish(Box::new(PublishCommand { id, body: *body })),
        What::Ping(value) => {
            let mut pong = Vec::new();
            encode::pong(&mut pong, &value);
            answer(&pong)
        }
    }
}

fn v1_error(error: &commands::CommandError) -> Effect {
    let mut text = Vec::new();
    error.encode(&mut text);
    answer(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(settings: &Settings) -> Session {
        Session::new(ClientId::random(), 0, settings)
    }

    #[test]
    fn commands_become_effects() {
        let settings = Settings::default();
        let mut session = session(&settings);
        let mut receive = |incoming| session.receive(incoming, Encoding::Plain, 0, &settings);
        assert_eq!(receive(Incoming::Text("ping")), Effect::Answer(b"\x81\x04pong".to_vec()));
        assert_eq!(receive(Incoming::Ping(b"x")), Effect::AnswerAhead(b"\x8a\x01x".to_vec()));
        assert_eq!(receive(Incoming::Pong(b"x")), Effect::None);
        let topics: Arc<[Topic]> = Arc::from([Topic::parse("a").unwrap()]);
        assert_eq!(receive(Incoming::Text(r#"{"topics":["a"]}"#)), Effect::SetTopics(topics));
        for bad in [Incoming::Text("hello"), Incoming::Binary(b"ping")] {
            let Effect::Answer(frame) = receive(bad) else { panic!("an answer") };
            assert!(String::from_utf8_lossy(&frame[2..]).contains(r#""code":"bad_request""#));
        }
        let Effect::CloseReply(frame) = receive(Incoming::Close(Some(CloseCode::NORMAL))) else {
            panic!("a close")
        };
        assert_eq!(frame, b"\x88\x02\x03\xe8");
    }

    #[test]
    fn tokens_at_once_are_few_because_each_costs_as_many_commands() {
        let settings = Settings { commands_burst: 1_000, commands_per_second: 100, ..Settings::default() };
        let mut session = session(&settings);
        let token = || Incoming::Text(r#"{"auth":"a.b.c"}"#);
        let taken = |now, session: &mut Session| {
            let is_taken = |effect| matches!(effect, Effect::Authenticate(_));
            (0..30).take_while(|_| is_taken(session.receive(token(), Encoding::V1, now, &settings))).count()
        };
        assert_eq!(taken(0, &mut session), TOKENS_AT_ONCE as usize);
        assert_eq!(taken(1_000, &mut session), 2);
        let few = Settings { commands_burst: 10, ..settings.clone() };
        let mut session = Session::new(ClientId::random(), 0, &few);
        assert!(matches!(session.receive(token(), Encoding::V1, 0, &few), Effect::Authenticate(_)));
    }

    #[test]
    fn commands_that_are_charged_are_missing_afterwards() {
        let settings = Settings { commands_burst: 5, commands_per_second: 10, ..Settings::default() };
        let mut session = session(&settings);
        assert!(session.charge(3, 0, &settings));
        assert_eq!((0..10).filter(|_| session.may_command(0, &settings)).count(), 2);
        assert!(!session.charge(1, 0, &settings), "it has nothing left");
        assert!(session.charge(1_000, 100, &settings), "it had one");
        assert!(!session.may_command(100, &settings));
    }

    #[test]
    fn burst_is_bounded_and_refills_with_time() {
        let settings = Settings { commands_burst: 5, commands_per_second: 10, ..Settings::default() };
        let mut session = session(&settings);
        let mut taken = |now| (0..10).filter(|_| session.may_command(now, &settings)).count();
        assert_eq!(taken(0), 5);
        assert_eq!(taken(99), 0);
        assert_eq!(taken(100), 1);
        assert_eq!(taken(300), 2);
        assert_eq!(taken(60_000), 5);
        assert_eq!(taken(u64::from(u32::MAX) + 300), 5, "the clock's low half wraps");
        assert!(matches!(
            session.receive(Incoming::Text("ping"), Encoding::Plain, u64::from(u32::MAX) + 300, &settings),
            Effect::Close(Goodbye { code: CloseCode::POLICY, .. })
        ));
    }
}
