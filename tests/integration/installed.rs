//! The binary as a service: what it tells the service manager, what it answers to a health check, and what it says of itself to
//! shells and to `man`.

use std::{
    os::{linux::net::SocketAddrExt, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use crate::support::{
    DEADLINE, Http,
    certificate::Certificate,
    eventually,
    process::{self, Process},
};

/// A service manager: what it was told, in order.
struct Manager {
    socket: UnixDatagram,
    /// What a service finds in `NOTIFY_SOCKET`.
    address: String,
}

impl Manager {
    /// With a path, as systemd has it.
    fn at_a_path() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("notify-{}", std::process::id()));
        // Of an earlier process with this id.
        let _ = std::fs::remove_file(&path);
        let address = path.to_str().expect("it is UTF-8").to_owned();
        Self::new(UnixDatagram::bind(&path).expect("the folder is there"), address)
    }

    /// With a name that no folder has, as container managers have it.
    fn at_a_name() -> Self {
        let name = format!("fanfare-installed-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("it is short");
        Self::new(UnixDatagram::bind_addr(&address).expect("nobody has it"), format!("@{name}"))
    }

    fn new(socket: UnixDatagram, address: String) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("it is no zero");
        Self { socket, address }
    }

    /// Starts a service that is to give a sign of life every two seconds.
    fn start(&self, arguments: &[&str]) -> Process {
        let mut command = process::command(["--listen=127.0.0.1:0", "--shards=2"].iter().chain(arguments));
        command
            .env("NOTIFY_SOCKET", &self.address)
            .env("WATCHDOG_USEC", "2000000")
            .env_remove("WATCHDOG_PID");
        Process::spawn(&mut command)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("it is told something");
        String::from_utf8(buffer[..length].to_vec()).expect("it is text")
    }

    /// Waits for a message that begins like this, and passes over others.
    fn wait_for(&self, begin: &str) -> String {
        loop {
            let message = self.next();
            if message.starts_with(begin) {
                return message;
            }
        }
    }
}

