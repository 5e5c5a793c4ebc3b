//! Appending, pinning, compacting and copying frames.

use super::*;
use crate::{classes::ClassId, engine::frame_index::FrameOffset, topic::Topic, websocket::Opcode};

/// A note of a frame of the one topic there is.
fn note(log: &mut Log) -> Note {
    let topic = Topic::parse("cats").expect("a topic");
    let book = log.books.open(topic, ClassId::DEFAULT);
    Note { book, at: 0, offset: FrameOffset::live(1), key: 0 }
}

fn append(log: &mut Log, lane: Lane, body: &[u8]) -> Range {
    let header = Header::new(Opcode::Text, body.len());
    log.begin(lane, header.as_slice().len() + body.len());
    let note = note(log);
    let range = log.append(lane, header, body, note);
    log.pin(range.segment, 1);
    range
}

fn bytes(log: &Log, range: Range) -> Vec<u8> {
    log.slices(range).flatten().copied().collect()
}

fn oldest_fresh(log: &mut Log) -> Option<u32> {
    log.oldest_fresh(1, 0).first().copied()
}

#[test]
fn frames_of_one_lane_are_adjacent_and_counted() {
    let mut log = Log::new();
    let first = append(&mut log, Lane::Everyone, b"one");
    append(&mut log, Lane::Addressed, b"between");
    let second = append(&mut log, Lane::Everyone, b"two");
    assert_eq!((first.segment, first.end), (second.segment, second.start));
    let both = Range { end: second.end, ..first };
    assert_eq!(bytes(&log, both), b"\x81\x03one\x81\x03two");
    assert_eq!(log.frames(both), 2);
    assert_eq!(log.frames(Range { start: 2, ..both }), 2, "a cut frame still ends in the range");
    assert_eq!(log.cut_frame_end(both.segment, 2), Some(5));
    assert_eq!(log.cut_frame_end(both.segment, 5), None);
}

#[test]
fn tail_nobody_points_into_is_used_again() {
    let mut log = Log::new();
    let first = append(&mut log, Lane::Everyone, b"one");
    log.unpin(first.segment, 1);
    assert_eq!(append(&mut log, Lane::Everyone, b"two"), first);
    assert_eq!(log.appended(), 10);
}

#[test]
fn full_segment_lives_while_it_is_pinned_and_no_longer() {
    let mut log = Log::new();
    let body = vec![b'x'; 10_000];
    let ranges: Vec<Range> = (0..60).map(|_| append(&mut log, Lane::Everyone, &body)).collect();
    assert!(log.held() >= 60 * 10_000);
    for range in ranges {
        assert_eq!(log.frames(range), 1);
        log.unpin(range.segment, 1);
    }
    assert!(log.held() < (SPARE_SEGMENTS + 2) * (SEGMENT_BYTES + 1024), "{}", log.held());
    assert_eq!(oldest_fresh(&mut log), None);
}

#[test]
fn large_frame_shares_its_body() {
    let mut log = Log::new();
    let body = Bytes::from(vec![b'y'; 20_000]);
    let header = Header::new(Opcode::Binary, body.len());
    assert!(!log.fits(Lane::Everyone, body.len()));
    let note = note(&mut log);
    let range = log.append_shared(header, body.clone(), note);
    let slices: Vec<&[u8]> = log.slices(range).collect();
    assert_eq!(slices, [header.as_slice(), &body[..]]);
    assert_eq!(slices[1].as_ptr(), body.as_ptr(), "no copy");
    let rest: Vec<&[u8]> = log.slices(Range { start: 10, ..range }).collect();
    assert_eq!(rest, [&body[6..]]);
    log.unpin(range.segment, 1);
    assert_eq!(log.oldest_dense(), None);
}

#[test]
fn compaction_copies_wanted_frames_once_and_maps_ranges() {
    let mut log = Log::new();
    let ranges: Vec<Range> =
        (0..100).map(|n| append(&mut log, Lane::Everyone, format!("{n:01000}").as_bytes())).collect();
    let victim = oldest_fresh(&mut log).expect("the first segment is full");
    let inside: Vec<Range> = ranges.iter().copied().filter(|range| range.segment == victim).collect();
    let (keep, gone): (Vec<Range>, Vec<Range>) = inside.iter().partition(|range| range.start % 16 == 0);
    assert!(keep.len() > 2 && keep.len() * 2 < inside.len());
    gone.iter().for_each(|range| log.unpin(range.segment, 1));
    let before: Vec<Vec<u8>> = keep.iter().map(|&range| bytes(&log, range)).collect();
    let cut = Range { start: keep[1].start + 10, ..keep[1] };
    let Compacted::Moved(moved) = log.compact(victim, &keep) else {
        panic!("less than half of it is wanted");
    };
    for (range, before) in keep.iter().zip(before) {
        let mapped = moved.map(*range).expect("it pointed into the victim");
        assert_eq!(bytes(&log, mapped), before);
        assert_eq!(log.frames(mapped), 1);
    }
    let mapped = moved.map(cut).expect("it pointed into the victim");
    assert_eq!(log.cut_frame_end(mapped.segment, mapped.start), Some(mapped.end));
    assert_eq!(moved.map(*ranges.last().expect("there are some")), None);
    assert_eq!(log.pins(mapped.segment) as usize, keep.len());
}

#[test]
fn dense_segment_is_not_copied() {
    let mut log = Log::new();
    let ranges: Vec<Range> = (0..100).map(|_| append(&mut log, Lane::Everyone, &[b'z'; 1_000])).collect();
    let victim = oldest_fresh(&mut log).expect("the first segment is full");
    let inside: Vec<Range> = ranges.into_iter().filter(|range| range.segment == victim).collect();
    assert!(matches!(log.compact(victim, &inside), Compacted::StaysDense));
    assert_eq!((oldest_fresh(&mut log), log.oldest_dense()), (None, Some(victim)));
}

#[test]
fn rest_of_a_frame_goes_last_and_though_nobody_holds_the_compact_tail() {
    let mut log = Log::new();
    let ranges: Vec<Range> = (0..100).map(|_| append(&mut log, Lane::Everyone, &[b'z'; 1_000])).collect();
    let victim = oldest_fresh(&mut log).expect("the first segment is full");
    let inside: Vec<Range> = ranges.iter().copied().filter(|range| range.segment == victim).collect();
    let kept = inside[3];
    log.unpin(victim, inside.len() as u32 - 1);
    let Compacted::Moved(moved) = log.compact(victim, &[kept]) else { panic!("little is wanted") };
    let moved = moved.map(kept).expect("it pointed into the victim");
    let begun = *ranges.last().expect("there are some");
    let rest = log.copy_rest(Range { start: begun.start + 10, ..begun });
    assert_eq!(log.oldest_dense(), Some(moved.segment));
    log.unpin(moved.segment, 1);
    assert_eq!(log.oldest_dense(), Some(rest.segment));
    log.unpin(rest.segment, 1);
    assert_eq!(log.oldest_dense(), None);
}

#[test]
fn ranges_are_copied_together_frame_by_frame() {
    let mut log = Log::new();
    let one = append(&mut log, Lane::Everyone, b"one");
    let two = append(&mut log, Lane::Addressed, b"two");
    let cut = Range { start: one.start + 2, ..one };
    let together = log.copy_together(&[cut, two]);
    assert_eq!(bytes(&log, together), b"one\x81\x03two");
    assert_eq!(log.frames(together), 2);
    log.unpin(together.segment, 1);
    assert_eq!(log.oldest_dense(), None);
}
