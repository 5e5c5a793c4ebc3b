//! Asks a server whether it is well, as `fanfare health` does: one HTTP request, plain or over TLS, and what came of it.
//!
//! Over TLS it takes one certificate and no other, that of the configuration: who issued it and what it is for are questions
//! of those who come from elsewhere.
//!
//! For health checks of containers and service managers, where there is neither curl nor a shell. It knows only the wire, waits
//! no longer than it is told to, and reads no more of an answer than it needs.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Uri;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::tls::Certificates;

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is asked, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port to connect to.
    address: String,
    /// What is said in Host.
    host: String,
    path: String,
    /// The certificate that is shown there, if TLS is spoken.
    certificate: Option<CertificateDer<'static>>,
}

/// Why a server is not well.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unwell {
    /// It cannot be reached, or does not answer in time.
    Silent(io::Error),
    /// It answers something else than 200.
    Answered(String),
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(error) if is_of_another_certificate(error) => f.write_str(
                "it shows another certificate than the configuration names; a renewed one is used from a reload (SIGHUP) on",
            ),
            Self::Silent(error) => write!(f, "no answer: {error}"),
            Self::Answered(line) => write!(f, "answered {line:?}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

impl Target {
    /// `GET /health` of a server that listens there; on every address means on this machine.
    pub fn listening_on(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(ip, address.port()).to_string();
        Self { host: address.clone(), address, path: "/health".into(), certificate: None }
    }

    /// The same over TLS, of a server that shows this certificate.
    #[must_use]
    pub fn over_tls(self, certificates: &Certificates) -> Self {
        Self { certificate: Some(certificates.leaf().clone()), ..self }
    }

    /// `GET /ready` of an admin listener there.
    pub fn ready_at(address: SocketAddr) -> Self {
        Self { path: "/ready".into(), ..Self::listening_on(address) }
    }

    /// What a URL names. Without a path it is `/health`.
    ///
    /// # Errors
    /// When it is no `http://` URL with a host; the text says what is allowed.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const ALLOWED: &str = "a URL such as http://127.0.0.1:8000/health is allowed";
        let uri: Uri = url.parse().map_err(|_| ALLOWED)?;
        if uri.scheme_str() != Some("http") {
            return Err(ALLOWED);
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(ALLOWED)?;
        if authority.as_str().contains('@') {
            return Err("a URL without user and password is allowed");
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            host: authority.as_str().to_owned(),
            path: if path == "/" { "/health".to_owned() } else { path.to_owned() },
            certificate: None,
        })
    }

    /// Asks, and waits for the first line of the answer until `within` is over. Ok is 200.
    ///
    /// # Errors
    /// When it is not well.
    pub fn ask(&self, within: Duration) -> Result<(), Unwell> {
        let line = self.first_line(Instant::now() + within).map_err(Unwell::Silent)?;
        let mut words = line.split(' ');
        let is_well = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next() {
            Some("200") if is_well => Ok(()),
            _ => Err(Unwell::Answered(line)),
        }
    }

    fn first_line(&self, until: Instant) -> io::Result<String> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(until)?) {
                Ok(stream) => return self.speak(stream, until),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn speak(&self, stream: TcpStream, until: Instant) -> io::Result<String> {
        let stream = Timed { stream, until };
        match &self.certificate {
            None => self.exchange(stream),
            Some(certificate) => self.exchange(secure(stream, certificate.clone())?),
        }
    }

    fn exchange(&self, mut stream: impl Read + Write) -> io::Result<String> {
        let Self { host, path, .. } = self;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        stream.flush()?;
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
            match stream.read(&mut piece)? {
                0 => break,
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
        let line = answer.split(|&byte| byte == b'\n').next().unwrap_or_default();
        // A line from whoever answers there goes to somebody's terminal.
        let line: String = String::from_utf8_lossy(line).trim_end().chars().take(120).collect();
        Ok(line)
    }
}

/// A socket of which no call waits longer than until then.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// TLS over a socket, with whoever has the key of that certificate.
fn secure(
    stream: Timed,
    certificate: CertificateDer<'static>,
) -> io::Result<StreamOwned<ClientConnection, Timed>> {
    let provider = Arc::new(ring::default_provider());
    let only = Arc::new(Only { certificate, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(only)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from("localhost").expect("it is a name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Takes one certificate, from who has its key.
#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_of_another_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let refused = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    inner.is_some_and(|error| *error == refused)
}

/// The time left; zero would mean for ever to a socket.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// What a server that answers this is said to be.
    fn ask(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let target = Target::listening_on(listener.local_addr().expect("it is bound"));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it is asked");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a whole request");
                request.extend(byte);
            }
            stream.write_all(answer).expect("it is read");
            String::from_utf8(request).expect("it is text")
        });
        let result = target.ask(LONG).map_err(|unwell| unwell.to_string());
        let request = server.join().expect("it answered");
        assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        result
    }

    #[test]
    fn only_200_is_well() {
        assert_eq!(ask(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(()));
        assert_eq!(ask(b"HTTP/1.0 200 OK\r\n\r\n"), Ok(()));
        for (answer, said) in [
            (
                &b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..],
                "answered \"HTTP/1.1 503 Service Unavailable\"",
            ),
            (b"SSH-2.0-x 200\r\n", "answered \"SSH-2.0-x 200\""),
            (b"", "answered \"\""),
            (b"\x1b[31mHTTP/1.1 200\n", "answered \"\\u{1b}[31mHTTP/1.1 200\""),
        ] {
            assert_eq!(ask(answer), Err(said.to_owned()));
        }
    }

    #[test]
    fn who_does_not_listen_or_never_answers_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let target = Target::listening_on(listener.local_addr().expect("it is bound"));
        assert!(matches!(target.ask(Duration::from_millis(50)), Err(Unwell::Silent(_))), "it never answers");
        drop(listener);
        assert!(matches!(target.ask(LONG), Err(Unwell::Silent(_))), "it does not listen");
    }

    #[test]
    fn address_to_listen_on_is_one_to_connect_to() {
        for (listen, host) in
            [("0.0.0.0:8000", "127.0.0.1:8000"), ("[::]:8000", "[::1]:8000"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            let target = Target::listening_on(listen.parse().expect("it is an address"));
            assert_eq!((&*target.address, &*target.host, &*target.path), (host, host, "/health"));
        }
    }

    #[test]
    fn url_names_host_port_and_path() {
        for (url, address, host, path) in [
            ("http://a.example", "a.example:80", "a.example", "/health"),
            ("http://a.example:81/", "a.example:81", "a.example:81", "/health"),
            ("http://[::1]:8001/ready?x", "[::1]:8001", "[::1]:8001", "/ready?x"),
        ] {
            let target = Target::parse(url).expect(url);
            assert_eq!((&*target.address, &*target.host, &*target.path), (address, host, path));
        }
        for url in ["https://a", "a:80", "/health", "http://u:p@a/", "http://", "ws://a", "http://a b"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
