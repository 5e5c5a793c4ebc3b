//! One segment of a log: its frames, who points into it, and where it stands in its life.

use bytes::Bytes;

use crate::{
    engine::{
        age_list::{Aged, Neighbours},
        frame_index::FrameIndex,
    },
    websocket::Header,
};

#[derive(Debug)]
pub(super) enum Body {
    /// Frames one behind the other.
    Packed(Vec<u8>),
    /// One large frame.
    Shared { header: Header, body: Bytes },
}

/// Where a segment stands in its life; the last two are the lists it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A tail: frames are appended to it, and it lives without pins.
    Open,
    /// Full, as it was appended.
    Fresh,
    /// Holds nothing, or next to nothing, that nobody wants.
    Dense,
    /// Holds the rest of a partly written frame and nothing else.
    Rest,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) body: Body,
    pub(super) frames: FrameIndex,
    /// Ranges of outboxes that point here.
    pub(super) pins: u32,
    pub(super) stage: Stage,
    pub(super) neighbours: Neighbours,
}

impl Aged for Segment {
    fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

impl Segment {
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Packed(bytes) => bytes.len(),
            Body::Shared { header, body } => header.as_slice().len() + body.len(),
        }
    }

    /// What the segment costs, bytes.
    pub(super) fn held(&self) -> usize {
        let body = match &self.body {
            Body::Packed(bytes) => bytes.capacity(),
            Body::Shared { body, .. } => body.len(),
        };
        body + self.frames.held() + size_of::<Self>()
    }
}