#[test]
fn service_manager_hears_that_it_is_ready_is_well_reloads_and_stops() {
    let manager = Manager::at_a_path();
    let mut process = manager.start(&["--drain-delay=1s", "--drain-duration=2s"]);
    assert_eq!(manager.next(), "READY=1", "nothing comes before");
    assert_eq!(Http::connect(process.address()).get("/health").status, 200);
    assert_eq!(manager.wait_for("STATUS="), "STATUS=serving, 0 connections");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    process.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("with the time");
    assert!(usec.parse::<u64>().is_ok(), "{reloading}");
    manager.wait_for("READY=1");
    process.signal(Signal::TERM);
    // The delay, the duration, the deadline of stopping, and some grace.
    assert_eq!(manager.wait_for("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=23000000");
    assert_eq!(manager.wait_for("STATUS="), "STATUS=draining, 0 connections");
    manager.wait_for("WATCHDOG=1");
    assert_eq!(process.wait().code(), Some(0));
    std::fs::remove_file(&manager.address).expect("it is there");
}

#[test]
fn service_manager_with_an_abstract_name_is_told_too() {
    let manager = Manager::at_a_name();
    let mut process = manager.start(&[]);
    assert_eq!(manager.next(), "READY=1");
    process.signal(Signal::INT);
    manager.wait_for("STOPPING=1");
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn service_manager_that_is_not_understood_or_not_there_keeps_nobody_from_serving() {
    for (address, complains) in [("vsock:2:1", true), ("/nowhere/at/all", false)] {
        let mut command = process::command(["--listen=127.0.0.1:0", "--shards=1"]);
        let mut process = Process::spawn(command.env("NOTIFY_SOCKET", address));
        if complains {
            process.line_with("NOTIFY_SOCKET is not understood");
        }
        assert_eq!(Http::connect(process.address()).get("/health").status, 200);
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn health_exits_with_0_while_the_server_is_well_and_with_1_when_it_is_gone() {
    let mut process = Process::start(&["--shards=1", "--drain-delay=1h"]);
    let address = process.address();
    let listen = format!("--listen={address}");
    let well = process::run(&["health", &listen]);
    assert_eq!((well.code, &*well.stdout, &*well.stderr), (Some(0), "", ""));
    let ready = format!("--url=http://{address}/ready");
    assert_eq!(process::run(&["health", &ready]).code, Some(0));
    process.signal(Signal::TERM);
    process.line_with("not ready any more");
    assert_eq!(process::run(&["health", &listen]).code, Some(0), "it is well, and not ready");
    let unready = process::run(&["health", &ready]);
    assert_eq!(unready.code, Some(1));
    assert!(unready.stderr.contains("answered \"HTTP/1.1 503"), "{}", unready.stderr);
    process.signal(Signal::TERM);
    process.wait();
    let gone = process::run(&["health", &listen, "--timeout=1s"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains(&format!("http://{address}/health: no answer")), "{}", gone.stderr);
}

#[test]
fn health_of_a_server_whose_clients_speak_a_proxy_header_is_asked_of_its_admin_listener() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let admin = format!("--admin-listen={}", free.local_addr().expect("it is bound"));
    drop(free);
    let options = ["--shards=1", &admin, "--proxy-protocol", "--trusted-proxies=10.0.0.0/8"];
    let mut process = Process::start(&options);
    let listen = format!("--listen={}", process.address());
    let health = [&["health", &listen][..], &options].concat();
    let well = process::run(&health);
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    process.signal(Signal::TERM);
    process.wait();
    assert_eq!(process::run(&health).code, Some(1));
}

#[test]
fn health_of_a_server_that_speaks_tls_alone_is_asked_over_tls_of_its_own_certificate() {
    let mut certificate = Certificate::new();
    let (cert, key) = (certificate.cert(), certificate.key());
    let [cert, key] = [cert, key].map(|file| file.to_str().expect("it is UTF-8").to_owned());
    let options = ["--shards=1", "--admin-listen=off", "--tls-cert", &cert, "--tls-key", &key];
    let mut process = Process::start(&options);
    let listen = format!("--listen={}", process.address());
    let health = [&["health", &listen][..], &options].concat();
    let well = process::run(&health);
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    // Somebody else there, or a certificate that the server has not read yet.
    certificate.renew();
    let other = process::run(&health);
    assert_eq!(other.code, Some(1));
    assert!(
        other.stderr.contains("https://") && other.stderr.contains("another certificate"),
        "{}",
        other.stderr
    );
    process.signal(Signal::HUP);
    process.line_with("reloaded changed=1");
    let well = process::run(&health);
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    process.signal(Signal::TERM);
    process.wait();
    let gone = process::run(&health);
    assert!(gone.code == Some(1) && gone.stderr.contains("no answer"), "{}", gone.stderr);
    // Nobody but a proxy could ask this one.
    let closed = [&health[..], &["--proxy-protocol", "--trusted-proxies=10.0.0.0/8"]].concat();
    let closed = process::run(&closed);
    assert!(closed.code == Some(1) && closed.stderr.contains("--admin-listen"), "{}", closed.stderr);
}

#[test]
fn ready_says_so_until_the_node_is_to_end() {
    let mut process = Process::start(&["--shards=1", "--drain-delay=1h"]);
    let mut http = Http::connect(process.address());
    let ready = http.get("/ready");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"serving".into()));
    process.signal(Signal::TERM);
    eventually("it is not ready any more", || http.get("/ready").status == 503);
    let unready = http.get("/ready");
    assert_eq!(unready.json()["status"], "draining");
    assert_eq!(unready.header("retry-after"), None, "who asks is no client to be sent away");
}

#[test]
fn completions_are_taken_by_bash_and_complete_options() {
    let script = TempFile::new("completions.bash", &process::run(&["completions", "bash"]).stdout);
    // As bash does it when a tab is pressed behind `fanfare --drain-d`.
    let press_tab = "source \"$1\"; COMP_WORDS=(fanfare --drain-d); COMP_CWORD=1; \
                     _fanfare fanfare --drain-d fanfare; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-euc", press_tab, "bash"]).arg(&script.0);
    let ended = process::end_of(&mut bash);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert_eq!(ended.stdout.trim(), "--drain-delay --drain-duration");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = process::run(&["completions", shell]);
        assert!(script.code == Some(0) && script.stdout.contains("drain-delay"), "{shell}");
    }
}

#[test]
fn manual_page_is_one() {
    let page = process::run(&["man"]);
    assert_eq!(page.code, Some(0));
    let headings: Vec<_> = page.stdout.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SUBCOMMANDS"] {
        assert!(headings.contains(&heading), "{heading} is missing among {headings:?}");
    }
    assert!(page.stdout.contains(".TH fanfare 1"), "{}", page.stdout);
}

/// A file of its own, gone with its test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("the folder is there");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // If it stays, nothing is lost.
        let _ = std::fs::remove_file(&self.0);
    }
}
