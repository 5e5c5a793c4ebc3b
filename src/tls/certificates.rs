//! The certificate of a node and its key: read from their files and checked.
//!
//! The configuration loads them, so a node does not start with what no client would accept, and loads them again on a
//! reload. They stand in the [`Settings`](crate::settings::Settings): every handshake that begins is done with those in force, and
//! what was agreed with open connections stays. Loading blocks on files: no shard may do it. No key is ever shown.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{NoServerSessionStorage, ProducesTickets},
};

use super::{
    date::Date,
    validity::{self, Validity},
};
use crate::{bounded_file, limits};

/// The only protocol that is spoken inside (RFC 7301). A client that offers others and not this one is refused.
const ALPN: &[u8] = b"http/1.1";

/// The certificate in use, and the files it comes from.
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    /// The keys of the session tickets. They outlive a reload: a renewed certificate is no reason for all clients to do
    /// whole handshakes.
    tickets: Arc<dyn ProducesTickets>,
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
    config: Arc<ServerConfig>,
}

/// Why certificate and key cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A file does not hold what it should.
    Wrong {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: String,
    },
    /// The key is not that of the certificate.
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl Certificates {
    /// Reads certificate and key from their files (PEM): the certificate of this host first, then those that lead to its
    /// issuer.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold it, they do not belong together, or the certificate is not valid now.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let tickets = ring::Ticketer::new()
            .map_err(|error| CertificateError::wrong(&key, format!("cannot be used: {error}")))?;
        let chain = read_chain(&certificate)?;
        let validity = valid_now(&certificate, &chain[0])?;
        let config = config(&certificate, &key, &chain, tickets.clone())?;
        Ok(Self { certificate, key, tickets, chain, validity, config: Arc::new(config) })
    }

    /// These, with the ticket keys of those that they replace.
    pub(crate) fn replacing(&self, old: &Self) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.ticketer = old.tickets.clone();
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            tickets: old.tickets.clone(),
            chain: self.chain.clone(),
            validity: self.validity,
            config: Arc::new(config),
        }
    }

    /// The certificate of this host itself (DER). The same certificate has the same key.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// All of the certificates, those that lead to the issuer too, after one another (DER).
    pub(crate) fn chain_bytes(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect()
    }

    /// The file of the certificate, and that of its key.
    pub fn files(&self) -> (&Path, &Path) {
        (&self.certificate, &self.key)
    }

    /// Until when the certificate in use is valid, seconds since the beginning of 1970.
    pub fn valid_until(&self) -> i64 {
        self.validity.until.0
    }

    /// What a handshake is done with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish()
    }
}

impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, valid until {}", self.certificate.display(), self.validity.until)
    }
}

/// The times of a certificate that is valid now.
fn valid_now(file: &Path, certificate: &CertificateDer<'_>) -> Result<Validity, CertificateError> {
    let validity = validity::of_certificate(certificate).ok_or_else(|| {
        CertificateError::wrong(file, "holds something that is no X.509 certificate".to_owned())
    })?;
    let now = Date::now();
    let what = if now > validity.until {
        format!("holds a certificate that expired at {}", validity.until)
    } else if now < validity.from {
        format!("holds a certificate that is not valid before {}", validity.from)
    } else {
        return Ok(validity);
    };
    Err(CertificateError::wrong(file, what))
}

/// What rustls is to do with all connections.
fn config(
    certificate: &Path,
    key: &Path,
    chain: &[CertificateDer<'static>],
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, CertificateError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites of both versions")
        .with_no_client_auth();
    let with_key = builder.with_single_cert(chain.to_vec(), read_key(key)?);
    let mut config = with_key.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(why) => {
            CertificateError::wrong(certificate, format!("holds a certificate that cannot be used: {why:?}"))
        }
        error => CertificateError::wrong(key, format!("holds a key that cannot be used: {error}")),
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // What is needed to resume a session is kept by the client, sealed: nothing here grows with clients.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    // A client comes back on one connection. More tickets would be bytes that nobody uses.
    config.send_tls13_tickets = 1;
    // No early data: it can be replayed, and a publication is not to be.
    config.max_early_data_size = 0;
    Ok(config)
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read_file(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| CertificateError::wrong(file, format!("is no PEM file: {error}")))?;
    if chain.is_empty() {
        let what = "holds no certificate: it should have a part -----BEGIN CERTIFICATE-----";
        return Err(CertificateError::wrong(file, what.to_owned()));
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = read_file(file)?;
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        let what = "holds an encrypted key, and there is nobody to ask for its passphrase: \
                    decrypt it with openssl pkey -in FILE -out NEW";
        return Err(CertificateError::wrong(file, what.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let what = match error {
            pem::Error::NoItemsFound => {
                "holds no private key: it should have a part -----BEGIN PRIVATE KEY-----".to_owned()
            }
            error => format!("is no PEM file: {error}"),
        };
        CertificateError::wrong(file, what)
    })
}

fn read_file(file: &Path) -> Result<Vec<u8>, CertificateError> {
    bounded_file::read(file, limits::TLS_FILE_BYTES)
        .map_err(|why| CertificateError::Unreadable { file: file.to_owned(), why })
}

impl CertificateError {
    /// The file that is to be looked at.
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. } | Self::Wrong { file, .. } | Self::Mismatch { key: file, .. } => {
                file
            }
        }
    }

    /// What is wrong with the file of the key, without its name: somebody may have put the key there.
    pub(crate) fn of_key(&self) -> String {
        match self {
            Self::Unreadable { why, .. } => format!("the file cannot be read: {why}"),
            Self::Wrong { what, .. } => format!("the file {what}"),
            Self::Mismatch { certificate, .. } => {
                format!("the key is not that of the first certificate in {}", certificate.display())
            }
        }
    }

    fn wrong(file: &Path, what: String) -> Self {
        Self::Wrong { file: file.to_owned(), what }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, why } => write!(f, "{} cannot be read: {why}", file.display()),
            Self::Wrong { file, what } => write!(f, "{} {what}", file.display()),
            Self::Mismatch { certificate, key } => write!(
                f,
                "the key in {} is not that of the first certificate in {}",
                key.display(),
                certificate.display()
            ),
        }
    }
}

impl Error for CertificateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { why, .. } => Some(why),
            Self::Wrong { .. } | Self::Mismatch { .. } => None,
        }
    }
}
