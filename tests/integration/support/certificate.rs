//! Certificates for the time of a test, in files, and clients that trust them.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use fanfare::{settings::Settings, tls::Certificates};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedCipherSuite,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName},
};

use super::{shards, wire::Wire};

/// A certificate for `localhost` and 127.0.0.1 and its key, in a folder that is gone with the test.
pub(crate) struct Certificate {
    folder: PathBuf,
    /// Whom clients are to trust: itself, and those it was renewed by.
    roots: RootCertStore,
}

/// What a client of TLS insists on.
#[derive(Clone, Debug)]
pub(crate) struct Insists {
    pub(crate) versions: Vec<&'static rustls::SupportedProtocolVersion>,
    pub(crate) suites: Vec<SupportedCipherSuite>,
    pub(crate) alpn: &'static [&'static [u8]],
}

impl Default for Insists {
    fn default() -> Self {
        let suites = ring::DEFAULT_CIPHER_SUITES.to_vec();
        Self { versions: rustls::ALL_VERSIONS.to_vec(), suites, alpn: &[] }
    }
}

impl Insists {
    /// On this version.
    pub(crate) fn on(version: &'static rustls::SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..Self::default() }
    }
}

impl Certificate {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the folder is there");
        let mut certificate = Self { folder, roots: RootCertStore::empty() };
        certificate.renew();
        certificate
    }

    /// Puts another certificate, with another key, into the files.
    pub(crate) fn renew(&mut self) {
        let key = KeyPair::generate().expect("there are random numbers");
        self.write(&params().self_signed(&key).expect("it can be signed"), &key);
    }

    /// Puts one into the files that is valid between two years.
    pub(crate) fn renew_between(&mut self, from: i32, until: i32) {
        let key = KeyPair::generate().expect("there are random numbers");
        let mut params = params();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        self.write(&params.self_signed(&key).expect("it can be signed"), &key);
    }

    fn write(&mut self, certificate: &rcgen::Certificate, key: &KeyPair) {
        fs::write(self.cert(), certificate.pem()).expect("the folder is there");
        fs::write(self.key(), key.serialize_pem()).expect("the folder is there");
        self.roots.add(certificate.der().clone()).expect("it is a certificate");
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    pub(crate) fn load(&self) -> Arc<Certificates> {
        Arc::new(Certificates::load(self.cert(), self.key()).expect("it is right"))
    }

    /// The settings of a server with so many shards that speaks TLS with it.
    pub(crate) fn settings(&self, count: usize) -> Settings {
        Settings { tls: Some(self.load()), ..shards(count) }
    }

    /// What clients need that trust it. Those with one config share the tickets they are given.
    pub(crate) fn client(&self, insists: Insists) -> Arc<ClientConfig> {
        let provider = CryptoProvider { cipher_suites: insists.suites, ..ring::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&insists.versions)
            .expect("the provider has them");
        let mut config = builder.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = insists.alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A connection that speaks TLS, with its handshake done.
    pub(crate) fn connect(&self, address: SocketAddr) -> Wire {
        Wire::secure(TlsStream::connect(address, self.client(Insists::default())).expect("a handshake"))
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // If it stays, nothing is lost.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn params() -> CertificateParams {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    CertificateParams::new(names).expect("they are names")
}

/// The client's side of TLS over a socket that blocks.
#[derive(Debug)]
pub(crate) struct TlsStream(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl TlsStream {
    /// Connects, and does the handshake.
    ///
    /// # Errors
    /// When the server refuses it.
    pub(crate) fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, super::DEADLINE).expect("the server accepts");
        Self::over(stream, config)
    }

    /// Does the handshake on a connection there is.
    ///
    /// # Errors
    /// When the server refuses it.
    pub(crate) fn over(mut stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        stream.set_read_timeout(Some(super::DEADLINE)).expect("the deadline is not zero");
        let name = ServerName::try_from("localhost").expect("it is a name");
        let mut tls = ClientConnection::new(config, name).expect("it can be begun");
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(tls, stream)))
    }

    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.0.conn.protocol_version()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    pub(crate) fn server_certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().expect("the server shows one")[0].clone()
    }

    /// Says that nothing more comes (`close_notify`), without ending the connection.
    pub(crate) fn say_end(&mut self) {
        self.0.conn.send_close_notify();
        self.0.conn.complete_io(&mut self.0.sock).expect("it is connected");
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
