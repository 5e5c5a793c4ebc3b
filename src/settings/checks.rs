//! What each field of [`Settings`] may be, alone and beside the others: said here, and nowhere else.
//!
//! [`Server::start`](crate::server::Server::start) and [`Node::reconfigure`](crate::node::Node::reconfigure) ask it of whoever
//! embeds a node; the configuration asks it of what an operator wrote, and names the options instead.

use std::{fmt, time::Duration};

use super::{GateSettings, Settings};
use crate::{
    auth::Scope,
    classes::{Class, History, Needs},
    limits::*,
    units::{Count, Size, Span},
};

/// A field of [`Settings`] that cannot be what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingsError {
    /// The field; those of a part with its name before: `gate.max_connections`.
    pub field: &'static str,
    /// Its value, as a configuration file has it.
    pub value: String,
    /// What is allowed instead. Other fields stand in it between backticks.
    pub allowed: String,
}

impl SettingsError {
    fn new(field: &'static str, value: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self { field, value: value.to_string(), allowed: allowed.to_string() }
    }

    fn because(mut self, why: &str) -> Self {
        self.allowed = format!("{} ({why})", self.allowed);
        self
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, allowed } = self;
        write!(f, "settings: {field} is '{value}': {allowed}")
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Says whether a node can have these settings; those that are not asked here can have any value. What an operator should
    /// not do, as to let everybody in who reaches a public address, is for a program to decide.
    ///
    /// ```
    /// use fanfare::settings::Settings;
    ///
    /// let error = Settings { shards: 0, ..Settings::default() }.check().unwrap_err();
    /// assert_eq!(error.to_string(), "settings: shards is '0': 1 to 64 is allowed");
    /// ```
    ///
    /// # Errors
    /// For the first field that cannot be what it is.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_values()?;
        for class in self.classes.iter() {
            self.check_class(class).map_err(|SettingsError { field, value, allowed }| {
                let allowed = format!("its {field} is '{value}': {allowed}");
                SettingsError::new("classes", &class.name, allowed)
            })?;
        }
        match &self.admin {
            Some(admin) if admin.hosts.len() > ADMIN_HOSTS_MAX => {
                let allowed = format!("at most {ADMIN_HOSTS_MAX} names are allowed");
                Err(SettingsError::new("admin.hosts", admin.hosts.len(), allowed))
            }
            Some(admin) if self.admin_is_open() => {
                let allowed = "on an address that is not loopback it needs a key: `admin.key`, or one of `keys` with the \
                               scope admin";
                Err(SettingsError::new("admin.listen", admin.listen, allowed))
            }
            _ => Ok(()),
        }
    }

    /// Whether the admin listener can be reached by others and asks nobody for a key.
    pub(crate) fn admin_is_open(&self) -> bool {
        self.admin.as_ref().is_some_and(|admin| {
            !admin.listen.ip().is_loopback() && admin.key.is_none() && !self.keys.any_for(Scope::Admin)
        })
    }

    /// All but the classes, and what depends on keys.
    pub(crate) fn check_values(&self) -> Result<(), SettingsError> {
        count("shards", self.shards, 1, SHARDS_MAX)?;
        self.gate.check()?;
        self.check_clients()?;
        self.check_messages()?;
        self.check_engine()?;
        self.check_waits()?;
        self.check_sockets()
    }

    fn check_clients(&self) -> Result<(), SettingsError> {
        let topics = self.max_topics_per_client;
        count("max_topics_per_client", topics, 1, TOPICS_PER_CLIENT_MAX)?;
        if self.default_topics.len() > topics {
            let allowed = format!("at most {topics} topics are allowed, which is `max_topics_per_client`");
            return Err(SettingsError::new("default_topics", self.default_topics.len(), allowed));
        }
        span("registration_ttl", self.registration_ttl, 1, REGISTRATION_MS_MAX)?;
        span("registration_grace", self.registration_grace, 0, REGISTRATION_MS_MAX)?;
        count("registrations_max", self.registrations_max, 1, REGISTRATIONS_MOST)?;
        let mut longest = Duration::from_millis(PING_INTERVAL_MS_MAX);
        if !self.ping_interval.is_zero() {
            span("ping_interval", self.ping_interval, PING_INTERVAL_MS_MIN, PING_INTERVAL_MS_MAX)
                .map_err(|error| error.because("or 0 for no pings"))?;
            longest = self.ping_interval - Duration::from_millis(1);
        }
        let least = Span(Duration::from_millis(PONG_TIMEOUT_MS_MIN));
        within("pong_timeout", Span(self.pong_timeout), (least, Span(longest)))
            .map_err(|error| error.because("it must be shorter than `ping_interval`"))?;
        if !self.max_connection_age.is_zero() {
            span("max_connection_age", self.max_connection_age, AGE_MS_MIN, AGE_MS_MAX)
                .map_err(|error| error.because("or 0 for no limit"))?;
        }
        count("commands_per_second", self.commands_per_second as usize, 1, COMMANDS_MAX)?;
        count("commands_burst", self.commands_burst as usize, 1, COMMANDS_MAX)
    }

    fn check_messages(&self) -> Result<(), SettingsError> {
        size("max_message", self.max_message, MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX)?;
        let least = JSON_INFLATION * self.max_message + BODY_BESIDES_MESSAGE;
        size("max_body", self.max_body, least, HTTP_BODIES_BYTES)
            .map_err(|error| error.because("the least is 6 x `max_message` + 4KiB"))?;
        size("outbox_bytes", self.outbox_bytes, self.least_outbox(), OUTBOX_BYTES_MAX)
            .map_err(|error| error.because("two messages of `max_message` must fit"))?;
        span("outbox_age", self.outbox_age, OUTBOX_AGE_MS_MIN, OUTBOX_AGE_MS_MAX)
    }

    /// Fewest bytes that may be queued for a client.
    pub(super) fn least_outbox(&self) -> usize {
        OUTBOX_BYTES_MIN.max(2 * (self.max_message + FRAME_HEADER_MAX))
    }

    fn check_engine(&self) -> Result<(), SettingsError> {
        count("topics_max", self.topics_max, 1, TOPICS_MOST)?;
        count("inflight_publications", self.inflight_publications, 1, INFLIGHT_PUBLICATIONS_MAX)?;
        size("inflight_bytes", self.inflight_bytes, 1, INFLIGHT_BYTES_MAX)?;
        count("idempotency_keys", self.idempotency_keys, self.shards, IDEMPOTENCY_KEYS_MAX)
            .map_err(|error| error.because("each of `shards` has a share"))?;
        span("idempotency_ttl", self.idempotency_ttl, 1, IDEMPOTENCY_MS_MAX)?;
        size("log_bytes", self.log_bytes, LOG_BYTES_MIN, MEMORY_BYTES_MAX)?;
        size("memory_bytes", self.memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)?;
        size("shard_lag", self.shard_lag, SHARD_LAG_BYTES_MIN, OUTBOX_BYTES_MAX)
    }

    fn check_waits(&self) -> Result<(), SettingsError> {
        span("publish_wait", self.publish_wait, 0, PUBLISH_WAIT_MS_MAX)?;
        span("join_wait", self.join_wait, 0, WAIT_MS_MAX)?;
        span("receipt_wait", self.receipt_wait, 0, WAIT_MS_MAX)?;
        span("http_head_timeout", self.http_head_timeout, 1, WAIT_MS_MAX)?;
        span("http_body_timeout", self.http_body_timeout, 1, WAIT_MS_MAX)?;
        span("tls_handshake_timeout", self.tls_handshake_timeout, 1, WAIT_MS_MAX)?;
        span("batch_line_wait", self.batch_line_wait, 1, WAIT_MS_MAX)?;
        span("batch_stall", self.batch_stall, 1, HTTP_UNREAD_MS - 1)?;
        span("auth_wait", self.auth_wait, 1, WAIT_MS_MAX)?;
        span("message_time", self.message_time, 1, WAIT_MS_MAX)?;
        span("token_leeway", self.token_leeway, 0, TOKEN_LEEWAY_MS_MAX)?;
        span("drain_delay", self.drain_delay, 0, DRAIN_MS_MAX)?;
        span("drain_duration", self.drain_duration, 0, DRAIN_MS_MAX)?;
        span("stop_deadline", self.stop_deadline, 0, WAIT_MS_MAX)
    }

    fn check_sockets(&self) -> Result<(), SettingsError> {
        let bytes = |field, value| size(field, value as usize, SOCKET_BUFFER_MIN, SOCKET_BUFFER_MAX);
        bytes("socket_unsent", self.socket_unsent)?;
        match self.socket_send_buffer {
            0 => Ok(()),
            size => bytes("socket_send_buffer", size)
                .map_err(|error| error.because("or 0 to leave it to the kernel")),
        }
    }

    /// Says whether a class fits into a node with these settings. The field is that of the class.
    pub(crate) fn check_class(&self, class: &Class) -> Result<(), SettingsError> {
        let Class { name: _, policy: _, outbox_bytes, outbox_age, history, subscribers, publishers } = class;
        // The most there is stands for what the node has.
        if *outbox_bytes != usize::MAX {
            size("outbox_bytes", *outbox_bytes, self.least_outbox(), self.outbox_bytes).map_err(|error| {
                error.because("two messages of `max_message` must fit, and `outbox_bytes` is the most")
            })?;
        }
        if *outbox_age != Duration::MAX {
            let least = Span(Duration::from_millis(OUTBOX_AGE_MS_MIN));
            within("outbox_age", Span(*outbox_age), (least, Span(self.outbox_age)))
                .map_err(|error| error.because("`outbox_age` is the most"))?;
        }
        if let Some(History { messages, bytes, ttl }) = history {
            count("history.messages", *messages, 1, HISTORY_MESSAGES_MAX)?;
            size("history.bytes", *bytes, HISTORY_BYTES_MIN, self.outbox_bytes.min(*outbox_bytes) / 2)
                .map_err(|error| error.because("half of outbox_bytes is the most"))?;
            span("history.ttl", *ttl, HISTORY_TTL_MS_MIN, HISTORY_TTL_MS_MAX)?;
        }
        for (field, needs) in [("subscribers", subscribers), ("publishers", publishers)] {
            if *needs == Needs::Token && self.tokens.is_none() {
                let allowed = "nobody has a token without `tokens`";
                return Err(SettingsError::new(field, "token", allowed));
            }
        }
        Ok(())
    }
}

