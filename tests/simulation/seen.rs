//! What happened in a run, counted, so that a run in which something never happens does not pass for a test of it.

macro_rules! counts {
    ($($name:ident,)*) => {
        /// How often something happened that a run must not do without.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Seen {
            $(pub(crate) $name: u64,)*
        }

        impl std::ops::AddAssign for Seen {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Seen {
            /// What did not happen at all.
            pub(crate) fn never(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name)),*].iter().filter(|(_, n)| *n == 0).map(|(name, _)| *name).collect()
            }
        }
    };
}

counts! {
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
