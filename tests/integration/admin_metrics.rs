//! `/metrics` over real sockets: that it is OpenMetrics, that its series are fixed, and that it counts what happened.

use std::{sync::Arc, time::Duration};

use fanfare::{
    classes::{Class, Classes, History},
    settings::Settings,
};

use crate::{
    admin::{admin, with_admin},
    support::{Running, WebSocket, eventually, openmetrics::Exposition, serve},
};

/// What a server says of itself.
fn metrics(server: &Running) -> Exposition {
    let answer = admin(server).get("/metrics");
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    Exposition::parse(answer.text())
}

#[test]
fn every_delivery_is_counted_and_no_series_comes_with_topics_users_or_clients() {
    // Pings would be among the bytes.
    let settings = Settings { ping_interval: Duration::ZERO, ..with_admin() };
    serve(settings, |server| {
        let before = metrics(server);
        assert_eq!(before.value("fanfare_ready"), 1.0);
        assert_eq!(before.value("fanfare_shards"), 2.0);
        let mut clients: Vec<_> = (0..6).map(|n| server.client(&["cats", &format!("own-{n}")])).collect();
        let mut http = server.http();
        for n in 0..6 {
            http.publish("cats", "are awesome");
            http.publish(&format!("own-{n}"), "purr");
        }
        for (n, client) in clients.iter_mut().enumerate() {
            for m in 0..6 {
                client.expect_text("are awesome");
                if m == n {
                    client.expect_text("purr");
                }
            }
        }
        let bytes = 36.0 * (2.0 + 11.0) + 6.0 * (2.0 + 4.0);
        let expected = [
            ("fanfare_connections{protocol=\"websocket\"}", 6.0),
            ("fanfare_registrations", 6.0),
            ("fanfare_subscriptions", 12.0),
            ("fanfare_upgrades_total", 6.0),
            ("fanfare_publications_total", 12.0),
            ("fanfare_publications_inflight", 0.0),
            ("fanfare_topics", 7.0),
            ("fanfare_deliveries_matched_total", 42.0),
            ("fanfare_deliveries_total", 42.0),
            ("fanfare_deliveries_queued", 0.0),
            ("fanfare_messages_per_write_sum", 42.0),
            ("fanfare_deliveries_dropped_total{reason=\"closed\"}", 0.0),
            ("fanfare_sent_bytes_total", bytes),
        ];
        // A client may have a message before the shard that wrote it has come to count it.
        eventually("everything is counted", || {
            let now = metrics(server);
            expected.iter().all(|&(name, value)| now.value(name) == value)
        });
        let after = metrics(server);
        assert_eq!(after.series(), before.series(), "the same series, whatever happened");
        assert_eq!(after.value("fanfare_messages_per_write_count"), after.value("fanfare_writes_total"));
        let of_shards =
            ["0", "1"].map(|shard| after.value(&format!("fanfare_shard_connections{{shard=\"{shard}\"}}")));
        assert_eq!(of_shards.iter().sum::<f64>(), 6.0);
        assert!(after.value("fanfare_connections{protocol=\"http\"}") >= 1.0);
        let id = server.register(&[]);
        let mut leaving = server.connect(&id);
        server.http().delete(&id);
        leaving.expect_close(1000, "unregistered");
        eventually("the close is counted", || {
            metrics(server).value("fanfare_closes_total{reason=\"unregistered\"}") == 1.0
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn figures_of_the_process_are_those_of_the_kernel() {
    serve(with_admin(), |server| {
        let metrics = metrics(server);
        assert!(metrics.value("process_resident_memory_bytes") > 1e6);
        assert!(metrics.value("process_open_fds") >= 10.0);
        assert!(metrics.value("process_max_fds") >= metrics.value("process_open_fds"));
        assert!(metrics.value("process_threads") >= 4.0, "shards, acceptor, admin");
        assert!(metrics.value("process_start_time_seconds") > 1.7e9);
        let version = format!("fanfare_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(metrics.value(&version), 1.0);
    });
}

#[test]
fn publications_are_measured_once_on_each_shard_that_delivers_them() {
    serve(with_admin(), |server| {
        let mut clients: Vec<_> = (0..8).map(|_| server.client(&["cats"])).collect();
        let mut http = server.http();
        (0..5).for_each(|_| http.publish("cats", "purr"));
        clients.iter_mut().for_each(|client| (0..5).for_each(|_| client.expect_text("purr")));
        http.publish("nobody", "reads it");
        eventually("every pass is over", || {
            metrics(server).value("fanfare_publish_to_written_seconds_count") == 10.0
        });
        let metrics = metrics(server);
        let sum = metrics.value("fanfare_publish_to_written_seconds_sum");
        assert!(sum > 0.0 && sum < 10.0 * 30.0, "{sum}");
    });
}

#[test]
fn handshakes_that_fail_are_counted_by_reason_and_requests_by_result() {
    serve(with_admin(), |server| {
        let unknown = "0".repeat(32);
        assert!(WebSocket::connect(server.address(), &unknown).is_err());
        assert_eq!(server.http().get(&format!("/ws/{unknown}")).status, 426);
        assert_eq!(server.http().get("/health").status, 200);
        let metrics = metrics(server);
        for (name, value) in [
            ("fanfare_handshake_failures_total{reason=\"unknown\"}", 1.0),
            ("fanfare_handshake_failures_total{reason=\"malformed\"}", 1.0),
            ("fanfare_http_requests_total", 3.0),
            ("fanfare_http_answers_total{result=\"refused\"}", 2.0),
            ("fanfare_http_answers_total{result=\"answered\"}", 1.0),
        ] {
            assert_eq!(metrics.value(name), value, "{name}");
        }
    });
}

#[test]
fn resumes_are_hits_or_misses_and_bytes_read_are_counted() {
    let history = History { messages: 2, bytes: 4_096, ttl: Duration::from_secs(60) };
    let settings = with_admin();
    let class = Class { history: Some(history), ..Class::default_with(usize::MAX, Duration::MAX) };
    serve(Settings { classes: Arc::new(Classes::only(class)), ..settings }, |server| {
        let mut http = server.http();
        let place = http.post("/publish", r#"{"topic":"cats","message":"1"}"#).json();
        (2..5).for_each(|n| http.publish("cats", &n.to_string()));
        for (offset, result) in [(2, "hit"), (1, "miss")] {
            let name = format!("fanfare_resumes_total{{result=\"{result}\"}}");
            let connected = WebSocket::speak(server.address(), "/ws", "fanfare.v1", Some("fanfare.v1"));
            let mut client = connected.expect("anybody may");
            let since = serde_json::json!({"cats": {"epoch": place["epoch"], "offset": offset}});
            client.send_text(&serde_json::json!({"subscribe": ["cats"], "since": since}).to_string());
            eventually(&name, || metrics(server).value(&name) == 1.0);
        }
        assert!(metrics(server).value("fanfare_received_bytes_total") > 100.0);
    });
}
