//! What the kernel says about a process: CPU time, memory, descriptors, and who listens on a port.
//! Reads /proc only; a process that has gone, or that may not be looked at, gives `None`.

use std::fs;
use std::net::SocketAddr;

use rustix::param::{clock_ticks_per_second, page_size};

/// CPU time a process has used since it started. The kernel counts it in ticks, usually of 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CpuTime {
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
}

impl CpuTime {
    /// What `pid` and all its threads have used so far.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The same of several processes together; `None` if one has gone.
    pub(crate) fn of_all(pids: &[u32]) -> Option<Self> {
        pids.iter().try_fold(Self::default(), |sum, &pid| {
            let of_one = Self::of(pid)?;
            let (user_ns, system_ns) = (sum.user_ns + of_one.user_ns, sum.system_ns + of_one.system_ns);
            Some(Self { user_ns, system_ns })
        })
    }

    /// What was used between `earlier` and `self`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }

    pub(crate) fn total_ns(self) -> u64 {
        self.user_ns + self.system_ns
    }

    /// utime and stime are fields 14 and 15. Field 2, the name, may hold spaces and parentheses, so counting
    /// starts behind the last parenthesis.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let tick_ns = 1_000_000_000 / clock_ticks_per_second().max(1);
        let mut next = || fields.next()?.parse::<u64>().ok().map(|ticks| ticks * tick_ns);
        Some(Self { user_ns: next()?, system_ns: next()? })
    }
}

/// How long the threads of `pid` have been ready to run while something else had the core, in nanoseconds.
pub(crate) fn core_wait_ns(pid: u32) -> Option<u64> {
    scheduler_ns(pid, 1)
}

/// The same of several processes together; `None` if one has gone.
pub(crate) fn core_wait_ns_of_all(pids: &[u32]) -> Option<u64> {
    pids.iter().map(|&pid| core_wait_ns(pid)).sum()
}

/// How long the threads of `pid` have run, in nanoseconds: not counted in ticks, and so good for a server that is
/// nearly at rest. Threads that have ended are left out.
pub(crate) fn core_used_ns(pid: u32) -> Option<u64> {
    scheduler_ns(pid, 0)
}

/// The sum of one field of schedstat over the threads of `pid`.
fn scheduler_ns(pid: u32, field: usize) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let times = threads.map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().nth(field)?.parse::<u64>().ok()
    });
    times.sum()
}

/// Resident memory of `pid` in bytes: exact from smaps_rollup, else the kernel's running estimate.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    });
    exact.or_else(|| resident_estimate(pid))
}

/// Resident memory of `pid` in bytes as the kernel keeps count of it: cheap to read, some dozen pages a thread off.
pub(crate) fn resident_estimate(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

/// The process that `pid` has started, if it is one.
pub(crate) fn only_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut children = children.split_ascii_whitespace();
    let child = children.next()?.parse().ok()?;
    children.next().is_none().then_some(child)
}

/// The most resident memory `pid` has had since it started, in bytes.
pub(crate) fn peak_resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the kernel holds for all TCP sockets of this machine (of this network namespace's kernel), in bytes.
pub(crate) fn tcp_bytes() -> Option<u64> {
    tcp_pages(&fs::read_to_string("/proc/net/sockstat").ok()?).map(|pages| pages * page_size() as u64)
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace().skip_while(|&word| word != "mem");
    words.nth(1)?.parse().ok()
}

/// How many descriptors `pid` has open.
pub(crate) fn open_descriptors(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().count() as u64)
}

/// The process that listens on `address`, if this user may see it. Of several that share the socket the oldest
/// (lowest pid) is named.
pub(crate) fn listener(address: SocketAddr) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, address.port())))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| holds_any(pid, &inodes))
        .collect();
    pids.sort_unstable();
    pids.first().copied()
}

fn holds_any(pid: u32, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
}

/// The inode of a line of /proc/net/tcp that listens on `port`. State 0A is LISTEN.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let (_, hex) = local.rsplit_once(':')?;
    (state == "0A" && u16::from_str_radix(hex, 16).ok()? == port).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1 0 1 0 0";
        let tick_ns = 1_000_000_000 / clock_ticks_per_second();
        let expected = CpuTime { user_ns: 150 * tick_ns, system_ns: 25 * tick_ns };
        assert_eq!(CpuTime::parse(stat), Some(expected));
        assert_eq!(CpuTime::parse("42 (x) S 1"), None);
    }

    #[test]
    fn the_listener_of_a_port_is_found() {
        let listener_here = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener_here.local_addr().expect("a bound socket has an address");
        assert_eq!(listener(address), Some(std::process::id()));
    }

    #[test]
    fn the_own_process_has_memory_and_descriptors() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(peak_resident_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(open_descriptors(pid).is_some_and(|count| count >= 3));
        assert!(CpuTime::of(pid).is_some());
        // Itself twice: all that can be known here of several.
        let (one, both) = (CpuTime::of(pid), CpuTime::of_all(&[pid, pid]));
        assert!(one.is_some_and(|one| both.is_some_and(|both| both.total_ns() >= 2 * one.total_ns())));
        assert_eq!(CpuTime::of_all(&[pid, u32::MAX]), None);
        assert!(core_wait_ns(pid).is_some());
        assert!(core_used_ns(pid).is_some_and(|ns| ns > 0));
    }

    #[test]
    fn pages_of_tcp_sockets_are_read() {
        let text = "sockets: used 9\nTCP: inuse 4 orphan 0 tw 0 alloc 5 mem 17\nUDP: inuse 0 mem 3\n";
        assert_eq!(tcp_pages(text), Some(17));
        assert_eq!(tcp_pages("UDP: inuse 0 mem 3\n"), None);
    }

    #[test]
    fn only_listening_lines_count() {
        let line = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1";
        assert_eq!(listening_inode(line, 8000), Some("12345"));
        assert_eq!(listening_inode(line, 8001), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 8000), None);
    }
}
