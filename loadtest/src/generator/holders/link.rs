//! The connection between the process that directs and one that holds clients: a pair of sockets that keep messages
//! apart and end when either process does. A message is JSON, in as many packets as it takes; the last says so. What
//! is sent in one packet may be sent by several threads at once.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a packet; a socket takes several times as many.
pub(crate) const PACKET_MAX: usize = 32 * 1024;
/// The longest the other process may take to read or write when it is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first byte of a packet: whether the message goes on in the next.
const GOES_ON: u8 = b'+';
const ENDS: u8 = b'.';

/// One end.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
}

/// What is read from a link: the packets so far of a message, and room for one.
#[derive(Debug)]
pub(crate) struct Incoming {
    message: Vec<u8>,
    packet: Box<[u8]>,
}

/// Whether to wait for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    UntilItComes,
    NotAtAll,
}

/// What a look at a link gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Received<T> {
    Message(T),
    /// Nothing more for now.
    Nothing,
    /// The other process has ended.
    End,
}

impl Link {
    /// One end for this process, whose waits are bounded, and one for another.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&ours, Timeout::Send, Some(PATIENCE))?;
        Ok((Self { socket: ours }, theirs))
    }

    /// The end that was made for this process.
    pub(crate) fn from_end(socket: OwnedFd) -> Self {
        Self { socket }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends `message`, waiting for room.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut parts = text.chunks(PACKET_MAX - 1).peekable();
        let mut packet = Vec::with_capacity(text.len().min(PACKET_MAX - 1) + 1);
        while let Some(part) = parts.next() {
            packet.clear();
            packet.push(if parts.peek().is_some() { GOES_ON } else { ENDS });
            packet.extend_from_slice(part);
            while let Err(error) = send(&self.socket, &packet, SendFlags::NOSIGNAL) {
                if error != rustix::io::Errno::INTR {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// The next message from the other end.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
        incoming: &mut Incoming,
        wait: Wait,
    ) -> io::Result<Received<T>> {
        let flags = match wait {
            Wait::UntilItComes => RecvFlags::empty(),
            Wait::NotAtAll => RecvFlags::DONTWAIT,
        };
        loop {
            let Incoming { message, packet } = incoming;
            let length = match recv(&self.socket, &mut packet[..], flags).map_err(io::Error::from) {
                // No packet is empty.
                Ok((_, 0)) => return Ok(Received::End),
                Ok((_, length)) => length.min(packet.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // It ended with messages of ours unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Received::End),
                Err(error) if error.kind() == ErrorKind::WouldBlock && wait == Wait::NotAtAll => {
                    return Ok(Received::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("nothing said for {PATIENCE:?}"),
                    ));
                }
                Err(error) => return Err(error),
            };
            message.extend_from_slice(&packet[1..length]);
            if packet[0] == ENDS {
                let parsed = serde_json::from_slice(message);
                message.clear();
                return Ok(Received::Message(parsed?));
            }
        }
    }
}

impl Default for Incoming {
    fn default() -> Self {
        Self { message: Vec::new(), packet: vec![0; PACKET_MAX].into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_size_arrive_whole_and_in_order() {
        let (ours, theirs) = Link::pair().expect("a pair of sockets");
        let theirs = Link::from_end(theirs);
        let messages = [String::new(), "x".repeat(2 * PACKET_MAX), "last".to_owned()];
        let mut incoming = Incoming::default();
        for message in &messages {
            theirs.send(message).expect("there is room");
        }
        for message in messages {
            let received = ours.receive::<String>(&mut incoming, Wait::UntilItComes).expect("it was sent");
            assert_eq!(received, Received::Message(message));
        }
        let nothing = ours.receive::<String>(&mut incoming, Wait::NotAtAll).expect("the link holds");
        assert_eq!(nothing, Received::Nothing);
    }

    #[test]
    fn the_end_of_the_other_process_is_noticed() {
        let (ours, theirs) = Link::pair().expect("a pair of sockets");
        ours.send(&"unread").expect("there is room");
        drop(theirs);
        let mut incoming = Incoming::default();
        let end = ours.receive::<String>(&mut incoming, Wait::UntilItComes).expect("no error");
        assert_eq!(end, Received::End);
        assert!(ours.send(&"anybody?").is_err());
    }
}
