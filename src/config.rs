//! The command line and environment, and how they become checked [`Settings`].
//!
//! The binary parses a [`Cli`] and turns it into settings once; whatever is out of range or does not fit together is
//! found here and told with the flag, the value and what is allowed. Nothing below checks an option again.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use hyper::Uri;

use crate::{
    limits,
    protocol::topic_list::TopicList,
    settings::Settings,
    topic::Topic,
    units::{Size, Span},
};

const EXAMPLES: &str = "\
Examples:
  fanfare
  fanfare --listen 0.0.0.0:8000 --public-url wss://live.example.com
  FANFARE_LOG=json fanfare --default-topics scores,news --outbox-bytes 4MiB

Try it:
  curl -d '{\"user_id\":1}' -H 'Content-Type: application/json' http://127.0.0.1:8000/register
  (connect a WebSocket client to the url it answers with)
  curl -d 'are awesome' -H 'Content-Type: text/plain' http://127.0.0.1:8000/publish/cats

Times are written 500ms, 25s, 2m or 1h; sizes 65536, 64KiB, 1MiB or 64kB.";

/// Fanfare, a WebSocket broadcast engine: publish once, and every subscriber of the topic has it.
#[derive(Clone, Debug, Parser)]
#[command(name = "fanfare", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// Address and port to listen on
    #[arg(long, env = "FANFARE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8000",
        value_parser = address, help_heading = "Server", hide_env_values = true)]
    pub listen: SocketAddr,

    /// Threads that serve connections, 1 to 64 [default: the cores there are]
    #[arg(long, env = "FANFARE_SHARDS", value_name = "N", help_heading = "Server", hide_env_values = true)]
    pub shards: Option<usize>,

    /// What returned URLs start with (ws:// or wss://), instead of the host each client asked
    #[arg(
        long,
        env = "FANFARE_PUBLIC_URL",
        value_name = "URL",
        help_heading = "Server",
        hide_env_values = true
    )]
    pub public_url: Option<String>,

    /// Topics of a client that registers without naming any, separated by commas; "" is none
    #[arg(
        long,
        env = "FANFARE_DEFAULT_TOPICS",
        value_name = "TOPICS",
        default_value = "cats",
        help_heading = "Clients",
        hide_env_values = true
    )]
    pub default_topics: String,

    /// Most topics one client may have, up to 1024
    #[arg(long, env = "FANFARE_MAX_TOPICS_PER_CLIENT", value_name = "N",
        default_value_t = limits::TOPICS_PER_CLIENT, help_heading = "Clients", hide_env_values = true)]
    pub max_topics_per_client: usize,

    /// How long a registration waits for its first connection
    #[arg(
        long,
        env = "FANFARE_REGISTRATION_TTL",
        value_name = "TIME",
        default_value = "60s",
        help_heading = "Clients",
        hide_env_values = true
    )]
    pub registration_ttl: Span,

    /// How long a registration outlives its connection; 0 removes it at once
    #[arg(
        long,
        env = "FANFARE_REGISTRATION_GRACE",
        value_name = "TIME",
        default_value = "30s",
        help_heading = "Clients",
        hide_env_values = true
    )]
    pub registration_grace: Span,

    /// Time between two pings to one client; 0 sends none
    #[arg(
        long,
        env = "FANFARE_PING_INTERVAL",
        value_name = "TIME",
        default_value = "25s",
        help_heading = "Clients",
        hide_env_values = true
    )]
    pub ping_interval: Span,

    /// How long after a ping a client may give no sign of life
    #[arg(
        long,
        env = "FANFARE_PONG_TIMEOUT",
        value_name = "TIME",
        default_value = "10s",
        help_heading = "Clients",
        hide_env_values = true
    )]
    pub pong_timeout: Span,

    /// Longest message
    #[arg(
        long,
        env = "FANFARE_MAX_MESSAGE",
        value_name = "SIZE",
        default_value = "64KiB",
        help_heading = "Messages",
        hide_env_values = true
    )]
    pub max_message: Size,

    /// Longest HTTP body; at least 6 x max-message + 4KiB, because JSON escapes inflate
    #[arg(
        long,
        env = "FANFARE_MAX_BODY",
        value_name = "SIZE",
        default_value = "1MiB",
        help_heading = "Messages",
        hide_env_values = true
    )]
    pub max_body: Size,

    /// What may wait for one slow client before it is disconnected; at least 2 messages
    #[arg(
        long,
        env = "FANFARE_OUTBOX_BYTES",
        value_name = "SIZE",
        default_value = "1MiB",
        help_heading = "Messages",
        hide_env_values = true
    )]
    pub outbox_bytes: Size,

    /// How long a publisher waits at most while the node has as much under way as it may; then it gets 503. 0: at once
    #[arg(
        long,
        env = "FANFARE_PUBLISH_WAIT",
        value_name = "TIME",
        default_value = "5s",
        help_heading = "Messages",
        hide_env_values = true
    )]
    pub publish_wait: Span,

    /// Unsent bytes the kernel may hold for one client (TCP_NOTSENT_LOWAT): what is not there is not stale
    #[arg(
        long,
        env = "FANFARE_SOCKET_UNSENT",
        value_name = "SIZE",
        default_value = "128KiB",
        help_heading = "Sockets",
        hide_env_values = true
    )]
    pub socket_unsent: Size,

    /// Send buffer of a client's socket (SO_SNDBUF; Linux caps it at net.core.wmem_max, then doubles it). 0: the
    /// kernel's, which grows
    #[arg(
        long,
        env = "FANFARE_SOCKET_SEND_BUFFER",
        value_name = "SIZE",
        default_value = "0",
        help_heading = "Sockets",
        hide_env_values = true
    )]
    pub socket_send_buffer: Size,

    /// How log lines look: text or json
    #[arg(
        long,
        env = "FANFARE_LOG",
        value_parser = log_format,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Logging",
        hide_env_values = true
    )]
    pub log: LogFormat,

    /// What is logged: off, error, warn, info, debug, trace, or directives such as info,fanfare=debug
    #[arg(
        long,
        env = "FANFARE_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Logging",
        hide_env_values = true
    )]
    pub log_level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How lines look.
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, checked.
    pub filter: String,
}

