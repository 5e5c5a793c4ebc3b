//! Reading the body of a publish, serde_json against simd-json, by size: `parse/<what the message is>/<size of the body>`.
//!
//! `owned` and `borrowed` are the parsers as they come, deriving the fields into `String` or into `Cow`, which borrows
//! what has no escapes. `publish_body` are the functions the server has; `SIMD_JSON_FROM` is decided by them. Each
//! parse begins with a body of its own, as it comes from a socket, because simd-json changes it; making that copy is
//! not measured, letting go of what was read is.

use std::{borrow::Cow, fmt::Write, hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput};
use fanfare::protocol::publish_body::{parse_serde_json, parse_simd_json};
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
    look_for_an_escape(&mut criterion);
    criterion.final_summary();
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
