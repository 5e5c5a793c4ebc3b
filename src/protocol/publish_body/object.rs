//! The visitor that reads a publish object, for either parser and for the command that carries one.
//!
//! Fields are checked as they are read. What the object lacks, and how long its message is, is checked by
//! [`PublishObject::check`], when all of it is known. Strings stay where they lie until then, if the parser can leave
//! them there.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use smallvec::{SmallVec, smallvec};

use super::{PublishBody, PublishBodyError};
use crate::{
    limits::PUBLISH_TOPICS_MAX,
    protocol::{
        ignored::Ignored,
        publish_options::{PublishOptions, client},
        topic_list::TopicListSeed,
        user_id::UserId,
        verbatim::Verbatim,
    },
    publication::{IdempotencyKey, Json, Message, MessageKey},
    topic::Topic,
};

/// The fields as they were read; what has to be there is not checked yet.
#[derive(Default)]
pub(crate) struct PublishObject<'a> {
    /// Which fields there were, a bit each.
    seen: u16,
    topics: SmallVec<[Topic; 1]>,
    said: Option<Said<'a>>,
    options: PublishOptions,
}

/// A publish object found good, except that what it says still lies where it was read.
pub(super) struct Checked<'a> {
    pub(super) said: Said<'a>,
    pub(super) rest: Rest,
}

/// A publish object without what it says.
pub(super) struct Rest {
    topics: SmallVec<[Topic; 1]>,
    is_list: bool,
    options: PublishOptions,
}

impl Rest {
    pub(super) fn with(self, message: Message) -> PublishBody {
        PublishBody::assemble(self.topics, self.is_list, message, self.options)
    }
}

impl<'a> PublishObject<'a> {
    pub(super) fn check(self, max_message: usize) -> Result<Checked<'a>, PublishBodyError> {
        let missing = |field| PublishBodyError::Malformed(format!("missing field `{field}`"));
        if self.topics.is_empty() {
            return Err(missing("topic"));
        }
        let is_list = self.has(Field::Topics);
        let said = self.said.ok_or_else(|| missing("message"))?;
        if said.as_str().len() > max_message {
            return Err(PublishBodyError::MessageTooLarge { max: max_message });
        }
        Ok(Checked { said, rest: Rest { topics: self.topics, is_list, options: self.options } })
    }

    /// The publish body, with a message of its own.
    pub(crate) fn into_body(self, max_message: usize) -> Result<PublishBody, PublishBodyError> {
        let Checked { said, rest } = self.check(max_message)?;
        Ok(rest.with(said.into_message()))
    }

    /// Notes a field; refuses one that was there, and one beside the other that means the same.
    fn note<E: de::Error>(&mut self, field: Field) -> Result<(), E> {
        if self.has(field) {
            return Err(E::duplicate_field(field.name()));
        }
        self.seen |= field.bit();
        if self.has(Field::Topic) && self.has(Field::Topics) {
            return Err(E::custom("there is `topic` or `topics`, not both"));
        }
        if self.has(Field::Message) && self.has(Field::Data) {
            return Err(E::custom("there is `message` or `data`, not both"));
        }
        Ok(())
    }

    fn has(&self, field: Field) -> bool {
        self.seen & field.bit() != 0
    }
}

/// What is published, where it was read.
pub(super) enum Said<'a> {
    /// `message`.
    Text(Text<'a>),
    /// `data`, which is always a part of the body.
    Data(&'a str),
}

impl Said<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text.as_str(),
            Self::Data(value) => value,
        }
    }

    fn into_message(self) -> Message {
        match self {
            Self::Text(Text::Own(text)) => Message::text(text),
            Self::Text(Text::Part(text)) => Message::text(text),
            Self::Data(value) => Message::Data(Json::known(value.to_owned().into())),
        }
    }
}

/// A JSON string, in place where the parser can leave it there.
pub(super) enum Text<'a> {
    /// A part of the body.
    Part(&'a str),
    /// Unescaped into memory of its own.
    Own(String),
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Part(text) => text,
            Self::Own(text) => text,
        }
    }
}

impl<'de> Deserialize<'de> for PublishObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = PublishObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object such as {"topic":"cats","message":"are awesome"}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PublishObject<'de>, A::Error> {
        let mut object = PublishObject::default();
        while let Some(field) = map.next_key::<Field>()? {
            if let Field::Other = field {
                map.next_value_seed(Ignored::VALUE)?;
                continue;
            }
            object.note(field)?;
            let options = &mut object.options;
            match field {
                Field::Topic => object.topics = smallvec![topic(map.next_value::<Text<'de>>()?)?],
                Field::Topics => object.topics = topics(&mut map)?,
                Field::Message => object.said = Some(Said::Text(map.next_value()?)),
                Field::Data => object.said = Some(Said::Data(map.next_value::<Verbatim<'de>>()?.0)),
                Field::UserId => options.audience.user = Some(map.next_value::<UserId>()?.0),
                Field::Exclude => {
                    let text = map.next_value::<Text<'de>>()?;
                    options.audience.exclude = Some(client(text.as_str()).map_err(de::Error::custom)?);
                }
                Field::Key => {
                    let text = map.next_value::<Text<'de>>()?;
                    options.key = Some(MessageKey::parse(text.as_str()).map_err(de::Error::custom)?);
                }
                Field::IdempotencyKey => {
                    let text = map.next_value::<Text<'de>>()?;
                    let key = IdempotencyKey::parse(text.as_str()).map_err(de::Error::custom)?;
                    options.idempotency_key = Some(key);
                }
                Field::Receipt => options.receipt = Some(map.next_value()?),
                Field::Other => {}
            }
        }
        Ok(object)
    }
}

fn topic<E: de::Error>(text: Text<'_>) -> Result<Topic, E> {
    Topic::parse(text.as_str()).map_err(E::custom)
}

fn topics<'de, A: MapAccess<'de>>(map: &mut A) -> Result<SmallVec<[Topic; 1]>, A::Error> {
    let topics = map.next_value_seed(TopicListSeed(PUBLISH_TOPICS_MAX))?.into_vec();
    if topics.is_empty() {
        return Err(de::Error::custom("`topics` names at least one topic"));
    }
    Ok(topics.into())
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Part(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Own(text.to_owned()))
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Topic,
    Message,
    UserId,
    Exclude,
    Topics,
    Data,
    Key,
    IdempotencyKey,
    Receipt,
    #[serde(other)]
    Other,
}

impl Field {
    fn bit(self) -> u16 {
        1 << self as u16
    }

    fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Message => "message",
            Self::UserId => "user_id",
            Self::Exclude => "exclude",
            Self::Topics => "topics",
            Self::Data => "data",
            Self::Key => "key",
            Self::IdempotencyKey => "idempotency_key",
            Self::Receipt => "receipt",
            Self::Other => "other",
        }
    }
}