/// A value that is not allowed, alone or beside the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    flag: &'static str,
    value: String,
    allowed: String,
}

impl Cli {
    /// Checks everything and gives the address to listen on, the node's settings and the log's.
    ///
    /// # Errors
    /// For the first value that is not allowed.
    pub fn into_settings(self) -> Result<(SocketAddr, Settings, LogOptions), ConfigError> {
        let defaults = Settings::default();
        let (max_message, max_body, outbox_bytes) = self.sizes()?;
        let (ping_interval, pong_timeout) = self.liveness()?;
        let (socket_unsent, socket_send_buffer) = self.sockets()?;
        let max_topics_per_client = within(
            "--max-topics-per-client",
            self.max_topics_per_client,
            (1, limits::TOPICS_PER_CLIENT_MAX),
        )?;
        let settings = Settings {
            shards: within("--shards", self.shards.unwrap_or(defaults.shards), (1, limits::SHARDS_MAX))?,
            default_topics: default_topics(&self.default_topics, max_topics_per_client)?,
            registration_ttl: kept("--registration-ttl", self.registration_ttl, Duration::from_millis(1))?,
            registration_grace: kept("--registration-grace", self.registration_grace, Duration::ZERO)?,
            public_url: self
                .public_url
                .as_deref()
                .filter(|url| !url.is_empty())
                .map(public_url)
                .transpose()?,
            outbox_bytes,
            max_message,
            max_body,
            max_topics_per_client,
            ping_interval,
            pong_timeout,
            publish_wait: within(
                "--publish-wait",
                self.publish_wait,
                (Span(Duration::ZERO), Span(Duration::from_millis(limits::PUBLISH_WAIT_MS_MAX))),
            )?
            .0,
            socket_unsent,
            socket_send_buffer,
            shard_lag: defaults.shard_lag.min(outbox_bytes / 2),
            ..defaults
        };
        let log = LogOptions { format: self.log, filter: log_filter(self.log_level)? };
        Ok((self.listen, settings, log))
    }

