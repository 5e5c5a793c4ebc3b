//! What an outbox writes, in which order, and what it counts.

use super::*;
use crate::{
    classes::ClassId,
    engine::{
        frame_index::{FrameOffset, Note},
        log::Lane,
    },
    metrics::Loss,
    topic::Topic,
    websocket::{Header, Opcode},
};

struct Bench {
    log: Log,
    outbox: Outbox,
    book: u32,
    offset: u64,
}

impl Bench {
    fn new() -> Self {
        let mut log = Log::new();
        let book = log.books.open(Topic::parse("cats").expect("a topic"), ClassId::DEFAULT);
        Self { log, outbox: Outbox::new(0, Flags::NONE), book, offset: 1 }
    }

    fn publish(&mut self, lane: Lane, body: &str) {
        let header = Header::new(Opcode::Text, body.len());
        self.log.begin(lane, header.as_slice().len() + body.len());
        let note = Note { book: self.book, at: 0, offset: FrameOffset::live(self.offset), key: 0 };
        self.offset += 1;
        let range = self.log.append(lane, header, body.as_bytes(), note);
        match self.outbox.push_range(range) {
            Pushed::Stretched => {}
            Pushed::NewRange => self.log.pin(range.segment, 1),
            Pushed::NewRangeAtLimit => {
                self.log.pin(range.segment, 1);
                self.outbox.consolidate(&mut self.log);
            }
        }
    }

    fn queued(&self) -> Vec<u8> {
        let mut slices = Slices::new();
        let gathered = self.outbox.gather(&self.log, &mut slices);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(bytes.len(), gathered.bytes);
        if gathered.all {
            assert_eq!(bytes.len(), self.outbox.bytes());
        }
        bytes
    }

    fn write(&mut self, bytes: usize) -> u64 {
        self.outbox.advance(bytes, &mut self.log).frames
    }
}

fn own(text: &str) -> ControlFrame {
    text.as_bytes().into()
}

#[test]
fn burst_on_one_lane_is_one_range() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.publish(Lane::Everyone, &format!("message {n}"));
    }
    assert!(bench.outbox.is_plain());
    assert_eq!(bench.outbox.ranges().count(), 1);
    let all = bench.outbox.bytes();
    assert_eq!(bench.write(all), 100);
    assert!(bench.outbox.is_empty());
}

#[test]
fn ahead_goes_to_the_next_frame_boundary_and_in_order_stays_in_order() {
    let mut bench = Bench::new();
    bench.publish(Lane::Everyone, "aa");
    bench.publish(Lane::Everyone, "bb");
    bench.outbox.push_in_order(own("<ok>"));
    bench.publish(Lane::Everyone, "cc");
    assert_eq!(bench.write(1), 0);
    bench.outbox.push_ahead(own("<pong>"));
    assert_eq!(bench.queued(), b"\x02aa<pong>\x81\x02bb<ok>\x81\x02cc");
    assert_eq!(bench.write(4), 1);
    assert_eq!(bench.queued(), b"pong>\x81\x02bb<ok>\x81\x02cc", "a control frame begun is finished first");
    bench.outbox.push_ahead(own("<ping>"));
    assert_eq!(bench.queued(), b"pong><ping>\x81\x02bb<ok>\x81\x02cc");
    assert_eq!(bench.write(5 + 6 + 4 + 2), 1);
    assert_eq!(bench.queued(), b"k>\x81\x02cc");
    assert_eq!(bench.write(6), 1);
    assert!(bench.outbox.is_empty() && bench.outbox.is_plain());
}

