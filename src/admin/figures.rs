//! What `/metrics` says: every family with its name, its kind and what it means, from one look at the node.
//!
//! The number of series is fixed by the number of shards: nothing is labelled by topic, user or address, of which
//! strangers can make as many as they like. `docs/METRICS.md` says the same for people; a test holds it against this.

use std::time::Duration;

use super::{
    openmetrics::{Kind, Text},
    process::Process,
};
use crate::{
    engine::Rung,
    logging::{lines_left_out, lines_lost},
    metrics::{MESSAGES_PER_WRITE, PUBLISH_LATENCY_US, Refused, Snapshot},
    node::Node,
};

/// What is looked at.
#[derive(Debug)]
pub(super) struct View {
    shards: Vec<AtShard>,
    /// The counters of all shards together.
    total: Snapshot,
    /// By reason, in the order of [`Refused::ALL`].
    refused: [u64; Refused::ALL.len()],
    registrations: u64,
    registrations_max: u64,
    inflight: u64,
    inflight_max: u64,
    memory_used: u64,
    memory_budget: u64,
    rung: Rung,
    ready: bool,
    log_lines_left_out: u64,
    log_lines_lost: u64,
    process: Process,
}

/// What is looked at of one shard.
#[derive(Clone, Copy, Debug, Default)]
struct AtShard {
    counted: Snapshot,
    http_connections: u64,
    ingress: u64,
    fanout: u64,
}

impl View {
    /// A look at a node. Values change while it is taken: they are not of one moment.
    pub(super) fn of(node: &Node) -> Self {
        let mailboxes = node.mailboxes();
        let snapshots = node.metrics().snapshots();
        let shards = snapshots.iter().enumerate().map(|(shard, &counted)| AtShard {
            counted,
            http_connections: node.http_connections(shard) as u64,
            ingress: mailboxes.ingress(shard).len() as u64,
            fanout: mailboxes.fanout(shard).len() as u64,
        });
        let mut total = Snapshot::default();
        snapshots.iter().for_each(|&counted| total += counted);
        Self {
            refused: Refused::ALL.map(|reason| node.metrics().refused(reason)),
            shards: shards.collect(),
            total,
            registrations: node.registrations() as u64,
            registrations_max: node.settings().registrations_max as u64,
            inflight: node.inflight() as u64,
            inflight_max: node.settings().inflight_publications as u64,
            memory_used: node.memory().used() as u64,
            memory_budget: node.memory().budget() as u64,
            rung: node.memory().rung(),
            ready: node.phase().is_ready(),
            log_lines_left_out: lines_left_out(),
            log_lines_lost: lines_lost(),
            process: Process::now(),
        }
    }
}

/// All of it as OpenMetrics.
pub(super) fn text(view: &View) -> String {
    let mut text = Text::default();
    about(&mut text, view);
    connections(&mut text, view);
    tls(&mut text, &view.total);
    publications(&mut text, view);
    deliveries(&mut text, view);
    memory(&mut text, view);
    shards(&mut text, view);
    process(&mut text, &view.process);
    text.end()
}

fn about(text: &mut Text, view: &View) {
    text.family(Kind::Info, "fanfare_build", "What runs here")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family(
        Kind::Gauge,
        "fanfare_ready",
        "1 if new clients are welcome: neither starting, draining nor stopping",
    )
    .sample(&[], u8::from(view.ready));
    text.family(
        Kind::Counter,
        "fanfare_log_lines_left_out",
        "Lines that were not logged because there were too many of their kind",
    )
    .sample(&[], view.log_lines_left_out);
    text.family(
        Kind::Counter,
        "fanfare_log_lines_lost",
        "Lines of the log that were not written: standard error was not read, or did not take them",
    )
    .sample(&[], view.log_lines_lost);
    text.family(Kind::Gauge, "fanfare_shards", "Threads that serve connections")
        .sample(&[], view.shards.len());
}

fn tls(text: &mut Text, total: &Snapshot) {
    text.family(Kind::Counter, "fanfare_tls_handshakes", "TLS handshakes done")
        .sample(&[], total.tls_handshakes);
    text.family(
        Kind::Counter,
        "fanfare_tls_resumptions",
        "Those of them that went on from an earlier session",
    )
    .sample(&[], total.tls_resumed);
    text.family(Kind::Counter, "fanfare_tls_handshake_failures", "TLS handshakes that failed, by reason")
        .sample(&[("reason", "plain_http")], total.tls_failed_plain)
        .sample(&[("reason", "timeout")], total.tls_failed_timeout)
        .sample(&[("reason", "protocol")], total.tls_failed_protocol)
        .sample(&[("reason", "gone")], total.tls_failed_gone);
    text.family(
        Kind::Counter,
        "fanfare_tls_broken",
        "TLS connections that ended because the client broke the protocol",
    )
    .sample(&[], total.tls_broken);
}