    /// Unsent bytes and send buffer of a client's socket.
    fn sockets(&self) -> Result<(u32, u32), ConfigError> {
        let bytes = |flag, Size(size): Size| {
            let sizes = (Size(limits::SOCKET_BUFFER_MIN), Size(limits::SOCKET_BUFFER_MAX));
            within(flag, Size(size), sizes).map(|Size(size)| u32::try_from(size).unwrap_or(u32::MAX))
        };
        let unsent = bytes("--socket-unsent", self.socket_unsent)?;
        let buffer = match self.socket_send_buffer {
            Size(0) => 0,
            size => bytes("--socket-send-buffer", size)
                .map_err(|error| error.because("or 0 to leave it to the kernel"))?,
        };
        Ok((unsent, buffer))
    }

    /// Message, body and outbox, in bytes.
    fn sizes(&self) -> Result<(usize, usize, usize), ConfigError> {
        let sizes = |(least, most)| (Size(least), Size(most));
        let message = (limits::MESSAGE_BYTES_MIN, limits::MESSAGE_BYTES_MAX);
        let Size(message) = within("--max-message", self.max_message, sizes(message))?;
        let least = limits::JSON_INFLATION * message + limits::BODY_BESIDES_MESSAGE;
        let Size(body) = within("--max-body", self.max_body, sizes((least, limits::HTTP_BODIES_BYTES)))
            .map_err(|error| error.because("the least is 6 x --max-message + 4KiB"))?;
        let least = limits::OUTBOX_BYTES_MIN.max(2 * (message + limits::FRAME_HEADER_MAX));
        let Size(outbox) =
            within("--outbox-bytes", self.outbox_bytes, sizes((least, limits::OUTBOX_BYTES_MAX)))
                .map_err(|error| error.because("two messages of --max-message must fit"))?;
        Ok((message, body, outbox))
    }

    /// Ping interval and pong timeout.
    fn liveness(&self) -> Result<(Duration, Duration), ConfigError> {
        let spans = |least, most| (Span(Duration::from_millis(least)), Span(Duration::from_millis(most)));
        let mut longest = limits::PING_INTERVAL_MS_MAX;
        let mut interval = self.ping_interval.0;
        if !interval.is_zero() {
            let span = spans(limits::PING_INTERVAL_MS_MIN, limits::PING_INTERVAL_MS_MAX);
            interval = within("--ping-interval", self.ping_interval, span)
                .map_err(|error| error.because("or 0 for no pings"))?
                .0;
            longest = u64::try_from(interval.as_millis()).unwrap_or(longest) - 1;
        }
        let Span(timeout) =
            within("--pong-timeout", self.pong_timeout, spans(limits::PONG_TIMEOUT_MS_MIN, longest))
                .map_err(|error| error.because("it must be shorter than --ping-interval"))?;
        Ok((interval, timeout))
    }
}

impl ConfigError {
    fn new(flag: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { flag, value: value.to_string(), allowed: allowed.into() }
    }

    fn because(mut self, why: &str) -> Self {
        self.allowed = format!("{} ({why})", self.allowed);
        self
    }
}

/// What can be compared, and shown as it would be written.
trait Quantity: Copy + fmt::Display {
    fn key(self) -> u128;
}

impl Quantity for usize {
    fn key(self) -> u128 {
        self as u128
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

fn within<Q: Quantity>(flag: &'static str, value: Q, (least, most): (Q, Q)) -> Result<Q, ConfigError> {
    if (least.key()..=most.key()).contains(&value.key()) {
        Ok(value)
    } else {
        Err(ConfigError::new(flag, value, format!("{least} to {most} is allowed")))
    }
}

fn kept(flag: &'static str, value: Span, least: Duration) -> Result<Duration, ConfigError> {
    let most = Duration::from_millis(limits::REGISTRATION_MS_MAX);
    Ok(within(flag, value, (Span(least), Span(most)))?.0)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address and a port, such as 127.0.0.1:8000 or [::]:8000".to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json is allowed"),
    }
}