#[test]
fn every_cut_of_the_stream_gives_the_same_bytes_and_frames() {
    for step in 1..12 {
        let mut bench = Bench::new();
        bench.publish(Lane::Everyone, "first");
        bench.publish(Lane::Addressed, "mine");
        bench.outbox.push_in_order(own("<answer>"));
        bench.publish(Lane::Everyone, "second");
        bench.publish(Lane::Everyone, "third");
        let expected = bench.queued();
        let (mut seen, mut frames) = (Vec::new(), 0);
        while !bench.outbox.is_empty() {
            let queued = bench.queued();
            let n = step.min(queued.len());
            seen.extend_from_slice(&queued[..n]);
            frames += bench.write(n);
        }
        assert_eq!(seen, expected, "cut every {step} bytes");
        assert_eq!(frames, 4);
        assert_eq!(bench.log.pins(0) + bench.log.pins(1), 0);
    }
}

#[test]
fn discard_finishes_the_frame_begun_and_counts_the_others() {
    let mut bench = Bench::new();
    for body in ["aa", "bb", "cc"] {
        bench.publish(Lane::Everyone, body);
    }
    assert_eq!(bench.write(6), 1);
    assert_eq!(bench.outbox.discard(&mut bench.log, Loss::Closed), 1);
    bench.outbox.push_ahead(own("<close>"));
    assert_eq!(bench.queued(), b"bb<close>");
    assert_eq!(bench.write(2), 1);
    assert_eq!(bench.write(7), 0);
    assert!(bench.outbox.is_empty());
    assert_eq!(bench.log.pins(0) + bench.log.pins(1), 0);
}

#[test]
fn clear_counts_the_frame_begun_as_lost() {
    let mut bench = Bench::new();
    bench.publish(Lane::Everyone, "aa");
    bench.publish(Lane::Everyone, "bb");
    bench.write(1);
    assert_eq!(bench.outbox.clear(&mut bench.log, Loss::Closed), 2);
    assert!(bench.outbox.is_empty());
    assert_eq!(bench.log.pins(0) + bench.log.pins(1), 0);
}

#[test]
fn ranges_are_bounded_by_copying_them_together() {
    let mut bench = Bench::new();
    let mut expected = Vec::new();
    for n in 0..5 * OUTBOX_RANGES {
        let body = format!("{n:04}");
        bench.publish(if n % 2 == 0 { Lane::Everyone } else { Lane::Addressed }, &body);
        expected.extend_from_slice(b"\x81\x04");
        expected.extend_from_slice(body.as_bytes());
        assert!(bench.outbox.ranges().count() <= OUTBOX_RANGES + 1);
    }
    let (mut seen, mut frames) = (Vec::new(), 0);
    while !bench.outbox.is_empty() {
        let queued = bench.queued();
        seen.extend_from_slice(&queued);
        frames += bench.write(queued.len());
    }
    assert_eq!(seen, expected);
    assert_eq!(frames, 5 * OUTBOX_RANGES as u64);
}

#[test]
fn large_range_stays_shared_when_small_ones_are_copied_together() {
    let mut bench = Bench::new();
    for n in 0..OUTBOX_RANGES - 2 {
        bench.publish(if n % 2 == 0 { Lane::Everyone } else { Lane::Addressed }, "small");
    }
    let large = "l".repeat(9_000);
    bench.publish(Lane::Everyone, &large);
    let kept = bench.outbox.tail;
    let before = bench.queued().len();
    bench.outbox.consolidate(&mut bench.log);
    let ranges: Vec<Range> = bench.outbox.ranges().collect();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[1], kept, "it was not copied");
    bench.outbox.consolidate(&mut bench.log);
    assert!(bench.outbox.ranges().eq(ranges), "nothing is copied twice");
    assert!(bench.queued().len() >= before);
}

#[test]
fn pong_not_begun_can_be_withdrawn() {
    let mut bench = Bench::new();
    bench.outbox.push_ahead(own("\u{0a}old"));
    bench.outbox.push_ahead(own("ping"));
    bench.outbox.withdraw_ahead(0x0a);
    assert_eq!(bench.queued(), b"ping");
    bench.outbox.withdraw_ahead(b'p');
    assert!(bench.outbox.is_empty());
}
