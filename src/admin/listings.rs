//! `GET /topics?top=`, the topics with most of something, `GET /clients?slowest=`, the clients with most queued, and `DELETE
//! /clients/{id}`.
//!
//! Each shard names its own first ones and is asked again for the exact figures of those that may be among the first of
//! all. A topic that is among the first four times as many of no shard is not found; shards have about as many clients each, so
//! that is one that ranks low.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{Answer, Refusal, json};
use crate::{
    engine::{ClientRank, Encoding, TopicFigures, TopicRank},
    http::percent,
    identity::{ClientId, Spelling},
    limits::{LISTED, LISTED_CANDIDATES, LISTED_MAX},
    node::{ConnectionName, Node, QueryError, SlowClient, Survey, SurveyCredit},
    topic::Topic,
};

#[derive(Serialize)]
struct Topics<'a> {
    by: &'static str,
    topics: Vec<ListedTopic<'a>>,
}

#[derive(Serialize)]
struct ListedTopic<'a> {
    topic: &'a str,
    class: &'a str,
    subscribers: usize,
    publications: u64,
    deliveries: u64,
    conflated: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Clients {
    by: &'static str,
    connected: u64,
    clients: Vec<ListedClient>,
}

#[derive(Serialize)]
struct ListedClient {
    id: String,
    shard: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<ListedUser>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    protocol: &'static str,
    state: &'static str,
    topics: usize,
    queued_bytes: usize,
    queued_messages: u64,
    oldest_ms: Option<u32>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ListedUser {
    Number(u64),
    Name(String),
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Overloaded => Self::too_late(),
            QueryError::Stopping => Self::stopping(),
        }
    }
}

/// The topics with most of what the query asks for.
pub(super) async fn topics(node: &Node, query: Option<&str>) -> Result<Answer, Refusal> {
    let ranks = [
        ("subscribers", TopicRank::Subscribers),
        ("publications", TopicRank::Publications),
        ("deliveries", TopicRank::Deliveries),
    ];
    let (most, (name, by)) = parameters(query, "top", &ranks)?;
    let credit = node.survey_credit()?;
    let candidates = candidates(node, &credit, by, most * LISTED_CANDIDATES).await?;
    let question = |reply| Survey::TopicFigures { topics: candidates.clone(), reply };
    let mut figures = vec![TopicFigures::default(); candidates.len()];
    for at_shard in node.ask_shards(&credit, question).await? {
        for (sum, at_shard) in figures.iter_mut().zip(at_shard) {
            sum.subscribers += at_shard.subscribers;
            sum.ledger += at_shard.ledger;
            sum.position = sum.position.or(at_shard.position);
        }
    }
    let publications = |figures: &TopicFigures| figures.position.map_or(0, |position| position.offset);
    let mut listed: Vec<(&Topic, TopicFigures)> = candidates.iter().zip(figures).collect();
    listed.sort_by_key(|(_, figures)| {
        std::cmp::Reverse(match by {
            TopicRank::Subscribers => figures.subscribers as u64,
            TopicRank::Publications => publications(figures),
            TopicRank::Deliveries => figures.ledger.matched,
        })
    });
    let settings = node.settings();
    let classes = &settings.classes;
    let topics = listed.into_iter().take(most).map(|(topic, figures)| ListedTopic {
        topic: topic.as_str(),
        class: &classes.get(classes.of(topic)).name,
        subscribers: figures.subscribers,
        publications: publications(&figures),
        deliveries: figures.ledger.matched,
        conflated: figures.ledger.conflated,
        dropped: figures.ledger.dropped(),
    });
    Ok(answer(&Topics { by: name, topics: topics.collect() }))
}

/// The first topics of each shard, each once.
async fn candidates(
    node: &Node,
    credit: &SurveyCredit,
    by: TopicRank,
    most: usize,
) -> Result<Arc<[Topic]>, QueryError> {
    let of_shards = node.ask_shards(credit, |reply| Survey::Topics { by, most, reply }).await?;
    let mut topics = of_shards.concat();
    topics.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    topics.dedup();
    Ok(topics.into())
}

