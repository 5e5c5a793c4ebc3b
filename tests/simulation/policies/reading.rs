//! What frames say to a client that reads them, of either protocol.

use fanfare::publication::{Epoch, Position};
use serde_json::Value;

use super::{
    client::Said,
    world::{OFFSETS, World},
};
use crate::stream::{CLOSE, Frame, PING};

impl World {
    pub(super) fn said_plainly(&self, number: usize, frame: &Frame) -> Said {
        match (frame.opcode, frame.payload.first()) {
            (PING, Some(b'a')) => {
                let id = u32::from_be_bytes(frame.payload[1..5].try_into().expect("four bytes"));
                Said::Ok { id, positions: Vec::new() }
            }
            (PING, _) => Said::Ping,
            (CLOSE, _) => Said::Close { code: u16::from_be_bytes([frame.payload[0], frame.payload[1]]) },
            _ => {
                let publication = self.publication(std::str::from_utf8(&frame.payload).expect("text"));
                // It does not say by which of its topics it comes.
                let queue = &self.clients[number].queue;
                let queued = queue.iter().find(|queued| queued.publication == publication);
                let queued =
                    queued.unwrap_or_else(|| panic!("publication {publication} was not queued for it"));
                Said::Message { topic: queued.topic, rank: queued.rank }
            }
        }
    }

    pub(super) fn said_in_json(&self, number: usize, frame: &Frame) -> Said {
        if [PING, CLOSE].contains(&frame.opcode) {
            return self.said_plainly(number, frame);
        }
        let said: Value = serde_json::from_slice(&frame.payload).expect("it is JSON");
        let topic = |name: &str| {
            let of = self.topics.iter().position(|topic| topic.topic.as_str() == name);
            of.expect("a topic there is")
        };
        let int = |value: &Value| value.as_u64().expect("a number");
        if said.get("hello").is_some() {
            Said::Hello
        } else if said.get("bye").is_some() {
            Said::Bye
        } else if let Some(id) = said.get("ok") {
            let positions = said.get("positions").and_then(Value::as_object).into_iter().flatten();
            let positions = positions.map(|(name, position)| {
                let epoch = Epoch::parse(position["epoch"].as_str().expect("a text")).expect("an epoch");
                let position = Position { epoch, offset: int(&position["offset"]) };
                (topic(name), self.topics[topic(name)].known_rank(position))
            });
            Said::Ok { id: int(id) as u32, positions: positions.collect() }
        } else if let Some(error) = said.get("error") {
            assert_eq!(error["code"], "full", "{said}");
            Said::Refused { id: int(&error["id"]) as u32 }
        } else if let Some(gap) = said.get("gap") {
            assert_eq!(gap["reason"], "slow", "nobody asks for the past");
            Said::Gap {
                topic: topic(gap["topic"].as_str().expect("a text")),
                from: int(&gap["from"]),
                to: int(&gap["to"]),
                conflated: int(&gap["conflated"]),
                dropped: int(&gap["dropped"]),
            }
        } else {
            let publication = self.publication(said["message"].as_str().expect("a text"));
            let publication = &self.publications[publication];
            let named = topic(said["topic"].as_str().expect("a text"));
            let rank = publication.parts[publication.part_in(named)].rank;
            assert!(rank > 0, "I3: {publication:?} is seen before it has an offset");
            assert_eq!(rank % OFFSETS, int(&said["offset"]));
            let also = said.get("also").and_then(Value::as_array).into_iter().flatten();
            let also: Vec<usize> = also.map(|other| topic(other.as_str().expect("a text"))).collect();
            let others = publication.parts.iter().map(|part| part.topic).filter(|&topic| topic != named);
            assert!(also.into_iter().eq(others), "{said} of {publication:?}");
            Said::Message { topic: named, rank }
        }
    }

    /// The number of the publication with this text.
    fn publication(&self, text: &str) -> usize {
        let number: usize = text[..6].parse().expect("a number");
        let publication = &self.publications[number];
        assert_eq!(publication.text, text, "publication {number} has other bytes");
        number
    }
}
