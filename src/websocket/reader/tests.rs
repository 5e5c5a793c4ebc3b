//! Claims about the reader: what it gives, what it refuses and when, and what it holds meanwhile.

use proptest::prelude::*;

use super::*;
use crate::limits::CONTROL_PAYLOAD_MAX;

const LIMITS: ReaderLimits = ReaderLimits { frame: 70_000, message: 100_000, fragments: 8 };
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const FIN: u8 = 0x80;

/// An event that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Violation(Violation),
}

impl From<Incoming<'_>> for Event {
    fn from(incoming: Incoming<'_>) -> Event {
        match incoming {
            Incoming::Text(text) => Event::Text(text.to_owned()),
            Incoming::Binary(payload) => Event::Binary(payload.to_vec()),
            Incoming::Ping(payload) => Event::Ping(payload.to_vec()),
            Incoming::Pong(payload) => Event::Pong(payload.to_vec()),
            Incoming::Close(code) => Event::Close(code.map(CloseCode::get)),
        }
    }
}

/// A client frame: `first` is the first byte, the length is in its shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let opcode = Opcode::of(first).expect("a known opcode");
    let mut frame = super::super::Header::new(opcode, payload.len()).as_slice().to_vec();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Hands `read` to the reader and checks on the way what it may hold.
fn feed(reader: &mut Reader, read: &[u8], limits: &ReaderLimits) -> Vec<Event> {
    let mut read = read.to_vec();
    let mut input = Input::new(&mut read);
    let mut events = Vec::new();
    loop {
        let event = match reader.next(&mut input, limits) {
            Ok(Some(incoming)) => Event::from(incoming),
            Ok(None) => break,
            Err(violation) => Event::Violation(violation),
        };
        events.push(event);
        assert!(reader.holds() <= limits.message + CONTROL_PAYLOAD_MAX, "holds {}", reader.holds());
    }
    assert!(input.is_empty(), "None means that all was taken");
    events
}

fn read_whole(bytes: &[u8]) -> Vec<Event> {
    feed(&mut Reader::new(), bytes, &LIMITS)
}

fn violation(bytes: &[u8]) -> Violation {
    match read_whole(bytes).pop() {
        Some(Event::Violation(violation)) => violation,
        other => panic!("no violation but {other:?}"),
    }
}

fn is_protocol(bytes: &[u8]) -> bool {
    matches!(violation(bytes), Violation::Protocol(_))
}

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

#[test]
fn a_reader_at_rest_is_small_and_owns_nothing() {
    assert!(size_of::<Reader>() <= 24, "{} bytes", size_of::<Reader>());
    let mut reader = Reader::new();
    let whole = [frame(0x81, b"hello"), frame(0x89, b"p")].concat();
    for cut in 0..whole.len() {
        feed(&mut reader, &whole[..cut], &LIMITS);
        feed(&mut reader, &whole[cut..], &LIMITS);
        assert!(reader.half.is_none(), "cut at {cut}");
        assert_eq!(reader.holds(), 0);
    }
}

#[test]
fn a_whole_frame_is_given_out_of_the_input_itself() {
    let mut read = [frame(0x82, b"one"), frame(0x81, b"two")].concat();
    let span = read.as_ptr_range();
    let (mut reader, mut input) = (Reader::new(), Input::new(&mut read));
    let mut seen = 0;
    while let Some(incoming) = reader.next(&mut input, &LIMITS).expect("legal") {
        let payload = match incoming {
            Incoming::Text(text) => text.as_bytes(),
            Incoming::Binary(payload) => payload,
            other => panic!("{other:?}"),
        };
        assert!(span.contains(&payload.as_ptr()));
        seen += 1;
    }
    assert_eq!((seen, reader.half.is_none()), (2, true));
}

