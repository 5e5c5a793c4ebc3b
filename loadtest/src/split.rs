//! How the clients of a run are shared out: over threads, and the threads over processes. Arithmetic only; the same
//! in every process of a run, so that each knows its share without being told who the others are.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The most processes of a run. Each has 127.0.N.x to itself, so that N must fit a byte.
pub(crate) const PROCESSES_MAX: u16 = 64;
const _: () = assert!(PROCESSES_MAX <= 256);

/// Clients, and who simulates them. Clients are numbered from 0 on and so are threads, over all processes; a process
/// has neighbouring threads, and a thread neighbouring clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Split {
    pub(crate) clients: usize,
    /// Of all processes together, as many in each.
    pub(crate) threads: usize,
    /// The first is the one that directs and publishes.
    pub(crate) processes: usize,
}

impl Split {
    /// As near to what is asked for as can be: no more processes or threads than clients, and threads rounded up to
    /// as many in each process, so that processes and threads alike have equal shares.
    pub(crate) fn new(clients: usize, threads: usize, processes: usize) -> Self {
        let processes = processes.min(clients).max(1);
        let threads_each = threads.min(clients).div_ceil(processes).max(1);
        Self { clients, threads: threads_each * processes, processes }
    }

    /// The same for another number of clients.
    pub(crate) fn with_clients(self, clients: usize) -> Self {
        Self::new(clients, self.threads, self.processes)
    }

    pub(crate) fn threads_of(&self, process: usize) -> Range<usize> {
        share(self.threads, process, self.processes)
    }

    pub(crate) fn clients_of_thread(&self, thread: usize) -> Range<usize> {
        share(self.clients, thread, self.threads)
    }

    /// The most clients that one process has.
    pub(crate) fn clients_of_one_process(&self) -> usize {
        self.clients.div_ceil(self.processes)
    }

    /// As it stands in the head of a report.
    pub(crate) fn simulators(&self) -> String {
        match self.processes {
            1 => self.threads.to_string(),
            processes => format!("{} in {processes} processes", self.threads),
        }
    }
}

/// Part number `part` of `parts` of `whole`, which differ by one at most.
fn share(whole: usize, part: usize, parts: usize) -> Range<usize> {
    whole * part / parts..whole * (part + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_in_one_thread_and_every_thread_in_one_process() {
        for (clients, threads, processes) in [(1, 1, 1), (10, 3, 1), (10, 3, 2), (5_001, 7, 5), (3, 8, 64)] {
            let split = Split::new(clients, threads, processes);
            let of_processes: Vec<usize> =
                (0..split.processes).flat_map(|process| split.threads_of(process)).collect();
            assert_eq!(of_processes, (0..split.threads).collect::<Vec<_>>());
            let of_threads: Vec<usize> =
                (0..split.threads).flat_map(|thread| split.clients_of_thread(thread)).collect();
            assert_eq!(of_threads, (0..clients).collect::<Vec<_>>());
            for process in 0..split.processes {
                let threads = split.threads_of(process);
                let clients: usize = threads.map(|thread| split.clients_of_thread(thread).len()).sum();
                assert!(clients.abs_diff(split.clients_of_one_process()) <= 1);
                assert!(clients <= split.clients_of_one_process());
            }
        }
    }

    #[test]
    fn nobody_is_without_clients_and_no_process_without_threads() {
        assert_eq!(Split::new(100, 1, 4), Split { clients: 100, threads: 4, processes: 4 });
        assert_eq!(Split::new(100, 5, 2), Split { clients: 100, threads: 6, processes: 2 });
        assert_eq!(Split::new(3, 8, 4), Split { clients: 3, threads: 3, processes: 3 });
        assert_eq!(Split::new(100, 8, 4).with_clients(2), Split { clients: 2, threads: 2, processes: 2 });
    }
}
