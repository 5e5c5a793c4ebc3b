//! The options of a node and of its log: each once, for the command line, the environment and the file.
//!
//! A group is a heading of the help and a table of the file; a field is a flag, a variable and a key. `None` is what
//! was not given. Nothing is checked here beyond how a value is written.

use std::{fmt, net::SocketAddr, str::FromStr};

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) use super::names::Names;
use super::{LogFormat, LogOptions, limit_options::LimitOptions};
use crate::{
    auth::Anonymous,
    settings::Settings,
    tls::Certificates,
    units::{self, Count, Size, Span},
};

/// All of them.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub(super) struct Options {
    #[command(flatten, next_help_heading = "Server")]
    pub(super) server: ServerOptions,
    #[command(flatten, next_help_heading = "Clients")]
    pub(super) clients: ClientOptions,
    #[command(flatten, next_help_heading = "Messages")]
    pub(super) messages: MessageOptions,
    #[command(flatten, next_help_heading = "Limits")]
    pub(super) limits: LimitOptions,
    #[command(flatten, next_help_heading = "Sockets")]
    pub(super) sockets: SocketOptions,
    #[command(flatten, next_help_heading = "Access")]
    pub(super) access: AccessOptions,
    #[command(flatten, next_help_heading = "Admin")]
    pub(super) admin: AdminOptions,
    #[command(flatten, next_help_heading = "Log")]
    pub(super) log: LogLines,
}

/// Where it listens, and who serves.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct ServerOptions {
    /// Address and port to listen on
    #[arg(long, env = "FANFARE_LISTEN", value_name = "ADDR", value_parser = address)]
    #[serde(deserialize_with = "listen")]
    pub(super) listen: Option<SocketAddr>,

    /// Threads that serve connections, 1 to 64
    #[arg(long, env = "FANFARE_SHARDS", value_name = "N")]
    pub(super) shards: Option<Count>,

    /// What returned URLs start with (ws:// or wss://); "" is the host each client asked
    #[arg(long, env = "FANFARE_PUBLIC_URL", value_name = "URL")]
    pub(super) public_url: Option<String>,

    /// How long, told to end (SIGTERM), it serves on, not ready any more, before it closes its clients
    #[arg(long, env = "FANFARE_DRAIN_DELAY", value_name = "TIME")]
    pub(super) drain_delay: Option<Span>,

    /// Over how long it then closes them, evenly and in random order; 0 closes all at once
    #[arg(long, env = "FANFARE_DRAIN_DURATION", value_name = "TIME")]
    pub(super) drain_duration: Option<Span>,

    /// Networks of proxies whose X-Forwarded-* headers are believed, such as 10.0.0.0/8; on the command line separated by
    /// commas, "" for none
    #[arg(long, env = "FANFARE_TRUSTED_PROXIES", value_name = "NETWORKS")]
    pub(super) trusted_proxies: Option<Names>,

    /// Whether trusted proxies begin each connection with a PROXY header (version 1 or 2); then nobody else is let in
    #[arg(
        long,
        env = "FANFARE_PROXY_PROTOCOL",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) proxy_protocol: Option<bool>,

    /// Certificate to speak TLS with: a PEM file, this host's certificate first; "" speaks no TLS
    #[arg(long, env = "FANFARE_TLS_CERT", value_name = "FILE")]
    pub(super) tls_cert: Option<String>,

    /// Key of that certificate: a PEM file, not encrypted
    #[arg(long, env = "FANFARE_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<String>,
}

/// What a client may have, and how long.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct ClientOptions {
    /// Topics of a client that registers without naming any; on the command line separated by commas, "" for none
    #[arg(long, env = "FANFARE_DEFAULT_TOPICS", value_name = "TOPICS")]
    pub(super) default_topics: Option<Names>,

    /// Most topics one client may have, up to 1024
    #[arg(long, env = "FANFARE_MAX_TOPICS_PER_CLIENT", value_name = "N")]
    pub(super) max_topics_per_client: Option<Count>,

    /// How long a registration waits for its first connection
    #[arg(long, env = "FANFARE_REGISTRATION_TTL", value_name = "TIME")]
    pub(super) registration_ttl: Option<Span>,

    /// How long a registration outlives its connection; 0 removes it at once
    #[arg(long, env = "FANFARE_REGISTRATION_GRACE", value_name = "TIME")]
    pub(super) registration_grace: Option<Span>,

    /// Time between two pings to one client; 0 sends none
    #[arg(long, env = "FANFARE_PING_INTERVAL", value_name = "TIME")]
    pub(super) ping_interval: Option<Span>,

    /// How long after a ping a client may give no sign of life
    #[arg(long, env = "FANFARE_PONG_TIMEOUT", value_name = "TIME")]
    pub(super) pong_timeout: Option<Span>,

    /// How old a connection may become, give or take a tenth, before it is closed (1012) and its client is to come back; 0
    /// sets no limit
    #[arg(long, env = "FANFARE_MAX_CONNECTION_AGE", value_name = "TIME")]
    pub(super) max_connection_age: Option<Span>,
}

