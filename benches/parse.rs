//! Reading the body of a publish, serde_json against simd-json, by size: `parse/<what the message is>/<size of the body>`.
//!
//! `owned` and `borrowed` are the parsers as they come, deriving the fields into `String` or into `Cow`, which borrows
//! what has no escapes. `publish_body` are the functions the server has; `SIMD_JSON_FROM` is decided by them. Each
//! parse begins with a body of its own, as it comes from a socket, because simd-json changes it; making that copy is
//! not measured, letting go of what was read is.
//!
//! `parse/fields` is what the further fields of a publish object cost, beside the two it always has. `parse/v1` is what a
//! client of fanfare.v1 sends.

use std::{borrow::Cow, fmt::Write, hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput};
use fanfare::protocol::{
    publish_body::{parse_serde_json, parse_simd_json},
    v1::commands::{self, CommandLimits},
};
use serde::Deserialize;

const SIZES: [(usize, &str); 7] = [
    (40, "40B"),
    (256, "256B"),
    (1 << 10, "1KiB"),
    (4 << 10, "4KiB"),
    (16 << 10, "16KiB"),
    (64 << 10, "64KiB"),
    (512 << 10, "512KiB"),
];

#[derive(Deserialize)]
struct Owned {
    topic: String,
    message: String,
    user_id: Option<u64>,
}