#[test]
fn what_was_not_taken_can_be_handed_in_again() {
    let mut read = [frame(0x81, b"one"), frame(0x81, b"two")].concat();
    let (mut reader, mut input) = (Reader::new(), Input::new(&mut read));
    assert_eq!(reader.next(&mut input, &LIMITS), Ok(Some(Incoming::Text("one"))));
    let rest = input.rest().to_vec();
    assert_eq!(feed(&mut reader, &rest, &LIMITS), [text("two")]);
}

#[test]
fn control_frames_may_come_between_fragments() {
    let bytes = [
        frame(0x01, b"a"),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x8A, b"q"),
        frame(0x80, b"b"),
        frame(0x82, b"c"),
    ]
    .concat();
    let expected =
        [Event::Ping(b"p".to_vec()), Event::Pong(b"q".to_vec()), text("ab"), Event::Binary(b"c".to_vec())];
    assert_eq!(read_whole(&bytes), expected);
}

#[test]
fn empty_messages_are_messages() {
    assert_eq!(read_whole(&frame(0x81, b"")), [text("")]);
    let bytes = [frame(0x02, b""), frame(0x80, b"")].concat();
    assert_eq!(read_whole(&bytes), [Event::Binary(Vec::new())]);
}

#[test]
fn a_frame_without_mask_is_refused() {
    assert!(is_protocol(b"\x81\x02hi"));
    assert!(is_protocol(b"\x89\x00"));
}

