//! How clients talk with a server: whether they register, how they come to be on a topic, how a delivery is wrapped,
//! how one publishes. Fanfare's own way is the default and costs nothing; the others are for the servers it is
//! compared with. Pure bytes in, bytes out: sockets belong to the generator.

mod framing;
mod heard;
mod nats;
mod publishing;
mod socketio;
pub(crate) mod v1;

use std::net::SocketAddr;

pub(crate) use framing::{Framing, Interpreter};
pub(crate) use publishing::{Envelope, Publishing};

/// One server's ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) joining: Joining,
    pub(crate) framing: Framing,
    pub(crate) publishing: Publishing,
    /// Where publications go, if elsewhere than clients.
    pub(crate) publish_at: Option<SocketAddr>,
    /// Everything goes through TLS.
    pub(crate) secure: bool,
    /// Each publication has a key, of few there are: what a topic's class may conflate by.
    pub(crate) keyed: bool,
}

/// How a client comes to be on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joining {
    /// `POST /register` names the topic; the answer has the URL to connect to.
    Register,
    /// The path of the upgrade names it: it replaces `{topic}`.
    Path(&'static str),
}

impl Dialect {
    /// The base contract, which the floor has too.
    pub(crate) const CONTRACT: Self = Self {
        joining: Joining::Register,
        framing: Framing::Plain,
        publishing: Publishing::Post,
        publish_at: None,
        secure: false,
        keyed: false,
    };

    /// One that clients join by path, and that is otherwise as the base contract has it.
    pub(crate) const fn by_path(path: &'static str) -> Self {
        Self { joining: Joining::Path(path), ..Self::CONTRACT }
    }

    /// The path every client connects to, or `None` if each is given its own when it registers.
    pub(crate) fn path(&self, topic: &str) -> Option<String> {
        match self.joining {
            Joining::Register => None,
            Joining::Path(path) => Some(path.replace("{topic}", topic)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_topic() {
        assert_eq!(Dialect::CONTRACT.path("a"), None);
        let direct = Dialect::by_path("/ws/{topic}?x");
        assert_eq!(direct.path("a").as_deref(), Some("/ws/a?x"));
    }
}