/// How long messages may be, and what may wait.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct MessageOptions {
    /// Longest message
    #[arg(long, env = "FANFARE_MAX_MESSAGE", value_name = "SIZE")]
    pub(super) max_message: Option<Size>,

    /// Longest HTTP body; at least 6 x max-message + 4KiB, because JSON escapes inflate
    #[arg(long, env = "FANFARE_MAX_BODY", value_name = "SIZE")]
    pub(super) max_body: Option<Size>,

    /// What may wait for one slow client before it is disconnected, or what its class says; at least 2 messages
    #[arg(long, env = "FANFARE_OUTBOX_BYTES", value_name = "SIZE")]
    pub(super) outbox_bytes: Option<Size>,

    /// How old what waits for one slow client may become before it is disconnected, or dropped
    #[arg(long, env = "FANFARE_OUTBOX_AGE", value_name = "TIME")]
    pub(super) outbox_age: Option<Span>,

    /// What all shards may hold together, queued and kept; as it nears, slow clients pay first
    #[arg(long, env = "FANFARE_MEMORY", value_name = "SIZE")]
    pub(super) memory: Option<Size>,

    /// How long a publisher waits at most while the node has as much under way as it may; then it gets 503. 0: at once
    #[arg(long, env = "FANFARE_PUBLISH_WAIT", value_name = "TIME")]
    pub(super) publish_wait: Option<Span>,
}

/// What the kernel may hold for a client.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct SocketOptions {
    /// Unsent bytes the kernel may hold for one client (TCP_NOTSENT_LOWAT): what is not there is not stale
    #[arg(long, env = "FANFARE_SOCKET_UNSENT", value_name = "SIZE")]
    pub(super) socket_unsent: Option<Size>,

    /// Send buffer of a client's socket (SO_SNDBUF; Linux caps it at net.core.wmem_max, then doubles it). 0: the
    /// kernel's, which grows
    #[arg(long, env = "FANFARE_SOCKET_SEND_BUFFER", value_name = "SIZE")]
    pub(super) socket_send_buffer: Option<Size>,
}

/// Who is let in.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct AccessOptions {
    /// Whether clients that prove nothing may connect to /ws and call what topics leave to everyone: allow, refuse, or auto:
    /// only as long as neither keys nor --jwks are configured
    #[arg(long, env = "FANFARE_ANONYMOUS", value_name = "WHETHER", value_parser = anonymous)]
    pub(super) anonymous: Option<Anonymous>,

    /// File with the keys that sign the tokens of clients, a JSON Web Key Set; "" for no tokens. It is looked for beside the
    /// configuration file, if it stands there
    #[arg(long, env = "FANFARE_JWKS", value_name = "FILE")]
    pub(super) jwks: Option<String>,

    /// Who must have issued a token (iss); "" for anybody who can sign
    #[arg(long, env = "FANFARE_TOKEN_ISSUER", value_name = "TEXT")]
    pub(super) token_issuer: Option<String>,

    /// For whom a token must be (aud); "" takes only tokens that are for nobody in particular
    #[arg(long, env = "FANFARE_TOKEN_AUDIENCE", value_name = "TEXT")]
    pub(super) token_audience: Option<String>,

    /// How far the clock of who issues tokens may differ from this one
    #[arg(long, env = "FANFARE_TOKEN_LEEWAY", value_name = "TIME")]
    pub(super) token_leeway: Option<Span>,

    /// Origins of the pages whose WebSockets are let in, such as `https://app.example.com`; on the command line separated by
    /// commas, "" for any. Who sends no Origin is no browser and is let in
    #[arg(long, env = "FANFARE_ORIGINS", value_name = "ORIGINS")]
    pub(super) origins: Option<Names>,

    /// Serves on an address that others can reach though anybody may then register and publish
    #[arg(
        long,
        env = "FANFARE_INSECURE_OPEN",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) insecure_open: Option<bool>,
}

