//! What a server says became of its frames, from `GET /health` where it has a `ledger`. Held against what the clients
//! of a run saw: a server whose books do not agree with its audience has a fault, even if nobody missed anything.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::dialect::v1::Gaps;
use crate::http;
use crate::server::Server;

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long the books may lag behind what clients have seen: a server may count after it has written.
const AGREE_MAX: Duration = Duration::from_secs(2);
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Frames that were matched with a subscriber, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerLedger {
    pub(crate) matched: u64,
    /// Taken by the kernel.
    pub(crate) written: u64,
    pub(crate) queued: u64,
    pub(crate) dropped: Dropped,
    /// Replaced by younger ones with the same key.
    #[serde(default)]
    pub(crate) conflated: u64,
    /// Connections the server ended.
    #[serde(default)]
    pub(crate) closed: Closed,
}

/// Frames that were not written, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dropped {
    pub(crate) bound: u64,
    pub(crate) age: u64,
    pub(crate) memory: u64,
    pub(crate) closed: u64,
}

/// Connections that were closed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Closed {
    pub(crate) slow: u64,
    pub(crate) no_pong: u64,
}

/// A server's books over one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Audit {
    #[serde(flatten)]
    pub(crate) ledger: ServerLedger,
    /// Messages of any kind that came to clients.
    pub(crate) received: u64,
    /// What does not agree.
    pub(crate) disagreement: Option<String>,
    /// The server matched more frames than this run explains: it served others too, and nothing can be held against it.
    pub(crate) served_others: bool,
}

/// What the books say beside what clients saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Nothing contradicts.
    Agrees,
    /// What contradicts.
    Disagrees(String),
    /// More frames were matched than this run explains.
    ServedOthers,
}

/// What the clients of a round saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    /// What clients were told they miss, if their protocol says so.
    pub(crate) told: Option<Gaps>,
    /// Whether every client read to the end: then the books have to agree to the frame. Else what was written to the
    /// others may not have been read.
    pub(crate) is_everything: bool,
}

/// How the server ended connections in a round, as the clients saw it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    /// Close code 1013.
    pub(crate) slow: u64,
    /// Close code 4408.
    pub(crate) no_pong: u64,
    /// No close frame: who does not read sees only a reset, for either reason.
    pub(crate) silent: u64,
}

impl Dropped {
    pub(crate) fn total(self) -> u64 {
        self.bound + self.age + self.memory + self.closed
    }
}

impl ServerLedger {
    /// What the server says now; `None` if it keeps no ledger or does not answer.
    pub(crate) fn read(server: &Server) -> Option<Self> {
        #[derive(Deserialize)]
        struct Health {
            ledger: ServerLedger,
        }
        let bytes = server.health(ANSWER_MAX).ok()?;
        let answer = http::response(&bytes).ok()??;
        serde_json::from_slice::<Health>(answer.body).ok().map(|health| health.ledger)
    }