/// The clients with most queued.
pub(super) async fn clients(node: &Node, query: Option<&str>) -> Result<Answer, Refusal> {
    let ranks = [("queued", ClientRank::Queued), ("age", ClientRank::Age)];
    let (most, (name, by)) = parameters(query, "slowest", &ranks)?;
    let credit = node.survey_credit()?;
    let of_shards = node.ask_shards(&credit, |reply| Survey::Clients { by, most, reply }).await?;
    let mut slowest: Vec<SlowClient> = of_shards.into_iter().flatten().collect();
    slowest.sort_by_key(|client| std::cmp::Reverse(client.rank));
    slowest.truncate(most);
    let clients = slowest.into_iter().map(listed).collect();
    Ok(answer(&Clients { by: name, connected: node.client_count(), clients }))
}

fn listed(client: SlowClient) -> ListedClient {
    let SlowClient { name, figures, peer, .. } = client;
    ListedClient {
        id: name.to_string(),
        shard: name.0.shard,
        user: figures.user.as_ref().map(|user| match user.spelling() {
            Spelling::Number(number) => ListedUser::Number(number),
            Spelling::Name(name) => ListedUser::Name(name.to_owned()),
        }),
        peer: peer.map(|peer| peer.to_string()),
        protocol: match figures.encoding {
            Encoding::Plain => "plain",
            Encoding::V1 => crate::protocol::v1::SUBPROTOCOL,
        },
        state: match (figures.closing, figures.blocked) {
            (true, _) => "closing",
            (false, true) => "blocked",
            (false, false) => "open",
        },
        topics: figures.topics,
        queued_bytes: figures.queued_bytes,
        queued_messages: figures.queued_messages,
        oldest_ms: figures.oldest_ms,
    }
}

/// Removes a client, by the id it is registered under or the name of its connection, and closes its connection (1000).
pub(super) async fn dismiss(node: &Node, id: &str) -> Result<Answer, Refusal> {
    let is_gone = if let Some(id) = ClientId::parse(id) {
        node.unregister(id).await
    } else if let Some(name) = ConnectionName::parse(id) {
        node.dismiss_connection(name).await?
    } else {
        false
    };
    match is_gone {
        true => Ok(json(StatusCode::OK, r#"{"dismissed":true}"#)),
        false => Err(Refusal::not_found("no client is registered or connected under this id")),
    }
}

fn answer(body: &impl Serialize) -> Answer {
    json(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default())
}

/// Reads a query: how many (`count` is what that is called there), and `by` what, the first rank if nothing is said.
fn parameters<R: Copy>(
    query: Option<&str>,
    count: &str,
    ranks: &[(&'static str, R)],
) -> Result<(usize, (&'static str, R)), Refusal> {
    let (mut most, mut by) = (LISTED, ranks[0]);
    for (name, value) in percent::pairs(query.unwrap_or_default()) {
        if name == count {
            let number = value.parse().ok().filter(|number| (1..=LISTED_MAX).contains(number));
            most = number.ok_or_else(|| Refusal::bad_request(format!("`{count}` is 1 to {LISTED_MAX}")))?;
        } else if name == "by" {
            let names: Vec<_> = ranks.iter().map(|(name, _)| *name).collect();
            let found = ranks.iter().find(|(name, _)| *name == value);
            let refused = || Refusal::bad_request(format!("`by` is one of {}", names.join(", ")));
            by = *found.ok_or_else(refused)?;
        } else {
            return Err(Refusal::bad_request(format!("the parameters are `{count}` and `by`")));
        }
    }
    Ok((most, by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_and_have_defaults() {
        let ranks = [("a", 1), ("b", 2)];
        let read = |query| parameters(query, "top", &ranks).map_err(|refusal| refusal.status.as_u16());
        assert_eq!(read(None), Ok((20, ("a", 1))));
        assert_eq!(read(Some("by=b&top=100")), Ok((100, ("b", 2))));
        for bad in ["top=0", "top=101", "top=", "top=-1", "by=c", "by", "slowest=1", "top=1&x=2"] {
            assert_eq!(read(Some(bad)), Err(400), "{bad}");
        }
    }
}
