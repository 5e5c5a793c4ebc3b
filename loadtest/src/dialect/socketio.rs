//! Socket.IO packets in Engine.IO packets (socket.io/docs, "The Socket.IO protocol" 5 and "The Engine.IO protocol" 4):
//! a digit for the one, a digit for the other, then JSON. Every frame holds one packet.

use super::heard::{Heard, client_frame, server_frame};

/// An event named `m` with one text: what the server of this harness emits. The messages need no escapes.
const BEFORE: &[u8] = br#"42["m",""#;
const BEHIND: &[u8] = br#""]"#;

/// Takes one packet.
pub(super) fn hear(packet: &[u8], heard: &mut Heard) -> Result<(), String> {
    if let Some(message) = packet.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(BEHIND)) {
        server_frame(message, &mut heard.frames);
        return Ok(());
    }
    match packet {
        // Engine.IO is open: now connect to the main namespace.
        [b'0', ..] => heard.replies.extend(client_frame(b"40")),
        [b'2', ..] => heard.replies.extend(client_frame(b"3")),
        // The server puts a client into its room before it says so.
        [b'4', b'0', ..] => heard.has_joined = true,
        [b'6', ..] => {}
        other => {
            return Err(format!("not expected: {}", String::from_utf8_lossy(&other[..other.len().min(80)])));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_opened_joined_kept_and_given_messages() {
        let mut heard = Heard::default();
        hear(br#"0{"sid":"x","upgrades":[],"pingInterval":25000}"#, &mut heard).expect("open");
        assert_eq!(std::mem::take(&mut heard.replies), client_frame(b"40"));
        assert!(!heard.has_joined);
        hear(br#"40{"sid":"y"}"#, &mut heard).expect("connected");
        assert!(heard.has_joined);
        hear(b"2", &mut heard).expect("ping");
        assert_eq!(heard.replies, client_frame(b"3"));
        hear(br#"42["m","hello"]"#, &mut heard).expect("a message");
        let mut expected = Vec::new();
        server_frame(b"hello", &mut expected);
        assert_eq!(heard.frames, expected);
    }

    #[test]
    fn what_ends_a_connection_is_an_error() {
        for packet in [&b"1"[..], b"41", br#"44{"message":"no"}"#, br#"42["other","x"]"#, b"", br#"42["m",""#]
        {
            assert!(hear(packet, &mut Heard::default()).is_err(), "{}", String::from_utf8_lossy(packet));
        }
    }
}
