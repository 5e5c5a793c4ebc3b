//! A small server that keeps the whole base contract (registrations that outlive connections, topics that clients
//! replace, text pings, a bound for slow clients) and what is asked of `fanfare.v1` here, or breaks it in one way on
//! purpose, and counts how often it did. Of slow clients it drops the newest of topics that begin with `drop-newest.`.
//! A blocking thread for each connection that cuts requests and frames apart, and a hub that owns everything else.

mod connection;
mod v1;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use connection::{Connection, Dropped};
use v1::{History, Subscription};

/// What is done wrong.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "each test file uses some of them")]
pub(crate) enum Breach {
    /// Nothing.
    #[default]
    None,
    /// A client that comes back misses its second message: the first shows where it stands.
    LoseAfterReturn,
    /// A client that comes back is told that nobody knows it.
    ForgetClients,
    /// A client gets one more message of a topic it left, after the pong.
    SpeakAfterLeave,
    /// A client that replaces its topics misses the next message of one it kept.
    LoseKept,
    /// A client that replaces its topics misses the second message after the pong of one it joined.
    LoseJoined,
    /// A text ping is not answered.
    IgnorePings,
    /// A client that is behind is not closed, and what does not fit is dropped.
    DropForSlow,
    /// The first client of all is closed with 1013 after so many messages, though it reads.
    CloseReader(u64),
    /// A client that resumes is told that it has recovered, and does not get the first message it missed.
    LoseOfReplay,
    /// A client that resumes gets the last message it missed twice.
    ReplayTwice,
    /// A client that resumes misses the next message after what is replayed.
    LoseAfterReplay,
    /// Subscriptions are answered when the first connection has ended, as a server may that is slow: no breach.
    AnswerLate,
    /// So many subscriptions are not answered, and nothing comes of them.
    IgnoreSubscriptions(u64),
    /// A client that resumes is told that what it missed is gone.
    ForgetHistory,
    /// What is dropped for a slow client is not told it.
    ConcealDrops,
    /// A slow client is told of one drop more than there were.
    ExaggerateDrops,
    /// What is dropped for slow clients is in the ledger as conflated.
    MistakeDrops,
    /// Its ledger has one slow client more than it closed.
    MiscountSlow,
    /// Every publication leaves this many bytes behind for ever.
    Leak(usize),
}

/// A running server; its threads end with the test process.
pub(crate) struct ContractServer {
    pub(crate) address: SocketAddr,
    done: Arc<AtomicU64>,
}

enum Order {
    Register {
        topics: BTreeSet<String>,
        id: SyncSender<u64>,
    },
    /// Without an id for somebody who did not register. `None` comes back for an unknown client, else the connection's
    /// number.
    Join {
        id: Option<u64>,
        speaks_v1: bool,
        stream: TcpStream,
        joined: SyncSender<Option<u64>>,
    },
    Text {
        connection: u64,
        text: String,
    },
    Leave {
        connection: u64,
    },
    /// The ledger, if it keeps one.
    Health {
        ledger: SyncSender<Option<String>>,
    },
    Publish {
        topic: String,
        body: Vec<u8>,
        taken: SyncSender<()>,
    },
}

/// What may wait for one client before it is closed.
const WAITING_MAX: usize = 256 * 1024;
const HANDSHAKE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

impl ContractServer {
    pub(crate) fn start(breach: Breach) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let done = Arc::new(AtomicU64::new(0));
        let (orders, taken) = sync_channel(64);
        let hub = Hub { breach, done: Arc::clone(&done), ..Hub::default() };
        thread::spawn(move || hub.run(&taken));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let orders = orders.clone();
                thread::spawn(move || serve(stream, &orders, address));
            }
        });
        Self { address, done }
    }

    /// How often it did what it was told to do wrong.
    pub(crate) fn breaches(&self) -> u64 {
        self.done.load(SeqCst)
    }
}