fn connections(text: &mut Text, view: &View) {
    let total = &view.total;
    let http: u64 = view.shards.iter().map(|shard| shard.http_connections).sum();
    text.family(Kind::Gauge, "fanfare_connections", "Connections of clients, by what they speak")
        .sample(&[("protocol", "http")], http)
        .sample(&[("protocol", "websocket")], total.subscribers);
    text.family(
        Kind::Gauge,
        "fanfare_connections_blocked",
        "WebSocket connections whose socket takes nothing now, or is not there yet",
    )
    .sample(&[], total.blocked);
    text.family(
        Kind::Gauge,
        "fanfare_subscriptions",
        "Topics of all WebSocket connections, counted for each connection",
    )
    .sample(&[], total.subscriptions);
    text.family(Kind::Gauge, "fanfare_registrations", "Registered clients, connected or not")
        .sample(&[], view.registrations);
    text.family(Kind::Gauge, "fanfare_registrations_limit", "Registered clients there may be")
        .sample(&[], view.registrations_max);
    text.family(Kind::Counter, "fanfare_upgrades", "Connections upgraded to WebSocket")
        .sample(&[], total.upgrades);
    text.family(Kind::Counter, "fanfare_handshake_failures", "WebSocket handshakes refused, by reason")
        .sample(&[("reason", "malformed")], total.handshakes_malformed)
        .sample(&[("reason", "unknown")], total.handshakes_unknown)
        .sample(&[("reason", "forbidden")], total.handshakes_forbidden)
        .sample(&[("reason", "limited")], total.handshakes_limited)
        .sample(&[("reason", "unavailable")], total.handshakes_unavailable);
    let help = "Connections and handshakes turned away at the door, by reason";
    let mut refused = text.family(Kind::Counter, "fanfare_refused", help);
    for (reason, count) in Refused::ALL.into_iter().zip(view.refused) {
        refused.sample(&[("reason", reason.name())], count);
    }
    text.family(
        Kind::Counter,
        "fanfare_resumes",
        "Topics resumed by a position, by whether anything was missing",
    )
    .sample(&[("result", "hit")], total.resumes_whole)
    .sample(&[("result", "miss")], total.resumes_short);
    text.family(Kind::Counter, "fanfare_http_requests", "HTTP requests taken on the public side")
        .sample(&[], total.http_requests);
    text.family(Kind::Counter, "fanfare_http_answers", "Answers to them, by what they came to")
        .sample(&[("result", "answered")], total.http_answered)
        .sample(&[("result", "refused")], total.http_refused)
        .sample(&[("result", "failed")], total.http_failed);
    text.family(Kind::Counter, "fanfare_received_bytes", "Bytes read from WebSocket clients")
        .sample(&[], total.bytes_read);
    text.family(Kind::Counter, "fanfare_commands", "Messages and control frames taken from clients")
        .sample(&[], total.commands);
    text.family(Kind::Counter, "fanfare_closes", "Connections closed by the server, by reason")
        .sample(&[("reason", "slow")], total.closed_slow)
        .sample(&[("reason", "no_pong")], total.closed_no_pong)
        .sample(&[("reason", "protocol")], total.closed_protocol)
        .sample(&[("reason", "policy")], total.closed_policy)
        .sample(&[("reason", "replaced")], total.closed_replaced)
        .sample(&[("reason", "unregistered")], total.closed_unregistered)
        .sample(&[("reason", "stopping")], total.closed_stopping)
        .sample(&[("reason", "aged")], total.closed_aged);
    text.family(Kind::Counter, "fanfare_resets", "Connections reset because their end took too long")
        .sample(&[], total.reset);
}

fn publications(text: &mut Text, view: &View) {
    let total = &view.total;
    text.family(
        Kind::Counter,
        "fanfare_publications",
        "Publications that were given their place, one for each topic they go to",
    )
    .sample(&[], total.sequenced);
    text.family(Kind::Counter, "fanfare_publications_refused", "Publications refused by the node, by reason")
        .sample(&[("reason", "overloaded")], total.refused_overloaded)
        .sample(&[("reason", "full")], total.refused_full)
        .sample(&[("reason", "stopping")], total.refused_stopping);
    text.family(
        Kind::Histogram,
        "fanfare_publish_to_written_seconds",
        "Time from when a publication was asked for until each shard had offered it to all its sockets, for each shard",
    )
    .histogram(
        &PUBLISH_LATENCY_US.map(|end| end as f64 / 1e6),
        &total.publish_latency.0,
        total.publish_latency_us as f64 / 1e6,
    );
    text.family(
        Kind::Gauge,
        "fanfare_publications_inflight",
        "Publications that are not in the log of every interested shard yet",
    )
    .sample(&[], view.inflight);
    text.family(Kind::Gauge, "fanfare_publications_inflight_limit", "Publications that may be under way")
        .sample(&[], view.inflight_max);
    text.family(Kind::Gauge, "fanfare_topics", "Topics with a record").sample(&[], total.records);
}

