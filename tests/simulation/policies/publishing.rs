//! What is published, to one topic or to several, and what its publisher is told: places, refusals and receipts.

use std::sync::Arc;

use fanfare::{
    engine::{Ingress, Outcome, Places, TopicsFull},
    identity::{ClientId, User},
    publication::{Audience, Content, Message, MessageKey, Position, Publication, Receipt},
    topic::Topic,
};
use tokio::sync::{oneshot, watch};

use super::{client::Queued, world::World};
use crate::steps::note;

/// A publication.
#[derive(Debug)]
pub(super) struct PublicationModel {
    /// Its topics, in the order in which it goes to them.
    pub(super) parts: Vec<PartModel>,
    pub(super) text: String,
    pub(super) key: u8,
    pub(super) audience: Audience,
    /// Clients that have it by one of its topics.
    pub(super) served: Vec<usize>,
}

/// A publication in one of its topics.
#[derive(Debug)]
pub(super) struct PartModel {
    pub(super) topic: usize,
    /// The rank of its position, once it has one.
    pub(super) rank: u64,
    /// Clients that it was queued for, that read it, and that lost it.
    matched: u64,
    read: u64,
    lost: u64,
}

/// Where the answer to a publish comes from.
#[derive(Debug)]
pub(super) enum Outstanding {
    One(oneshot::Receiver<Result<Position, TopicsFull>>),
    Several(oneshot::Receiver<Outcome>),
}

/// A receipt that was asked for.
#[derive(Debug)]
pub(super) struct ReceiptModel {
    publication: usize,
    part: usize,
    sums: watch::Receiver<Receipt>,
    /// Whether every shard has said its part.
    is_complete: bool,
}

/// What a publication becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Matched,
    Read,
    Lost,
}

impl PublicationModel {
    /// Its part in a topic.
    pub(super) fn part_in(&self, topic: usize) -> usize {
        self.parts.iter().position(|part| part.topic == topic).expect("it is published there")
    }
}

impl World {
    /// Publishes to one topic.
    pub(super) fn publish(&mut self, topic: usize, bytes: usize, key: u8, to: u8) {
        let Some(credits) = self.admission.try_admit(bytes) else { return };
        let (number, content) = self.content(&[topic], bytes, key, to);
        let name = self.topics[topic].topic.clone();
        let home = name.home(self.shards.len());
        let (reply, answer) = oneshot::channel();
        let publication = Box::new(Publication { topic: name, content, credits });
        self.fabric.mailboxes.to_home(home, Ingress::Publish(publication, reply));
        self.outstanding.push((number, Outstanding::One(answer)));
    }

    /// The topics whose bit is set, from one on, upwards or downwards. Some are.
    pub(super) fn chosen_topics(&self, first: usize, mask: u8, is_back: bool) -> Vec<usize> {
        let count = self.topics.len();
        let step = if is_back { count - 1 } else { 1 };
        let all = (0..count).map(|n| (first + n * step) % count);
        let chosen: Vec<usize> = all.filter(|topic| mask >> (topic % 8) & 1 == 1).collect();
        if chosen.is_empty() { vec![first % count] } else { chosen }
    }

    /// Publishes to several topics at once, and asks for receipts perhaps.
    pub(super) fn order(&mut self, topics: &[usize], bytes: usize, key: u8, to: u8, receipt: bool) {
        let Some(credits) = self.admission.try_admit_all(topics.len() as u32, bytes) else { return };
        let (number, content) = self.content(topics, bytes, key, to);
        note(|| {
            format!(
                "publication {number} to {topics:?} of {bytes} bytes, key {key}, for {to}, receipt {receipt}"
            )
        });
        let names: Arc<[Topic]> = topics.iter().map(|&topic| self.topics[topic].topic.clone()).collect();
        let home = names[0].home(self.shards.len());
        let (order, answer) = fanfare::engine::Order::new(names, content, None, receipt, credits);
        self.fabric.mailboxes.to_home(home, Ingress::Order(Box::new(order)));
        self.outstanding.push((number, Outstanding::Several(answer)));
        self.counts.ordered += 1;
    }

    /// The next publication.
    fn content(&mut self, topics: &[usize], bytes: usize, key: u8, to: u8) -> (usize, Content) {
        let mut audience = Audience::default();
        match to {
            0..46 => {}
            46..56 => audience.user = Some(User::number(u64::from(to % 3))),
            _ => {
                let there: Vec<ClientId> = self.there().map(|number| self.clients[number].id).collect();
                if !there.is_empty() {
                    audience.exclude = Some(there[usize::from(to) % there.len()]);
                }
            }
        }
        let number = self.publications.len();
        let text = format!("{number:06}{}", "x".repeat(bytes.saturating_sub(6)));
        let key_of = (key > 0).then(|| MessageKey::parse(&format!("k{key}")).expect("a key"));
        let content = Content { message: Message::text(&*text), audience: audience.clone(), key: key_of };
        let part = |&topic: &usize| PartModel { topic, rank: 0, matched: 0, read: 0, lost: 0 };
        let parts = topics.iter().map(part).collect();
        self.publications.push(PublicationModel { parts, text, key, audience, served: Vec::new() });
        (number, content)
    }

