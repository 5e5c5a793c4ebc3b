//! From options as they were written to checked settings: what is allowed alone, and beside the others.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper::Uri;

use super::{LISTEN, LogOptions, access, admin, options::*};
use crate::{
    classes::{Class, Classes},
    limits, logging,
    peer::Networks,
    protocol::topic_list::TopicList,
    settings::Settings,
    tls::Certificates,
    topic::Topic,
    units::{Count, Size, Span},
};

/// A value that is not allowed.
#[derive(Debug)]
pub(super) struct Refused {
    /// The option's id, or the key in a class or rule.
    pub(super) option: &'static str,
    /// As it was written.
    pub(super) value: String,
    /// What is allowed instead.
    pub(super) allowed: String,
}

impl Refused {
    pub(super) fn new(option: &'static str, value: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self { option, value: value.to_string(), allowed: allowed.to_string() }
    }

    pub(super) fn because(mut self, why: &str) -> Self {
        self.allowed = format!("{} ({why})", self.allowed);
        self
    }
}

/// The address to listen on, the node's settings with the default class alone, and the log's. What was not given is
/// as in [`Settings::default`].
pub(super) fn checked(options: Options) -> Result<(SocketAddr, Settings, LogOptions), Refused> {
    let Options { server, clients, messages, limits, sockets, access: who, admin, log } = options;
    let mut settings = Settings::default();
    let listen = check_server(server, &mut settings)?;
    check_clients(clients, &mut settings)?;
    check_messages(messages, &mut settings)?;
    limits.check(&mut settings)?;
    check_sockets(sockets, &mut settings)?;
    access::check(who, &mut settings)?;
    settings.admin = admin::checked(admin)?;
    let default = Class::default_with(settings.outbox_bytes, settings.outbox_age);
    settings.classes = Arc::new(Classes::only(default));
    Ok((listen, settings, checked_log(log)?))
}

fn check_server(options: ServerOptions, settings: &mut Settings) -> Result<SocketAddr, Refused> {
    if let Some(shards) = options.shards {
        settings.shards = within("shards", shards, (Count(1), Count(limits::SHARDS_MAX)))?.0;
    }
    if let Some(names) = options.trusted_proxies {
        settings.gate.trusted_proxies = trusted_proxies(&names)?;
    }
    settings.gate.proxy_protocol = options.proxy_protocol.unwrap_or(settings.gate.proxy_protocol);
    if settings.gate.proxy_protocol && settings.gate.trusted_proxies.is_empty() {
        let allowed = "with it only --trusted-proxies are let in, and there are none";
        return Err(Refused::new("proxy_protocol", true, allowed));
    }
    settings.public_url =
        options.public_url.filter(|url| !url.is_empty()).map(|url| public_url(&url)).transpose()?;
    if let Some(delay) = options.drain_delay {
        settings.drain_delay = within("drain_delay", delay, spans(0, limits::DRAIN_MS_MAX))?.0;
    }
    if let Some(duration) = options.drain_duration {
        settings.drain_duration = within("drain_duration", duration, spans(0, limits::DRAIN_MS_MAX))?.0;
    }
    settings.tls = certificates(options.tls_cert, options.tls_key)?;
    Ok(options.listen.unwrap_or(LISTEN))
}