impl GateSettings {
    fn check(&self) -> Result<(), SettingsError> {
        let rate = |rate: u32| rate as usize;
        count("gate.max_connections", self.max_connections, 0, CONNECTIONS_MAX)?;
        count("gate.max_connections_per_ip", self.max_connections_per_ip, 0, CONNECTIONS_MAX)?;
        let (all, each) = (rate(self.handshakes_per_second), rate(self.handshakes_per_second_per_ip));
        count("gate.handshakes_per_second", all, 0, HANDSHAKES_PER_SECOND_MAX)?;
        count("gate.handshakes_per_second_per_ip", each, 0, HANDSHAKES_PER_SECOND_MAX)?;
        let proxies = self.trusted_proxies.iter().count();
        if proxies > TRUSTED_PROXIES_MAX {
            let allowed = format!("at most {TRUSTED_PROXIES_MAX} networks are allowed");
            return Err(SettingsError::new("gate.trusted_proxies", proxies, allowed));
        }
        if self.proxy_protocol && proxies == 0 {
            let allowed = "with it only `trusted_proxies` are let in, and there are none";
            return Err(SettingsError::new("gate.proxy_protocol", true, allowed));
        }
        Ok(())
    }
}

/// What can be compared, and shown as it would be written.
trait Quantity: Copy + fmt::Display {
    fn key(self) -> u128;
}

