//! Encoding one frame by size of its payload: header and payload appended to what is there, as the log does it.
//!
//! From 16 KiB on the log does not append: it keeps the header and shares the body. The header alone is beside it.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput};
use fanfare::websocket::{Header, Opcode};

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
