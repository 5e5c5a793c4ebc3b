//! The checked options of a node: plain data, made once by the configuration or by a program that embeds Fanfare.
//!
//! Whoever starts a node has them checked ([`Settings::check`]); nothing below checks an option again. Defaults come from
//! [`crate::limits`]. A program that lets others set them reads a [`Config`](crate::config::Config), which comes from any words
//! and the environment:
//!
//! ```
//! use fanfare::config::{Cli, Config};
//!
//! let said = ["my-program", "--shards", "2", "--max-message", "16KiB", "--publish-wait", "1s"];
//! let settings = Config::read(&Cli::try_parse_from(said)?)?.settings;
//! assert_eq!((settings.shards, settings.max_message), (2, 16 * 1024));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use subtle::ConstantTimeEq;

use crate::{
    auth::{Anonymous, KeyHash, Keys, PageOrigins, Tokens},
    classes::{Class, Classes, Needs},
    limits,
    peer::Networks,
    tls::Certificates,
    topic::Topic,
};

pub use checks::SettingsError;

mod checks;

/// What a node is told to be. `Settings::default()` is what the binary runs with when it is told nothing, but for the admin
/// listener, which a program that embeds a node has only if it asks for it. Write `Settings { shards: 2, ..Settings::default() }`:
/// there will be more fields. What each may be, [`Settings::check`] says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shards, 1 to [`limits::SHARDS_MAX`]; each is a thread.
    pub shards: usize,
    /// Topics of a client that registers without naming any; at most [`Self::max_topics_per_client`].
    pub default_topics: Arc<[Topic]>,
    /// How long a registration that was never connected is kept; 1 ms to [`limits::REGISTRATION_MS_MAX`].
    pub registration_ttl: Duration,
    /// How long a registration is kept after its client disconnected, up to [`limits::REGISTRATION_MS_MAX`]; zero removes it at
    /// once.
    pub registration_grace: Duration,
    /// What the returned URLs start with (`ws://` or `wss://`, host, optional path), instead of the request's Host. It is taken as
    /// it is.
    pub public_url: Option<String>,
    /// The certificate with which it speaks TLS; without one it speaks none.
    pub tls: Option<Arc<Certificates>>,
    /// How long a TLS handshake may take; 1 ms to [`limits::WAIT_MS_MAX`].
    pub tls_handshake_timeout: Duration,
    /// Bytes one blocked subscriber may have queued: two messages of [`Self::max_message`] with their headers, and
    /// [`limits::OUTBOX_BYTES_MIN`], at least, [`limits::OUTBOX_BYTES_MAX`] at most.
    pub outbox_bytes: usize,
    /// Longest decoded message, bytes; [`limits::MESSAGE_BYTES_MIN`] to [`limits::MESSAGE_BYTES_MAX`].
    pub max_message: usize,
    /// Longest HTTP body, bytes; six times [`Self::max_message`] and 4 KiB to [`limits::HTTP_BODIES_BYTES`].
    pub max_body: usize,
    /// Most topics of one client; 1 to [`limits::TOPICS_PER_CLIENT_MAX`].
    pub max_topics_per_client: usize,
    /// Time between two pings to one client, [`limits::PING_INTERVAL_MS_MIN`] to [`limits::PING_INTERVAL_MS_MAX`]; zero sends
    /// none.
    pub ping_interval: Duration,
    /// How long after a ping a client that gave no sign of life is closed; from [`limits::PONG_TIMEOUT_MS_MIN`] on, and shorter
    /// than [`Self::ping_interval`].
    pub pong_timeout: Duration,
    /// How old a connection may become, give or take a tenth, [`limits::AGE_MS_MIN`] to [`limits::AGE_MS_MAX`]; zero sets no limit.
    pub max_connection_age: Duration,
    /// How long a publisher waits for credits before it is refused, up to [`limits::PUBLISH_WAIT_MS_MAX`]; zero refuses at once.
    pub publish_wait: Duration,
    /// How long an upgrade waits for its joins before 503; up to [`limits::WAIT_MS_MAX`].
    pub join_wait: Duration,
    /// How long a client may take for the head of a request; 1 ms to [`limits::WAIT_MS_MAX`].
    pub http_head_timeout: Duration,
    /// How long a client may take for the body of a request; 1 ms to [`limits::WAIT_MS_MAX`].
    pub http_body_timeout: Duration,
    /// How long a batch that is a stream may be without a complete line; 1 ms to [`limits::WAIT_MS_MAX`].
    pub batch_line_wait: Duration,
    /// How long its client may leave as many results unread as may wait; from 1 ms on, and shorter than
    /// [`limits::HTTP_UNREAD_MS`].
    pub batch_stall: Duration,
    /// How long a node that is told to drain serves on, not ready any more, before it closes its clients; up to
    /// [`limits::DRAIN_MS_MAX`].
    pub drain_delay: Duration,
    /// Over how long it closes them, up to [`limits::DRAIN_MS_MAX`]; zero closes all at once.
    pub drain_duration: Duration,
    /// How long the whole of stopping may take; up to [`limits::WAIT_MS_MAX`].
    pub stop_deadline: Duration,
    /// Unsent bytes the kernel takes from one socket (`TCP_NOTSENT_LOWAT`); [`limits::SOCKET_BUFFER_MIN`] to
    /// [`limits::SOCKET_BUFFER_MAX`].
    pub socket_unsent: u32,
    /// Bytes of a client socket's send buffer (`SO_SNDBUF`), [`limits::SOCKET_BUFFER_MIN`] to [`limits::SOCKET_BUFFER_MAX`]; 0 leaves
    /// it to the kernel.
    pub socket_send_buffer: u32,
    /// Most registered clients; 1 to [`limits::REGISTRATIONS_MOST`].
    pub registrations_max: usize,
    /// Most topics with a record; 1 to [`limits::TOPICS_MOST`].
    pub topics_max: usize,
    /// Publications under way; 1 to [`limits::INFLIGHT_PUBLICATIONS_MAX`]. Each shard has room for as many.
    pub inflight_publications: usize,
    /// Bytes of publications under way, 1 to [`limits::INFLIGHT_BYTES_MAX`]; a longer message waits until it is alone.
    pub inflight_bytes: usize,
    /// Publications with an idempotency key that are remembered, over all shards; each has an equal share, so one for each
    /// shard at least, [`limits::IDEMPOTENCY_KEYS_MAX`] at most.
    pub idempotency_keys: usize,
    /// How long one is remembered; 1 ms to [`limits::IDEMPOTENCY_MS_MAX`].
    pub idempotency_ttl: Duration,
    /// How long a publisher waits for its receipt before it is told what is known; up to [`limits::WAIT_MS_MAX`].
    pub receipt_wait: Duration,
    /// Bytes of encoded frames one shard keeps; [`limits::LOG_BYTES_MIN`] to [`limits::MEMORY_BYTES_MAX`].
    pub log_bytes: usize,
    /// Bytes that all shards may hold together, queued and kept; [`limits::MEMORY_BYTES_MIN`] to [`limits::MEMORY_BYTES_MAX`].
    pub memory_bytes: usize,
    /// Log bytes a shard appends before it must flush; from [`limits::SHARD_LAG_BYTES_MIN`] on. More than half of the smallest
    /// `outbox_bytes`, the classes' among them, counts as that half.
    pub shard_lag: usize,
    /// Age of the oldest queued frame at which a blocked subscriber is closed; [`limits::OUTBOX_AGE_MS_MIN`] to
    /// [`limits::OUTBOX_AGE_MS_MAX`].
    pub outbox_age: Duration,
    /// Topic classes. What a class says of slow consumers lies within [`Self::outbox_bytes`] and [`Self::outbox_age`], or is the
    /// most there is (`usize::MAX`, `Duration::MAX`), which stands for those.
    pub classes: Arc<Classes>,
    /// Client messages and control frames per second and connection; 1 to [`limits::COMMANDS_MAX`].
    pub commands_per_second: u32,
    /// Client messages and control frames at once; 1 to [`limits::COMMANDS_MAX`].
    pub commands_burst: u32,
    /// The API keys. With any of them, calls need one.
    pub keys: Arc<Keys>,
    /// How tokens of clients are checked, if they are taken.
    pub tokens: Option<Arc<Tokens>>,
    /// How far the clock of who issues tokens may differ from ours; up to [`limits::TOKEN_LEEWAY_MS_MAX`].
    pub token_leeway: Duration,
    /// How long a client may take that connects without a token and has to send one on its socket; 1 ms to
    /// [`limits::WAIT_MS_MAX`].
    pub auth_wait: Duration,
    /// How long a message of a client may take from where it begins to where it ends; 1 ms to [`limits::WAIT_MS_MAX`].
    pub message_time: Duration,
    /// Whether somebody who proves nothing is let in.
    pub anonymous: Anonymous,
    /// The origins of pages that may open a WebSocket.
    pub origins: PageOrigins,
    /// That anybody who reaches it may do anything was said to be right, wherever it listens. Only the configuration asks.
    pub insecure_open: bool,
    /// Where operators ask the node how it is; `None` for nowhere.
    pub admin: Option<AdminSettings>,
    /// Who may come in.
    pub gate: GateSettings,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Where it listens; anywhere but on a loopback address only with a key.
    pub listen: SocketAddr,
    /// Whether the node does not start without it. If not, it goes on when the address is taken.
    pub required: bool,
    /// What it may be called in a request's Host, besides IP addresses and `localhost`: lower case, without port. At most
    /// [`limits::ADMIN_HOSTS_MAX`].
    pub hosts: Arc<[String]>,
    /// What callers must know, if anything.
    pub key: Option<AdminKey>,
    /// Where that key was read.
    pub key_file: Option<PathBuf>,
}

