//! How a command is read: one pass over the message, in which each field is checked as it comes.
//!
//! What depends on two fields is checked behind the pass, for they may stand in any order.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Bearer, Command, CommandLimits, Refused, Since, Subscription, What};
use crate::{
    limits::LAST_MESSAGES_MAX,
    protocol::{
        ignored::Ignored,
        publish_body::PublishObject,
        topic_list::{TopicList, TopicListSeed},
        v1::{CommandId, Echo},
        verbatim::Verbatim,
    },
    publication::Epoch,
    topic::{Topic, TopicMap},
};

/// Reads one command, and nothing behind it.
pub(super) fn read(text: &[u8], limits: &CommandLimits) -> Result<Command, Refused> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let fields = deserializer
        .deserialize_map(FieldsVisitor { max_topics: limits.max_topics })
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|error| Refused::Malformed(format!("not a command: {error}")))?;
    fields.check(limits)
}

/// The id of a message that is no good, if it has one that is.
pub(super) fn id(text: &[u8]) -> Option<CommandId> {
    let mut found = None;
    // What is wrong with the rest was said already; an id in front of it has been found by then.
    let _ = serde_json::Deserializer::from_slice(text).deserialize_map(IdVisitor(&mut found));
    found
}

/// The fields as they were read.
#[derive(Default)]
struct Fields<'a> {
    id: Option<CommandId>,
    draft: Option<Draft<'a>>,
    since: Option<TopicMap<Since>>,
    last: Option<u32>,
}

/// A command by its own field.
enum Draft<'a> {
    Subscribe(TopicList),
    Unsubscribe(TopicList),
    Topics(TopicList),
    Publish(PublishObject<'a>),
    Ping(Echo),
    Auth(Bearer),
}

impl Fields<'_> {
    fn check(self, limits: &CommandLimits) -> Result<Command, Refused> {
        let Self { id, draft, since, last } = self;
        let with_past = since.is_some() || last.is_some();
        let no_past = || match with_past {
            true => Err(malformed("`since` and `last` go with `subscribe` and `topics`")),
            false => Ok(()),
        };
        let what = match draft {
            None => return Err(malformed(NO_COMMAND)),
            Some(Draft::Subscribe(topics)) => What::Subscribe(subscription(topics, since, last)?),
            Some(Draft::Topics(topics)) => What::Topics(subscription(topics, since, last)?),
            Some(Draft::Unsubscribe(topics)) => {
                no_past().map(|()| What::Unsubscribe(topics.into_topics()))?
            }
            Some(Draft::Publish(object)) => {
                no_past()?;
                let body = object.into_body(limits.max_message).map_err(Refused::Publish)?;
                What::Publish(Box::new(body))
            }
            Some(Draft::Ping(value)) => no_past().map(|()| What::Ping(value))?,
            Some(Draft::Auth(token)) => no_past().map(|()| What::Auth(token))?,
        };
        Ok(Command { id, what })
    }
}

const NO_COMMAND: &str =
    "there is no command; it is one of `subscribe`, `unsubscribe`, `topics`, `publish`, `ping`, `auth`";

fn subscription(
    topics: TopicList,
    since: Option<TopicMap<Since>>,
    last: Option<u32>,
) -> Result<Subscription, Refused> {
    let since = since.unwrap_or_default();
    if let Some(topic) = since.keys().find(|topic| !topics.contains(topic)) {
        return Err(malformed(format!("`since` names {:?}, which is not in the list", topic.as_str())));
    }
    Ok(Subscription { topics: topics.into_topics(), since, last })
}

fn malformed(why: impl Into<String>) -> Refused {
    Refused::Malformed(why.into())
}

struct FieldsVisitor {
    max_topics: usize,
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object such as {"subscribe":["a"],"id":1}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let topics = TopicListSeed(self.max_topics);
        let mut fields = Fields::default();
        while let Some(field) = map.next_key::<Field>()? {
            if field.is_command() && fields.draft.is_some() {
                return Err(de::Error::custom("a message holds one command, and here is another"));
            }
            match field {
                Field::Subscribe => fields.draft = Some(Draft::Subscribe(map.next_value_seed(topics)?)),
                Field::Unsubscribe => fields.draft = Some(Draft::Unsubscribe(map.next_value_seed(topics)?)),
                Field::Topics => fields.draft = Some(Draft::Topics(map.next_value_seed(topics)?)),
                Field::Publish => fields.draft = Some(Draft::Publish(map.next_value()?)),
                Field::Ping => fields.draft = Some(Draft::Ping(echo(map.next_value()?)?)),
                Field::Auth => fields.draft = Some(Draft::Auth(Bearer::new(map.next_value()?))),
                Field::Id if fields.id.is_some() => return Err(de::Error::duplicate_field("id")),
                Field::Id => fields.id = Some(echo(map.next_value()?)?),
                Field::Since if fields.since.is_some() => return Err(de::Error::duplicate_field("since")),
                Field::Since => fields.since = Some(map.next_value_seed(SinceSeed(self.max_topics))?),
                Field::Last if fields.last.is_some() => return Err(de::Error::duplicate_field("last")),
                Field::Last => fields.last = Some(last(map.next_value()?)?),
                Field::Other => map.next_value_seed(Ignored::VALUE)?,
            }
        }
        Ok(fields)
    }
}

