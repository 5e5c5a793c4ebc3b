//! A server under measurement and, if the harness started it, its process.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::classes;
use crate::dialect::Dialect;
use crate::error::{Context, Error, Result};
use crate::http;
use crate::machine;
use crate::peers::{Home, Peer, Readiness, Scratch, Site, State, Worker};
use crate::procfs;
use crate::stream;
use crate::tls;
use crate::units;

/// How long a started server may take until it answers.
const START_MAX: Duration = Duration::from_secs(10);
/// How long a server may take to end before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How long one that starts may take for an answer.
const HEALTH_MAX: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Which server a round measures.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    /// One that already runs, and that the harness leaves alone.
    Running { address: SocketAddr, pid: Option<u32>, secure: bool },
    /// One started afresh for each round. In `arguments`, `{listen}` stands for the address to listen on.
    /// With `classes` it is given a file that names those of [`TopicClass`](super::TopicClass), with `secure` a
    /// certificate.
    Started { program: PathBuf, arguments: Vec<String>, classes: bool, secure: bool, core: Option<usize> },
    /// The bare send loop, started afresh for each round.
    Floor { core: Option<usize> },
    /// The same, pinging every client in each interval.
    PingingFloor { core: Option<usize>, every: Duration },
    /// Somebody else's, started afresh for each round.
    Peer { peer: &'static Peer, home: Home, core: Option<usize> },
    /// A bare HTTP server on hyper, whose answers have a body of so many bytes, started afresh for each round.
    Hyper { core: Option<usize>, answer_bytes: usize },
}

impl Side {
    /// The name used in tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Running { .. } | Self::Started { .. } => "target",
            Self::Floor { .. } | Self::PingingFloor { .. } => "floor",
            Self::Peer { peer, .. } => peer.name,
            Self::Hyper { .. } => "hyper",
        }
    }

    /// Whether it speaks TLS.
    pub(crate) fn speaks_tls(&self) -> bool {
        matches!(self, Self::Running { secure: true, .. } | Self::Started { secure: true, .. })
    }

    /// The same, speaking TLS or not.
    pub(crate) fn with_tls(mut self, speaks: bool) -> Self {
        if let Self::Running { secure, .. } | Self::Started { secure, .. } = &mut self {
            *secure = speaks;
        }
        self
    }

    /// The same, with classes if it is a server started here; one that runs already has those it has.
    pub(crate) fn with_classes(mut self) -> Self {
        if let Self::Started { classes, .. } = &mut self {
            *classes = true;
        }
        self
    }

    /// A server of this side that answers; started if need be.
    pub(crate) fn open(&self) -> Result<Server> {
        match self {
            Self::Running { address, pid, secure } => {
                let pid = pid.or_else(|| procfs::listener(*address));
                let mut server = Server::at(*address);
                server.dialect.secure = *secure;
                server.pid = pid;
                Ok(server)
            }
            Self::Started { program, arguments, classes, secure, core } => {
                let address = free_address()?;
                let listen = address.to_string();
                let arguments = arguments.iter().map(|argument| argument.replace("{listen}", &listen));
                let mut command = launcher(*core)?;
                command.arg(program).args(arguments);
                let mut server = Server::at(address);
                if *classes || *secure {
                    let scratch = Scratch::new()?;
                    if *classes {
                        let file = scratch.path().join("classes.toml");
                        std::fs::write(&file, classes::FILE)
                            .context(|| format!("cannot write {}", file.display()))?;
                        command.arg("--config").arg(&file);
                    }
                    if *secure {
                        let [certificate, key] = tls::certificate(scratch.path())?;
                        command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
                        server.dialect.secure = true;
                    }
                    server.scratch = Some(scratch);
                }
                server.launch(command, Readiness::Health)?;
                Ok(server)
            }
            Self::Floor { core } => {
                let address = free_address()?;
                Server::start(floor_command(*core, address)?, address)
            }
            Self::Hyper { core, answer_bytes } => {
                let address = free_address()?;
                let mut command = launcher(*core)?;
                command.arg(machine::own_program()?).args(["serve-hyper", "--listen", &address.to_string()]);
                command.args(["--answer-bytes", &answer_bytes.to_string()]);
                Server::start(command, address)
            }
            Self::PingingFloor { core, every } => {
                let address = free_address()?;
                let mut command = floor_command(*core, address)?;
                command.args(["--ping-every", &units::milliseconds(*every)]);
                Server::start(command, address)
            }
            Self::Peer { peer, home, core } => open_peer(peer, home, *core),
        }
    }
}