fn check_clients(options: ClientOptions, settings: &mut Settings) -> Result<(), Refused> {
    if let Some(max) = options.max_topics_per_client {
        let counts = (Count(1), Count(limits::TOPICS_PER_CLIENT_MAX));
        settings.max_topics_per_client = within("max_topics_per_client", max, counts)?.0;
    }
    if let Some(names) = options.default_topics {
        settings.default_topics = default_topics(&names, settings.max_topics_per_client)?;
    }
    if let Some(ttl) = options.registration_ttl {
        let spans = spans(1, limits::REGISTRATION_MS_MAX);
        settings.registration_ttl = within("registration_ttl", ttl, spans)?.0;
    }
    if let Some(grace) = options.registration_grace {
        let spans = spans(0, limits::REGISTRATION_MS_MAX);
        settings.registration_grace = within("registration_grace", grace, spans)?.0;
    }
    let interval = options.ping_interval.unwrap_or(Span(settings.ping_interval));
    let timeout = options.pong_timeout.unwrap_or(Span(settings.pong_timeout));
    (settings.ping_interval, settings.pong_timeout) = liveness(interval, timeout)?;
    if let Some(age) = options.max_connection_age.filter(|age| !age.0.is_zero()) {
        let spans = spans(limits::AGE_MS_MIN, limits::AGE_MS_MAX);
        settings.max_connection_age = within("max_connection_age", age, spans)
            .map_err(|refused| refused.because("or 0 for no limit"))?
            .0;
    }
    Ok(())
}

/// Ping interval and pong timeout.
fn liveness(interval: Span, timeout: Span) -> Result<(Duration, Duration), Refused> {
    let mut longest = limits::PING_INTERVAL_MS_MAX;
    if !interval.0.is_zero() {
        within("ping_interval", interval, spans(limits::PING_INTERVAL_MS_MIN, limits::PING_INTERVAL_MS_MAX))
            .map_err(|refused| refused.because("or 0 for no pings"))?;
        longest = u64::try_from(interval.0.as_millis()).unwrap_or(longest) - 1;
    }
    within("pong_timeout", timeout, spans(limits::PONG_TIMEOUT_MS_MIN, longest))
        .map_err(|refused| refused.because("it must be shorter than --ping-interval"))?;
    Ok((interval.0, timeout.0))
}

fn check_messages(options: MessageOptions, settings: &mut Settings) -> Result<(), Refused> {
    let message = options.max_message.unwrap_or(Size(settings.max_message));
    let message =
        within("max_message", message, sizes(limits::MESSAGE_BYTES_MIN, limits::MESSAGE_BYTES_MAX))?;
    let body = options.max_body.unwrap_or(Size(settings.max_body));
    let least = limits::JSON_INFLATION * message.0 + limits::BODY_BESIDES_MESSAGE;
    let body = within("max_body", body, sizes(least, limits::HTTP_BODIES_BYTES))
        .map_err(|refused| refused.because("the least is 6 x --max-message + 4KiB"))?;
    let outbox = options.outbox_bytes.unwrap_or(Size(settings.outbox_bytes));
    let outbox = within("outbox_bytes", outbox, sizes(least_outbox(message.0), limits::OUTBOX_BYTES_MAX))
        .map_err(|refused| refused.because("two messages of --max-message must fit"))?;
    (settings.max_message, settings.max_body, settings.outbox_bytes) = (message.0, body.0, outbox.0);
    if let Some(age) = options.outbox_age {
        let spans = spans(limits::OUTBOX_AGE_MS_MIN, limits::OUTBOX_AGE_MS_MAX);
        settings.outbox_age = within("outbox_age", age, spans)?.0;
    }
    if let Some(memory) = options.memory {
        let sizes = sizes(limits::MEMORY_BYTES_MIN, limits::MEMORY_BYTES_MAX);
        settings.memory_bytes = within("memory", memory, sizes)?.0;
    }
    if let Some(wait) = options.publish_wait {
        settings.publish_wait = within("publish_wait", wait, spans(0, limits::PUBLISH_WAIT_MS_MAX))?.0;
    }
    Ok(())
}

/// Fewest bytes that may be queued for a client, with messages of so many bytes.
pub(super) fn least_outbox(message: usize) -> usize {
    limits::OUTBOX_BYTES_MIN.max(2 * (message + limits::FRAME_HEADER_MAX))
}