/// A secret that callers of the admin listener show. It is never shown itself.
#[derive(Clone)]
pub struct AdminKey(Arc<[u8]>);

impl AdminKey {
    /// Reads a key: visible ASCII, of [`limits::ADMIN_KEY_BYTES`]; white space around it does not count.
    pub fn parse(text: &str) -> Option<Self> {
        let (least, most) = limits::ADMIN_KEY_BYTES;
        let key = text.trim_ascii();
        let is_key = (least..=most).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        is_key.then(|| Self(key.as_bytes().into()))
    }

    /// Its hash, to be compared with that of another.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        KeyHash::of(&self.0).bytes()
    }

    /// Whether this is it. How long that takes tells nothing of the key but its length.
    pub fn is(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

impl AdminSettings {
    /// Where it listens when it is told nothing.
    pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8001);

    /// A listener that is reached as an IP address or `localhost`, and asks for no key.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, required: true, hosts: Arc::from([]), key: None, key_file: None }
    }
}

impl Default for AdminSettings {
    /// What the binary has when it is told nothing: if the address is taken it goes on without.
    fn default() -> Self {
        Self { required: false, ..Self::at(Self::LISTEN) }
    }
}

/// Who may come in: how many there may be, and how fast they may come. May be replaced while the node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateSettings {
    /// Most clients connected at once, up to [`limits::CONNECTIONS_MAX`]; 0: as many as there are descriptors for.
    pub max_connections: usize,
    /// Most connections of one address, whatever they speak, up to [`limits::CONNECTIONS_MAX`]; 0: any number.
    pub max_connections_per_ip: usize,
    /// Connections begun in a second, over all addresses, up to [`limits::HANDSHAKES_PER_SECOND_MAX`]; 0: any number.
    pub handshakes_per_second: u32,
    /// Connections of one address begun in a second, up to [`limits::HANDSHAKES_PER_SECOND_MAX`]; 0: any number.
    pub handshakes_per_second_per_ip: u32,
    /// Where proxies are whose word is taken for whom they speak; at most [`limits::TRUSTED_PROXIES_MAX`].
    pub trusted_proxies: Networks,
    /// Whether they say so in a PROXY header, before anything else; then nobody else is let in.
    pub proxy_protocol: bool,
}