#[test]
fn messages_must_not_interleave() {
    assert!(is_protocol(&[frame(0x01, b"a"), frame(0x81, b"b")].concat()));
    assert!(is_protocol(&[frame(0x01, b"a"), frame(0x02, b"b")].concat()));
    assert!(is_protocol(&frame(0x80, b"a")));
    assert!(is_protocol(&[frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")].concat()));
}

#[test]
fn control_frames_are_short_and_whole() {
    assert_eq!(read_whole(&frame(0x89, &[1; 125])), [Event::Ping(vec![1; 125])]);
    for opcode in [0x8, 0x9, 0xA] {
        assert!(is_protocol(&frame(FIN | opcode, &[1; 126])));
        assert!(is_protocol(&frame(FIN | opcode, &[1; 200])));
        assert!(is_protocol(&frame(opcode, b"")));
    }
}

#[test]
fn a_length_claim_over_the_limit_is_refused_from_the_header() {
    let mut reader = Reader::new();
    let header = &frame(0x82, &vec![0; LIMITS.frame + 1])[..14];
    assert_eq!(feed(&mut reader, header, &LIMITS), [Event::Violation(Violation::TooBig)]);
    assert_eq!(reader.holds(), 0);

    let almost_2_63 = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4];
    assert_eq!(violation(&almost_2_63), Violation::TooBig);
    let exactly_2_63 = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    assert!(is_protocol(&exactly_2_63));
}

#[test]
fn a_message_over_its_limit_is_refused_from_the_header_that_makes_it_so() {
    let first = frame(0x02, &vec![0; 60_000]);
    let exact = [first.clone(), frame(0x80, &vec![0; 40_000])].concat();
    assert_eq!(read_whole(&exact), [Event::Binary(vec![0; 100_000])]);

    let mut reader = Reader::new();
    assert_eq!(feed(&mut reader, &first, &LIMITS), []);
    let header = &frame(0x80, &vec![0; 40_001])[..8];
    assert_eq!(feed(&mut reader, header, &LIMITS), [Event::Violation(Violation::TooBig)]);
    assert_eq!(reader.holds(), 0);
}

#[test]
fn a_flood_of_fragments_is_refused_even_if_they_are_empty() {
    let mut bytes = frame(0x01, b"");
    for _ in 1..LIMITS.fragments {
        bytes.extend(frame(0x00, b""));
    }
    assert_eq!(read_whole(&bytes), []);
    bytes.extend(frame(0x80, b""));
    assert_eq!(violation(&bytes), Violation::TooManyFragments);
}

#[test]
fn memory_grows_with_bytes_received_not_with_bytes_claimed() {
    let mut reader = Reader::new();
    let claimed = frame(0x82, &vec![0; 60_000]);
    feed(&mut reader, &claimed[..8], &LIMITS);
    assert_eq!(reader.holds(), 0);
    for received in 1..=1_000 {
        feed(&mut reader, &claimed[7 + received..8 + received], &LIMITS);
        assert!(reader.holds() <= 2 * received, "{} for {received}", reader.holds());
    }
}

#[test]
fn the_last_frame_of_a_message_reserves_no_more_than_it_needs() {
    let mut reader = Reader::new();
    let bytes = frame(0x82, &vec![0; 60_000]);
    for read in bytes[..bytes.len() - 1].chunks(1_000) {
        feed(&mut reader, read, &LIMITS);
    }
    assert_eq!(reader.holds(), 60_000);
}

#[test]
fn bad_text_is_refused_at_the_byte_that_makes_it_bad() {
    // A surrogate, cut over reads and over fragments; the frame that holds it never ends.
    let open = [frame(0x01, b"ok \xce"), frame(0x00, b"\xba\xed\xa0\x80 more")].concat();
    let bad = open.len() - 7;
    let mut reader = Reader::new();
    for (at, byte) in open.iter().enumerate() {
        let events = feed(&mut reader, &[*byte], &LIMITS);
        if at < bad {
            assert_eq!(events, [], "byte {at}");
        } else if at == bad {
            assert_eq!(events, [Event::Violation(Violation::NotUtf8)]);
        }
    }
}

#[test]
fn text_must_not_end_inside_a_character() {
    assert_eq!(violation(&frame(0x81, b"\xe2\x82")), Violation::NotUtf8);
    assert_eq!(violation(&[frame(0x01, b"\xe2"), frame(0x80, b"\x82")].concat()), Violation::NotUtf8);
    let across = [frame(0x01, b"\xe2"), frame(0x00, b"\x82"), frame(0x80, b"\xac")].concat();
    assert_eq!(read_whole(&across), [text("\u{20ac}")]);
}

#[test]
fn close_payloads_are_judged_whole_or_in_pieces() {
    let cases: [(&[u8], Event); 6] = [
        (b"", Event::Close(None)),
        (b"\x03\xe8bye", Event::Close(Some(1000))),
        (b"\x03", Event::Violation(Violation::Protocol("close payload of one byte"))),
        (b"\x03\xed", Event::Violation(Violation::Protocol("close code not allowed on the wire"))),
        (b"\x03\xe8\xff", Event::Violation(Violation::NotUtf8)),
        (b"\x0f\xa0\xc3\xa9", Event::Close(Some(4000))),
    ];
    for (payload, expected) in cases {
        let bytes = frame(0x88, payload);
        for cut in 0..=bytes.len() {
            let mut reader = Reader::new();
            let mut events = feed(&mut reader, &bytes[..cut], &LIMITS);
            events.extend(feed(&mut reader, &bytes[cut..], &LIMITS));
            assert_eq!(events, std::slice::from_ref(&expected));
            assert!(reader.is_finished() && reader.holds() == 0);
        }
    }
}

#[test]
fn nothing_is_read_after_a_close_or_a_violation() {
    let after = frame(0x81, b"after");
    assert_eq!(read_whole(&[frame(0x88, b""), after.clone()].concat()), [Event::Close(None)]);
    let mut reader = Reader::new();
    assert_eq!(feed(&mut reader, &[&frame(0x81, b"\xff"), &after[..]].concat(), &LIMITS).len(), 1);
    assert_eq!(feed(&mut reader, &after, &LIMITS), []);
}

#[test]
fn a_violation_has_the_close_code_of_its_kind() {
    assert_eq!(Violation::Protocol("").close_code(), CloseCode::PROTOCOL);
    assert_eq!(Violation::NotUtf8.close_code(), CloseCode::NOT_UTF8);
    assert_eq!(Violation::TooBig.close_code(), CloseCode::TOO_BIG);
    assert_eq!(Violation::TooManyFragments.close_code(), CloseCode::POLICY);
}

/// Feeds `bytes` cut into reads of the given lengths, over and over.
fn read_cut(bytes: &[u8], lengths: &[usize], limits: &ReaderLimits) -> Vec<Event> {
    let mut reader = Reader::new();
    let mut events = Vec::new();
    let mut rest = bytes;
    for length in lengths.iter().cycle() {
        let (read, later) = rest.split_at((*length).min(rest.len()));
        events.extend(feed(&mut reader, read, limits));
        rest = later;
        if rest.is_empty() {
            return events;
        }
    }
    events
}

fn control_frame() -> impl Strategy<Value = Vec<u8>> {
    (prop_oneof![Just(0x89), Just(0x8A)], prop::collection::vec(any::<u8>(), 0..=125))
        .prop_map(|(first, payload)| frame(first, &payload))
}

/// The frames of one message, legal text or any bytes, with control frames between them, and what it should give.
fn message() -> impl Strategy<Value = (Vec<u8>, Event)> {
    let content = prop_oneof![
        ".{0,40}".prop_map(Event::Text),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(Event::Binary),
    ];
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(control_frame())), 0..5);
    (content, cuts).prop_map(|(event, mut cuts)| {
        let (opcode, payload) = match &event {
            Event::Text(text) => (0x1, text.as_bytes()),
            Event::Binary(payload) => (0x2, &payload[..]),
            other => panic!("not a message: {other:?}"),
        };
        cuts.sort_by_key(|(at, _)| at.index(payload.len() + 1));
        let (mut bytes, mut from, mut opcode) = (Vec::new(), 0, opcode);
        for (at, control) in cuts {
            let to = at.index(payload.len() + 1);
            bytes.extend(frame(opcode, &payload[from..to]));
            bytes.extend(control.unwrap_or_default());
            (from, opcode) = (to, 0x0);
        }
        bytes.extend(frame(FIN | opcode, &payload[from..]));
        (bytes, event)
    })
}

