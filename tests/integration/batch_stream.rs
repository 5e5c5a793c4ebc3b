//! Batches as streams of lines, in raw chunks: answered while they arrive, bounded in every line and in no sum.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fanfare::{limits, settings::Settings};
use serde_json::{Value, json};

use crate::support::{Http, OnPanic, Running, eventually, serve, shards};

const LINES: &str = "application/x-ndjson";

fn line(topic: &str, message: &str) -> String {
    json!({"topic": topic, "message": message}).to_string() + "\n"
}

/// A stream that has begun.
fn stream(server: &Running) -> Http {
    let mut http = server.http();
    http.begin_chunked("/batch", LINES);
    assert_eq!(http.streamed_head().status, 200);
    http
}

fn next(http: &mut Http) -> Value {
    let line = http.streamed_line().expect("a result before the end");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[track_caller]
fn expect_error(http: &mut Http, code: &str) {
    let result = next(http);
    assert_eq!(result["error"]["code"], code, "{result}");
}

#[test]
fn each_line_is_published_and_answered_before_the_next_is_sent() {
    serve(shards(3), |server| {
        let mut client = server.client(&["a"]);
        let mut http = server.http();
        http.begin_chunked("/batch", LINES);
        let head = http.streamed_head();
        assert_eq!((head.status, head.header("content-type")), (200, Some(LINES)));
        assert_eq!(head.header("access-control-allow-origin"), Some("*"));
        for n in 1..=50 {
            http.chunk(&line("a", &n.to_string()));
            client.expect_text(&n.to_string());
            assert_eq!(next(&mut http)["offset"], n);
        }
        http.chunk("");
        assert_eq!(http.streamed_line(), None);
        http.expect_end();
    });
}

#[test]
fn client_that_waits_to_be_told_to_go_on_is_told() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let line = line("a", "1");
        http.send(format!(
            "POST /batch HTTP/1.1\r\nHost: a\r\nContent-Type: {LINES}\r\nExpect: 100-continue\r\n\
             Content-Length: {}\r\n\r\n",
            line.len()
        ));
        assert_eq!(http.answer().status, 100);
        http.send(&line);
        http.streamed_head();
        assert_eq!(next(&mut http)["offset"], 1);
        assert_eq!(http.streamed_line(), None);
    });
}

