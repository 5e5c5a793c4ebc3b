//! What the service manager is told: ready, reloading, stopping, how things are, and that all is still well.
//!
//! The protocol of sd_notify(3): datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names, a path or, with
//! `@` before it, a name of the abstract namespace. It is small and stable, so it is spoken here and not through a library. The
//! server makes one [`Notifier`]; nothing may wait for the service manager, and nothing fails because it does not listen.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// How long a datagram may wait for room at the service manager.
const WAIT: Duration = Duration::from_millis(500);

/// Speaks to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Notifier {
    /// Speaks to the socket at this path, or to that of the name behind a `@`.
    ///
    /// # Errors
    /// When it is no such address, or there is no descriptor for a socket.
    pub fn to(address: &OsStr) -> io::Result<Self> {
        let to = match address.as_bytes() {
            [b'@', name @ ..] => abstract_address(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => {
                let what = "a path that begins with /, or a name behind @, is allowed";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT))?;
        Ok(Self { socket, to })
    }

    /// Everything is in place: clients are served. Also after [`Self::reloading`].
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A new configuration is being read. [`Self::ready`] says that this is over, whatever came of it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The service ends, and may take so long for it.
    pub fn stopping(&self, within: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    /// How things are, in a line for people.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// All is well.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.to) {
            tracing::debug!(%error, message, "the service manager was not told");
        }
    }
}

/// What the service manager says in the environment of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Where it listens, if it does.
    pub socket: Option<OsString>,
    /// How long it waits for the next [`Notifier::watchdog`], if it does.
    pub watchdog: Option<Duration>,
}

impl Environment {
    /// Reads it for the process with this id, with `variable` to look up a variable.
    pub fn read(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // The variables may have been inherited from a process they were meant for.
        let is_meant = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(pid.into());
        let usec = number("WATCHDOG_USEC").filter(|&usec| usec > 0 && is_meant);
        Self {
            socket: variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: usec.map(Duration::from_micros),
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What a socket hears next.
    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("it is no zero");
        let length = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..length].to_vec()).expect("it is text")
    }

    /// A path for a socket, in a folder that is there.
    fn path(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("fanfare-{}-{name}", std::process::id()));
        // Of an earlier run.
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn everything_is_said_in_the_words_of_sd_notify() {
        let path = path("words");
        let manager = UnixDatagram::bind(&path).expect("the folder is there");
        let notifier = Notifier::to(path.as_os_str()).expect("it is an address");
        notifier.ready();
        notifier.stopping(Duration::from_secs(90));
        notifier.status("two\nlines");
        notifier.watchdog();
        for expected in
            ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=90000000", "STATUS=two lines", "WATCHDOG=1"]
        {
            assert_eq!(heard(&manager), expected);
        }
        notifier.reloading();
        let reloading = heard(&manager);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("with the time");
        assert!(usec.parse::<u64>().expect("a number") > 0);
        std::fs::remove_file(path).expect("it is there");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_socket_is_spoken_to() {
        let name = format!("fanfare-test-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).expect("it is short");
        let manager = UnixDatagram::bind_addr(&address).expect("nobody has it");
        Notifier::to(format!("@{name}").as_ref()).expect("it is an address").ready();
        assert_eq!(heard(&manager), "READY=1");
    }

    #[test]
    fn what_is_no_address_is_refused_and_nobody_listening_is_no_harm() {
        for address in ["relative", "vsock:2:1234", ""] {
            assert!(Notifier::to(address.as_ref()).is_err(), "{address}");
        }
        Notifier::to(path("nobody").as_os_str()).expect("it is an address").ready();
    }

    #[test]
    fn environment_is_read_only_for_the_process_it_is_meant_for() {
        let read = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            Environment::read(7, |name| variables.get(name).map(OsString::from))
        };
        assert_eq!(read(&[]), Environment::default());
        assert_eq!(read(&[("NOTIFY_SOCKET", "")]), Environment::default());
        assert_eq!(read(&[("NOTIFY_SOCKET", "/run/x")]).socket, Some("/run/x".into()));
        let watchdog = |variables: &[(&str, &str)]| read(variables).watchdog;
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1000000")]), second);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")]), second);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "x")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "soon")]), None);
    }
}