    /// What was added since `earlier`. What is queued is of now.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let less = u64::saturating_sub;
        Self {
            matched: less(self.matched, earlier.matched),
            written: less(self.written, earlier.written),
            queued: self.queued,
            dropped: Dropped {
                bound: less(self.dropped.bound, earlier.dropped.bound),
                age: less(self.dropped.age, earlier.dropped.age),
                memory: less(self.dropped.memory, earlier.dropped.memory),
                closed: less(self.dropped.closed, earlier.dropped.closed),
            },
            conflated: less(self.conflated, earlier.conflated),
            closed: Closed {
                slow: less(self.closed.slow, earlier.closed.slow),
                no_pong: less(self.closed.no_pong, earlier.closed.no_pong),
            },
        }
    }

    /// Holds it against what clients saw. Frames of others only add to it, so that fewer than clients got are a
    /// contradiction whoever else was served; all else can be compared only if exactly the frames of this run were matched.
    pub(crate) fn compare(&self, seen: Seen) -> Comparison {
        let Self { matched, written, queued, dropped, conflated, .. } = *self;
        let Seen { received, lost, told, is_everything } = seen;
        let (dropped, explained) = (dropped.total(), received + lost);
        let text = if received > written {
            format!("clients got {received} frames, {} more than it wrote", received - written)
        } else if !is_everything {
            return Comparison::Agrees;
        } else if matched > explained {
            return Comparison::ServedOthers;
        } else if received < written {
            format!("it wrote {written} frames, {} more than clients got", written - received)
        } else if lost != dropped + conflated {
            format!("clients miss {lost} messages, and it dropped {dropped} and conflated {conflated}")
        } else if let Some(told) = told.filter(|told| (told.dropped, told.conflated) != (dropped, conflated))
        {
            format!(
                "it dropped {dropped} and conflated {conflated}, and told clients that it dropped {} and conflated {}",
                told.dropped, told.conflated
            )
        } else if matched != written + dropped + conflated {
            format!(
                "of {matched} frames it wrote {written}, dropped {dropped} and conflated {conflated}; {queued} are queued"
            )
        } else {
            return Comparison::Agrees;
        };
        Comparison::Disagrees(text)
    }

    /// What in it contradicts how clients saw their connections end, if anything. Every end has to be in the books, and
    /// no other.
    pub(crate) fn disagreement_on_ends(&self, ends: Ends) -> Option<String> {
        let Closed { slow, no_pong } = self.closed;
        let all = ends.slow + ends.no_pong + ends.silent;
        let is_possible = slow >= ends.slow && no_pong >= ends.no_pong && slow + no_pong == all;
        (!is_possible).then(|| {
            format!(
                "clients saw {all} connections end ({} with 1013, {} with 4408, {} without a close frame), and it \
                 closed {slow} as slow and {no_pong} for want of a pong",
                ends.slow, ends.no_pong, ends.silent
            )
        })
    }
}

impl Audit {
    /// Reads the books of the server until they agree with what clients have `seen`, for a while at most.
    /// `None` without a ledger.
    pub(crate) fn of(server: &Server, before: ServerLedger, seen: Seen) -> Option<Self> {
        Self::until(server, before, seen.received, |ledger| ledger.compare(seen))
    }

    /// The same for a run in which some clients were slow, and were closed for it.
    pub(crate) fn of_ends(server: &Server, before: ServerLedger, seen: Seen, ends: Ends) -> Option<Self> {
        let compare = |ledger: &ServerLedger| match ledger.compare(seen) {
            Comparison::Agrees => {
                ledger.disagreement_on_ends(ends).map_or(Comparison::Agrees, Comparison::Disagrees)
            }
            other => other,
        };
        Self::until(server, before, seen.received, compare)
    }

