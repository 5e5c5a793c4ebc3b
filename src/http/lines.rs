//! The lines of a request's body as they arrive: each bounded in bytes and in time, all together in neither.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    answer::Refusal,
    connections::{Account, Connections},
};
use crate::protocol::lines::{LineSplitter, Split};

/// A body that is read line by line.
pub(super) struct Lines<B> {
    body: B,
    splitter: LineSplitter,
    /// How long a line may take.
    wait: Duration,
    /// What came last and was not looked at.
    piece: Bytes,
    /// When the next line must be there, once it is waited for.
    until: Option<Instant>,
    /// What the line that has begun takes of the bytes a shard may hold.
    account: Account,
    connections: Rc<Connections>,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end, that has more in it than white space; such lines are passed over.
    Whole(Bytes),
    /// A line that was too long.
    TooLong,
    /// The body is over, in order.
    End,
    /// The body broke off, or is not framed as HTTP says.
    Broken,
    /// The line did not come in time.
    Late,
    /// The shard holds as many bytes of bodies as it may.
    Overloaded,
}

impl<B: Body<Data = Bytes> + Unpin> Lines<B> {
    pub(super) fn new(body: B, max: usize, wait: Duration, connections: &Rc<Connections>) -> Self {
        Self {
            body,
            splitter: LineSplitter::new(max),
            wait,
            piece: Bytes::new(),
            until: None,
            account: connections.account(),
            connections: connections.clone(),
        }
    }

    /// Waits for the first bytes. Whoever asked for `100 Continue` before it sends them gets it, which it would not once
    /// it is being answered.
    ///
    /// # Errors
    /// 408 when they do not come in time, 400 when the body breaks off.
    pub(super) async fn begin(&mut self) -> Result<(), Refusal> {
        match timeout(self.wait, self.body.frame()).await {
            Err(_) => Err(Refusal::body_timeout()),
            Ok(Some(Err(_))) => Err(Refusal::body_broken()),
            Ok(Some(Ok(frame))) => {
                self.piece = frame.into_data().unwrap_or_default();
                Ok(())
            }
            Ok(None) => Ok(()),
        }
    }

    /// Waits for the next line. All but [`Line::Whole`] and [`Line::TooLong`] are the last. The last line of a body needs no
    /// end of its own.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing is lost, and the time of the line runs on.
    pub(super) async fn next(&mut self) -> Line {
        loop {
            if let Some(line) = self.take_line() {
                return line;
            }
            if !self.keep_piece() {
                return Line::Overloaded;
            }
            let until = *self.until.get_or_insert_with(|| Instant::now() + self.wait);
            match timeout_at(until, self.body.frame()).await {
                Err(_) => return Line::Late,
                Ok(Some(Err(_))) => return Line::Broken,
                // Trailers say nothing here.
                Ok(Some(Ok(frame))) => self.piece = frame.into_data().unwrap_or_default(),
                Ok(None) => return self.splitter.end().map_or(Line::End, Line::from),
            }
        }
    }

    /// The line whose end is in the piece.
    fn take_line(&mut self) -> Option<Line> {
        let before = self.piece.len();
        let line = self.splitter.next(&mut self.piece);
        if self.piece.len() < before {
            // A line has ended, though perhaps only a blank one: what it held is free, and the next has all the time.
            self.until = None;
            self.account = self.connections.account();
        }
        line.map(Line::from)
    }

    /// Puts the piece, which has no end of a line, behind the line that has begun. Says whether the shard may hold it.
    fn keep_piece(&mut self) -> bool {
        let piece = std::mem::take(&mut self.piece);
        if !self.splitter.keeps(piece.len()) {
            self.account = self.connections.account();
        } else if !self.account.charge(piece.len()) {
            return false;
        }
        self.splitter.keep(&piece);
        true
    }
}

impl From<Split> for Line {
    fn from(split: Split) -> Self {
        match split {
            Split::Line(line) => Self::Whole(line),
            Split::TooLong => Self::TooLong,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::body::Frame;

    use super::*;
    use crate::{limits::HTTP_BODIES_BYTES, settings::Settings};

    /// A body in pieces; when they are out it ends, or says nothing more.
    struct Pieces {
        pieces: VecDeque<&'static str>,
        stalls: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                None if self.stalls => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn lines(connections: &Rc<Connections>, pieces: &[&'static str], stalls: bool) -> Lines<Pieces> {
        let body = Pieces { pieces: pieces.iter().copied().collect(), stalls };
        Lines::new(body, 5, Duration::from_millis(10), connections)
    }

    async fn read(pieces: &[&'static str], stalls: bool) -> Vec<String> {
        let connections = Connections::new(&Settings::default());
        let mut lines = lines(&connections, pieces, stalls);
        let mut read = Vec::new();
        loop {
            match lines.next().await {
                Line::Whole(line) => read.push(String::from_utf8(line.to_vec()).expect("a text")),
                Line::TooLong => read.push("too long".into()),
                last => {
                    read.push(format!("{last:?}"));
                    return read;
                }
            }
        }
    }

    #[tokio::test]
    async fn lines_are_found_however_the_body_is_cut() {
        assert_eq!(
            read(&["a\nb", "c\n", "\n \r\n", "d", "e", "\r\nf"], false).await,
            ["a", "bc", "de\r", "f", "End"]
        );
        assert_eq!(read(&["a\n", "", "b\n"], false).await, ["a", "b", "End"]);
        assert_eq!(read(&[], false).await, ["End"]);
        assert_eq!(read(&["\n\n", "  "], false).await, ["End"]);
    }

    #[tokio::test]
    async fn line_too_long_is_passed_over_and_the_next_is_read() {
        assert_eq!(read(&["12345\n123456\n1\n"], false).await, ["12345", "too long", "1", "End"]);
        assert_eq!(read(&["123", "456", "789\n12\n3"], false).await, ["too long", "12", "3", "End"]);
        assert_eq!(read(&["a\n1234567"], false).await, ["a", "too long", "End"]);
    }

    #[tokio::test]
    async fn line_that_does_not_come_in_time_is_the_last() {
        assert_eq!(read(&["a\n", "b"], true).await, ["a", "Late"]);
    }

    #[tokio::test]
    async fn what_has_begun_is_a_part_of_what_the_shard_may_hold() {
        let connections = Connections::new(&Settings::default());
        let mut others = connections.account();
        assert!(others.charge(HTTP_BODIES_BYTES - 1));
        assert_eq!(lines(&connections, &["ab", "\n"], false).next().await, Line::Overloaded);
        let mut one = lines(&connections, &["a", "\nb", "c\n"], false);
        assert_eq!(one.next().await, Line::Whole("a".into()));
        assert_eq!(one.next().await, Line::Whole("bc".into()), "a line that is over gives back what it took");
    }
}