impl Settings {
    /// Whether there is anything by which a caller can prove who it is; if not, anybody may do anything.
    pub fn asks_who(&self) -> bool {
        !self.keys.is_empty() || self.tokens.is_some()
    }

    /// Whether somebody who proves nothing is let in.
    pub fn lets_anonymous_in(&self) -> bool {
        match self.anonymous {
            Anonymous::Auto => !self.asks_who(),
            Anonymous::Allow => true,
            Anonymous::Refuse => false,
        }
    }

    /// What a node with these settings has when it is told to have those `wanted`: from them what can be changed while it
    /// runs. The rest, which sizes queues and tables that are in use, is as it was. What was checked of those wanted need not hold
    /// of this: whoever puts it in force checks it again.
    pub fn changed_to(&self, wanted: Self) -> Self {
        let fixed = self.clone();
        let classes = match self.has_bounds_of(&wanted) {
            true => wanted.classes,
            false => Arc::new(wanted.classes.map(|class| self.fitted(class, &wanted))),
        };
        let admin = match (fixed.admin, wanted.admin) {
            (Some(now), Some(wanted)) => {
                Some(AdminSettings { listen: now.listen, required: now.required, ..wanted })
            }
            (now, _) => now,
        };
        Self {
            admin,
            shards: fixed.shards,
            registration_ttl: fixed.registration_ttl,
            registration_grace: fixed.registration_grace,
            outbox_bytes: fixed.outbox_bytes,
            max_message: fixed.max_message,
            ping_interval: fixed.ping_interval,
            pong_timeout: fixed.pong_timeout,
            max_connection_age: fixed.max_connection_age,
            http_head_timeout: fixed.http_head_timeout,
            registrations_max: fixed.registrations_max,
            topics_max: fixed.topics_max,
            inflight_publications: fixed.inflight_publications,
            inflight_bytes: fixed.inflight_bytes,
            idempotency_keys: fixed.idempotency_keys,
            idempotency_ttl: fixed.idempotency_ttl,
            log_bytes: fixed.log_bytes,
            memory_bytes: fixed.memory_bytes,
            outbox_age: fixed.outbox_age,
            classes,
            tls: match (fixed.tls, &wanted.tls) {
                (Some(old), Some(new)) => Some(Arc::new(new.replacing(&old))),
                // To begin or to cease to speak TLS is a matter of the URLs of everybody.
                (old, _) => old,
            },
            ..wanted
        }
    }

