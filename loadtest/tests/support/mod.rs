//! A small server that speaks the wire the harness expects, faithfully or with one fault on purpose, and counts
//! what it did. Blocking threads, one per connection, and a hub that owns the subscribers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// What is done wrong, to the fourth subscriber (or, for `Refuse`, to the publisher).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Nothing, but its frames arrive in pieces.
    Dribble,
    /// Nothing, but it is pinged now and then, and the pong is checked.
    Ping,
    /// A message in every so many is not sent.
    Lose(u64),
    /// Nothing more is sent after so many messages.
    LoseFrom(u64),
    /// A message in every so many is sent twice.
    Duplicate(u64),
    /// A message in every so many is sent after the next one.
    Reorder(u64),
    /// The byte at this place in a message in every so many is wrong.
    Garble(u64, usize),
    /// A message in every so many has a number that is to be given out only much later.
    Misnumber(u64),
    /// It is closed, with this code, after so many messages.
    Close(u16, u64),
    /// The socket of the fourth subscriber is closed without a word after so many messages.
    Cut(u64),
    /// A publication in every so many is answered with 503.
    Refuse(u64),
    /// In every so many publications that are for others, it gets one too.
    Misdeliver(u64),
    /// A publication in every so many has the offset of the one before, where offsets are said, for everybody.
    Misplace(u64),
    /// In every so many publications there is a gap before the message, which tells of a loss that was none.
    Bemoan(u64),
    /// Every publication is kept back this long, from everybody.
    Delay(Duration),
    /// So many publications are delivered; then nothing happens for this long.
    Pause(u64, Duration),
    /// Nothing, but from the first publication on the ledger says that so many more frames were written.
    Miscount(u64),
    /// Nothing, but from the first publication on the ledger says that so many frames of others were matched and
    /// written.
    ServeOthers(u64),
}

/// A running server; its threads end with the test process.
pub(crate) struct FaultyServer {
    pub(crate) address: SocketAddr,
    done: Arc<AtomicU64>,
}

enum Order {
    /// Answered with the number of the registration.
    Register(Registration, SyncSender<usize>),
    /// With whether it offered `fanfare.v1`.
    Join(TcpStream, usize, bool),
    Publish(Address, Vec<u8>, SyncSender<bool>),
    /// Answered with a body, if there is a ledger.
    Health(SyncSender<Option<String>>),
}

/// Who a client is, and what it is to get.
#[derive(Debug, Clone, serde::Deserialize)]
struct Registration {
    user_id: u64,
    topics: Vec<String>,
}

/// Whom a publication is for.
#[derive(Debug, Clone, PartialEq)]
struct Address {
    topic: String,
    user: Option<u64>,
}

impl Address {
    /// From the target of a publish call and, if that does not say, from its body, which is replaced by the message.
    fn parse(line: &str, body: &mut Vec<u8>) -> Self {
        let target = line.split(' ').nth(1).expect("a target");
        if target != "/publish" {
            let (topic, user) = target.split_once("?user_id=").unwrap_or((target, ""));
            let topic = topic.strip_prefix("/publish/").expect("a topic").to_owned();
            return Self { topic, user: user.parse().ok() };
        }
        let object: serde_json::Value = serde_json::from_slice(body).expect("a publish object");
        *body = object["message"].as_str().expect("a message").as_bytes().to_vec();
        Self {
            topic: object["topic"].as_str().expect("a topic").to_owned(),
            user: object["user_id"].as_u64(),
        }
    }

    fn is_for(&self, client: &Registration) -> bool {
        client.topics.contains(&self.topic) && self.user.is_none_or(|user| user == client.user_id)
    }
}

const VICTIM: usize = 3;
const HANDSHAKE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

impl FaultyServer {
    pub(crate) fn start(fault: Fault) -> Self {
        let (open, opened) = sync_channel(1);
        open.send(()).expect("there is room for one");
        Self::start_when(opened, fault)
    }