fn default_topics(text: &str, max: usize) -> Result<Arc<[Topic]>, ConfigError> {
    let mut list = TopicList::new(max);
    if !text.trim().is_empty() {
        for topic in text.split(',') {
            let refused =
                |why: &dyn fmt::Display| ConfigError::new("--default-topics", text, why.to_string());
            list.add(topic.trim()).map_err(|error| refused(&error))?;
        }
    }
    Ok(list.into_topics())
}

/// Checks what is put before `/ws/{id}`, and takes the slashes off its end.
fn public_url(text: &str) -> Result<String, ConfigError> {
    let refused = |why: &str| ConfigError::new("--public-url", text, why);
    let example = "a URL such as wss://live.example.com is allowed, with a port and path if need be";
    let uri: Uri = text.parse().map_err(|_| refused(example))?;
    if !matches!(uri.scheme_str(), Some("ws" | "wss")) {
        return Err(refused("it begins with ws:// or wss://"));
    }
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    if authority.ok_or_else(|| refused(example))?.as_str().contains('@') {
        return Err(refused("it has no user or password"));
    }
    if uri.query().is_some() || text.contains(['?', '#']) {
        return Err(refused("it has no query and no fragment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Checks the directives. A word alone must be a level: as a target, a misspelt one would silence everything.
fn log_filter(text: String) -> Result<String, ConfigError> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known =
        |part: &str| part.contains('=') || levels.iter().any(|level| part.trim().eq_ignore_ascii_case(level));
    if text.split(',').all(is_known) && tracing_subscriber::EnvFilter::try_new(&text).is_ok() {
        Ok(text)
    } else {
        let allowed = "off, error, warn, info, debug, trace, or directives such as info,fanfare=debug";
        Err(ConfigError::new("--log-level", text, allowed))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid value '{}' for '{}': {}", self.value, self.flag, self.allowed)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// What a command line comes to, or what is said about it.
    fn settings(args: &[&str]) -> Result<Settings, String> {
        let cli = Cli::try_parse_from([&["fanfare"], args].concat()).map_err(|error| error.to_string())?;
        cli.into_settings().map(|(_, settings, _)| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_flags_it_is_the_default_settings() {
        let cli = Cli::try_parse_from(["fanfare"]).expect("every flag has a default");
        let (listen, settings, log) = cli.into_settings().expect("defaults are allowed");
        assert_eq!(listen, SocketAddr::from(([127, 0, 0, 1], 8000)));
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
        assert_eq!(log, LogOptions { format: LogFormat::Text, filter: "info".into() });
    }

    #[test]
    fn every_flag_has_its_variable_and_its_default_in_the_help() {
        let mut command = Cli::command();
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let Some(long) = argument.get_long().filter(|long| *long != "version") else { continue };
            let variable = format!("FANFARE_{}", long.to_ascii_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable));
            assert!(argument.get_help_heading().is_some(), "{long} belongs to a group");
        }
        let help = command.render_help().to_string();
        for part in [
            "[default: 64KiB]",
            "[env: FANFARE_LISTEN]",
            "Server:",
            "Clients:",
            "Messages:",
            "Logging:",
            "curl",
        ] {
            assert!(help.contains(part), "{part} is missing in\n{help}");
        }
    }

    #[test]
    fn topics_are_a_list_or_none() {
        let topics = |text: &str| {
            let settings = settings(&["--default-topics", text])?;
            Ok::<_, String>(
                settings.default_topics.iter().map(|topic| topic.as_str().to_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(topics("a, b,a").unwrap(), ["a", "b"]);
        assert_eq!(topics("").unwrap(), Vec::<String>::new());
        assert!(topics("a,,b").unwrap_err().contains("topic 2 of the list"));
        assert!(
            settings(&["--default-topics=a,b", "--max-topics-per-client=1"])
                .unwrap_err()
                .contains("at most 1")
        );
    }

    #[test]
    fn values_out_of_range_are_told_with_flag_value_and_what_is_allowed() {
        for (args, parts) in [
            (&["--shards=0"][..], &["--shards", "'0'", "1 to 64"][..]),
            (&["--shards=65"], &["--shards", "'65'", "1 to 64"]),
            (&["--shards=x"], &["--shards", "'x'"]),
            (&["--listen=localhost"], &["--listen", "'localhost'", "127.0.0.1:8000"]),
            (&["--max-topics-per-client=1025"], &["--max-topics-per-client", "1 to 1024"]),
            (&["--registration-ttl=60"], &["--registration-ttl", "'60'", "25s"]),
            (&["--registration-ttl=0"], &["--registration-ttl", "1ms to 168h"]),
            (&["--registration-grace=200h"], &["--registration-grace", "0 to 168h"]),
            (&["--max-message=64k"], &["--max-message", "'64k'", "64KiB"]),
            (&["--max-message=100"], &["--max-message", "'100'", "1KiB to 8MiB"]),
            (&["--max-message=256KiB"], &["--max-body", "'1MiB'", "1540KiB", "6 x --max-message"]),
            (&["--max-body=64KiB"], &["--max-body", "'64KiB'", "388KiB to 64MiB"]),
            (&["--outbox-bytes=32KiB"], &["--outbox-bytes", "'32KiB'", "131092 to"]),
            (&["--outbox-bytes=1GiB"], &["--outbox-bytes", "'1GiB'"]),
            (&["--publish-wait=61s"], &["--publish-wait", "0 to 1m"]),
            (&["--socket-unsent=1KiB"], &["--socket-unsent", "4KiB to 64MiB"]),
            (&["--socket-send-buffer=1KiB"], &["--socket-send-buffer", "4KiB to 64MiB", "or 0"]),
            (&["--ping-interval=50ms"], &["--ping-interval", "100ms to 1h", "0 for no pings"]),
            (&["--ping-interval=2h"], &["--ping-interval", "'2h'"]),
            (&["--pong-timeout=25s"], &["--pong-timeout", "'25s'", "10ms to 24999ms", "--ping-interval"]),
            (&["--log-level=inof"], &["--log-level", "'inof'", "info,fanfare=debug"]),
            (&["--log=xml"], &["--log", "'xml'", "text", "json"]),
        ] {
            let error = settings(args).expect_err(&format!("{args:?} is not allowed"));
            assert!(parts.iter().all(|part| error.contains(part)), "{args:?} says only: {error}");
        }
    }

    #[test]
    fn relations_between_values_are_kept() {
        let small = settings(&["--outbox-bytes=256KiB"]).unwrap();
        assert_eq!((small.outbox_bytes, small.shard_lag), (256 << 10, 128 << 10));
        let large = settings(&["--max-message=256KiB", "--max-body=2MiB", "--outbox-bytes=4MiB"]).unwrap();
        assert_eq!((large.max_message, large.shard_lag), (256 << 10, limits::SHARD_LAG_BYTES));
        let silent = settings(&["--ping-interval=0", "--pong-timeout=10s"]).unwrap();
        assert!(silent.ping_interval.is_zero());
        let longest = ["--max-message=8MiB", "--max-body=64MiB", "--outbox-bytes=31MiB"];
        assert!(settings(&longest).is_ok(), "the largest message can be allowed at all");
    }

    #[test]
    fn public_url_is_a_websocket_url_without_the_rest() {
        let url = |text: &str| settings(&["--public-url", text]).map(|settings| settings.public_url);
        assert_eq!(url("wss://a.example").unwrap().as_deref(), Some("wss://a.example"));
        assert_eq!(url("ws://a.example:81/live//").unwrap().as_deref(), Some("ws://a.example:81/live"));
        assert_eq!(url("").unwrap(), None);
        for bad in [
            "a.example",
            "http://a",
            "wss://",
            "wss:///x",
            "wss://a?x=1",
            "wss://a/#x",
            "wss://u@a",
            "wss://a b",
        ] {
            assert!(url(bad).unwrap_err().contains("--public-url"), "{bad}");
        }
    }
}
