//! Reading a request's body: bounded in bytes and in time, and not copied where it came in one piece.

use std::{rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::{
    answer::Refusal,
    connections::{Account, Connections},
};
use crate::settings::Settings;

/// A whole body, and what it takes of the bytes a shard may hold.
pub(super) struct Collected {
    pub(super) bytes: Bytes,
    pub(super) _account: Account,
}

/// How large a body may be, what to say when it is larger, and how long it may take.
pub(super) struct Bounds {
    pub(super) max: usize,
    pub(super) too_large: fn(usize) -> Refusal,
    pub(super) timeout: Duration,
}

impl Bounds {
    /// Those of a body that is JSON.
    pub(super) fn of_object(settings: &Settings) -> Self {
        Self {
            max: settings.max_body,
            too_large: Refusal::body_too_large,
            timeout: settings.http_body_timeout,
        }
    }
}

/// Reads `body` to its end. What its length announces to be too large is not read at all.
///
/// # Errors
/// 413 over the bound, 408 when it takes too long, 400 when it breaks off or has trailers, 503 when the shard holds too much.
pub(super) async fn read<B>(
    body: B,
    bounds: &Bounds,
    connections: &Rc<Connections>,
) -> Result<Collected, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > bounds.max as u64 {
        return Err((bounds.too_large)(bounds.max));
    }
    let mut account = connections.account();
    let bytes = tokio::time::timeout(bounds.timeout, collect(body, bounds, &mut account))
        .await
        .map_err(|_| Refusal::body_timeout())??;
    Ok(Collected { bytes, _account: account })
}

async fn collect<B>(mut body: B, bounds: &Bounds, account: &mut Account) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let Some(first) = piece(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > bounds.max {
        return Err((bounds.too_large)(bounds.max));
    }
    let Some(second) = piece(&mut body).await? else { return Ok(first) };
    let mut whole =
        BytesMut::with_capacity(announced.unwrap_or(2 * (first.len() + second.len())).min(bounds.max));
    whole.extend_from_slice(&first);
    drop(first);
    let mut next = Some(second);
    while let Some(piece_) = next {
        if whole.len() + piece_.len() > bounds.max {
            return Err((bounds.too_large)(bounds.max));
        }
        if !account.charge(piece_.len()) {
            return Err(Refusal::overloaded_with_bodies());
        }
        whole.extend_from_slice(&piece_);
        next = piece(&mut body).await?;
    }
    Ok(whole.freeze())
}

/// The next piece that has bytes in it.
async fn piece<B>(body: &mut B) -> Result<Option<Bytes>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Refusal::body_broken())?.into_data() {
            Ok(data) if !data.is_empty() => return Ok(Some(data)),
            Ok(_) => {}
            // What hyper takes for trailers may be the next request to whoever ends lines otherwise.
            Err(_trailers) => return Err(Refusal::ambiguous("a body has no trailers here")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::body::{Frame, SizeHint};

    use super::*;
    use crate::limits::HTTP_BODIES_BYTES;

    /// A body in pieces; when they are out it ends, or says nothing more.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        announced: Option<u64>,
        stalls: bool,
    }

    impl Pieces {
        fn of(pieces: &[&[u8]]) -> Self {
            let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
            Self { pieces, announced: None, stalls: false }
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.stalls => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    async fn read_up_to(max: usize, body: Pieces) -> Result<Bytes, u16> {
        let connections = Connections::new(&Settings::default());
        let bounds = Bounds { max, too_large: Refusal::body_too_large, timeout: Duration::from_millis(10) };
        let read = read(body, &bounds, &connections).await;
        read.map(|read| read.bytes).map_err(|refusal| refusal.status.as_u16())
    }

    #[tokio::test]
    async fn pieces_are_put_together_and_one_piece_is_not_copied() {
        assert_eq!(read_up_to(9, Pieces::of(&[b"one", b"", b"two", b"six"])).await, Ok("onetwosix".into()));
        assert_eq!(read_up_to(9, Pieces::of(&[])).await, Ok(Bytes::new()));
        let body = Pieces::of(&[b"", b"alone"]);
        let at = body.pieces[1].as_ptr();
        assert_eq!(read_up_to(9, body).await.expect("it is small").as_ptr(), at);
    }

    #[tokio::test]
    async fn bound_holds_with_and_without_a_length() {
        assert_eq!(read_up_to(5, Pieces::of(&[b"123456"])).await, Err(413));
        assert_eq!(read_up_to(5, Pieces::of(&[b"123", b"456"])).await, Err(413));
        assert_eq!(read_up_to(6, Pieces::of(&[b"123", b"456"])).await, Ok("123456".into()));
        let announced = Pieces { announced: Some(6), stalls: true, ..Pieces::of(&[]) };
        assert_eq!(read_up_to(5, announced).await, Err(413), "it is refused before a byte of it is read");
    }

    #[tokio::test]
    async fn dribbled_body_is_cut() {
        let body = Pieces { stalls: true, ..Pieces::of(&[b"1", b"2"]) };
        assert_eq!(read_up_to(5, body).await, Err(408));
    }

    #[tokio::test]
    async fn body_is_refused_when_the_shard_holds_too_much() {
        let connections = Connections::new(&Settings::default());
        let mut others = connections.account();
        assert!(others.charge(HTTP_BODIES_BYTES - 1));
        let bounds = Bounds { max: 10, too_large: Refusal::body_too_large, timeout: Duration::from_secs(5) };
        let refusal = read(Pieces::of(&[b"12", b"34"]), &bounds, &connections).await.err();
        assert_eq!(refusal, Some(Refusal::overloaded_with_bodies()));
        assert!(
            read(Pieces::of(&[b"1234"]), &bounds, &connections).await.is_ok(),
            "one piece is hyper's own"
        );
    }
}
