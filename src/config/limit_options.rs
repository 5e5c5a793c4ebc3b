//! The options of the table `[limits]`: how many may come in and how fast, and what they may have together.
//!
//! As `options` has those of the other tables; they are checked here, beside their range.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::checks::{Refused, within};
use crate::{limits, settings::Settings, units::Count};

/// How many may come in, and how fast.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct LimitOptions {
    /// Most clients connected at once; further ones get 503. 0: as many as there are descriptors for, some kept for HTTP
    #[arg(long, env = "FANFARE_MAX_CONNECTIONS", value_name = "N")]
    pub(super) max_connections: Option<Count>,

    /// Most connections of one IP address (IPv6: of one /64); further ones are reset. 0: any number
    #[arg(long, env = "FANFARE_MAX_CONNECTIONS_PER_IP", value_name = "N")]
    pub(super) max_connections_per_ip: Option<Count>,

    /// Connections begun in a second over all addresses, 5 times as many at once; further ones are reset. 0: any number
    #[arg(long, env = "FANFARE_HANDSHAKES_PER_SECOND", value_name = "N")]
    pub(super) handshakes_per_second: Option<Count>,

    /// The same, of one IP address (IPv6: of one /64)
    #[arg(long, env = "FANFARE_HANDSHAKES_PER_SECOND_PER_IP", value_name = "N")]
    pub(super) handshakes_per_second_per_ip: Option<Count>,

    /// Commands, pings and pongs of one client in a second; beyond what it may send at once it is closed with 1008
    #[arg(long, env = "FANFARE_COMMANDS_PER_SECOND", value_name = "N")]
    pub(super) commands_per_second: Option<Count>,

    /// The same, at once
    #[arg(long, env = "FANFARE_COMMANDS_BURST", value_name = "N")]
    pub(super) commands_burst: Option<Count>,

    /// Most registrations; further ones get 503
    #[arg(long, env = "FANFARE_MAX_REGISTRATIONS", value_name = "N")]
    pub(super) max_registrations: Option<Count>,

    /// Most topics there may be at once, over all clients; a further one gets 503 unless one nobody wants makes room
    #[arg(long, env = "FANFARE_MAX_TOPICS", value_name = "N")]
    pub(super) max_topics: Option<Count>,
}

impl LimitOptions {
    /// These, and from `other` what is missing here.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            max_connections: self.max_connections.or(other.max_connections),
            max_connections_per_ip: self.max_connections_per_ip.or(other.max_connections_per_ip),
            handshakes_per_second: self.handshakes_per_second.or(other.handshakes_per_second),
            handshakes_per_second_per_ip: self
                .handshakes_per_second_per_ip
                .or(other.handshakes_per_second_per_ip),
            commands_per_second: self.commands_per_second.or(other.commands_per_second),
            commands_burst: self.commands_burst.or(other.commands_burst),
            max_registrations: self.max_registrations.or(other.max_registrations),
            max_topics: self.max_topics.or(other.max_topics),
        }
    }

    /// The options that come to these settings.
    pub(super) fn of(settings: &Settings) -> Self {
        let gate = &settings.gate;
        let number = |number: u32| Some(Count(number as usize));
        Self {
            max_connections: Some(Count(gate.max_connections)),
            max_connections_per_ip: Some(Count(gate.max_connections_per_ip)),
            handshakes_per_second: number(gate.handshakes_per_second),
            handshakes_per_second_per_ip: number(gate.handshakes_per_second_per_ip),
            commands_per_second: number(settings.commands_per_second),
            commands_burst: number(settings.commands_burst),
            max_registrations: Some(Count(settings.registrations_max)),
            max_topics: Some(Count(settings.topics_max)),
        }
    }

    /// Checks them, and has the settings say so.
    pub(super) fn check(self, settings: &mut Settings) -> Result<(), Refused> {
        let set = |option, given: Option<Count>, least, most, to: &mut usize| {
            if let Some(given) = given {
                *to = within(option, given, (Count(least), Count(most)))?.0;
            }
            Ok::<(), Refused>(())
        };
        let gate = &mut settings.gate;
        let (connections, rate) = (limits::CONNECTIONS_MAX, limits::HANDSHAKES_PER_SECOND_MAX);
        set("max_connections", self.max_connections, 0, connections, &mut gate.max_connections)?;
        let per_ip = &mut gate.max_connections_per_ip;
        set("max_connections_per_ip", self.max_connections_per_ip, 0, connections, per_ip)?;
        let (most, registrations) = (limits::REGISTRATIONS_MOST, &mut settings.registrations_max);
        set("max_registrations", self.max_registrations, 1, most, registrations)?;
        set("max_topics", self.max_topics, 1, limits::TOPICS_MOST, &mut settings.topics_max)?;
        // Of the same kind, but smaller.
        let set = |option, given, least, most, to: &mut u32| {
            let mut wide = *to as usize;
            set(option, given, least, most, &mut wide)?;
            *to = u32::try_from(wide).unwrap_or(u32::MAX);
            Ok::<(), Refused>(())
        };
        let per_second = &mut gate.handshakes_per_second;
        set("handshakes_per_second", self.handshakes_per_second, 0, rate, per_second)?;
        let per_ip = &mut gate.handshakes_per_second_per_ip;
        set("handshakes_per_second_per_ip", self.handshakes_per_second_per_ip, 0, rate, per_ip)?;
        let (commands, most) = (&mut settings.commands_per_second, limits::COMMANDS_MAX);
        set("commands_per_second", self.commands_per_second, 1, most, commands)?;
        set("commands_burst", self.commands_burst, 1, most, &mut settings.commands_burst)
    }
}
