//! Registering clients without HTTP, and removing registrations.

use std::{fmt, time::Instant};

use super::{KickReason, Node};
use crate::{
    clients::{Clients, Full},
    identity::{ClientId, User},
    protocol::topic_list::TopicList,
    topic::Topic,
};

/// Why a client is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The node keeps as many registrations as it may.
    Full,
    /// It is to have more topics than a client may.
    TopicCount {
        /// How many it may have.
        max: usize,
    },
    /// The node closes its clients, or stops.
    Stopping,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => Full.fmt(f),
            Self::TopicCount { max } => write!(f, "a client has at most {max} topics"),
            Self::Stopping => f.write_str("the node is stopping"),
        }
    }
}

impl std::error::Error for RegisterError {}

impl Node {
    /// Registers a client of `user`, as `POST /register` does: whoever connects to `/ws/{id}` of the node's
    /// [`Server`](crate::server::Server) is that client, and is subscribed to `topics`. A topic that is given twice counts
    /// once. The id is a secret of the client. A registration with which nobody connects ends after
    /// [`Settings::registration_ttl`](crate::settings::Settings::registration_ttl).
    ///
    /// ```
    /// use fanfare::{identity::User, server::Server, settings::Settings, topic::Topic};
    ///
    /// let server = Server::start("127.0.0.1:0".parse()?, Settings::default())?;
    /// let id = server.node().register(User::number(1), [Topic::parse("cats")?])?;
    /// println!("ws://{}/ws/{id}", server.address());
    /// assert_eq!(server.node().registrations(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the node can register nobody more, or not with so many topics.
    pub fn register(
        &self,
        user: User,
        topics: impl IntoIterator<Item = Topic>,
    ) -> Result<ClientId, RegisterError> {
        let max = self.settings().max_topics_per_client;
        let mut list = TopicList::new(max);
        topics
            .into_iter()
            .try_for_each(|topic| list.add_topic(topic))
            .map_err(|_| RegisterError::TopicCount { max })?;
        if !self.phase().takes_clients() {
            return Err(RegisterError::Stopping);
        }
        let registered = self.clients.register_for_any_shard(user, list.into_topics(), Instant::now());
        registered.map_err(|Full| RegisterError::Full)
    }

    /// Removes a registration, and closes its connection if there is one. Says whether there was such a registration.
    pub async fn unregister(&self, id: ClientId) -> bool {
        let credit = self.kick_credit().await;
        match self.clients.unregister(id) {
            None => false,
            Some(None) => true,
            Some(Some(claim)) => {
                self.kick(credit, claim, KickReason::Unregistered);
                true
            }
        }
    }

    /// How many clients are registered, connected or not; about, while some come and go.
    pub fn registrations(&self) -> usize {
        self.clients.len()
    }

    /// The registered clients.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn topics(count: usize) -> Vec<Topic> {
        (0..count).map(|n| Topic::parse(&format!("t{n}")).expect("it is a topic")).collect()
    }

    #[test]
    fn topics_are_counted_once_each_and_bounded() {
        let node = Node::new(Settings { shards: 1, max_topics_per_client: 2, ..Settings::default() });
        let twice = topics(2).into_iter().chain(topics(2));
        let id = node.register(User::number(1), twice).expect("there is room");
        let claim = crate::clients::Claim { shard: 0, key: crate::engine::Key { index: 0, generation: 0 } };
        assert_eq!(*node.clients.claim(id, claim).expect("it is registered").topics, *topics(2));
        let many = node.register(User::number(1), topics(3));
        assert_eq!(many, Err(RegisterError::TopicCount { max: 2 }));
        assert_eq!(node.registrations(), 1);
    }

    #[tokio::test]
    async fn registrations_are_bounded_and_come_back() {
        let node = Node::new(Settings { shards: 1, registrations_max: 1, ..Settings::default() });
        let id = node.register(User::number(1), []).expect("there is room");
        assert_eq!(node.register(User::number(1), []), Err(RegisterError::Full));
        assert!(node.unregister(id).await, "it was there");
        assert!(!node.unregister(id).await, "it is gone");
        assert!(node.register(User::number(1), []).is_ok());
        node.begin_stopping();
        assert_eq!(node.register(User::number(1), []), Err(RegisterError::Stopping));
    }
}
