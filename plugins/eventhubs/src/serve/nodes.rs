//! The nodes that answer requests: `$cbs` takes tokens, `$management` tells of hubs and partitions.

use bytes::Bytes;

use super::engine::Engine;
use super::hub::Hub;
use super::incoming::Verdict;
use super::partition::Partition;
use super::session::{Link, Node};
use crate::wire::{Message, Value, Writer, code};

/// Answers that may wait for somebody who gives no credit.
const MOST_ANSWERS: usize = 64;
/// 0001-01-01, in milliseconds since 1970-01-01: the time of the newest event of a partition that never had one.
const NEVER: i64 = -62_135_596_800_000;

const SAS: &str = "servicebus.windows.net:sastoken";
const HUB: &str = "com.microsoft:eventhub";
const PARTITION: &str = "com.microsoft:partition";

/// What is answered.
struct Answer {
    status: i32,
    description: String,
    /// The condition, when it is an error.
    condition: Option<&'static str>,
    body: Vec<u8>,
}

impl Answer {
    fn error(status: i32, condition: &'static str, description: impl Into<String>) -> Answer {
        Answer { status, description: description.into(), condition: Some(condition), body: vec![0x40] }
    }

    fn good(status: i32, description: &str, body: impl FnOnce(&mut Writer<'_>)) -> Answer {
        let mut bytes = Vec::new();
        body(&mut Writer::new(&mut bytes));
        Answer { status, description: description.to_owned(), condition: None, body: bytes }
    }

    fn message(&self, node: Node, correlation: Value<'_>) -> Bytes {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.describe(code::PROPERTIES).list(|w| {
            (0..5).for_each(|_| w.null());
            w.raw(correlation.raw);
        });
        writer.describe(code::APPLICATION_PROPERTIES).map(|w| {
            w.string("status-code");
            w.int(self.status);
            w.string("status-description");
            w.string(&self.description);
            // Of an answer to a token that has it, Python would tell neither status nor description.
            if let Some(condition) = self.condition.filter(|_| node == Node::Management) {
                w.string("error-condition");
                w.symbol(condition);
            }
        });
        writer.describe(code::VALUE).raw(&self.body);
        out.into()
    }
}

/// A text among the application's properties.
fn text<'a>(message: &Message<'a>, name: &str) -> &'a str {
    message.application.get(name).and_then(|value| value.text()).unwrap_or_default()
}

impl Engine {
    /// Answers a request.
    pub(super) fn request(&mut self, channel: u16, node: Node, bytes: &[u8]) -> Verdict {
        let message = match Message::read(bytes) {
            Ok(message) => message,
            Err(error) => return error.into(),
        };
        let properties = message.properties();
        let correlation = match properties.message_id {
            id if id.is_null() => properties.correlation_id,
            id => id,
        };
        let Some((channel, handle)) = self.answer_link(channel, node, properties.reply_to.text()) else {
            return Verdict::Rejected("amqp:not-found", "there is no link on which to answer".to_owned());
        };
        let answer = match node {
            Node::Cbs => self.put_token(&message),
            Node::Management => self.read(&message),
        };
        if let Some(condition) = answer.condition {
            let what = match node {
                Node::Cbs => "a token",
                Node::Management => "information",
            };
            self.service.refused(&self.client, what, condition, &answer.description);
        }
        let answer = answer.message(node, correlation);
        let link = self.sessions.get_mut(&channel).and_then(|session| session.links.get_mut(&handle));
        let Some(Link::Replies(replies)) = link else { return Verdict::Accepted };
        if replies.waiting.len() >= MOST_ANSWERS {
            let text = format!("{MOST_ANSWERS} answers wait already");
            return Verdict::Rejected("amqp:resource-limit-exceeded", text);
        }
        replies.waiting.push_back(answer);
        self.enqueue(channel, handle);
        Verdict::Accepted
    }

    /// The link on which an answer goes: that which the request names, wherever it is; and as Python names none, any for this
    /// node on the session.
    fn answer_link(&self, channel: u16, node: Node, reply_to: Option<&str>) -> Option<(u16, u32)> {
        let links = |channel: &u16| {
            let links = self.sessions.get(channel).into_iter().flat_map(|session| &session.links);
            links.filter_map(|(handle, link)| match link {
                Link::Replies(replies) if replies.node == node => Some((*handle, replies.address.as_deref())),
                _ => None,
            })
        };
        let named = |channel: &u16| {
            let mut links = links(channel);
            links
                .find(|(_, address)| reply_to.is_some() && *address == reply_to)
                .map(|(handle, _)| (*channel, handle))
        };
        let any = || links(&channel).map(|(handle, _)| (channel, handle)).next();
        named(&channel).or_else(|| self.sessions.keys().find_map(named)).or_else(any)
    }