    fn until(
        server: &Server,
        before: ServerLedger,
        received: u64,
        compare: impl Fn(&ServerLedger) -> Comparison,
    ) -> Option<Self> {
        let deadline = Instant::now() + AGREE_MAX;
        loop {
            let ledger = ServerLedger::read(server)?.since(before);
            let comparison = compare(&ledger);
            let served_others = comparison == Comparison::ServedOthers;
            let disagreement = match comparison {
                Comparison::Disagrees(text) => Some(text),
                Comparison::Agrees | Comparison::ServedOthers => None,
            };
            if disagreement.is_none() || Instant::now() > deadline {
                return Some(Self { ledger, received, disagreement, served_others });
            }
            sleep(POLL_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_have_to_agree_with_the_audience() {
        let seen = |received, lost, is_everything| Seen { received, lost, told: None, is_everything };
        let dropped = Dropped { bound: 2, ..Dropped::default() };
        let ledger = ServerLedger { matched: 12, written: 10, dropped, ..ServerLedger::default() };
        let disagrees = |ledger: ServerLedger, seen, with: &str| match ledger.compare(seen) {
            Comparison::Disagrees(text) => text.contains(with),
            _ => false,
        };
        assert_eq!(ledger.compare(seen(10, 2, true)), Comparison::Agrees);
        assert!(disagrees(ledger, seen(9, 3, true), "1 more than clients"));
        assert!(disagrees(ledger, seen(11, 2, true), "1 more than it"));
        assert!(disagrees(ledger, seen(10, 3, true), "miss 3"));
        let stopped = ledger.compare(seen(7, 0, false));
        assert_eq!(stopped, Comparison::Agrees, "a client that stopped has not read it all");
        assert!(disagrees(ledger, seen(11, 0, false), "1 more than it"));
        let queued = ServerLedger { matched: 11, queued: 1, ..ledger };
        assert!(disagrees(queued, seen(10, 2, true), "1 are queued"));
    }

    #[test]
    fn what_was_counted_missed_and_told_has_to_be_one() {
        let dropped = Dropped { bound: 2, age: 1, ..Dropped::default() };
        let ledger =
            ServerLedger { matched: 20, written: 12, dropped, conflated: 5, ..ServerLedger::default() };
        let compare = |ledger: ServerLedger, lost, conflated, dropped| {
            let told = Some(Gaps { gaps: 2, conflated, dropped });
            ledger.compare(Seen { received: 20 - lost, lost, told, is_everything: true })
        };
        assert_eq!(compare(ledger, 8, 5, 3), Comparison::Agrees);
        assert!(matches!(compare(ledger, 8, 4, 4), Comparison::Disagrees(text) if text.contains("told")));
        assert!(matches!(compare(ledger, 8, 0, 0), Comparison::Disagrees(text) if text.contains("told")));
        assert!(matches!(compare(ledger, 7, 5, 3), Comparison::Disagrees(_)), "more came than was written");
        let forgetful = ServerLedger { conflated: 4, ..ledger };
        assert!(
            matches!(compare(forgetful, 8, 4, 3), Comparison::Disagrees(text) if text.contains("miss 8"))
        );
    }

    #[test]
    fn others_that_a_server_served_are_not_held_against_it() {
        let seen = Seen { received: 10, lost: 0, told: None, is_everything: true };
        let dropped = Dropped { bound: 3, ..Dropped::default() };
        let ledger = ServerLedger { matched: 20, written: 17, dropped, ..ServerLedger::default() };
        assert_eq!(ledger.compare(seen), Comparison::ServedOthers);
        let too_few = ServerLedger { written: 9, ..ledger };
        assert!(matches!(too_few.compare(seen), Comparison::Disagrees(_)), "whoever else was served");
    }

    #[test]
    fn every_end_has_to_be_in_the_books() {
        let books =
            |slow, no_pong| ServerLedger { closed: Closed { slow, no_pong }, ..ServerLedger::default() };
        let ends = Ends { slow: 2, no_pong: 0, silent: 3 };
        for (slow, no_pong) in [(5, 0), (2, 3), (4, 1)] {
            assert_eq!(books(slow, no_pong).disagreement_on_ends(ends), None);
        }
        for (slow, no_pong) in [(6, 0), (4, 0), (1, 4), (0, 0)] {
            let text = books(slow, no_pong).disagreement_on_ends(ends);
            assert!(text.is_some_and(|text| text.contains("5 connections end")), "{slow} {no_pong}");
        }
        assert_eq!(books(0, 0).disagreement_on_ends(Ends::default()), None);
    }

    #[test]
    fn only_what_was_added_counts() {
        let text =
            r#"{"matched":9,"written":7,"queued":1,"dropped":{"bound":1,"left":4},"closed":{"slow":3}}"#;
        let now: ServerLedger = serde_json::from_str(text).expect("unknown reasons are left out");
        let before = ServerLedger { matched: 4, written: 4, ..ServerLedger::default() };
        let since = now.since(before);
        assert_eq!((since.matched, since.written, since.queued), (5, 3, 1));
        assert_eq!((since.dropped.total(), since.closed.slow), (1, 3));
    }
}
