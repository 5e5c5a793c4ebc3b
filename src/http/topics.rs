//! `GET /topics/{topic}`, how a topic stands, and `GET /topics/{topic}/history`, what is kept of it.
//!
//! A topic nobody has used is no error: it stands at offset 0, without an epoch, and its history is empty.

use std::{fmt::Write as _, rc::Rc};

use hyper::{Request, Uri, body::Incoming};

use super::{
    answer::{Answer, Refusal, json},
    connections::Connections,
    credentials::Caller,
    percent,
};
use crate::{
    connection::Local,
    limits::{HISTORY_PAGE, HISTORY_PAGE_MAX},
    node::{HistoryPage, TopicState, Viewer},
    protocol::json::push_str,
    publication::Position,
    topic::Topic,
};

/// Says how a topic stands.
pub(super) async fn topic(
    local: &Local,
    connections: &Rc<Connections>,
    topic: &str,
    request: &Request<Incoming>,
) -> Result<Answer, Refusal> {
    let topic = parse(topic)?;
    {
        let settings = local.node().settings();
        let caller = Caller::of(&settings, request.headers())?;
        caller.enter(&settings)?;
        caller.may_subscribe(&settings, &topic)?;
    }
    if let Some(name) = percent::decoded_pairs(request.uri().query().unwrap_or_default())
        .next()
        .transpose()?
        .map(|(name, _)| name)
    {
        return Err(unknown_parameter(&name, "none"));
    }
    let wait = local.node().settings().join_wait;
    let _work = connections.work(wait).await.ok_or_else(Refusal::overloaded)?;
    let state = local.node().topic(&topic).await?;
    Ok(json(state_json(&topic, &state)))
}

/// Gives a part of a topic's history; what is addressed to one user only to who may see everything.
pub(super) async fn history(
    local: &Local,
    connections: &Rc<Connections>,
    topic: &str,
    request: &Request<Incoming>,
) -> Result<Answer, Refusal> {
    let topic = parse(topic)?;
    let viewer = {
        let settings = local.node().settings();
        let caller = Caller::of(&settings, request.headers())?;
        caller.enter(&settings)?;
        caller.may_subscribe(&settings, &topic)?;
        if caller.is_admin() { Viewer::Admin } else { Viewer::Anyone }
    };
    let Part { since, limit } = Part::of(request.uri())?;
    let wait = local.node().settings().join_wait;
    let _work = connections.work(wait).await.ok_or_else(Refusal::overloaded)?;
    let page = local.node().history(&topic, since, limit, viewer).await?;
    Ok(json(page_json(&topic, &page)))
}

fn parse(topic: &str) -> Result<Topic, Refusal> {
    Topic::parse(&percent::decode(topic)?).map_err(|error| Refusal::bad_request(error.to_string()))
}

fn state_json(topic: &Topic, state: &TopicState) -> String {
    let TopicState { position, class, kept, subscribers, ledger } = state;
    let mut json = begin_json(topic, *position);
    json.push_str(r#","class":"#);
    push_quoted(&mut json, class);
    let total: usize = subscribers.iter().sum();
    let by_shard: Vec<String> = subscribers.iter().map(usize::to_string).collect();
    write!(
        json,
        r#","kept":{kept},"subscribers":{total},"subscribers_by_shard":[{}],"frames":{{"matched":{},"conflated":{},"dropped":{{"bound":{},"age":{},"memory":{},"closed":{}}}}}}}"#,
        by_shard.join(","),
        ledger.matched,
        ledger.conflated,
        ledger.dropped_bound,
        ledger.dropped_age,
        ledger.dropped_memory,
        ledger.dropped_closed,
    )
    .expect("a String takes it");
    json
}

fn page_json(topic: &Topic, page: &HistoryPage) -> Vec<u8> {
    let mut json = begin_json(topic, page.position);
    write!(json, r#","reaches":{},"more":{},"messages":["#, page.reaches, page.more)
        .expect("a String takes it");
    let mut json = json.into_bytes();
    for (at, kept) in page.messages.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(&kept.to_json(topic));
    }
    json.extend_from_slice(b"]}");
    json
}

/// Appends a JSON string.
fn push_quoted(json: &mut String, text: &str) {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    push_str(&mut quoted, text.as_bytes());
    json.push_str(&String::from_utf8_lossy(&quoted));
}

/// The begin of an object: the topic and where it stands.
fn begin_json(topic: &Topic, position: Option<Position>) -> String {
    let mut json = String::with_capacity(256 + topic.as_str().len());
    json.push_str(r#"{"topic":"#);
    push_quoted(&mut json, topic.as_str());
    match position {
        Some(Position { offset, epoch }) => write!(json, r#","offset":{offset},"epoch":"{epoch}""#),
        None => write!(json, r#","offset":0"#),
    }
    .expect("a String takes it");
    json
}

/// Which part of a history is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    since: Option<u64>,
    limit: usize,
}

impl Part {
    fn of(uri: &Uri) -> Result<Self, Refusal> {
        let (mut since, mut limit) = (None, None);
        for parameter in percent::decoded_pairs(uri.query().unwrap_or_default()) {
            let (name, value) = parameter?;
            let first = match &*name {
                "since" => {
                    let malformed = || Refusal::bad_request("`since` is an offset");
                    since.replace(value.parse().map_err(|_| malformed())?).is_none()
                }
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=HISTORY_PAGE_MAX).contains(number));
                    let malformed =
                        || Refusal::bad_request(format!("`limit` is a number from 1 to {HISTORY_PAGE_MAX}"));
                    limit.replace(number.ok_or_else(malformed)?).is_none()
                }
                other => return Err(unknown_parameter(other, "`since` and `limit`")),
            };
            if !first {
                return Err(Refusal::bad_request(format!("`{name}` is given more than once")));
            }
        }
        Ok(Self { since, limit: limit.unwrap_or(HISTORY_PAGE) })
    }
}

/// The refusal of a parameter that is not known.
pub(super) fn unknown_parameter(name: &str, there_are: &str) -> Refusal {
    let shown: String = name.chars().take(40).collect();
    Refusal::bad_request(format!("{shown:?} is no parameter; there are {there_are}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::Epoch;

    fn part(query: &str) -> Result<Part, Refusal> {
        Part::of(&format!("/topics/a/history?{query}").parse().expect("a URI"))
    }

    #[test]
    fn part_is_read_from_the_query() {
        assert_eq!(part(""), Ok(Part { since: None, limit: HISTORY_PAGE }));
        assert_eq!(part("since=17&limit=1000"), Ok(Part { since: Some(17), limit: 1_000 }));
        assert_eq!(part("since=0"), Ok(Part { since: Some(0), limit: HISTORY_PAGE }));
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for bad in
            ["since=", "since=-1", "since=a", "limit=0", "limit=1001", "limit=x", "from=1", "since=1&since=1"]
        {
            assert_eq!(part(bad).expect_err(bad).status.as_u16(), 400, "{bad}");
        }
    }

    #[test]
    fn topic_nobody_used_has_no_epoch() {
        let topic = Topic::parse("a\"b").expect("a topic");
        assert_eq!(begin_json(&topic, None), r#"{"topic":"a\"b","offset":0"#);
        let position = Position { epoch: Epoch { node: 10, incarnation: 3 }, offset: 7 };
        let json = r#"{"topic":"a\"b","offset":7,"epoch":"000000000000000a-3""#;
        assert_eq!(begin_json(&topic, Some(position)), json);
    }
}
