//! A log that goes nowhere: a stream nobody reads, a device that is full. The server serves and stops all the same.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Stdio},
    thread,
};

use fanfare::limits;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Http, OnPanic, WebSocket, eventually,
    process::{self, wait},
};

/// A port nobody listens on. Where a server listens that cannot say so has to be decided before.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// A stream, as a service has it for its log, that takes not one byte more.
fn full_stream() -> (UnixStream, OwnedFd) {
    let (reader, mut writer) = UnixStream::pair().expect("descriptors");
    writer.set_nonblocking(true).expect("it is a socket");
    for size in [4_096, 1] {
        while writer.write(&vec![b'\n'; size]).is_ok() {}
    }
    writer.set_nonblocking(false).expect("it is a socket");
    (reader, writer.into())
}

/// A server that says everything, on `stderr`.
fn start(address: SocketAddr, stderr: impl Into<Stdio>) -> Child {
    let address = address.to_string();
    let mut command = process::command(["--listen", &address, "--shards=2", "--log-level=trace"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    command.spawn().expect("it was built")
}

fn expect_to_serve(address: SocketAddr) {
    eventually("it listens", || TcpStream::connect(address).is_ok());
    let id = Http::connect(address).register(r#"{"user_id":1,"topics":["cats"]}"#);
    let mut client = WebSocket::connect(address, &id).expect("the upgrade is taken");
    // Each connection says something.
    for n in 0..limits::LOG_LINES_WAITING / 2 {
        Http::connect(address).publish("cats", &n.to_string());
        client.expect_text(&n.to_string());
    }
    client.close();
}

/// Runs `test` with a server, which is told to stop then, and does; and does not outlive it.
fn with_server(stderr: impl Into<Stdio>, test: impl FnOnce(SocketAddr)) {
    let address = free_address();
    let mut child = start(address, stderr);
    let pid = Pid::from_child(&child);
    let _end = OnPanic(|| {
        // It may have ended.
        let _ = kill_process(pid, Signal::KILL);
    });
    test(address);
    kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn log_that_is_never_read_holds_up_neither_clients_nor_the_end() {
    let (reader, writer) = full_stream();
    with_server(writer, expect_to_serve);
    drop(reader);
}

#[test]
fn log_that_is_read_late_says_how_much_of_it_was_lost() {
    let (reader, writer) = full_stream();
    let mut reading = None;
    with_server(writer, |address| {
        expect_to_serve(address);
        let lines =
            thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).collect::<Vec<_>>());
        // What is said now gets through.
        expect_to_serve(address);
        reading = Some(lines);
    });
    let lines = reading.expect("it was begun").join().expect("it is read to its end");
    for said in ["fanfare starts", "lines of the log were lost", "stopped"] {
        assert!(lines.iter().any(|line| line.contains(said)), "{said}: {} lines", lines.len());
    }
}

#[test]
fn log_on_a_full_device_holds_up_nobody() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("it is on Linux");
    with_server(full, expect_to_serve);
}
