//! From options as they were written to settings. What is to be read is read here; what a value may be, alone and beside the
//! others, [`Settings`] says.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc};

use hyper::Uri;

use super::{LISTEN, LogOptions, access, admin, options::*, origins::flag};
use crate::{
    auth::keys,
    classes::{Class, Classes},
    logging,
    peer::Networks,
    protocol::topic_list::TopicList,
    settings::{Settings, SettingsError},
    tls::Certificates,
    topic::Topic,
    units::{Count, Size, Span},
};

/// A value that is not allowed.
#[derive(Debug)]
pub(super) struct Refused {
    /// The option's id, or the key in a class or rule.
    pub(super) option: &'static str,
    /// As it was written; `None` where somebody may have written a secret by mistake.
    pub(super) value: Option<String>,
    /// What is allowed instead.
    pub(super) allowed: String,
}

impl Refused {
    pub(super) fn new(option: &'static str, value: impl fmt::Display, allowed: impl fmt::Display) -> Self {
        Self { option, value: Some(value.to_string()), allowed: allowed.to_string() }
    }

    /// Of an option that names a file with a secret in it, or says something of one: what was written may be the secret
    /// itself, so it is not shown, but for what it is when it can be seen to be a key.
    pub(super) fn secret(option: &'static str, written: &str, allowed: impl fmt::Display) -> Self {
        let allowed = match keys::holds_one(written) {
            true => {
                format!(
                    "this is a key itself, which never stands here; take another one instead, for it has been seen: {allowed}"
                )
            }
            false => allowed.to_string(),
        };
        Self { option, value: None, allowed }
    }
}

impl From<SettingsError> for Refused {
    /// In the words of who writes options.
    fn from(error: SettingsError) -> Self {
        let parts = error.allowed.split('`').enumerate();
        let allowed: String = parts
            .map(|(nth, part)| if nth % 2 == 0 { part.to_owned() } else { flag(option(part)) })
            .collect();
        Self::new(option(error.field), error.value, allowed)
    }
}

/// The option by which a field of the settings is set.
fn option(field: &str) -> &str {
    match field {
        "registrations_max" => "max_registrations",
        "topics_max" => "max_topics",
        "memory_bytes" => "memory",
        "tokens" => "jwks",
        "admin.listen" => "admin_listen",
        "admin.hosts" => "admin_host",
        field => field.strip_prefix("gate.").unwrap_or(field),
    }
}

/// The address to listen on, the node's settings with the default class alone, and the log's. What was not given is
/// as in [`Settings::default`].
pub(super) fn checked(options: Options) -> Result<(SocketAddr, Settings, LogOptions), Refused> {
    let Options { server, clients, messages, limits, sockets, access: who, admin, log } = options;
    let mut settings = Settings::default();
    let listen = take_server(server, &mut settings)?;
    take_clients(clients, &mut settings)?;
    take_messages(messages, &mut settings);
    limits.take(&mut settings);
    take_sockets(sockets, &mut settings);
    access::check(who, &mut settings)?;
    settings.admin = admin::checked(admin)?;
    settings.check_values()?;
    let default = Class::default_with(settings.outbox_bytes, settings.outbox_age);
    settings.classes = Arc::new(Classes::only(default));
    Ok((listen, settings, checked_log(log)?))
}

fn take_server(options: ServerOptions, settings: &mut Settings) -> Result<SocketAddr, Refused> {
    set(&mut settings.shards, options.shards.map(|Count(shards)| shards));
    if let Some(names) = options.trusted_proxies {
        settings.gate.trusted_proxies = trusted_proxies(&names)?;
    }
    set(&mut settings.gate.proxy_protocol, options.proxy_protocol);
    settings.public_url =
        options.public_url.filter(|url| !url.is_empty()).map(|url| public_url(&url)).transpose()?;
    set(&mut settings.drain_delay, options.drain_delay.map(|Span(delay)| delay));
    set(&mut settings.drain_duration, options.drain_duration.map(|Span(duration)| duration));
    settings.tls = certificates(options.tls_cert, options.tls_key)?;
    Ok(options.listen.unwrap_or(LISTEN))
}

fn take_clients(options: ClientOptions, settings: &mut Settings) -> Result<(), Refused> {
    set(&mut settings.max_topics_per_client, options.max_topics_per_client.map(|Count(max)| max));
    if let Some(names) = options.default_topics {
        settings.default_topics = default_topics(&names, settings.max_topics_per_client)?;
    }
    set(&mut settings.registration_ttl, options.registration_ttl.map(|Span(ttl)| ttl));
    set(&mut settings.registration_grace, options.registration_grace.map(|Span(grace)| grace));
    set(&mut settings.ping_interval, options.ping_interval.map(|Span(interval)| interval));
    set(&mut settings.pong_timeout, options.pong_timeout.map(|Span(timeout)| timeout));
    set(&mut settings.max_connection_age, options.max_connection_age.map(|Span(age)| age));
    Ok(())
}

fn take_messages(options: MessageOptions, settings: &mut Settings) {
    set(&mut settings.max_message, options.max_message.map(|Size(size)| size));
    set(&mut settings.max_body, options.max_body.map(|Size(size)| size));
    set(&mut settings.outbox_bytes, options.outbox_bytes.map(|Size(size)| size));
    set(&mut settings.outbox_age, options.outbox_age.map(|Span(age)| age));
    set(&mut settings.memory_bytes, options.memory.map(|Size(size)| size));
    set(&mut settings.publish_wait, options.publish_wait.map(|Span(wait)| wait));
}

fn take_sockets(options: SocketOptions, settings: &mut Settings) {
    // What is too large for 32 bits is too large.
    let bytes = |Size(size)| u32::try_from(size).unwrap_or(u32::MAX);
    set(&mut settings.socket_unsent, options.socket_unsent.map(bytes));
    set(&mut settings.socket_send_buffer, options.socket_send_buffer.map(bytes));
}

/// Has a field be what was given, if anything was.
pub(super) fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

fn checked_log(options: LogLines) -> Result<LogOptions, Refused> {
    let defaults = LogOptions::default();
    Ok(LogOptions {
        format: options.log.unwrap_or(defaults.format),
        filter: options.log_level.map(log_filter).transpose()?.unwrap_or(defaults.filter),
    })
}

fn default_topics(names: &Names, max: usize) -> Result<Arc<[Topic]>, Refused> {
    let mut list = TopicList::new(max);
    for name in &names.0 {
        list.add(name).map_err(|error| Refused::new("default_topics", names, error))?;
    }
    Ok(list.into_topics())
}

fn trusted_proxies(names: &Names) -> Result<Networks, Refused> {
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
            let loaded = Certificates::load((&certificate).into(), (&key).into()).map_err(|error| {
                match error.file() == Path::new(&certificate) {
                    true => Refused::new("tls_cert", &certificate, error),
                    // It may be the key itself, and the error names the file.
                    false => Refused::secret("tls_key", &key, error.of_key()),
                }
            })?;
            Ok(Some(Arc::new(loaded)))
        }
        (Some(certificate), None) => {
            Err(Refused::new("tls_cert", certificate, "a certificate goes with its key, --tls-key"))
        }
        (None, Some(key)) => {
            Err(Refused::secret("tls_key", &key, "a key goes with its certificate, --tls-cert"))
        }
    }
}

fn log_filter(text: String) -> Result<String, Refused> {
    match logging::parse(&text) {
        Ok(_) => Ok(text),
        Err(allowed) => Err(Refused::new("log_level", text, allowed)),
    }
}