    /// Whether classes have the same bounds to lie within.
    fn has_bounds_of(&self, other: &Self) -> bool {
        let bounds = |of: &Self| (of.outbox_bytes, of.outbox_age, of.max_message);
        bounds(self) == bounds(other)
    }

    /// A class that was made for settings that are `wanted`, as near to it as the bounds in force allow. Who may subscribe and
    /// publish, and what slow consumers get, waits for no restart; a bound that is the node's stays the node's.
    fn fitted(&self, class: &Class, wanted: &Self) -> Class {
        let mut class = class.clone();
        if class.outbox_bytes == wanted.outbox_bytes {
            class.outbox_bytes = self.outbox_bytes;
        } else if class.outbox_bytes != usize::MAX {
            class.outbox_bytes = class.outbox_bytes.clamp(self.least_outbox(), self.outbox_bytes);
        }
        if class.outbox_age == wanted.outbox_age {
            class.outbox_age = self.outbox_age;
        } else if class.outbox_age != Duration::MAX {
            class.outbox_age = class.outbox_age.min(self.outbox_age);
        }
        let most = self.outbox_bytes.min(class.outbox_bytes) / 2;
        if let Some(history) = &mut class.history {
            history.bytes = history.bytes.min(most);
        }
        class
    }

    /// Longest client command, bytes: the longest list of topics fits, with a position for each, and where clients may
    /// publish the longest message too.
    pub fn command_bytes(&self) -> usize {
        let topics = self.max_topics_per_client * limits::COMMAND_BYTES_PER_TOPIC + 64;
        let clients_publish = self.classes.iter().any(|class| class.publishers != Needs::Key);
        let message = match clients_publish {
            true => limits::JSON_INFLATION * self.max_message + limits::BODY_BESIDES_MESSAGE,
            false => 0,
        };
        limits::COMMAND_BYTES.max(topics).max(message)
    }