    /// Looks at the answers to publishers.
    pub(super) fn look_at_answers(&mut self) {
        for (number, mut answer) in std::mem::take(&mut self.outstanding) {
            let places: Vec<Result<Position, TopicsFull>> = match &mut answer {
                Outstanding::One(answer) => answer.try_recv().into_iter().collect(),
                Outstanding::Several(answer) => match answer.try_recv() {
                    Ok(Outcome::Placed(places)) => {
                        self.ask_receipts(number, &places);
                        places
                            .iter()
                            .map(|place| place.as_ref().map(|place| place.position).map_err(|full| *full))
                            .collect()
                    }
                    Ok(other) => panic!("it has no key: {other:?}"),
                    Err(_) => Vec::new(),
                },
            };
            if places.is_empty() {
                self.outstanding.push((number, answer));
                continue;
            }
            assert_eq!(places.len(), self.publications[number].parts.len(), "an answer for each topic");
            for (part, place) in places.into_iter().enumerate() {
                match place {
                    Ok(position) => self.note_place(number, part, position),
                    Err(_) => {
                        assert_eq!(self.publications[number].parts[part].matched, 0, "it was refused there");
                        self.counts.refused += 1;
                    }
                }
            }
        }
    }

    /// A publication has its place in a topic.
    pub(super) fn note_place(&mut self, number: usize, part: usize, position: Position) {
        let part = &mut self.publications[number].parts[part];
        let rank = self.topics[part.topic].rank(position);
        assert!([0, rank].contains(&part.rank), "it has one place");
        part.rank = rank;
    }

    fn ask_receipts(&mut self, publication: usize, places: &Places) {
        for (part, place) in places.iter().enumerate() {
            if let Ok(place) = place
                && let Some(sums) = &place.receipt
            {
                let sums = sums.clone();
                self.receipts.push(ReceiptModel { publication, part, sums, is_complete: false });
            }
        }
    }

    /// A frame of a publication was queued for somebody, read, or lost.
    pub(super) fn count_part(&mut self, frame: &Queued, became: Became) {
        let publication = &mut self.publications[frame.publication];
        let part = publication.part_in(frame.topic);
        let part = &mut publication.parts[part];
        *match became {
            Became::Matched => &mut part.matched,
            Became::Read => &mut part.read,
            Became::Lost => &mut part.lost,
        } += 1;
    }

    /// Looks whether receipts are complete now. Of one shard they say what is true at this moment.
    pub(super) fn look_at_receipts(&mut self) {
        for one in self.receipts.iter_mut().filter(|one| !one.is_complete) {
            one.is_complete = one.sums.has_changed().is_err();
            if !one.is_complete {
                continue;
            }
            self.counts.receipts += 1;
            let Receipt { matched, written, queued, dropped, conflated } = *one.sums.borrow();
            assert_eq!(matched, written + queued + dropped + conflated, "a receipt does not add up");
            let part = &self.publications[one.publication].parts[one.part];
            if self.shards.len() == 1 {
                let told = (matched, written, dropped + conflated);
                assert_eq!(
                    told,
                    (part.matched, part.read, part.lost),
                    "a receipt of publication {}",
                    one.publication
                );
            }
            self.counts.receipts_of_queued += u64::from(queued > 0);
            self.counts.receipts_of_lost += u64::from(dropped + conflated > 0);
        }
    }

    /// Everything is read or lost: what receipts said was true.
    pub(super) fn judge_receipts(&self) {
        for one in &self.receipts {
            assert!(one.is_complete, "a receipt of publication {} is not complete", one.publication);
            let Receipt { matched, written, queued, dropped, conflated } = *one.sums.borrow();
            let part = &self.publications[one.publication].parts[one.part];
            let lost = dropped + conflated;
            assert_eq!(matched, part.matched, "a receipt of publication {}", one.publication);
            let is_true = (written..=written + queued).contains(&part.read)
                && (lost..=lost + queued).contains(&part.lost);
            assert!(
                is_true,
                "a receipt of publication {}: {:?}, and it is {part:?}",
                one.publication,
                *one.sums.borrow()
            );
        }
    }
}