fn deliveries(text: &mut Text, view: &View) {
    let total = &view.total;
    let queued = total.queued();
    text.family(
        Kind::Counter,
        "fanfare_deliveries_matched",
        "Messages meant for a subscriber, counted for each",
    )
    .sample(&[], total.matched);
    text.family(Kind::Counter, "fanfare_deliveries_replayed", "Those of them that came out of a history")
        .sample(&[], total.replayed);
    text.family(Kind::Counter, "fanfare_deliveries", "Messages that the kernel accepted whole")
        .sample(&[], total.written);
    text.family(
        Kind::Counter,
        "fanfare_deliveries_conflated",
        "Messages replaced by younger ones with their key, for subscribers that were behind",
    )
    .sample(&[], total.conflated);
    text.family(Kind::Counter, "fanfare_deliveries_dropped", "Messages dropped, by reason")
        .sample(&[("reason", "bound")], total.dropped_bound)
        .sample(&[("reason", "age")], total.dropped_age)
        .sample(&[("reason", "memory")], total.dropped_memory)
        .sample(&[("reason", "closed")], total.dropped_closed);
    text.family(Kind::Gauge, "fanfare_deliveries_queued", "Messages that wait for their subscribers, about")
        .sample(&[], queued);
    text.family(Kind::Counter, "fanfare_sent_bytes", "Bytes that the kernel accepted for WebSocket clients")
        .sample(&[], total.bytes_written);
    text.family(Kind::Counter, "fanfare_writes", "Calls of the kernel that accepted something")
        .sample(&[], total.writes);
    text.family(
        Kind::Histogram,
        "fanfare_messages_per_write",
        "Messages that ended in one write; 0 is a part of one, or an answer",
    )
    .histogram(&MESSAGES_PER_WRITE.map(|end| end as f64), &total.messages_per_write.0, total.written);
    text.family(Kind::Counter, "fanfare_writes_blocked", "Calls of the kernel that did not accept all of it")
        .sample(&[], total.would_block);
}

fn memory(text: &mut Text, view: &View) {
    let total = &view.total;
    text.family(Kind::Gauge, "fanfare_memory_used_bytes", "What is queued, kept and held amid messages")
        .sample(&[], view.memory_used);
    text.family(Kind::Gauge, "fanfare_memory_limit_bytes", "How much that may be (--memory)")
        .sample(&[], view.memory_budget);
    text.family(Kind::Gauge, "fanfare_memory_history_bytes", "What is kept in histories")
        .sample(&[], total.history_bytes);
    text.family(
        Kind::Gauge,
        "fanfare_memory_tls_bytes",
        "TLS records for clients that kernels do not take now",
    )
    .sample(&[], total.unflushed_bytes);
    text.family(
        Kind::Gauge,
        "fanfare_memory_half_message_bytes",
        "Messages of clients that have begun and not ended",
    )
    .sample(&[], total.half_message_bytes);
    text.family(
        Kind::Counter,
        "fanfare_half_messages_ended",
        "Clients closed amid a message of theirs, because it took too long or all of them took too much",
    )
    .sample(&[("reason", "time")], total.half_messages_overdue)
    .sample(&[("reason", "memory")], total.half_messages_squeezed);
    text.family(
        Kind::Gauge,
        "fanfare_memory_rung",
        "What is done because memory is short: 0 nothing, 1 conflate, 2 drop, 3 close, 4 refuse publications",
    )
    .sample(&[], view.rung as u8);
    text.family(Kind::Counter, "fanfare_memory_rungs_climbed", "Times that began, by shard added up")
        .sample(&[("rung", "conflate")], total.memory_conflating)
        .sample(&[("rung", "drop")], total.memory_dropping)
        .sample(&[("rung", "close")], total.memory_closing)
        .sample(&[("rung", "refuse")], total.memory_refusing);
    text.family(
        Kind::Counter,
        "fanfare_log_compactions",
        "Log segments copied to free what nobody needs in them",
    )
    .sample(&[], total.compactions);
}

