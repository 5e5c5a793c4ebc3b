//! The options of the table `[limits]`: how many may come in and how fast, and what they may have together.
//!
//! As `options` has those of the other tables.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::checks::set;
use crate::{settings::Settings, units::Count};

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

    /// Has the settings say so.
    pub(super) fn take(self, settings: &mut Settings) {
        let wide = |given: Option<Count>| given.map(|Count(count)| count);
        // What is too large for 32 bits is too large.
        let narrow = |given| wide(given).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let gate = &mut settings.gate;
        set(&mut gate.max_connections, wide(self.max_connections));
        set(&mut gate.max_connections_per_ip, wide(self.max_connections_per_ip));
        set(&mut gate.handshakes_per_second, narrow(self.handshakes_per_second));
        set(&mut gate.handshakes_per_second_per_ip, narrow(self.handshakes_per_second_per_ip));
        set(&mut settings.commands_per_second, narrow(self.commands_per_second));
        set(&mut settings.commands_burst, narrow(self.commands_burst));
        set(&mut settings.registrations_max, wide(self.max_registrations));
        set(&mut settings.topics_max, wide(self.max_topics));
    }
}