    fn put_token(&mut self, message: &Message<'_>) -> Answer {
        if text(message, "operation") != "put-token" {
            return Answer::error(400, "amqp:not-allowed", "The operation has to be put-token.");
        }
        let kind = text(message, "type");
        if kind != SAS {
            let kind = match kind {
                "jwt" => "Tokens of Microsoft Entra ID (jwt)".to_owned(),
                kind => format!("Tokens of the type '{}'", shorten(kind)),
            };
            let why = format!(
                "{kind} can't be verified here, only shared access signatures ({SAS}): connect with a connection string."
            );
            return Answer::error(401, "amqp:unauthorized-access", why);
        }
        let token = message.body().next().and_then(|body| body.text()).unwrap_or_default();
        let put = self.service.keys.verify(token).and_then(|token| self.access.put(token));
        match put {
            Ok(()) => Answer::good(202, "Accepted", |w| w.null()),
            Err(why) => Answer::error(401, "amqp:unauthorized-access", why),
        }
    }

    fn read(&self, message: &Message<'_>) -> Answer {
        if text(message, "operation") != "READ" {
            return Answer::error(400, "amqp:not-allowed", "The operation has to be READ.");
        }
        let name = text(message, "name");
        let by_token = || {
            let token = self.service.keys.verify(text(message, "security_token"));
            token.is_ok_and(|token| token.covers(name))
        };
        if self.access.until(name).is_none() && !by_token() {
            return Answer::error(
                401,
                "amqp:unauthorized-access",
                "Unauthorized access. A valid token for the hub is required to perform this operation.",
            );
        }
        let shown: String = name.chars().take(100).collect();
        let Some(hub) = self.service.hubs.get(name) else {
            let text = format!("The messaging entity '{shown}' could not be found.");
            return Answer::error(404, "amqp:not-found", text);
        };
        match text(message, "type") {
            HUB => Answer::good(200, "OK", |w| write_hub(w, hub)),
            PARTITION => {
                // Python and JavaScript write it as a text, but it looks like a number.
                let id = message.application.get("partition");
                let id = id
                    .and_then(|id| Some(id.text()?.to_owned()).or_else(|| Some(id.unsigned()?.to_string())));
                let id = id.unwrap_or_default();
                match hub.partition(&id) {
                    Some(partition) => Answer::good(200, "OK", |w| write_partition(w, partition)),
                    None => {
                        let text = format!("The hub '{}' has no partition '{}'.", hub.name, shorten(&id));
                        Answer::error(404, "amqp:not-found", text)
                    }
                }
            }
            _ => Answer::error(400, "amqp:not-allowed", format!("The type has to be {HUB} or {PARTITION}.")),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}

fn write_hub(w: &mut Writer<'_>, hub: &Hub) {
    w.map(|w| {
        w.string("name");
        w.string(&hub.name);
        w.string("type");
        w.string(HUB);
        w.string("created_at");
        w.timestamp(hub.created);
        w.string("partition_count");
        w.int(hub.partitions().len() as i32);
        w.string("partition_ids");
        w.strings(hub.partitions().iter().map(|partition| partition.id.as_str()));
        w.string("georeplication_factor");
        w.int(1);
    });
}

fn write_partition(w: &mut Writer<'_>, partition: &Partition) {
    let info = partition.info();
    w.map(|w| {
        w.string("name");
        w.string(&partition.hub);
        w.string("type");
        w.string(PARTITION);
        w.string("partition");
        w.string(&partition.id);
        w.string("begin_sequence_number");
        w.long(info.last.map_or(-1, |_| info.begin as i64));
        w.string("last_enqueued_sequence_number");
        w.long(info.last.map_or(-1, |last| last.sequence as i64));
        w.string("last_enqueued_offset");
        w.string(&info.last.map_or_else(|| "-1".to_owned(), |last| last.offset.to_string()));
        w.string("last_enqueued_time_utc");
        w.timestamp(info.last.map_or(NEVER, |last| last.time));
        w.string("is_partition_empty");
        w.bool(info.empty);
    });
}