/// Where operators ask how the node is.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct AdminOptions {
    /// Address and port of the admin listener, or off; on any but a loopback address it needs a key. If the default is
    /// taken the server goes on without
    #[arg(long, env = "FANFARE_ADMIN_LISTEN", value_name = "ADDR")]
    pub(super) admin_listen: Option<AdminListen>,

    /// File with the key that callers of the admin listener show (Authorization: Bearer); "" for none
    #[arg(long, env = "FANFARE_ADMIN_KEY_FILE", value_name = "FILE")]
    pub(super) admin_key_file: Option<String>,

    /// Names the admin listener may be called by, besides IP addresses and localhost; on the command line separated by
    /// commas
    #[arg(long, env = "FANFARE_ADMIN_HOST", value_name = "NAMES")]
    pub(super) admin_host: Option<Names>,
}

/// Where the admin listener is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct LogLines {
    /// How log lines look: text or json
    #[arg(long, env = "FANFARE_LOG", value_name = "FORMAT", value_parser = log_format)]
    pub(super) log: Option<LogFormat>,

    /// What is logged: off, error, warn, info, debug, trace, or directives such as info,fanfare=debug
    #[arg(long, env = "FANFARE_LOG_LEVEL", value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
}

impl Options {
    /// These, and from `other` what is missing here.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            server: self.server.or(other.server),
            clients: self.clients.or(other.clients),
            messages: self.messages.or(other.messages),
            limits: self.limits.or(other.limits),
            sockets: self.sockets.or(other.sockets),
            access: self.access.or(other.access),
            admin: self.admin.or(other.admin),
            log: self.log.or(other.log),
        }
    }

    /// The options that come to these settings, all of them given.
    pub(super) fn of(listen: SocketAddr, settings: &Settings, log: &LogOptions) -> Self {
        let tokens = settings.tokens.as_deref();
        let admin = settings.admin.as_ref();
        let key_file = admin.and_then(|admin| admin.key_file.as_ref());
        let topics = settings.default_topics.iter().map(|topic| topic.as_str().to_owned());
        let (tls_cert, tls_key) = settings.tls.as_deref().map(Certificates::files).unzip();
        let [tls_cert, tls_key] = [tls_cert, tls_key]
            .map(|file| file.map(|file| file.to_string_lossy().into_owned()).unwrap_or_default());
        Self {
            server: ServerOptions {
                listen: Some(listen),
                shards: Some(Count(settings.shards)),
                public_url: Some(settings.public_url.clone().unwrap_or_default()),
                drain_delay: Some(Span(settings.drain_delay)),
                drain_duration: Some(Span(settings.drain_duration)),
                trusted_proxies: Some(Names(
                    settings.gate.trusted_proxies.iter().map(ToString::to_string).collect(),
                )),
                proxy_protocol: Some(settings.gate.proxy_protocol),
                tls_cert: Some(tls_cert),
                tls_key: Some(tls_key),
            },
            clients: ClientOptions {
                default_topics: Some(Names(topics.collect())),
                max_topics_per_client: Some(Count(settings.max_topics_per_client)),
                registration_ttl: Some(Span(settings.registration_ttl)),
                registration_grace: Some(Span(settings.registration_grace)),
                ping_interval: Some(Span(settings.ping_interval)),
                pong_timeout: Some(Span(settings.pong_timeout)),
                max_connection_age: Some(Span(settings.max_connection_age)),
            },
            messages: MessageOptions {
                max_message: Some(Size(settings.max_message)),
                max_body: Some(Size(settings.max_body)),
                outbox_bytes: Some(Size(settings.outbox_bytes)),
                outbox_age: Some(Span(settings.outbox_age)),
                memory: Some(Size(settings.memory_bytes)),
                publish_wait: Some(Span(settings.publish_wait)),
            },
            limits: LimitOptions::of(settings),
            sockets: SocketOptions {
                socket_unsent: Some(Size(settings.socket_unsent as usize)),
                socket_send_buffer: Some(Size(settings.socket_send_buffer as usize)),
            },
            access: AccessOptions {
                anonymous: Some(settings.anonymous),
                jwks: Some(tokens.map(|tokens| tokens.file.to_string_lossy().into()).unwrap_or_default()),
                token_issuer: Some(tokens.and_then(|tokens| tokens.issuer.clone()).unwrap_or_default()),
                token_audience: Some(tokens.and_then(|tokens| tokens.audience.clone()).unwrap_or_default()),
                token_leeway: Some(Span(settings.token_leeway)),
                origins: Some(Names(settings.origins.iter().map(str::to_owned).collect())),
                insecure_open: Some(settings.insecure_open),
            },
            admin: AdminOptions {
                admin_listen: Some(admin.map_or(AdminListen::Off, |admin| AdminListen::At(admin.listen))),
                admin_key_file: Some(key_file.map_or(String::new(), |file| file.display().to_string())),
                admin_host: Some(Names(admin.map_or(Vec::new(), |admin| admin.hosts.to_vec()))),
            },
            log: LogLines { log: Some(log.format), log_level: Some(log.filter.clone()) },
        }
    }
}

