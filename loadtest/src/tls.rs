//! TLS as a client of a test has it: without a look at whom it speaks with, since it speaks with this machine only; and the
//! certificate of a server that is started here.
//!
//! [`Tls`] is rustls without buffers. A [`Stream`](crate::stream::Stream) has it and does the reading and writing.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::KeyPair;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::error::{Context, Result};

/// One client's side of TLS.
pub(crate) struct Tls {
    rustls: UnbufferedClientConnection,
    /// Records, or the beginning of one, that were read and not opened.
    pub(crate) unopened: Vec<u8>,
    /// Records to be written.
    pub(crate) unsent: Vec<u8>,
    /// Whether the handshake is done.
    pub(crate) is_ready: bool,
    /// Nothing more comes.
    pub(crate) has_ended: bool,
}

impl Tls {
    /// With its handshake still to come.
    pub(crate) fn new() -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let rustls = UnbufferedClientConnection::new(config()?, name).map_err(io::Error::other)?;
        let (unopened, unsent) = (Vec::new(), Vec::new());
        let mut tls = Self { rustls, unopened, unsent, is_ready: false, has_ended: false };
        // The client speaks first.
        tls.open(&mut [], |_| {})?;
        Ok(tls)
    }

    /// Opens the records at the front of `records`, gives what is in them to `take`, and keeps the rest.
    pub(crate) fn open(&mut self, records: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut used = 0;
        loop {
            let status = self.rustls.process_tls_records(&mut records[used..]);
            let mut discard = status.discard;
            match status.state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        take(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut encode) => {
                    let at = self.unsent.len();
                    if let Err(EncodeError::InsufficientSize(size)) = encode.encode(&mut []) {
                        self.unsent.resize(at + size.required_size, 0);
                        encode.encode(&mut self.unsent[at..]).map_err(io::Error::other)?;
                    }
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed => self.has_ended = true,
                ConnectionState::WriteTraffic(_) => {
                    self.is_ready = true;
                    used += discard;
                    break;
                }
                _ => {
                    used += discard;
                    break;
                }
            }
            used += discard;
        }
        self.unopened.clear();
        self.unopened.extend_from_slice(&records[used..]);
        Ok(())
    }

    /// Seals `bytes` behind what is to be written.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.unsent.len();
        match self.rustls.process_tls_records(&mut self.unopened).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => loop {
                match traffic.encrypt(bytes, &mut self.unsent[at..]) {
                    Ok(length) => {
                        self.unsent.truncate(at + length);
                        return Ok(());
                    }
                    Err(EncryptError::InsufficientSize(size)) => {
                        self.unsent.resize(at + size.required_size, 0);
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            },
            _ => Err(io::Error::other("TLS cannot be written to")),
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tls").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

/// Puts a certificate that nobody has signed but its own key into `folder`, for a server that is started here; the files
/// of certificate and key.
pub(crate) fn certificate(folder: &Path) -> Result<[PathBuf; 2]> {
    let make = || -> std::result::Result<_, rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) =
        make().map_err(io::Error::other).context(|| "cannot make a certificate".to_owned())?;
    let files = [folder.join("cert.pem"), folder.join("key.pem")];
    for (file, text) in files.iter().zip([certificate.pem(), key.serialize_pem()]) {
        std::fs::write(file, text).context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(files)
}

/// What all clients of this process have in common. Each does a whole handshake: they are to stand for strangers.
fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

/// Believes every server.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