/// Serves HTTP requests one after the other, after an upgrade frames, until the end.
fn serve(stream: TcpStream, orders: &SyncSender<Order>, address: SocketAddr) {
    stream.set_nodelay(true).expect("a connected socket");
    let mut writer = stream.try_clone().expect("a second handle");
    let mut reader = BufReader::new(stream);
    let order = |order| orders.send(order).expect("the hub runs");
    while let Some((line, body, speaks_v1)) = request(&mut reader) {
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = if (method, path) == ("POST", "/register") {
            let body: serde_json::Value = serde_json::from_slice(&body).expect("a registration is JSON");
            let (id, given) = sync_channel(1);
            order(Order::Register { topics: topics(&body["topics"]), id });
            let id = given.recv().expect("the hub answers");
            format!(r#"{{"url":"ws://{address}/ws/{id:032x}"}}"#)
        } else if let Some(id) = path.strip_prefix("/ws") {
            let id = id.strip_prefix('/').map(|id| u64::from_str_radix(id, 16).expect("an id of ours"));
            let (joined, connection) = sync_channel(1);
            order(Order::Join { id, speaks_v1, stream: writer.try_clone().expect("a third handle"), joined });
            if let Some(connection) = connection.recv().expect("the hub answers") {
                while let Some(text) = text_frame(&mut reader) {
                    order(Order::Text { connection, text });
                }
                return order(Order::Leave { connection });
            }
            let _ = write!(writer, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            return;
        } else if path == "/health" {
            let (ledger, asked) = sync_channel(1);
            order(Order::Health { ledger });
            match asked.recv().expect("the hub answers") {
                Some(ledger) => ledger,
                None => {
                    let _ = write!(writer, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                    return;
                }
            }
        } else if let Some(topic) = path.strip_prefix("/publish/") {
            let (taken, is_taken) = sync_channel(1);
            order(Order::Publish { topic: topic.to_owned(), body, taken });
            is_taken.recv().expect("the hub answers");
            "{}".to_owned()
        } else {
            panic!("not a request of this harness: {line}");
        };
        if write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).is_err() {
            return;
        }
    }
}

fn topics(value: &serde_json::Value) -> BTreeSet<String> {
    let topics = value.as_array().expect("a list of topics");
    topics.iter().map(|topic| topic.as_str().expect("a topic").to_owned()).collect()
}

/// The request line, the body, and whether `fanfare.v1` is offered.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>, bool)> {
    let mut offers_v1 = false;
    let mut first = String::new();
    let mut length = 0;
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
    Some((first, body, offers_v1))
}

/// The next text a client sends; control frames are passed over.
fn text_frame(reader: &mut BufReader<TcpStream>) -> Option<String> {
    loop {
        let mut head = [0; 2];
        reader.read_exact(&mut head).ok()?;
        assert_eq!(head[1] & 0x80, 0x80, "a client masks its frames");
        let length = match head[1] & 0x7F {
            126 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length).ok()?;
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        let mut rest = vec![0; 4 + length];
        reader.read_exact(&mut rest).ok()?;
        let (mask, body) = rest.split_at(4);
        let body = body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        if head[0] == 0x81 {
            return Some(String::from_utf8(body).expect("text is UTF-8"));
        }
    }
}

#[derive(Default)]
struct Client {
    topics: BTreeSet<String>,
    connection: Option<u64>,
    was_here: bool,
}

#[derive(Default)]
struct Hub {
    breach: Breach,
    clients: HashMap<u64, Client>,
    connections: HashMap<u64, Connection>,
    joined: u64,
    history: History,
    published: u64,
    written: u64,
    dropped: u64,
    closed_slow: u64,
    leaked: Vec<Vec<u8>>,
    /// Subscriptions to be answered late.
    late: Vec<(u64, Subscription)>,
    has_ended: bool,
    done: Arc<AtomicU64>,
}

impl Hub {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(Duration::from_millis(2)) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let gone = |_: &u64, connection: &mut Connection| {
                if connection.waiting.is_empty() {
                    connection.tell_drops(self.breach, &self.done);
                }
                !connection.flush()
            };
            let gone: Vec<u64> = self.connections.extract_if(gone).map(|(number, _)| number).collect();
            gone.into_iter().for_each(|number| self.leave(number));
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Register { topics, id } => {
                let number = self.clients.len() as u64;
                self.clients.insert(number, Client { topics, ..Client::default() });
                id.send(number).expect("the registration waits");
            }
            Order::Join { id, speaks_v1, stream, joined } => {
                let connection = self.join(id, speaks_v1, stream);
                joined.send(connection).expect("the upgrade waits");
            }
            Order::Text { connection, text } => self.text(connection, &text),
            Order::Leave { connection } => {
                self.connections.remove(&connection);
                self.leave(connection);
                self.has_ended = true;
                for (number, subscription) in std::mem::take(&mut self.late) {
                    self.subscribe(number, &subscription);
                }
            }
            Order::Health { ledger } => ledger.send(self.ledger()).expect("the question waits"),
            Order::Publish { topic, body, taken } => {
                self.publish(&topic, &body);
                taken.send(()).expect("the publisher waits");
            }
        }
    }

    /// Only of a server that loses nothing, or tells what it loses.
    fn ledger(&self) -> Option<String> {
        let closed = match self.breach {
            Breach::None => self.closed_slow,
            // Right as long as there was none, so that what is added is too much.
            Breach::MiscountSlow => self.closed_slow + u64::from(self.closed_slow > 0),
            Breach::ConcealDrops | Breach::ExaggerateDrops | Breach::MistakeDrops => self.closed_slow,
            _ => return None,
        };
        let (written, matched) = (self.written, self.written + self.dropped);
        let (dropped, conflated) = match self.breach {
            Breach::MistakeDrops => (0, self.dropped),
            _ => (self.dropped, 0),
        };
        Some(format!(
            r#"{{"ledger":{{"matched":{matched},"written":{written},"queued":0,"dropped":{{"bound":{dropped}}},"conflated":{conflated},"closed":{{"slow":{closed}}}}}}}"#
        ))
    }

    fn join(&mut self, id: Option<u64>, speaks_v1: bool, mut stream: TcpStream) -> Option<u64> {
        let id = id.unwrap_or_else(|| {
            let number = self.clients.len() as u64;
            self.clients.insert(number, Client::default());
            number
        });
        let client = self.clients.get_mut(&id)?;
        if client.was_here && self.breach == Breach::ForgetClients {
            self.done.fetch_add(1, SeqCst);
            return None;
        }
        let loses = client.was_here && self.breach == Breach::LoseAfterReturn;
        client.was_here = true;
        self.joined += 1;
        client.connection = Some(self.joined);
        // From here on it takes part; whatever is published after the 101 is due to it.
        let _ = stream.write_all(&handshake(speaks_v1));
        let connection = Connection {
            client: id,
            speaks_v1,
            stream,
            waiting: Vec::new(),
            ends: false,
            skip: loses.then_some((None, 1)),
            left: BTreeSet::new(),
            dropped: None,
        };
        self.connections.insert(self.joined, connection);
        Some(self.joined)
    }

    fn leave(&mut self, connection: u64) {
        for client in self.clients.values_mut().filter(|client| client.connection == Some(connection)) {
            client.connection = None;
        }
    }

    fn text(&mut self, number: u64, text: &str) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = self.clients.get_mut(&connection.client).expect("a connection has a client");
        if connection.speaks_v1 {
            return self.subscribe(number, &Subscription::parse(text));
        }
        if text == "ping" {
            if self.breach == Breach::IgnorePings {
                self.done.fetch_add(1, SeqCst);
            } else {
                connection.waiting.extend_from_slice(b"\x81\x04pong");
            }
            return;
        }
        let command: serde_json::Value = serde_json::from_str(text).expect("a command is JSON");
        let wanted = topics(&command["topics"]);
        let before = std::mem::replace(&mut client.topics, wanted);
        let (kept, joined) =
            (before.intersection(&client.topics).next(), client.topics.difference(&before).next());
        match self.breach {
            Breach::SpeakAfterLeave => connection.left = before.difference(&client.topics).cloned().collect(),
            Breach::LoseKept => connection.skip = kept.map(|topic| (Some(topic.clone()), 0)),
            Breach::LoseJoined => connection.skip = joined.map(|topic| (Some(topic.clone()), 1)),
            _ => {}
        }
    }

    /// Lets a client into a topic, and replays what it missed.
    fn subscribe(&mut self, number: u64, Subscription { topic, since }: &Subscription) {
        if matches!(self.breach, Breach::IgnoreSubscriptions(count) if self.done.load(SeqCst) < count) {
            self.done.fetch_add(1, SeqCst);
            return;
        }
        if !self.connections.contains_key(&number) {
            return;
        }
        if self.breach == Breach::AnswerLate && !self.has_ended {
            return self.late.push((number, Subscription { topic: topic.clone(), since: *since }));
        }
        let head = self.history.head(topic);
        let mut answer = v1::joined(topic, head, since.map(|_| self.breach != Breach::ForgetHistory));
        let mut replay = since.map_or_else(Vec::new, |since| self.history.behind(topic, since));
        let mut loses = false;
        let breaks = match (self.breach, since) {
            (Breach::LoseOfReplay, Some(_)) if !replay.is_empty() => {
                replay.remove(0);
                true
            }
            (Breach::ReplayTwice, Some(_)) => {
                replay.extend(replay.last().cloned());
                !replay.is_empty()
            }
            (Breach::LoseAfterReplay, Some(_)) => {
                loses = true;
                false
            }
            (Breach::ForgetHistory, Some(since)) if head > *since => {
                answer.extend(v1::gap(topic, head, head - since, "history"));
                replay.clear();
                true
            }
            _ => false,
        };
        self.done.fetch_add(u64::from(breaks), SeqCst);
        let connection = self.connections.get_mut(&number).expect("it was there just now");
        connection.skip = loses.then_some((None, 0));
        connection.waiting.extend(answer);
        self.written += replay.len() as u64;
        connection.waiting.extend(replay.concat());
        let client = self.clients.get_mut(&connection.client).expect("a connection has a client");
        client.topics.insert(topic.clone());
    }

    fn publish(&mut self, topic: &str, body: &[u8]) {
        self.published += 1;
        let offset = self.history.keep(topic, body);
        let may_drop = self.breach == Breach::DropForSlow || topic.starts_with("drop-newest.");
        if let Breach::Leak(size) = self.breach {
            self.leaked.push(vec![1; size]);
            self.done.fetch_add(1, SeqCst);
        }
        let (plain, v1) = (v1::text_frame(body), v1::message(topic, offset, body));
        for (&number, connection) in &mut self.connections {
            let is_in = self.clients[&connection.client].topics.contains(topic);
            let is_too_much = !is_in && connection.left.remove(topic);
            self.done.fetch_add(u64::from(is_too_much), SeqCst);
            if !is_in && !is_too_much {
                continue;
            }
            if connection.skips(topic) {
                self.done.fetch_add(1, SeqCst);
                continue;
            }
            let is_behind = connection.waiting.len() > WAITING_MAX;
            if is_behind && may_drop {
                let count = connection.dropped.take().map_or(0, |dropped| dropped.count) + 1;
                connection.dropped = Some(Dropped { topic: topic.to_owned(), to: offset, count });
                self.dropped += 1;
                self.done.fetch_add(u64::from(self.breach == Breach::DropForSlow), SeqCst);
                continue;
            }
            let is_closed =
                matches!(self.breach, Breach::CloseReader(after) if number == 1 && after == self.published);
            self.done.fetch_add(u64::from(is_closed), SeqCst);
            if connection.ends {
                continue;
            }
            if is_behind || is_closed {
                connection.waiting.extend_from_slice(&[0x88, 2, 3, 0xF5]);
                connection.ends = true;
                self.closed_slow += 1;
            } else {
                connection.tell_drops(self.breach, &self.done);
                connection.waiting.extend_from_slice(if connection.speaks_v1 { &v1 } else { &plain });
                self.written += 1;
                // At once, so that the order of publications is that of the wire.
                connection.flush();
            }
        }
    }
}

/// The handshake's answer, and in `fanfare.v1` the greeting.
fn handshake(speaks_v1: bool) -> Vec<u8> {
    if !speaks_v1 {
        return HANDSHAKE.to_vec();
    }
    let head = HANDSHAKE.strip_suffix(b"\r\n").expect("it ends with an empty line");
    [head, b"Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n", &v1::hello()].concat()
}