/// Bytes that often look like frames, often illegal ones.
fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![4 => prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]), 1 => any::<u8>()];
    let piece = prop_oneof![
        4 => (first, prop::collection::vec(any::<u8>(), 0..140))
            .prop_filter_map("known opcode", |(first, payload)| Opcode::of(first).map(|_| frame(first, &payload))),
        4 => ("\\PC{0,8}", any::<bool>()).prop_map(|(text, fin)| frame(if fin { 0x81 } else { 0x01 }, text.as_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn legal_messages_come_out_as_sent_however_they_are_cut(
        messages in prop::collection::vec(message(), 0..5),
        lengths in prop::collection::vec(1_usize..80, 1..10),
    ) {
        let bytes = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>();
        let whole = read_whole(&bytes);
        let received: Vec<Event> =
            whole.iter().filter(|event| !matches!(event, Event::Ping(_) | Event::Pong(_))).cloned().collect();
        let sent: Vec<Event> = messages.into_iter().map(|(_, event)| event).collect();
        prop_assert_eq!(received, sent);
        prop_assert_eq!(&read_cut(&bytes, &lengths, &LIMITS), &whole);
        prop_assert_eq!(&read_cut(&bytes, &[1], &LIMITS), &whole);
    }

    #[test]
    fn any_bytes_give_the_same_events_however_they_are_cut_and_stay_in_the_limits(
        bytes in almost_frames(),
        lengths in prop::collection::vec(1_usize..40, 1..10),
        message in 0_usize..300,
        frame in 0_usize..200,
        fragments in 1_u32..6,
    ) {
        let limits = ReaderLimits { frame, message, fragments };
        let whole = feed(&mut Reader::new(), &bytes, &limits);
        prop_assert_eq!(&read_cut(&bytes, &lengths, &limits), &whole);
        prop_assert_eq!(&read_cut(&bytes, &[1], &limits), &whole);
    }
}
