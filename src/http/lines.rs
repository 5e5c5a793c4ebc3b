//! The lines of a request's body as they arrive: each bounded in bytes and in time, all together in neither.

use std::{rc::Rc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    answer::Refusal,
    connections::{Account, Connections},
};

/// A body that is read line by line.
pub(super) struct Lines<B> {
    body: B,
    /// Longest line, bytes.
    max: usize,
    /// How long a line may take.
    wait: Duration,
    /// What came last and was not looked at.
    piece: Bytes,
    /// The begin of a line whose end has not come.
    begun: BytesMut,
    /// Whether the rest of a line that is too long is passed over.
    passes_over: bool,
    /// When the next line must be there, once it is waited for.
    until: Option<Instant>,
    /// What `begun` takes of the bytes a shard may hold.
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
            max,
            wait,
            piece: Bytes::new(),
            begun: BytesMut::new(),
            passes_over: false,
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
                Ok(None) if self.passes_over => {
                    self.passes_over = false;
                    return Line::TooLong;
                }
                Ok(None) if self.begun.iter().all(u8::is_ascii_whitespace) => return Line::End,
                Ok(None) => return Line::Whole(self.begun.split().freeze()),
            }
        }
    }

    /// The line whose end is in the piece.
    fn take_line(&mut self) -> Option<Line> {
        loop {
            let length = self.piece.iter().position(|&byte| byte == b'\n')?;
            let mut line = self.piece.split_to(length);
            self.piece.advance(1);
            self.until = None;
            if std::mem::take(&mut self.passes_over) || self.begun.len() + line.len() > self.max {
                self.forget_begun();
                return Some(Line::TooLong);
            }
            if !self.begun.is_empty() {
                self.begun.extend_from_slice(&line);
                line = self.begun.split().freeze();
                self.forget_begun();
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Line::Whole(line));
            }
        }
    }

    /// Puts the piece, which has no end of a line, behind the line that has begun. Says whether the shard may hold it.
    fn keep_piece(&mut self) -> bool {
        let piece = std::mem::take(&mut self.piece);
        if self.passes_over || self.begun.len() + piece.len() > self.max {
            self.passes_over = true;
            self.forget_begun();
            return true;
        }
        if !self.account.charge(piece.len()) {
            return false;
        }
        self.begun.extend_from_slice(&piece);
        true
    }

    fn forget_begun(&mut self) {
        self.begun = BytesMut::new();
        self.account = self.connections.account();
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
