//! The real binary as a process of its own: what it logs, how it ends, what it uses.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, eventually};

/// Lines of log that may wait to be looked at.
const LINES: usize = 4_096;

/// A running `fanfare`. It is killed when it is dropped and has not ended.
pub(crate) struct Process {
    child: Child,
    log: Receiver<String>,
    /// Lines that were looked at.
    seen: Vec<String>,
}

/// How a process ended that was not asked to serve.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary with these arguments, and no options from this process's environment.
pub(crate) fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments);
    without_options(&mut command);
    command
}

/// The binary on a free port with two shards, allowed so many descriptors.
pub(crate) fn with_descriptors(limit: usize) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_fanfare")]);
    command.args(["--listen=127.0.0.1:0", "--shards=2"]);
    without_options(&mut command);
    command
}

fn without_options(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
}

/// Runs it to its end, which must come without being asked for.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    end_of(&mut command(arguments))
}

/// Waits for the end of a process that ends without being asked for.
pub(crate) fn end_of(command: &mut Command) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    // Meanwhile, for it may print more than a pipe holds.
    let stdout = read_meanwhile(child.stdout.take().expect("it is piped"));
    let stderr = read_meanwhile(child.stderr.take().expect("it is piped"));
    let code = wait(&mut child).code();
    let text = |reading: thread::JoinHandle<String>| reading.join().expect("it is text");
    Ended { code, stdout: text(stdout), stderr: text(stderr) }
}

fn read_meanwhile(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("it is text");
        text
    })
}

impl Process {
    /// Serves on a free port with these arguments besides.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0"];
        Self::spawn(&mut command(listen.iter().chain(arguments)))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let stderr = child.stderr.take().expect("it is piped");
        let (lines, log) = sync_channel(LINES);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log, seen: Vec::new() }
    }

    /// Waits for a line of the log with `text` in it.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            let line = self.log.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} among {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for one more line of the log with `text` in it, after those that were looked at.
    pub(crate) fn next_line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} after {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// All lines of the log of a process that has ended.
    pub(crate) fn whole_log(&mut self) -> &[String] {
        self.seen.extend(self.log.iter());
        &self.seen
    }

    /// Where it listens, when it does.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.line_with("listening address=");
        let (_, address) = line.rsplit_once("address=").expect("it is in the line");
        address.trim().parse().expect("it is an address")
    }

    /// Where its admin listener is.
    pub(crate) fn admin_address(&mut self) -> SocketAddr {
        let line = self.line_with("admin listener admin=");
        let (_, address) = line.rsplit_once("admin=").expect("it is in the line");
        let mut address: SocketAddr = address.trim().parse().expect("it is an address");
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        address
    }

    /// Everything it logged, once it has ended.
    pub(crate) fn rest_of_log(&mut self) -> &[String] {
        self.seen.extend(self.log.iter());
        &self.seen
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it has not been waited for");
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Memory it has of the machine, bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is on Linux");
        let kib = line.trim().strip_suffix(" kB").expect("it is in KiB");
        kib.trim().parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.seen.extend(self.log.try_iter());
            println!("the log of the process: {:#?}", self.seen);
        }
    }
}

/// Waits until a process ends.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the process ends", || {
        status = child.try_wait().expect("it is ours");
        status.is_some()
    });
    status.expect("it has ended")
}
