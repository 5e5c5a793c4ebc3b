//! Figures of the process, as the kernel tells them (Linux; elsewhere there are none).

use std::{fs, time::Duration};

/// What the process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    /// Of user and kernel together.
    pub(super) cpu: Duration,
    pub(super) threads: u64,
    /// Descriptors that are open; 0 if they cannot be counted.
    pub(super) open_fds: u64,
    /// Descriptors there may be.
    pub(super) max_fds: u64,
    /// When it began, since the Unix epoch.
    pub(super) started: Duration,
}

impl Process {
    /// What it uses now.
    pub(super) fn now() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self {
            max_fds: limit.unwrap_or(u64::MAX),
            // The one that counts is not to be counted.
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |open| (open.count() as u64).saturating_sub(1)),
            ..of(&stat, &kernel)
        }
    }
}

/// Reads `/proc/self/stat` and the time of the boot in `/proc/stat` (proc_pid_stat(5)).
fn of(stat: &str, kernel: &str) -> Process {
    // The second field is the name of the program, in brackets, and may hold anything.
    let fields: Vec<u64> = stat.rsplit_once(')').map_or(Vec::new(), |(_, fields)| {
        fields.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
    });
    // They are counted from 1; the first two are gone.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let boot = kernel.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
    let ticks = |ticks: u64| {
        let nanoseconds =
            u128::from(ticks) * 1_000_000_000 / u128::from(rustix::param::clock_ticks_per_second());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    };
    Process {
        cpu: ticks(field(14) + field(15)),
        threads: field(20),
        started: Duration::from_secs(boot) + ticks(field(22)),
        virtual_bytes: field(23),
        resident_bytes: field(24) * rustix::param::page_size() as u64,
        ..Process::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_behind_whatever_the_program_is_called() {
        let stat = "7 (a) b) 9 (c) S 1 1 1 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 5 0 1000 4096000 500 18446744073709551615";
        let process = of(stat, "cpu 1 2\nbtime 1700000000\nprocesses 5\n");
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(process.cpu, Duration::from_nanos(400 * 1_000_000_000 / ticks));
        assert_eq!((process.threads, process.virtual_bytes), (5, 4_096_000));
        assert_eq!(process.resident_bytes, 500 * rustix::param::page_size() as u64);
        assert_eq!(
            process.started,
            Duration::from_secs(1_700_000_000) + Duration::from_nanos(1_000 * 1_000_000_000 / ticks)
        );
    }

    #[test]
    fn without_the_kernels_files_there_are_zeroes() {
        let process = of("", "");
        assert_eq!((process.threads, process.started, process.cpu), (0, Duration::ZERO, Duration::ZERO));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_threads_and_descriptors_and_began_before_now() {
        let process = Process::now();
        assert!(process.resident_bytes > 100_000 && process.virtual_bytes > process.resident_bytes);
        assert!(process.threads > 0 && process.open_fds > 2 && process.max_fds >= process.open_fds);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
        assert!(
            process.started < now + Duration::from_secs(2)
                && process.started + Duration::from_secs(86_400) > now
        );
    }
}
