//! What a log still holds, counted by walking all of it: for simulations, which ask when nothing should be left.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Log, Stage};

impl Log {
    /// Ranges that point into all segments.
    pub(crate) fn all_pins(&self) -> u64 {
        self.segments.iter().map(|(_, segment)| u64::from(segment.pins)).sum()
    }

    /// Segments that live only as long as somebody points into them.
    pub(crate) fn pinned_segments(&self) -> usize {
        self.segments.iter().filter(|(_, segment)| segment.stage != Stage::Open).count()
    }

    /// Books that somebody has or refers to besides the frames that are still here.
    pub(crate) fn books_besides_frames(&self) -> usize {
        let mut frames: HashMap<u32, u64, RandomState> = HashMap::default();
        for note in self.segments.iter().flat_map(|(_, segment)| segment.frames.notes()) {
            *frames.entry(note.book).or_default() += 1;
        }
        self.books.held_besides(|book| frames.get(&book).copied().unwrap_or(0))
    }
}
