//! The publications of one batch that are under way, in the order in which they came.

use std::{collections::VecDeque, pin::Pin, rc::Rc};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    connection::Local,
    http::{answer::Refusal, connections::Connections, credentials::Caller, underway::Underway},
    limits::BATCH_UNDERWAY,
    protocol::publish_body,
};

/// The result of a publication, when it has one.
type Outcome = Pin<Box<dyn Future<Output = Vec<u8>>>>;

/// Publications under way, and what is needed to begin one.
pub(super) struct Queue {
    local: Local,
    connections: Rc<Connections>,
    /// Whose batch it is.
    caller: Caller,
    underway: VecDeque<Outcome>,
    /// How many may be under way.
    most: usize,
    /// Whether the last is to several topics. What comes behind it must wait until it has its places in them.
    is_barred: bool,
    /// Publications begun since the thread was left to others.
    begun: usize,
}

impl Queue {
    /// An empty queue. One that is `ordered` begins a publication when the one before has its result.
    pub(super) fn new(local: Local, connections: Rc<Connections>, caller: Caller, ordered: bool) -> Self {
        let most = if ordered { 1 } else { BATCH_UNDERWAY };
        Self { local, connections, caller, underway: VecDeque::new(), most, is_barred: false, begun: 0 }
    }

    /// The shard this is on.
    pub(super) fn local(&self) -> &Local {
        &self.local
    }

    /// Whether another publication may begin.
    pub(super) fn has_room(&self) -> bool {
        self.underway.len() < self.most && !self.is_barred
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.underway.is_empty()
    }

    /// Begins a publication: waits for a place among the requests in work and for credits, and hands it to the engine.
    /// Whatever goes wrong is its result.
    pub(super) async fn publish(&mut self, object: Bytes) {
        if self.begun == BATCH_UNDERWAY {
            self.begun = 0;
            tokio::task::yield_now().await;
        }
        self.begun += 1;
        let result: Outcome = match self.begin(object).await {
            Err(refusal) => Box::pin(std::future::ready(refusal.json())),
            Ok(underway) => {
                let receipt_wait = self.local.node().settings().receipt_wait;
                let until = Instant::now() + receipt_wait;
                Box::pin(async move {
                    match underway.placed().await {
                        Ok(standing) => standing.json(until).await,
                        Err(error) => Refusal::from(error).json(),
                    }
                })
            }
        };
        self.underway.push_back(result);
    }

    /// Takes up the result of a line that is no publication.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.underway.push_back(Box::pin(std::future::ready(refusal.json())));
    }

    /// Waits for the result of the first.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing is lost.
    pub(super) async fn next(&mut self) -> Vec<u8> {
        let first = self.underway.front_mut().expect("it is asked only if one is under way");
        let result = first.await;
        self.underway.pop_front();
        self.is_barred &= !self.underway.is_empty();
        result
    }

    async fn begin(&mut self, object: Bytes) -> Result<Underway, Refusal> {
        let settings = self.local.node().settings();
        let publication = publish_body::parse(object, settings.max_message)?;
        publication.topics.iter().try_for_each(|topic| self.caller.may_publish(&settings, topic))?;
        let is_to_several = publication.topics.len() > 1;
        let wait = settings.publish_wait;
        drop(settings);
        let until = Instant::now() + wait;
        let work = self.connections.work(wait).await.ok_or_else(Refusal::overloaded)?;
        let underway = Underway::begin(&self.local, &self.caller, publication, until).await?;
        drop(work);
        self.is_barred = is_to_several;
        Ok(underway)
    }
}