#[derive(Deserialize)]
struct Borrowed<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    user_id: Option<u64>,
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(800))
        .sample_size(30)
        .configure_from_args();
    for (size, label) in SIZES {
        parse(&mut criterion, &format!("parse/plain/{label}"), &body(size, |_| "are awesome "));
        parse(&mut criterion, &format!("parse/prose/{label}"), &body(size, prose));
        parse(&mut criterion, &format!("parse/escapes/{label}"), &body(size, |_| r#"\"a\": \u00e4,\n"#));
    }
    fields(&mut criterion);
    v1(&mut criterion);
    look_for_an_escape(&mut criterion);
    criterion.final_summary();
}

fn fields(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse/fields");
    let fill = "x".repeat(1_000);
    for (name, body) in [
        ("topic_message", r#"{"topic":"cats","message":"are awesome"}"#.to_owned()),
        ("topic_data", r#"{"topic":"cats","data":"are awesome"}"#.to_owned()),
        ("topic_data_object", r#"{"topic":"cats","data":{"bid":1.10,"ask":[1.11,1.12]}}"#.to_owned()),
        ("topic_data_1KiB", format!(r#"{{"topic":"cats","data":{{"x":"{fill}"}}}}"#)),
        ("topic_data_numbers_1KiB", format!(r#"{{"topic":"cats","data":[{}1]}}"#, "1.25,".repeat(200))),
        ("topic_message_key", r#"{"topic":"cats","message":"are awesome","key":"k"}"#.to_owned()),
        ("topics_2_message", r#"{"topics":["cats","dogs"],"message":"are awesome"}"#.to_owned()),
        (
            "all",
            r#"{"topic":"cats","message":"are awesome","user_id":7,"key":"k","idempotency_key":"i","receipt":true}"#
                .to_owned(),
        ),
    ] {
        group.bench_function(name, |bencher| {
            let parse = |body: &mut Bytes| drop(black_box(parse_serde_json(body, usize::MAX).expect(GOOD)));
            let body = body.as_bytes();
            bencher.iter_batched_ref(|| BytesMut::from(body).freeze(), parse, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn v1(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse/v1");
    let limits = CommandLimits { max_topics: 128, max_message: 65_536 };
    for (name, text) in [
        ("ping", r#"{"ping":123}"#),
        ("subscribe_1", r#"{"subscribe":["cats"],"id":1}"#),
        (
            "subscribe_2_since",
            r#"{"subscribe":["cats","dogs"],"since":{"cats":{"epoch":"0123456789abcdef-3","offset":17}},"id":1}"#,
        ),
        ("publish", r#"{"publish":{"topic":"cats","message":"are awesome"},"id":4}"#),
        ("publish_data", r#"{"publish":{"topic":"cats","data":{"bid":1.10,"ask":[1.11,1.12]}},"id":4}"#),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| commands::parse(black_box(text.as_bytes()), &limits).expect("it is a command"));
        });
    }
    group.finish();
}

/// What it costs to tell the bodies that have escapes, for which simd-json is good, from those that have none.
fn look_for_an_escape(criterion: &mut Criterion) {
    let body = body(1 << 10, |_| "are awesome ");
    criterion.bench_function("parse/look_for_an_escape/first_256B", |bencher| {
        bencher.iter(|| black_box(body.as_bytes())[..256].contains(&b'\\'));
    });
}

fn parse(criterion: &mut Criterion, name: &str, body: &str) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(body.len() as u64));
    let body = body.as_bytes();
    let batch = if body.len() < 4_096 { BatchSize::SmallInput } else { BatchSize::NumIterations(16) };
    group.bench_function("serde_json_owned", |bencher| {
        let parse = |body: &mut BytesMut| read_owned(&serde_json::from_slice(body).expect(GOOD));
        bencher.iter_batched_ref(|| BytesMut::from(body), parse, batch);
    });
    group.bench_function("simd_json_owned", |bencher| {
        let parse = |body: &mut BytesMut| read_owned(&simd_json::serde::from_slice(body).expect(GOOD));
        bencher.iter_batched_ref(|| BytesMut::from(body), parse, batch);
    });
    group.bench_function("serde_json_borrowed", |bencher| {
        let parse = |body: &mut BytesMut| read_borrowed(&serde_json::from_slice(body).expect(GOOD));
        bencher.iter_batched_ref(|| BytesMut::from(body), parse, batch);
    });
    group.bench_function("simd_json_borrowed", |bencher| {
        let parse = |body: &mut BytesMut| read_borrowed(&simd_json::serde::from_slice(body).expect(GOOD));
        bencher.iter_batched_ref(|| BytesMut::from(body), parse, batch);
    });
    group.bench_function("simd_json_borrowed_reused_buffers", |bencher| {
        let mut buffers = simd_json::Buffers::default();
        let parse = |body: &mut BytesMut| {
            let read = simd_json::serde::from_slice_with_buffers(body, &mut buffers);
            read_borrowed(&read.expect(GOOD));
        };
        bencher.iter_batched_ref(|| BytesMut::from(body), parse, batch);
    });
    group.bench_function("serde_json_publish_body", |bencher| {
        let parse = |body: &mut Bytes| drop(black_box(parse_serde_json(body, usize::MAX).expect(GOOD)));
        bencher.iter_batched_ref(|| BytesMut::from(body).freeze(), parse, batch);
    });
    group.bench_function("simd_json_publish_body", |bencher| {
        let parse = |body: &mut BytesMut| {
            let body = std::mem::take(body);
            drop(black_box(parse_simd_json(body, usize::MAX).expect(GOOD)));
        };
        bencher.iter_batched_ref(|| BytesMut::from(body), parse, batch);
    });
    group.finish();
}

const GOOD: &str = "it is a publish object";

fn read_owned(read: &Owned) {
    black_box((read.topic.len(), read.message.len(), read.user_id));
}

fn read_borrowed(read: &Borrowed<'_>) {
    black_box((read.topic.len(), read.message.len(), read.user_id));
}

/// A body of about `size` bytes whose message is made of `part` after `part`.
fn body<'a>(size: usize, part: impl Fn(usize) -> &'a str) -> String {
    let mut body = String::from(r#"{"topic":"cats","message":""#);
    for n in 0.. {
        let part = part(n);
        if body.len() + part.len() + 2 > size {
            break;
        }
        body.push_str(part);
    }
    write!(body, r#""}}"#).expect("a String takes everything");
    body
}

/// Lines of text with a quotation now and then: one escape in about 50 bytes.
fn prose(n: usize) -> &'static str {
    match n % 8 {
        3 => r#"said \"so it is\" "#,
        7 => r#"and went.\n"#,
        _ => "cats are awesome, ",
    }
}
