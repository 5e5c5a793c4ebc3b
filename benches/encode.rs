//! Encoding one frame by size of its payload: header and payload appended to what is there, as the log does it.
//!
//! From 16 KiB on the log does not append: it keeps the header and shares the body. The header alone is beside it.
//!
//! `encode/v1/<what the message is>/<its size>` is the payload of a message in fanfare.v1, made once for each publication;
//! `serde_json` is the same payload derived, the measure of what escaping may cost. Of `escapes` every twelfth byte has to be
//! escaped, of `prose` every fiftieth.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use fanfare::{
    protocol::v1::encode,
    publication::{Content, Json, Message},
    topic::Topic,
    websocket::{Header, Opcode},
};
use serde::Serialize;
use serde_json::value::RawValue;

const SIZES: [(usize, &str); 7] = [
    (16, "16B"),
    (64, "64B"),
    (128, "128B"),
    (1 << 10, "1KiB"),
    (4 << 10, "4KiB"),
    (16 << 10, "16KiB"),
    (64 << 10, "64KiB"),
];
const SEGMENT_BYTES: usize = fanfare::limits::SEGMENT_BYTES + 16;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    append(&mut criterion);
    header(&mut criterion);
    v1(&mut criterion);
    criterion.final_summary();
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode/append");
    for (size, label) in SIZES {
        let payload = vec![b'x'; size];
        let mut segment = Vec::with_capacity(SEGMENT_BYTES);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter(|| {
                let payload = black_box(&payload[..]);
                let header = Header::new(Opcode::Text, payload.len());
                if segment.len() + header.as_slice().len() + payload.len() > SEGMENT_BYTES {
                    segment.clear();
                }
                segment.extend_from_slice(header.as_slice());
                segment.extend_from_slice(payload);
                black_box(segment.as_ptr());
            });
        });
    }
    group.finish();
}

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode/header");
    for (size, label) in [(16, "16B"), (1 << 10, "1KiB"), (64 << 10, "64KiB")] {
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            bencher.iter(|| Header::new(Opcode::Text, black_box(size)));
        });
    }
    group.finish();
}

#[derive(Serialize)]
struct Derived<'a> {
    topic: &'a str,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

fn v1(criterion: &mut Criterion) {
    for (size, label) in [(40, "40B"), (128, "128B"), (1 << 10, "1KiB")] {
        let text = |part: &str| Message::text(part.chars().cycle().take(size).collect::<String>());
        payload(criterion, &format!("encode/v1/plain/{label}"), text("are awesome "));
        payload(criterion, &format!("encode/v1/prose/{label}"), text(PROSE));
        payload(criterion, &format!("encode/v1/escapes/{label}"), text("said \"yes\"\n, "));
        let fill = "x".repeat(size - r#"{"bid":1.10,"x":""}"#.len());
        let data = Message::Data(Json::parse(format!(r#"{{"bid":1.10,"x":"{fill}"}}"#)).expect("it is JSON"));
        payload(criterion, &format!("encode/v1/data/{label}"), data);
        payload(criterion, &format!("encode/v1/binary/{label}"), Message::binary(vec![7; size]));
    }
}

const PROSE: &str = "It was said that cats are awesome,\nand so they are";

fn payload(criterion: &mut Criterion, name: &str, message: Message) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(message.bytes().len() as u64));
    let topic = Topic::parse("cats").expect("it is a topic");
    let content = Content::from(message);
    group.bench_function("message", |bencher| {
        bencher.iter(|| encode::message(black_box(&topic), black_box(123_456), black_box(&content), &[]));
    });
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("it is UTF-8");
    let (message, data) = match &content.message {
        Message::Text(said) => (Some(text(said.as_bytes())), None),
        Message::Data(json) => {
            (None, Some(RawValue::from_string(text(json.as_bytes())).expect("it is JSON")))
        }
        Message::Binary(_) => return group.finish(),
    };
    group.bench_function("serde_json", |bencher| {
        bencher.iter(|| {
            let (message, data) = (message.as_deref(), data.as_deref());
            let derived = Derived { topic: topic.as_str(), offset: 123_456, message, data };
            Bytes::from(serde_json::to_vec(black_box(&derived)).expect("it is JSON"))
        });
    });
    group.finish();
}
