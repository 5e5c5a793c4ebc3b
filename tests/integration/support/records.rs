//! Records of TLS made by hand, under the real keys of a connection: what no client that can be had as a library sends.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite, crypto::ring::cipher_suite,
};

use super::certificate::TlsStream;

/// Types of records.
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION: u8 = 23;

/// The suites whose records are made here: one of each version, with the same construction.
pub(crate) const SUITES: [SupportedCipherSuite; 2] = [
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// A connection whose handshake is done, as records.
pub(crate) struct Records {
    socket: TcpStream,
    is_13: bool,
    sends: Keys,
    receives: Keys,
}

/// The keys of one direction.
struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    /// The number of the next record.
    next: u64,
}

impl Records {
    /// What a client needs to be taken apart later.
    pub(crate) fn config(config: &ClientConfig) -> ClientConfig {
        let mut config = config.clone();
        config.enable_secret_extraction = true;
        config
    }

    /// Goes on with a connection that has sent and received everything it had to.
    pub(crate) fn of(stream: TlsStream) -> Self {
        let is_13 = stream.version() == Some(ProtocolVersion::TLSv1_3);
        let (tls, socket) = stream.0.into_parts();
        let secrets = tls.dangerous_extract_secrets().expect("the config allows it");
        Self { socket, is_13, sends: Keys::of(secrets.tx), receives: Keys::of(secrets.rx) }
    }

    /// Sends one record.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) fn send(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let record = self.seal(kind, content);
        self.write(&record)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Makes the next record.
    pub(crate) fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let number = self.sends.next;
        let nonce = self.sends.nonce();
        let mut sealed = content.to_vec();
        let outer = if self.is_13 {
            sealed.push(kind);
            APPLICATION
        } else {
            kind
        };
        let length = u16::try_from(sealed.len() + MAX_TAG_LEN).expect("a record is short");
        let head = [&[outer, 3, 3][..], &length.to_be_bytes()].concat();
        let aad = self.aad(number, &head, sealed.len());
        self.sends.key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).expect("it is short");
        [head, sealed].concat()
    }

    /// The next record, with its type; `None` when the connection has ended instead.
    pub(crate) fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        if !self.fill(&mut head) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let mut sealed = vec![0; length];
        assert!(self.fill(&mut sealed), "a record is whole");
        let number = self.receives.next;
        let nonce = self.receives.nonce();
        let aad = self.aad(number, &head, length - MAX_TAG_LEN);
        let opened = self.receives.key.open_in_place(nonce, Aad::from(aad), &mut sealed);
        let mut content = opened.expect("it is under the keys there are").to_vec();
        if !self.is_13 {
            return Some((head[0], content));
        }
        while content.last() == Some(&0) {
            content.pop();
        }
        let kind = content.pop().expect("it says what it is");
        Some((kind, content))
    }

    /// What is sealed along (RFC 8446 section 5.2, RFC 5246 section 6.2.3.3).
    fn aad(&self, number: u64, head: &[u8], length: usize) -> Vec<u8> {
        if self.is_13 {
            return head.to_vec();
        }
        let length = u16::try_from(length).expect("a record is short");
        [&number.to_be_bytes()[..], &head[..3], &length.to_be_bytes()].concat()
    }

    /// Reads all of it; whether it came before the end, which may be a reset.
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        match self.socket.read_exact(bytes) {
            Ok(()) => true,
            Err(error) => {
                let is_end = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind());
                assert!(is_end, "it comes in time: {error}");
                false
            }
        }
    }
}

impl Keys {
    fn of((next, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
            panic!("only such suites were offered")
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("it has the right length");
        let iv = iv.as_ref().try_into().expect("it is as long as a nonce");
        Self { key: LessSafeKey::new(key), iv, next }
    }

    /// That of the next record.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.next.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}
