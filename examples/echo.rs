//! An echo server on the library's own frame reader and headers, for the conformance suite and for trying it out.
//!
//! `cargo run --release --example echo -- --listen 127.0.0.1:9001`; port 0 takes a free one and prints it. The handshake is
//! hyper's and fastwebsockets'; behind it the socket is taken out and only `fanfare::websocket` speaks. One task per
//! connection is good enough here and is not how the server does it.

use std::net::SocketAddr;
use std::time::Duration;
use std::{convert::Infallible, io};

use clap::Parser;
use fanfare::websocket::{Header, Incoming, Input, Opcode, Reader, ReaderLimits, frame};
use fastwebsockets::upgrade::{self, UpgradeFut};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming as Body};
use hyper::{Request, Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

/// Wide enough for every case of the conformance suite.
const LIMITS: ReaderLimits = ReaderLimits { frame: 16 << 20, message: 16 << 20, fragments: 1_000_000 };
/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;
/// Time a client has to close its side after the close frames.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// An echo server for WebSocket clients.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Options::parse().listen).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service_fn(handshake))
                .with_upgrades()
                .await;
            if let Err(error) = served {
                eprintln!("handshake: {error}");
            }
        });
    }
}

/// Answers the one request of a connection: an upgrade, or a refusal.
async fn handshake(mut request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !upgrade::is_upgrade_request(&request) {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = StatusCode::UPGRADE_REQUIRED;
        refusal.headers_mut().insert("upgrade", "websocket".parse().expect("a legal header value"));
        return Ok(refusal);
    }
    match upgrade::upgrade(&mut request) {
        Ok((response, upgraded)) => {
            tokio::spawn(async move {
                if let Err(error) = serve(upgraded).await {
                    eprintln!("connection: {error}");
                }
            });
            Ok(response.map(|_| Full::default()))
        }
        Err(error) => {
            let mut refusal = Response::new(Full::from(error.to_string()));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            Ok(refusal)
        }
    }
}

/// Takes the socket out of the handshake, echoes until one side closes, and ends the connection in order.
async fn serve(upgraded: UpgradeFut) -> io::Result<()> {
    let upgraded = upgraded.await.map_err(io::Error::other)?.into_inner().into_inner();
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| io::Error::other("the upgraded connection is not a TCP socket"))?;
    let socket = parts.io.into_inner();
    socket.set_nodelay(true)?;
    if echo(&socket, parts.read_buf.to_vec()).await? == Ended::Closed {
        finish(socket).await?;
    }
    Ok(())
}

/// How the echoing ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// A close frame of ours was the last thing written.
    Closed,
    /// The client left without a close frame.
    Gone,
}

/// Echoes what the client sends. `early` is what it sent right behind the handshake.
async fn echo(socket: &TcpStream, early: Vec<u8>) -> io::Result<Ended> {
    let mut reader = Reader::new();
    let mut answers = Vec::new();
    let mut read = early;
    let mut filled = read.len();
    loop {
        let closed = answer(&mut reader, &mut read[..filled], &mut answers);
        write_all(socket, &answers).await?;
        answers.clear();
        if closed {
            return Ok(Ended::Closed);
        }
        read.resize(READ_BYTES, 0);
        filled = read_some(socket, &mut read).await?;
        if filled == 0 {
            return Ok(Ended::Gone);
        }
    }
}

/// Encodes the answers to what was read. Returns whether a close frame is the last of them.
fn answer(reader: &mut Reader, read: &mut [u8], answers: &mut Vec<u8>) -> bool {
    let mut input = Input::new(read);
    loop {
        match reader.next(&mut input, &LIMITS) {
            Ok(Some(Incoming::Text(text))) => message(answers, Opcode::Text, text.as_bytes()),
            Ok(Some(Incoming::Binary(payload))) => message(answers, Opcode::Binary, payload),
            Ok(Some(Incoming::Ping(payload))) => answers.extend_from_slice(&frame::pong(payload)),
            Ok(Some(Incoming::Pong(_))) => {}
            Ok(Some(Incoming::Close(code))) => {
                answers.extend_from_slice(&frame::close_reply(code));
                return true;
            }
            Ok(None) => return false,
            Err(violation) => {
                answers.extend_from_slice(&frame::close(violation.close_code(), violation.reason()));
                return true;
            }
        }
    }
}

fn message(answers: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    answers.extend_from_slice(Header::new(opcode, payload.len()).as_slice());
    answers.extend_from_slice(payload);
}

/// Ends a connection whose close frame is written: says so, then reads and discards until the client does too. To
/// drop the socket with bytes unread would reset the connection, and the client might lose the close frame.
async fn finish(socket: TcpStream) -> io::Result<()> {
    SockRef::from(&socket).shutdown(std::net::Shutdown::Write)?;
    let mut discarded = vec![0; READ_BYTES];
    let drained = async {
        while read_some(&socket, &mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not close in time is reset; so is one that resets us.
    match tokio::time::timeout(CLOSE_TIME, drained).await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

async fn read_some(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