/// What differs from shard to shard, and tells one that is in trouble.
fn shards(text: &mut Text, view: &View) {
    type Of = fn(&AtShard) -> u64;
    let families: [(Kind, &'static str, &str, Of); 10] = [
        (Kind::Gauge, "fanfare_shard_connections", "WebSocket connections of each shard", |shard| {
            shard.counted.subscribers
        }),
        (Kind::Gauge, "fanfare_shard_blocked", "Those of them whose socket takes nothing now", |shard| {
            shard.counted.blocked
        }),
        (
            Kind::Gauge,
            "fanfare_shard_topics",
            "Topics with a subscriber on each shard, by encoding",
            |shard| shard.counted.topics,
        ),
        (
            Kind::Gauge,
            "fanfare_shard_ingress_queue",
            "Entries waiting for each shard as a home of topics",
            |shard| shard.ingress,
        ),
        (
            Kind::Gauge,
            "fanfare_shard_fanout_queue",
            "Entries waiting for each shard to deliver them",
            |shard| shard.fanout,
        ),
        (
            Kind::Gauge,
            "fanfare_shard_lag_bytes",
            "What each shard has put into its log since the client was marked that waits longest for its flush",
            |shard| shard.counted.lag_bytes,
        ),
        (Kind::Gauge, "fanfare_shard_log_bytes", "Log of encoded frames of each shard", |shard| {
            shard.counted.log_bytes
        }),
        (
            Kind::Gauge,
            "fanfare_shard_memory_rung",
            "fanfare_memory_rung as each shard saw it last",
            |shard| shard.counted.memory_rung,
        ),
        (
            Kind::Counter,
            "fanfare_shard_held_back",
            "Times each shard took nothing for the sake of clients that were far behind and moved",
            |shard| shard.counted.held_back,
        ),
        (Kind::Counter, "fanfare_shard_turns", "Turns of each shard, one in 100 ms at least", |shard| {
            shard.counted.turns
        }),
    ];
    for (kind, name, help, of) in families {
        let mut family = text.family(kind, name, help);
        for (number, shard) in view.shards.iter().enumerate() {
            family.sample(&[("shard", &number.to_string())], of(shard));
        }
    }
}

/// Names that every exporter gives these, so that dashboards for any program know them.
fn process(text: &mut Text, process: &Process) {
    let seconds = |time: Duration| time.as_secs_f64();
    text.family(Kind::Counter, "process_cpu_seconds", "Time of the processors, user and kernel")
        .sample(&[], seconds(process.cpu));
    text.family(Kind::Gauge, "process_resident_memory_bytes", "Memory that is resident")
        .sample(&[], process.resident_bytes);
    text.family(Kind::Gauge, "process_virtual_memory_bytes", "Memory that has addresses")
        .sample(&[], process.virtual_bytes);
    text.family(Kind::Gauge, "process_threads", "Threads").sample(&[], process.threads);
    text.family(Kind::Gauge, "process_open_fds", "Descriptors that are open").sample(&[], process.open_fds);
    text.family(Kind::Gauge, "process_max_fds", "Descriptors that may be open").sample(&[], process.max_fds);
    text.family(Kind::Gauge, "process_start_time_seconds", "When the process began, since the Unix epoch")
        .sample(&[], seconds(process.started));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at two shards whose values are all different, and their names.
    fn view() -> (View, Vec<(&'static str, u64)>) {
        let mut names = Vec::new();
        let counted = Snapshot::of(|name| {
            let value = 1_000_000_007 + 1_000 * names.len() as u64;
            names.push((name, value));
            value
        });
        let total = counted;
        let shard = AtShard { counted, http_connections: 3, ingress: 5, fanout: 7 };
        let view = View {
            shards: vec![shard, AtShard::default()],
            total,
            refused: std::array::from_fn(|reason| 20 + reason as u64),
            registrations: 11,
            registrations_max: 12,
            inflight: 13,
            inflight_max: 14,
            memory_used: 15,
            memory_budget: 16,
            rung: Rung::Drop,
            ready: true,
            log_lines_left_out: 17,
            log_lines_lost: 18,
            process: Process::default(),
        };
        (view, names)
    }

    #[test]
    fn everything_that_is_counted_is_told() {
        let (view, names) = view();
        let text = text(&view);
        for (name, value) in names {
            // That one is told in seconds.
            let shown = match name {
                "publish_latency_us" => (value as f64 / 1e6).to_string(),
                _ => value.to_string(),
            };
            let is_told = text.lines().any(|line| line.ends_with(&format!(" {shown}")));
            assert!(is_told, "`{name}` of metrics.rs is in no family of admin/figures.rs");
        }
    }

    #[test]
    fn number_of_series_is_that_of_the_shards_and_of_nothing_else() {
        let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        let (mut view, _) = view();
        let two = series(&text(&view));
        view.shards.push(AtShard::default());
        let three = series(&text(&view));
        assert_eq!(three - two, 10, "one for each family of shards");
        view.total = Snapshot::default();
        assert_eq!(series(&text(&view)), three, "also of what never happened");
    }
}