    /// Listens at once, and accepts nobody before `opened` says something.
    pub(crate) fn start_when(opened: Receiver<()>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let done = Arc::new(AtomicU64::new(0));
        let (orders, hub) = sync_channel(64);
        let hub = Hub {
            registrations: Vec::new(),
            subscribers: Vec::new(),
            speaks_v1: false,
            written: 0,
            count: 0,
            body_length: 0,
            body_end: 0,
            held: None,
            fault,
            done: Arc::clone(&done),
            orders: hub,
        };
        thread::spawn(move || hub.run());
        thread::spawn(move || {
            opened.recv().expect("whoever started the server opens it");
            for stream in listener.incoming().flatten() {
                let orders = orders.clone();
                thread::spawn(move || serve(stream, &orders, address));
            }
        });
        Self { address, done }
    }

    /// How often it did what it was told to do wrong.
    pub(crate) fn faults_done(&self) -> u64 {
        self.done.load(SeqCst)
    }
}

/// Serves HTTP requests one after the other until an upgrade or the end.
fn serve(stream: TcpStream, orders: &SyncSender<Order>, address: SocketAddr) {
    stream.set_nodelay(true).expect("a connected socket");
    let mut writer = stream.try_clone().expect("a second handle");
    let mut reader = BufReader::new(stream);
    while let Some(Request { line, mut body, offers_v1 }) = request(&mut reader) {
        let (status, answer) = if line.starts_with("POST /register ") {
            let registration = serde_json::from_slice(&body).expect("a registration is JSON");
            let (given, number) = sync_channel(1);
            orders.send(Order::Register(registration, given)).expect("the hub runs");
            let number = number.recv().expect("the hub answers");
            ("200 OK", format!(r#"{{"url":"ws://{address}/ws/{number:032x}"}}"#))
        } else if let Some(id) = line.strip_prefix("GET /ws/") {
            // The hub takes part from before the 101, so that nothing published after it is missed.
            let number = usize::from_str_radix(&id[..32], 16).expect("an id that was given out");
            orders.send(Order::Join(writer, number, offers_v1)).expect("the hub runs");
            return;
        } else if line.starts_with("GET /health ") {
            let (told, ledger) = sync_channel(1);
            orders.send(Order::Health(told)).expect("the hub runs");
            ("200 OK", ledger.recv().expect("the hub answers").unwrap_or_else(|| "{}".to_owned()))
        } else if line.starts_with("POST /publish") {
            let address = Address::parse(&line, &mut body);
            let (taken, is_taken) = sync_channel(1);
            orders.send(Order::Publish(address, body, taken)).expect("the hub runs");
            match is_taken.recv().expect("the hub answers") {
                true => ("200 OK", r#"{"topic":"t","offset":1,"epoch":"x"}"#.to_owned()),
                false => ("503 Service Unavailable\r\nRetry-After: 0", "{}".to_owned()),
            }
        } else {
            ("404 Not Found", "{}".to_owned())
        };
        let length = answer.len();
        if write!(writer, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{answer}").is_err() {
            return;
        }
    }
}

struct Request {
    line: String,
    body: Vec<u8>,
    offers_v1: bool,
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut first = String::new();
    let mut length = 0;
    let mut offers_v1 = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if first.is_empty() {
            first = line;
        } else if line == "\r\n" {
            break;
        } else if line == "Sec-WebSocket-Protocol: fanfare.v1\r\n" {
            offers_v1 = true;
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: first, body, offers_v1 })
}

struct Hub {
    registrations: Vec<Registration>,
    /// Each with the number of its registration.
    subscribers: Vec<(Option<TcpStream>, usize)>,
    /// All of them speak `fanfare.v1`.
    speaks_v1: bool,
    /// Frames of publications sent so far.
    written: u64,
    /// Publications taken so far.
    count: u64,
    /// Of the current publication, and where it ends in its frame.
    body_length: usize,
    body_end: usize,
    /// A frame of the victim's that waits for the next one of the same address to overtake it.
    held: Option<(Address, Vec<u8>)>,
    fault: Fault,
    done: Arc<AtomicU64>,
    orders: Receiver<Order>,
}

impl Hub {
    fn run(mut self) {
        loop {
            match self.orders.recv_timeout(Duration::from_millis(20)) {
                Ok(Order::Register(registration, given)) => {
                    self.registrations.push(registration);
                    given.send(self.registrations.len() - 1).expect("the client waits");
                }
                Ok(Order::Health(told)) => told.send(self.ledger()).expect("the client waits"),
                Ok(Order::Join(mut stream, number, offers_v1)) => {
                    self.speaks_v1 = offers_v1;
                    stream.write_all(&handshake(offers_v1)).expect("a fresh socket takes a handshake");
                    // A subscriber that stops reading is dropped and must not stop the others.
                    stream.set_nonblocking(self.subscribers.len() != VICTIM).expect("a connected socket");
                    self.subscribers.push((Some(stream), number));
                }
                Ok(Order::Publish(address, body, taken)) => {
                    let is_taken = self.publish(&address, &body);
                    taken.send(is_taken).expect("the publisher waits");
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((_, frame)) = self.held.take() {
                        self.send(VICTIM, &frame);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Only a server that delivers as it should is made to keep books.
    fn ledger(&self) -> Option<String> {
        let since_first = |frames| if self.count > 0 { frames } else { 0 };
        let (others, too_many) = match self.fault {
            Fault::None => (0, 0),
            Fault::Miscount(frames) => (0, since_first(frames)),
            Fault::ServeOthers(frames) => (since_first(frames), 0),
            _ => return None,
        };
        let matched = self.written + others;
        let ledger = serde_json::json!({
            "matched": matched, "written": matched + too_many, "queued": 0, "dropped": {}
        });
        Some(serde_json::json!({ "ledger": ledger }).to_string())
    }

    fn publish(&mut self, address: &Address, body: &[u8]) -> bool {
        self.count += 1;
        self.body_length = body.len();
        if let Fault::Refuse(every) = self.fault
            && self.count.is_multiple_of(every)
        {
            self.done.fetch_add(1, SeqCst);
            return false;
        }
        match self.fault {
            Fault::Delay(time) => self.wait(time),
            Fault::Pause(after, time) if self.count == after + 1 => self.wait(time),
            _ => {}
        }
        let (frame, behind) = match self.speaks_v1 {
            true => (text_frame(&envelope(self.offset(), &address.topic, body)), 2),
            false => (text_frame(body), 0),
        };
        self.body_end = frame.len() - behind;
        for place in 0..self.subscribers.len() {
            let is_due = address.is_for(&self.registrations[self.subscribers[place].1]);
            match (place == VICTIM, is_due) {
                (true, true) => self.send_to_victim(address, &frame),
                (false, true) => self.send(place, &frame),
                (true, false) => self.misdeliver(&frame),
                (false, false) => {}
            }
        }
        true
    }

    /// Of the current publication.
    fn offset(&mut self) -> u64 {
        match self.fault {
            Fault::Misplace(every) if self.count.is_multiple_of(every) => {
                self.done.fetch_add(self.subscribers.len() as u64, SeqCst);
                self.count - 1
            }
            _ => self.count,
        }
    }

    fn wait(&mut self, time: Duration) {
        thread::sleep(time);
        self.done.fetch_add(1, SeqCst);
    }

    fn misdeliver(&mut self, frame: &[u8]) {
        if let Fault::Misdeliver(every) = self.fault
            && self.count.is_multiple_of(every)
        {
            self.send(VICTIM, frame);
            self.done.fetch_add(1, SeqCst);
        }
    }

    fn send_to_victim(&mut self, address: &Address, frame: &[u8]) {
        let count = self.count;
        let due = |every: u64| count.is_multiple_of(every);
        let mut did = 0;
        match self.fault {
            Fault::Lose(every) if due(every) => did = 1,
            Fault::LoseFrom(from) if count > from => did = 1,
            Fault::Duplicate(every) if due(every) => {
                self.send(VICTIM, frame);
                self.send(VICTIM, frame);
                did = 1;
            }
            Fault::Reorder(every) if due(every) && self.held.is_none() => {
                self.held = Some((address.clone(), frame.to_vec()));
            }
            Fault::Reorder(_) => {
                self.send(VICTIM, frame);
                if let Some((_, held)) = self.held.take_if(|(of, _)| of == address) {
                    self.send(VICTIM, &held);
                    did = 1;
                }
            }
            Fault::Garble(every, place) if due(every) => {
                let mut wrong = frame.to_vec();
                let body = self.body_end - self.body_length;
                wrong[body + place] = b'?';
                self.send(VICTIM, &wrong);
                did = 1;
            }
            Fault::Misnumber(every) if due(every) => {
                let mut wrong = frame.to_vec();
                let body = self.body_end - self.body_length;
                // 60,000 more, which no short run comes to, and so near that it could be believed.
                wrong[body + 11] = b'6';
                self.send(VICTIM, &wrong);
                did = 1;
            }
            Fault::Close(code, after) if count == after => {
                let [high, low] = code.to_be_bytes();
                self.send(VICTIM, &[0x88, 2, high, low]);
                self.subscribers[VICTIM].0 = None;
                did = 1;
            }
            Fault::Cut(after) if count == after => {
                self.subscribers[VICTIM].0 = None;
                did = 1;
            }
            Fault::Bemoan(every) if due(every) => {
                let gap =
                    r#"{"gap":{"topic":"t","from":1,"to":1,"reason":"slow","conflated":0,"dropped":1}}"#;
                self.send(VICTIM, &text_frame(gap.as_bytes()));
                self.send(VICTIM, frame);
                did = 1;
            }
            Fault::Dribble => {
                for piece in frame.chunks(frame.len() / 3) {
                    self.send(VICTIM, piece);
                    thread::yield_now();
                }
                did = 1;
            }
            Fault::Ping if due(10) => {
                self.ping_victim();
                self.send(VICTIM, frame);
                did = 1;
            }
            _ => self.send(VICTIM, frame),
        }
        self.done.fetch_add(did, SeqCst);
    }

    fn ping_victim(&mut self) {
        self.send(VICTIM, b"\x89\x03abc");
        let Some(victim) = &mut self.subscribers[VICTIM].0 else { return };
        let mut pong = [0; 9];
        victim.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        victim.read_exact(&mut pong).expect("a pong within five seconds");
        let body: Vec<u8> = pong[6..].iter().zip(&pong[2..6]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((&pong[..2], body.as_slice()), (&[0x8A, 0x83][..], &b"abc"[..]));
    }

    fn send(&mut self, place: usize, frame: &[u8]) {
        let Some(stream) = &mut self.subscribers[place].0 else { return };
        match stream.write(frame) {
            Ok(sent) if sent == frame.len() => self.written += 1,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.send(place, frame),
            _ => self.subscribers[place].0 = None,
        }
    }
}

/// The handshake's answer, and in `fanfare.v1` what the client is greeted with.
fn handshake(speaks_v1: bool) -> Vec<u8> {
    if !speaks_v1 {
        return HANDSHAKE.to_vec();
    }
    let head = HANDSHAKE.strip_suffix(b"\r\n").expect("it ends with an empty line");
    let hello = br#"{"hello":{"node":"n","client":"c","ping_s":25,"max_message":65536,"user":1}}"#;
    let positions = br#"{"ok":null,"positions":{"t":{"epoch":"x-1","offset":0}}}"#;
    let choice = b"Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n";
    [head, choice, &text_frame(hello), &text_frame(positions)].concat()
}

/// A message as clients of `fanfare.v1` get it.
fn envelope(offset: u64, topic: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(r#"{{"topic":"{topic}","offset":{offset},"message":""#);
    [head.as_bytes(), body, br#""}"#].concat()
}

fn text_frame(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match body.len() {
        length @ 0..126 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(body);
    frame
}
