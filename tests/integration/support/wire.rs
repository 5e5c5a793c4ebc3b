//! One TCP connection of a client, and what was read from it but not looked at yet.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, certificate::TlsStream};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// A connection with a deadline on every read and write.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    unread: Vec<u8>,
    /// How much of `unread` was looked at.
    at: usize,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream>),
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, DEADLINE).expect("the server accepts"))
    }

    /// A connection whose side of the peer's window is as small as the kernel lets it be: little is on its way to one
    /// that does not read.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        Self::new(Self::narrow_socket(address))
    }

    pub(crate) fn narrow_socket(address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a descriptor");
        socket.set_recv_buffer_size(4 * 1024).expect("a size the kernel may round");
        socket.connect_timeout(&address.into(), DEADLINE).expect("the server accepts");
        socket.into()
    }

    /// A connection from an address of this machine; or what came of it, for it may be turned away.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a descriptor");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("it is an address of this machine");
        socket.connect_timeout(&address.into(), DEADLINE)?;
        Ok(Self::new(socket.into()))
    }

    fn new(stream: TcpStream) -> Self {
        // One that is reset already cannot take it.
        let _ = stream.set_nodelay(true);
        stream.set_read_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        Self { stream: Stream::Plain(stream), unread: Vec::new(), at: 0 }
    }

    /// What is written and read goes through TLS.
    pub(crate) fn secure(stream: TlsStream) -> Self {
        stream.0.sock.set_nodelay(true).expect("it is a TCP socket");
        stream.0.sock.set_write_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        Self { stream: Stream::Secure(Box::new(stream)), unread: Vec::new(), at: 0 }
    }

    /// The same connection, for another thread to write to.
    pub(crate) fn for_writing(&self) -> Self {
        match &self.stream {
            Stream::Plain(stream) => Self::new(stream.try_clone().expect("a descriptor")),
            Stream::Secure(_) => panic!("one thread reads and writes TLS"),
        }
    }

    /// Writes everything.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("the server takes it in time");
    }

    /// Writes everything, unless the connection ends.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Secure(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// The TLS it goes through.
    pub(crate) fn tls(&mut self) -> &mut TlsStream {
        match &mut self.stream {
            Stream::Plain(_) => panic!("it is plain"),
            Stream::Secure(stream) => stream,
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Secure(stream) => &stream.0.sock,
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn shut_write(&self) {
        self.socket().shutdown(Shutdown::Write).expect("it is connected");
    }

    /// Throws the connection away with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(self.socket()).set_linger(Some(Duration::ZERO)).expect("it is a TCP socket");
    }

    /// What was read and not taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread[self.at..]
    }

    /// Marks bytes as looked at.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.unread[self.at..self.at + count].to_vec();
        self.at += count;
        taken
    }

    /// Reads more: how many bytes came; zero at the end.
    ///
    /// # Errors
    /// When the connection was reset. A deadline that passes fails the test.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        if self.at > 0 {
            self.unread.drain(..self.at);
            self.at = 0;
        }
        let held = self.unread.len();
        self.unread.resize(held + CHUNK, 0);
        let read = loop {
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(&mut self.unread[held..]),
                Stream::Secure(stream) => stream.read(&mut self.unread[held..]),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.unread.truncate(held + *read.as_ref().unwrap_or(&0));
        if let Err(error) = &read
            && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        {
            panic!("nothing came within {DEADLINE:?}; unread so far: {} bytes", self.unread().len());
        }
        read
    }

    /// Reads until `count` bytes are unread; whether they came.
    pub(crate) fn fill_to(&mut self, count: usize) -> io::Result<bool> {
        while self.unread().len() < count {
            if self.fill()? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