impl ServerOptions {
    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            shards: self.shards.or(other.shards),
            public_url: self.public_url.or(other.public_url),
            drain_delay: self.drain_delay.or(other.drain_delay),
            drain_duration: self.drain_duration.or(other.drain_duration),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            proxy_protocol: self.proxy_protocol.or(other.proxy_protocol),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
        }
    }
}

impl ClientOptions {
    fn or(self, other: Self) -> Self {
        Self {
            default_topics: self.default_topics.or(other.default_topics),
            max_topics_per_client: self.max_topics_per_client.or(other.max_topics_per_client),
            registration_ttl: self.registration_ttl.or(other.registration_ttl),
            registration_grace: self.registration_grace.or(other.registration_grace),
            ping_interval: self.ping_interval.or(other.ping_interval),
            pong_timeout: self.pong_timeout.or(other.pong_timeout),
            max_connection_age: self.max_connection_age.or(other.max_connection_age),
        }
    }
}

impl MessageOptions {
    fn or(self, other: Self) -> Self {
        Self {
            max_message: self.max_message.or(other.max_message),
            max_body: self.max_body.or(other.max_body),
            outbox_bytes: self.outbox_bytes.or(other.outbox_bytes),
            outbox_age: self.outbox_age.or(other.outbox_age),
            memory: self.memory.or(other.memory),
            publish_wait: self.publish_wait.or(other.publish_wait),
        }
    }
}

impl SocketOptions {
    fn or(self, other: Self) -> Self {
        Self {
            socket_unsent: self.socket_unsent.or(other.socket_unsent),
            socket_send_buffer: self.socket_send_buffer.or(other.socket_send_buffer),
        }
    }
}

impl AccessOptions {
    fn or(self, other: Self) -> Self {
        Self {
            anonymous: self.anonymous.or(other.anonymous),
            jwks: self.jwks.or(other.jwks),
            token_issuer: self.token_issuer.or(other.token_issuer),
            token_audience: self.token_audience.or(other.token_audience),
            token_leeway: self.token_leeway.or(other.token_leeway),
            origins: self.origins.or(other.origins),
            insecure_open: self.insecure_open.or(other.insecure_open),
        }
    }
}

impl AdminOptions {
    fn or(self, other: Self) -> Self {
        Self {
            admin_listen: self.admin_listen.or(other.admin_listen),
            admin_key_file: self.admin_key_file.or(other.admin_key_file),
            admin_host: self.admin_host.or(other.admin_host),
        }
    }
}

impl LogLines {
    fn or(self, other: Self) -> Self {
        Self { log: self.log.or(other.log), log_level: self.log_level.or(other.log_level) }
    }
}

impl FromStr for AdminListen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "off" => Ok(Self::Off),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|_| "an IP address and a port, such as 127.0.0.1:8001, or off"),
        }
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for AdminListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        units::from_text(deserializer, "an address in quotes, such as \"127.0.0.1:8001\", or \"off\"")
    }
}

impl Serialize for AdminListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an IP address and a port, such as 127.0.0.1:8000 or [::]:8000")
}

fn anonymous(text: &str) -> Result<Anonymous, &'static str> {
    match text {
        "auto" => Ok(Anonymous::Auto),
        "allow" => Ok(Anonymous::Allow),
        "refuse" => Ok(Anonymous::Refuse),
        _ => Err("auto, allow or refuse is allowed"),
    }
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json is allowed"),
    }
}

/// Reads an address as the flag does.
fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    struct Address(SocketAddr);

    impl FromStr for Address {
        type Err = &'static str;

        fn from_str(text: &str) -> Result<Self, &'static str> {
            address(text).map(Self)
        }
    }

    let address = units::from_text(deserializer, "an address in quotes, such as \"127.0.0.1:8000\"");
    address.map(|Address(address)| Some(address))
}