fn check_sockets(options: SocketOptions, settings: &mut Settings) -> Result<(), Refused> {
    let bytes = |option, size| {
        let Size(size) = within(option, size, sizes(limits::SOCKET_BUFFER_MIN, limits::SOCKET_BUFFER_MAX))?;
        Ok(u32::try_from(size).unwrap_or(u32::MAX))
    };
    if let Some(unsent) = options.socket_unsent {
        settings.socket_unsent = bytes("socket_unsent", unsent)?;
    }
    settings.socket_send_buffer = match options.socket_send_buffer {
        None => settings.socket_send_buffer,
        Some(Size(0)) => 0,
        Some(size) => bytes("socket_send_buffer", size)
            .map_err(|refused: Refused| refused.because("or 0 to leave it to the kernel"))?,
    };
    Ok(())
}

fn checked_log(options: LogLines) -> Result<LogOptions, Refused> {
    let defaults = LogOptions::default();
    Ok(LogOptions {
        format: options.log.unwrap_or(defaults.format),
        filter: options.log_level.map(log_filter).transpose()?.unwrap_or(defaults.filter),
    })
}

/// What can be compared, and shown as it would be written.
pub(super) trait Quantity: Copy + fmt::Display {
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

/// The value, if it is one of those from the least to the most.
pub(super) fn within<Q: Quantity>(
    option: &'static str,
    value: Q,
    (least, most): (Q, Q),
) -> Result<Q, Refused> {
    if (least.key()..=most.key()).contains(&value.key()) {
        Ok(value)
    } else {
        Err(Refused::new(option, value, format_args!("{least} to {most} is allowed")))
    }
}

pub(super) fn sizes(least: usize, most: usize) -> (Size, Size) {
    (Size(least), Size(most))
}

/// From so many to so many milliseconds.
pub(super) fn spans(least: u64, most: u64) -> (Span, Span) {
    (Span(Duration::from_millis(least)), Span(Duration::from_millis(most)))
}

fn default_topics(names: &Names, max: usize) -> Result<Arc<[Topic]>, Refused> {
    let mut list = TopicList::new(max);
    for name in &names.0 {
        list.add(name).map_err(|error| Refused::new("default_topics", names, error))?;
    }
    Ok(list.into_topics())
}

fn trusted_proxies(names: &Names) -> Result<Networks, Refused> {
    if names.0.len() > limits::TRUSTED_PROXIES_MAX {
        let allowed = format!("at most {} networks are allowed", limits::TRUSTED_PROXIES_MAX);
        return Err(Refused::new("trusted_proxies", names, allowed));
    }
    let network = |name: &String| name.parse().map_err(|error| Refused::new("trusted_proxies", name, error));
    names.0.iter().map(network).collect::<Result<_, _>>().map(Networks::new)
}

/// Checks what is put before `/ws/{id}`, and takes the slashes off its end.
fn public_url(text: &str) -> Result<String, Refused> {
    let refused = |why: &str| Refused::new("public_url", text, why);
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

/// Reads certificate and key; both are given, or neither.
fn certificates(
    certificate: Option<String>,
    key: Option<String>,
) -> Result<Option<Arc<Certificates>>, Refused> {
    let given = |file: Option<String>| file.filter(|file| !file.is_empty());
    match (given(certificate), given(key)) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let loaded =
                Certificates::load((&certificate).into(), (&key).into()).map_err(|error| {
                    match error.file() == Path::new(&certificate) {
                        true => Refused::new("tls_cert", &certificate, error),
                        false => Refused::new("tls_key", &key, error),
                    }
                })?;
            Ok(Some(Arc::new(loaded)))
        }
        (Some(certificate), None) => {
            Err(Refused::new("tls_cert", certificate, "a certificate goes with its key, --tls-key"))
        }
        (None, Some(key)) => Err(Refused::new("tls_key", key, "a key goes with its certificate, --tls-cert")),
    }
}

fn log_filter(text: String) -> Result<String, Refused> {
    match logging::parse(&text) {
        Ok(_) => Ok(text),
        Err(allowed) => Err(Refused::new("log_level", text, allowed)),
    }
}