fn echo<E: de::Error>(value: Verbatim<'_>) -> Result<Echo, E> {
    Echo::new(value).map_err(E::custom)
}

fn last<E: de::Error>(messages: u32) -> Result<u32, E> {
    match messages {
        1..=LAST_MESSAGES_MAX => Ok(messages),
        _ => Err(E::custom(format_args!("`last` is 1 to {LAST_MESSAGES_MAX}"))),
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Subscribe,
    Unsubscribe,
    Topics,
    Publish,
    Ping,
    Auth,
    Id,
    Since,
    Last,
    #[serde(other)]
    Other,
}

impl Field {
    fn is_command(self) -> bool {
        match self {
            Self::Subscribe | Self::Unsubscribe | Self::Topics | Self::Publish | Self::Ping | Self::Auth => {
                true
            }
            Self::Id | Self::Since | Self::Last | Self::Other => false,
        }
    }
}

/// Reads an object of topics with positions, at most so many.
#[derive(Clone, Copy)]
struct SinceSeed(usize);

impl<'de> DeserializeSeed<'de> for SinceSeed {
    type Value = TopicMap<Since>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SinceSeed {
    type Value = TopicMap<Since>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object such as {"a":{"epoch":"x","offset":17}}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut since = TopicMap::default();
        while let Some(topic) = map.next_key_seed(TopicSeed)? {
            let at = map.next_value_seed(AtSeed)?;
            if since.insert(topic, at).is_some() {
                return Err(de::Error::custom("`since` names a topic twice"));
            }
            if since.len() > self.0 {
                return Err(de::Error::custom(format_args!("`since` names more than {} topics", self.0)));
            }
        }
        Ok(since)
    }
}

/// Reads the name of a topic.
struct TopicSeed;

impl<'de> DeserializeSeed<'de> for TopicSeed {
    type Value = Topic;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Topic, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for TopicSeed {
    type Value = Topic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a topic (a string)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Topic, E> {
        Topic::parse(text).map_err(E::custom)
    }
}

/// Reads a position.
struct AtSeed;

impl<'de> DeserializeSeed<'de> for AtSeed {
    type Value = Since;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Since, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AtSeed {
    type Value = Since;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a position such as {"epoch":"x","offset":17}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Since, A::Error> {
        let (mut epoch, mut offset) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                AtField::Epoch if epoch.is_some() => return Err(de::Error::duplicate_field("epoch")),
                AtField::Epoch => epoch = Some(map.next_value_seed(EpochSeed)?),
                AtField::Offset if offset.is_some() => return Err(de::Error::duplicate_field("offset")),
                AtField::Offset => offset = Some(map.next_value()?),
                AtField::Other => map.next_value_seed(Ignored::VALUE)?,
            }
        }
        let epoch = epoch.ok_or_else(|| de::Error::missing_field("epoch"))?;
        let offset = offset.ok_or_else(|| de::Error::missing_field("offset"))?;
        Ok(Since { epoch, offset })
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum AtField {
    Epoch,
    Offset,
    #[serde(other)]
    Other,
}

/// Reads a text that should be an epoch.
struct EpochSeed;

impl<'de> DeserializeSeed<'de> for EpochSeed {
    type Value = Option<Epoch>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for EpochSeed {
    type Value = Option<Epoch>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an epoch (a string)")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Epoch::parse(text))
    }
}

/// Looks for the id alone.
struct IdVisitor<'a>(&'a mut Option<CommandId>);

impl<'de> Visitor<'de> for IdVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key()? {
            match field {
                IdField::Id if self.0.take().is_some() => {
                    // Of two, neither can be told to be the one.
                    return Err(de::Error::duplicate_field("id"));
                }
                IdField::Id => *self.0 = Some(echo(map.next_value()?)?),
                // serde_json passes over a value without following how deep it is nested.
                IdField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum IdField {
    Id,
    #[serde(other)]
    Other,
}