/// Starts `peer` from where it was installed.
fn open_peer(peer: &'static Peer, home: &Home, core: Option<usize>) -> Result<Server> {
    if !matches!(home.state(peer), State::Installed(_)) {
        return Err(Error::Failed(format!("not installed: loadtest peers install {}", peer.name)));
    }
    let (listen, publish, scratch) = (free_address()?, free_address()?, Scratch::new()?);
    let folder = home.folder(peer);
    let start = (peer.start)(&Site { folder: &folder, scratch: scratch.path(), listen, publish })?;
    let mut command = launcher(core)?;
    command.arg(&start.program).args(&start.arguments);
    let mut server = Server::at(listen);
    server.dialect = Dialect { publish_at: peer.publishes_apart.then_some(publish), ..peer.dialect };
    server.scratch = Some(scratch);
    server.launch(command, peer.readiness)?;
    if peer.worker == Worker::Child {
        server.pid = server.pid.and_then(procfs::only_child);
    }
    Ok(server)
}

/// A server that can be connected to. Dropping it ends the process if the harness started it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How it is talked with.
    pub(crate) dialect: Dialect,
    /// The process whose CPU time and memory are looked at, if it is known.
    pub(crate) pid: Option<u32>,
    child: Option<Child>,
    /// Files it uses; dropped behind it.
    scratch: Option<Scratch>,
}

impl Server {
    /// One that listens there, talks by the base contract and was not started here.
    fn at(address: SocketAddr) -> Self {
        let dialect = Dialect::CONTRACT;
        Self { address, dialect, pid: None, child: None, scratch: None }
    }

    /// What it answers to `GET /health`, head and body.
    pub(crate) fn health(&self, patience: Duration) -> std::io::Result<Vec<u8>> {
        let address = self.address;
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let is_whole = |bytes: &[u8]| !matches!(http::response(bytes), Ok(None));
        stream::ask(address, self.dialect.secure, &request, patience, is_whole)
    }

    fn is_healthy(&self) -> bool {
        self.health(HEALTH_MAX).is_ok_and(|answer| answer.get(9..12) == Some(b"200"))
    }

    fn start(command: Command, address: SocketAddr) -> Result<Self> {
        let mut server = Self::at(address);
        server.launch(command, Readiness::Health)?;
        Ok(server)
    }

    fn launch(&mut self, mut command: Command, readiness: Readiness) -> Result<()> {
        // A group of its own, so that Ctrl-C reaches the harness only, which then ends the server in order.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let child = command.spawn().context(|| "cannot start a server".to_owned())?;
        self.pid = Some(child.id());
        self.child = Some(child);
        self.wait_until_it_answers(readiness)
    }

    fn wait_until_it_answers(&mut self, readiness: Readiness) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().context(|| "cannot watch the server".to_owned())?
            {
                return Err(Error::Failed(format!("the server ended at once: {status}")));
            }
            let answers = match readiness {
                Readiness::Health => self.is_healthy(),
                Readiness::Accepts => accepts(self.address) && self.dialect.publish_at.is_none_or(accepts),
            };
            if answers {
                return Ok(());
            }
            sleep(POLL_EVERY);
        }
        Err(Error::Failed(format!("the server did not answer on {} within {START_MAX:?}", self.address)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // The child has not been waited for, so its id is still its own. A failure here means that it has
        // ended already, and the wait below collects it.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            sleep(POLL_EVERY);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Refuses any address outside 127.0.0.0/8: this is a tool to be pointed at oneself.
pub(crate) fn loopback(text: &str) -> std::result::Result<SocketAddr, String> {
    let address: SocketAddr = text
        .replace("localhost", "127.0.0.1")
        .parse()
        .map_err(|_| format!("`{text}` is not an address such as 127.0.0.1:8000"))?;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => Ok(address),
        _ => Err(format!(
            "`{text}` is not in 127.0.0.0/8: this harness loads the machine it runs on and no other"
        )),
    }
}

/// `loadtest launch [--core N] --`, to be followed by the server.
pub(super) fn launcher(core: Option<usize>) -> Result<Command> {
    let mut command = Command::new(machine::own_program()?);
    command.arg("launch");
    if let Some(core) = core {
        command.args(["--core", &core.to_string()]);
    }
    command.arg("--");
    Ok(command)
}

fn floor_command(core: Option<usize>, address: SocketAddr) -> Result<Command> {
    let mut command = launcher(core)?;
    command.arg(machine::own_program()?).args(["serve-floor", "--listen", &address.to_string()]);
    Ok(command)
}

/// An address nobody listens on. Somebody may take it before the server does; then the server says so and ends.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context(|| "no free port".to_owned())?;
    listener.local_addr().context(|| "no free port".to_owned())
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_loaded() {
        assert!(loopback("127.0.0.1:8000").is_ok());
        assert!(loopback("127.3.2.1:80").is_ok());
        assert!(loopback("localhost:8000").is_ok());
        for other in
            ["10.0.0.1:80", "192.168.1.1:80", "0.0.0.0:80", "[::1]:80", "example.com:80", "127.0.0.1"]
        {
            assert!(loopback(other).is_err(), "{other}");
        }
    }
}