impl Quantity for Count {
    fn key(self) -> u128 {
        self.0 as u128
    }
}

impl Quantity for Size {
    fn key(self) -> u128 {
        self.0 as u128
    }
}

impl Quantity for Span {
    fn key(self) -> u128 {
        self.0.as_nanos()
    }
}

fn within<Q: Quantity>(field: &'static str, value: Q, (least, most): (Q, Q)) -> Result<(), SettingsError> {
    if (least.key()..=most.key()).contains(&value.key()) {
        return Ok(());
    }
    Err(SettingsError::new(field, value, format_args!("{least} to {most} is allowed")))
}

fn count(field: &'static str, value: usize, least: usize, most: usize) -> Result<(), SettingsError> {
    within(field, Count(value), (Count(least), Count(most)))
}

fn size(field: &'static str, value: usize, least: usize, most: usize) -> Result<(), SettingsError> {
    within(field, Size(value), (Size(least), Size(most)))
}

/// From so many to so many milliseconds.
fn span(field: &'static str, value: Duration, least: u64, most: u64) -> Result<(), SettingsError> {
    within(field, Span(value), (Span(Duration::from_millis(least)), Span(Duration::from_millis(most))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        classes::{Classes, Policy},
        peer::Networks,
        settings::AdminSettings,
        topic::Topic,
    };

    const LONG: Duration = Duration::from_millis(u64::MAX);

    /// What is said of the default settings with a change.
    fn said(change: impl FnOnce(&mut Settings)) -> Result<(), String> {
        let mut settings = Settings { shards: 2, ..Settings::default() };
        change(&mut settings);
        settings.check().map_err(|error| error.field.to_owned())
    }

    fn class(change: impl FnOnce(&mut Class)) -> Result<(), SettingsError> {
        let mut class = Class::default_with(usize::MAX, Duration::MAX);
        change(&mut class);
        Settings { classes: Arc::new(Classes::only(class)), ..Settings::default() }.check()
    }

    #[test]
    fn default_settings_are_allowed_however_many_cores_there_are() {
        for shards in [1, SHARDS_MAX] {
            assert_eq!(Settings { shards, ..Settings::default() }.check(), Ok(()));
        }
        let admin = Some(AdminSettings::default());
        assert_eq!(Settings { admin, ..Settings::default() }.check(), Ok(()));
    }

    #[test]
    fn field_that_is_nonsense_is_named() {
        macro_rules! refused {
            ($($($field:ident).+ = $value:expr;)+) => {$(
                let field = stringify!($($field).+).replace(' ', "");
                assert_eq!(said(|settings| settings.$($field).+ = $value), Err(field), "{}", stringify!($value));
            )+};
        }
        refused! {
            shards = 0; shards = 65;
            registration_ttl = Duration::ZERO; registration_ttl = LONG; registration_grace = LONG;
            registrations_max = 0; registrations_max = usize::MAX;
            max_topics_per_client = 0; max_topics_per_client = usize::MAX;
            default_topics = vec![Topic::parse("a").unwrap(); 129].into();
            ping_interval = Duration::from_millis(1); ping_interval = LONG;
            pong_timeout = Duration::ZERO; pong_timeout = Duration::from_secs(25);
            max_connection_age = Duration::from_millis(1); max_connection_age = LONG;
            commands_per_second = 0; commands_per_second = u32::MAX;
            commands_burst = 0; commands_burst = u32::MAX;
            max_message = 0; max_message = usize::MAX;
            max_body = 0; max_body = usize::MAX; max_body = JSON_INFLATION * MESSAGE_BYTES;
            outbox_bytes = 0; outbox_bytes = usize::MAX; outbox_bytes = 2 * MESSAGE_BYTES;
            outbox_age = Duration::ZERO; outbox_age = LONG;
            topics_max = 0; topics_max = usize::MAX;
            inflight_publications = 0; inflight_publications = usize::MAX;
            inflight_bytes = 0; inflight_bytes = usize::MAX;
            idempotency_keys = 1; idempotency_keys = usize::MAX;
            idempotency_ttl = Duration::ZERO; idempotency_ttl = LONG;
            log_bytes = 0; log_bytes = usize::MAX; memory_bytes = 0; memory_bytes = usize::MAX;
            shard_lag = 0; shard_lag = usize::MAX;
            publish_wait = LONG; join_wait = LONG; receipt_wait = LONG;
            http_head_timeout = Duration::ZERO; http_head_timeout = LONG;
            http_body_timeout = Duration::ZERO; http_body_timeout = LONG;
            tls_handshake_timeout = Duration::ZERO; tls_handshake_timeout = LONG;
            batch_line_wait = Duration::ZERO; batch_line_wait = LONG;
            batch_stall = Duration::ZERO; batch_stall = Duration::from_millis(HTTP_UNREAD_MS);
            auth_wait = Duration::ZERO; auth_wait = LONG;
            message_time = Duration::ZERO; message_time = LONG;
            token_leeway = LONG; drain_delay = LONG; drain_duration = LONG; stop_deadline = LONG;
            socket_unsent = 0; socket_unsent = u32::MAX;
            socket_send_buffer = 1; socket_send_buffer = u32::MAX;
            gate.max_connections = usize::MAX; gate.max_connections_per_ip = usize::MAX;
            gate.handshakes_per_second = u32::MAX; gate.handshakes_per_second_per_ip = u32::MAX;
            gate.proxy_protocol = true;
            gate.trusted_proxies = Networks::new(vec!["10.0.0.1".parse().unwrap(); TRUSTED_PROXIES_MAX + 1]);
        }
    }

    #[test]
    fn what_zero_stands_for_is_allowed() {
        let zero = Duration::ZERO;
        let settings = Settings {
            shards: 1,
            registration_grace: zero,
            ping_interval: zero,
            max_connection_age: zero,
            publish_wait: zero,
            join_wait: zero,
            receipt_wait: zero,
            drain_delay: zero,
            drain_duration: zero,
            stop_deadline: zero,
            socket_send_buffer: 0,
            ..Settings::default()
        };
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn class_lies_within_its_node() {
        for (change, words) in [
            (
                (|class| class.outbox_bytes = 1) as fn(&mut Class),
                "its outbox_bytes is '1': 131092 to 1MiB is",
            ),
            (|class| class.outbox_bytes = 2 << 20, "its outbox_bytes is '2MiB'"),
            (|class| class.outbox_age = Duration::ZERO, "its outbox_age is '0': 1s to 1m is allowed"),
            (|class| class.outbox_age = LONG, "its outbox_age is"),
            (|class| class.publishers = Needs::Token, "its publishers is 'token'"),
            (
                |class| class.history = Some(History { messages: 1, bytes: 1 << 20, ttl: LONG }),
                "its history.bytes is '1MiB': 1KiB to 512KiB is allowed",
            ),
            (
                |class| class.history = Some(History { messages: 0, bytes: 1 << 10, ttl: LONG }),
                "its history.messages is '0'",
            ),
            (
                |class| class.history = Some(History { messages: 1, bytes: 1 << 10, ttl: LONG }),
                "its history.ttl is",
            ),
        ] {
            let error = class(change).expect_err(words);
            assert_eq!((error.field, &*error.value), ("classes", "default"));
            assert!(error.allowed.starts_with(words), "{error}");
        }
        assert_eq!(class(|class| class.policy = Policy::Conflate), Ok(()));
    }

    #[test]
    fn admin_listener_that_others_reach_needs_a_key() {
        let everywhere = "0.0.0.0:8001".parse().expect("it is an address");
        let admin = |settings: &mut Settings| settings.admin = Some(AdminSettings::at(everywhere));
        assert_eq!(said(admin), Err("admin.listen".to_owned()));
        let many = |settings: &mut Settings| {
            let hosts = vec!["a".to_owned(); ADMIN_HOSTS_MAX + 1];
            settings.admin = Some(AdminSettings { hosts: hosts.into(), ..AdminSettings::default() });
        };
        assert_eq!(said(many), Err("admin.hosts".to_owned()));
    }
}