#[test]
fn results_come_in_the_order_of_the_lines_whatever_the_chunks_are() {
    serve(shards(4), |server| {
        let names: Vec<_> = (0..7).map(|n| format!("topic {n}")).collect();
        for query in ["", "?ordered=true"] {
            let mut client = server.client(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let mut http = server.http();
            http.begin_chunked(&format!("/batch{query}"), LINES);
            let body: String = (0..3_000)
                .map(|n| match n % 10 {
                    9 => "{}\n".to_owned(),
                    8 => {
                        json!({"topics": [names[n % 7], names[(n + 1) % 7]], "message": n.to_string()})
                            .to_string()
                            + "\r\n"
                    }
                    _ => line(&names[n % 7], &n.to_string()),
                })
                .collect();
            thread::scope(|scope| {
                let mut sender = http.for_sending();
                let body = &body;
                scope.spawn(move || {
                    let (mut rest, mut length) = (body.as_str(), 1);
                    while !rest.is_empty() {
                        let (piece, behind) = rest.split_at(length.min(rest.len()));
                        sender.chunk(piece);
                        rest = behind;
                        length = length * 7 % 1_009;
                    }
                    sender.chunk("");
                });
                http.streamed_head();
                for n in 0..3_000 {
                    let result = next(&mut http);
                    match n % 10 {
                        9 => assert_eq!(result["error"]["code"], "bad_request", "{result}"),
                        8 => assert_eq!(result["results"][1]["topic"], *names[(n + 1) % 7], "{result}"),
                        _ => assert_eq!(result["topic"], *names[n % 7], "{result}"),
                    }
                }
                assert_eq!(http.streamed_line(), None);
            });
            for n in (0..3_000).filter(|n| n % 10 != 9) {
                match query {
                    "" => drop(client.text()),
                    _ => client.expect_text(&n.to_string()),
                }
            }
        }
    });
}

#[test]
fn line_that_is_too_long_is_one_error_and_blank_lines_are_none() {
    let settings = Settings { max_message: 1_024, max_body: 10_240, ..shards(2) };
    serve(settings, |server| {
        let mut client = server.client(&["a"]);
        let mut http = server.http();
        http.begin_chunked("/batch", LINES);
        http.chunk(&line("a", "first"));
        for _ in 0..20 {
            http.chunk(&"x".repeat(1_000));
        }
        http.chunk("\n\n  \r\n");
        http.chunk(&line("a", &"y".repeat(1_025)));
        // More than a body may have in all.
        for n in 0..100 {
            http.chunk(&line("a", &format!("{n}{}", " ".repeat(500))));
        }
        // The last line needs no end.
        http.chunk(line("a", "last").trim_end());
        http.chunk("");
        http.streamed_head();
        assert_eq!(next(&mut http)["offset"], 1);
        expect_error(&mut http, "body_too_large");
        expect_error(&mut http, "message_too_large");
        for offset in 2..=102 {
            assert_eq!(next(&mut http)["offset"], offset);
        }
        assert_eq!(http.streamed_line(), None);
        client.expect_text("first");
        (0..100).for_each(|_| drop(client.text()));
        client.expect_text("last");
    });
}

#[test]
fn stream_that_is_cut_in_a_line_ends_with_an_error_and_what_was_whole_stands() {
    serve(shards(2), |server| {
        let mut client = server.client(&["a"]);
        for cut_in_chunk in [false, true] {
            let mut http = server.http();
            http.begin_chunked("/batch", LINES);
            http.chunk(&line("a", "1"));
            let half = r#"{"topic":"a","message":"never"}"#;
            match cut_in_chunk {
                false => http.chunk(half),
                true => http.send(format!("ffff\r\n{half}")),
            }
            http.wire().shut_write();
            http.streamed_head();
            assert_eq!(next(&mut http)["topic"], "a");
            expect_error(&mut http, "bad_request");
            assert_eq!(http.streamed_line(), None);
            http.expect_end();
            client.expect_text("1");
        }
        server.http().publish("a", "end");
        client.expect_text("end");
    });
}

#[test]
fn stream_without_a_whole_line_ends_in_time() {
    let settings = Settings { batch_line_wait: Duration::from_millis(200), ..shards(2) };
    serve(settings, |server| {
        let mut http = server.http();
        http.begin_chunked("/batch", LINES);
        http.chunk(&line("a", "1"));
        http.streamed_head();
        assert_eq!(next(&mut http)["offset"], 1);
        let mut dribbler = http.for_sending();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // What dribbles is no line.
                while !over.load(Ordering::Relaxed) && dribbler.wire().try_write(b"1\r\n \r\n").is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let _over = OnPanic(|| over.store(true, Ordering::Relaxed));
            expect_error(&mut http, "timeout");
            assert_eq!(http.streamed_line(), None);
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn client_that_does_not_read_its_results_is_not_read_either_and_then_cut() {
    let settings = Settings { batch_stall: Duration::from_millis(300), ..shards(1) };
    serve(settings, |server| {
        // All other places are taken, so that it is seen when this one comes free.
        let _others: Vec<_> = (1..limits::BATCHES_OPEN).map(|_| stream(server)).collect();
        let mut http = Http::connect_narrow(server.address());
        http.begin_chunked("/batch", LINES);
        let mut sender = http.for_sending();
        let sends = thread::spawn(move || {
            let many = line("a", "x").repeat(200);
            let many = format!("{:x}\r\n{many}\r\n", many.len());
            // More results than the kernel keeps, and when it is cut less left to send than the server looks past.
            for _ in 0..700 {
                if sender.wire().try_write(many.as_bytes()).is_err() {
                    return;
                }
            }
        });
        eventually("it is cut", || server.http().post("/batch", "[]").status == 200);
        let published = server.total().sequenced;
        assert!(published > 0);
        http.streamed_head();
        let mut results = 0;
        let last = loop {
            let result = next(&mut http);
            if result.get("error").is_some() {
                break result;
            }
            results += 1;
        };
        assert_eq!(last["error"]["code"], "timeout");
        assert!(results <= published);
        let waiting = published - results;
        assert!(waiting <= (limits::BATCH_UNDERWAY as u64) + 1, "{waiting} were published without a result");
        assert_eq!(http.streamed_line(), None);
        sends.join().expect("the connection ends");
    });
}

#[test]
fn streams_are_bounded_in_number_and_hold_no_place_of_other_requests() {
    serve(shards(1), |server| {
        let mut open: Vec<_> = (0..limits::BATCHES_OPEN).map(|_| stream(server)).collect();
        let mut http = server.http();
        http.post("/batch", "[]").expect_error(503, "overloaded");
        http.publish("a", "x");
        let mut last = open.pop().expect("there are some");
        last.chunk("");
        assert_eq!(last.streamed_line(), None);
        eventually("its place is free", || http.post("/batch", "[]").status == 200);
    });
}

#[test]
fn stream_whose_client_is_gone_gives_its_place_back() {
    serve(shards(1), |server| {
        let mut http = server.http();
        for _ in 0..limits::BATCHES_OPEN {
            stream(server).into_wire().reset();
        }
        eventually("the places are free", || http.post("/batch", "[]").status == 200);
    });
}

#[test]
fn half_a_line_of_a_client_that_is_gone_is_not_published_and_what_was_whole_stands() {
    serve(shards(2), |server| {
        let mut client = server.client(&["a"]);
        for resets in [false, true] {
            let mut http = stream(server);
            http.chunk(&line("a", "whole"));
            client.expect_text("whole");
            // Of an object that is complete only the end of the line is missing: it might have gone on.
            let half = line("a", "half");
            http.chunk(half.trim_end());
            match resets {
                true => http.into_wire().reset(),
                false => drop(http),
            }
        }
        let mut http = server.http();
        eventually("the streams are forgotten", || {
            server.node().load(0) + server.node().load(1)
                == server.subscribers().iter().sum::<u64>() as usize + 1
        });
        http.publish("a", "end");
        client.expect_text("end");
    });
}

#[test]
fn stopping_ends_a_stream_and_says_so() {
    serve(shards(2), |server| {
        let mut http = stream(server);
        http.chunk(&line("a", "1"));
        assert_eq!(next(&mut http)["offset"], 1);
        server.begin_stopping();
        expect_error(&mut http, "stopping");
        assert_eq!(http.streamed_line(), None);
        http.expect_end();
    });
}
