//! What happened in a run, counted, so that a run in which something never happens does not pass for a test of it.

macro_rules! counts {
    ($(#[$doc:meta])* $counts:ident { $($name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct $counts {
            $(pub(crate) $name: u64,)*
        }

        impl std::ops::AddAssign for $counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl $counts {
            /// What did not happen at all.
            pub(crate) fn never(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name)),*].iter().filter(|(_, n)| *n == 0).map(|(name, _)| *name).collect()
            }
        }
    };
}

counts! {
    /// How often something happened that a run must not do without.
    Seen {
        refused_publications,
        refused_changes,
        out_of_credits,
        lagging,
        kept_closes,
        lost,
        given_up,
        slow,
        dropped_bound,
        dropped_age,
        dropped_memory,
        dropped_closed,
        compactions,
        would_block,
        control_cuts,
        frames,
        late_joins,
        completed,
    }
}

counts! {
    /// As [`Seen`], of the past and of who resumes.
    Resumed {
        recovered,
        recovered_with_replay,
        gaps_of_history,
        resets,
        without_room,
        last_messages,
        replayed_to_one_user,
        hidden_from_others,
        gaps_of_slow,
        live_behind_replay,
        several_topics,
        comebacks,
        epochs_lost,
        frames,
    }
}

counts! {
    /// As [`Seen`], of classes that let frames go.
    Policed {
        matched,
        written,
        conflated,
        oldest_dropped,
        newest_dropped,
        dropped_bound,
        dropped_age,
        dropped_memory,
        dropped_closed,
        gaps,
        held,
        lagging,
        ordered,
        passed_over,
        receipts,
        receipts_of_queued,
        receipts_of_lost,
        refused,
        refused_changes,
        closed_slow,
        conflating_for_memory,
        dropping_for_memory,
        closing_for_memory,
        compactions,
    }
}

counts! {
    /// As [`Seen`], of messages to several topics.
    Severally {
        to_several,
        in_several,
        recovered,
        replayed,
        receipts,
        refused_parts,
        refused_changes,
    }
}
