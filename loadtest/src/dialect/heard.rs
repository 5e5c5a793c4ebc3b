//! What an interpreter gives out, as frames: deliveries without their wrapping, and answers.

/// What came out of one payload, collected over those of one read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// Plain frames, one for each message.
    pub(super) frames: Vec<u8>,
    /// Frames to be sent.
    pub(super) replies: Vec<u8>,
    /// The server has confirmed that the client is on its topic.
    pub(super) has_joined: bool,
}

/// A binary frame as a server sends it (RFC 6455 section 5.2).
pub(super) fn server_frame(body: &[u8], frames: &mut Vec<u8>) {
    frames.push(0x82);
    push_length(body.len(), 0, frames);
    frames.extend_from_slice(body);
}

/// A masked text frame as a client sends it.
pub(super) fn client_frame(body: &[u8]) -> Vec<u8> {
    // Fixed, but not zero: the server has to unmask it.
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![0x81];
    push_length(body.len(), 0x80, &mut frame);
    frame.extend_from_slice(&MASK);
    frame.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn push_length(length: usize, mask_bit: u8, frame: &mut Vec<u8>) {
    match length {
        0..126 => frame.push(mask_bit | length as u8),
        126..=0xFFFF => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask_bit | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
