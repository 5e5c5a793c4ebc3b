//! The least an HTTP server on hyper can do with a publication: read the body and answer 200. One thread, no routes, no
//! engine. What a server built on hyper spends beyond this, it spends on publishing.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::LocalSet;

use super::launch;
use crate::error::{Context, Result};

/// What `loadtest serve-hyper` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct HyperArgs {
    /// Where to listen
    #[arg(long, value_parser = super::loopback)]
    listen: SocketAddr,
    /// Length of the body of each answer
    #[arg(long, default_value_t = 64)]
    answer_bytes: usize,
}

/// Serves until it is ended.
pub(crate) fn serve(args: &HyperArgs) -> Result<()> {
    launch::end_with_parent()?;
    let answer = Bytes::from(vec![b'x'; args.answer_bytes]);
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(|| "no runtime".to_owned())?;
    let served = LocalSet::new().block_on(&runtime, accept(args.listen, answer));
    served.context(|| "the hyper server failed".to_owned())
}

async fn accept(listen: SocketAddr, answer: Bytes) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tokio::task::spawn_local(async move {
            let answering = service_fn(move |request| respond(request, answer.clone()));
            let mut protocol = http1::Builder::new();
            protocol.timer(TokioTimer::new()).pipeline_flush(true);
            // A connection that breaks is the generator's business: it counts what was answered.
            let _ = protocol.serve_connection(TokioIo::new(stream), answering).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Bytes,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off breaks the connection too, and the answer goes nowhere.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(answer));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