    /// What messages of clients that have not ended may take together, a shard, bytes: one fits always. So with a `memory_bytes` of
    /// less than four of the longest commands for each shard they may take more than a quarter of it.
    pub fn half_messages_bytes(&self) -> usize {
        let share = self.memory_bytes / limits::HALF_MESSAGES_PARTS / self.shards.max(1);
        let control = limits::CONTROL_PAYLOAD_MAX + limits::HALF_MESSAGE_COST;
        let one = self.command_bytes() + control + limits::TLS_UNREAD_BYTES;
        limits::HALF_MESSAGES_BYTES.min(share).max(one)
    }
}

impl Default for Settings {
    fn default() -> Self {
        let cats = Topic::parse("cats").expect("it is a valid topic");
        Self {
            shards: std::thread::available_parallelism().map_or(1, |n| n.get().min(limits::SHARDS_MAX)),
            default_topics: Arc::from([cats]),
            registration_ttl: Duration::from_secs(60),
            registration_grace: Duration::from_secs(30),
            public_url: None,
            tls: None,
            tls_handshake_timeout: Duration::from_millis(limits::TLS_HANDSHAKE_MS),
            outbox_bytes: limits::OUTBOX_BYTES,
            max_message: limits::MESSAGE_BYTES,
            max_body: limits::BODY_BYTES,
            max_topics_per_client: limits::TOPICS_PER_CLIENT,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            max_connection_age: Duration::ZERO,
            publish_wait: Duration::from_secs(5),
            join_wait: Duration::from_secs(5),
            http_head_timeout: Duration::from_secs(10),
            http_body_timeout: Duration::from_secs(10),
            batch_line_wait: Duration::from_millis(limits::BATCH_LINE_MS),
            batch_stall: Duration::from_millis(limits::BATCH_STALL_MS),
            drain_delay: Duration::ZERO,
            drain_duration: Duration::ZERO,
            stop_deadline: Duration::from_millis(limits::STOP_MS),
            socket_unsent: limits::SOCKET_UNSENT,
            socket_send_buffer: 0,
            registrations_max: limits::REGISTRATIONS_MAX,
            topics_max: limits::TOPICS_MAX,
            inflight_publications: limits::INFLIGHT_PUBLICATIONS,
            inflight_bytes: limits::INFLIGHT_BYTES,
            idempotency_keys: limits::IDEMPOTENCY_KEYS,
            idempotency_ttl: Duration::from_millis(limits::IDEMPOTENCY_MS),
            receipt_wait: Duration::from_millis(limits::RECEIPT_WAIT_MS),
            log_bytes: limits::LOG_BYTES,
            memory_bytes: limits::MEMORY_BYTES,
            shard_lag: limits::SHARD_LAG_BYTES,
            outbox_age: Duration::from_millis(limits::OUTBOX_AGE_MS),
            // Within the node's own bounds, whatever those are.
            classes: Arc::new(Classes::only(Class::default_with(usize::MAX, Duration::MAX))),
            commands_per_second: limits::COMMANDS_PER_SECOND,
            commands_burst: limits::COMMANDS_BURST,
            keys: Arc::default(),
            tokens: None,
            token_leeway: Duration::from_millis(limits::TOKEN_LEEWAY_MS),
            auth_wait: Duration::from_millis(limits::AUTH_WAIT_MS),
            message_time: Duration::from_millis(limits::MESSAGE_MS),
            anonymous: Anonymous::Auto,
            origins: PageOrigins::default(),
            insecure_open: false,
            admin: None,
            gate: GateSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_key_is_compared_whole_and_never_shown() {
        let key = AdminKey::parse(" 0123456789abcdef\n").expect("it is a key");
        assert!(key.is(b"0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!key.is(other.as_bytes()), "{other}");
        }
        assert!(!format!("{key:?}").contains("0123"));
        let longest = "x".repeat(limits::ADMIN_KEY_BYTES.1);
        assert!(AdminKey::parse(&longest).is_some());
        for bad in ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdéf", &format!("{longest}x")] {
            assert!(AdminKey::parse(bad).is_none(), "{bad}");
        }
    }
}
