//! Asking a node of the service, and its answers: `$cbs` and `$management` (AMQP management, draft 1).
//!
//! Several questions may be on their way at once: an answer is found by its correlation id, and one that nobody waits for is
//! left aside. Not fe2o3-amqp-management, which takes the next answer for the right one.

use std::time::Duration;

use bytes::Bytes;
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Batch as Sections, Data, Message as Outgoing, Properties, Source,
    Target,
};
use serde_amqp::Value as OutgoingValue;
use tokio::time::timeout;
use tracemq_plugin_api::prelude::*;

use super::payloads::{Inbox, Payloads};
use super::{QUEUED_FRAMES, unique};
use crate::error::{Broken, Condition};
use crate::value;
use crate::wire::{Malformed, Message, Value};

/// In bytes.
const LARGEST_ANSWER: usize = 4 << 20;

/// A question without its ids.
pub(super) type Question = (ApplicationProperties, OutgoingValue);

/// What a node answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// As in HTTP.
    pub(super) status: i64,
    /// What the service says about it; may have a condition of its own.
    pub(super) condition: Condition,
    message: Bytes,
}

impl Answer {
    /// The id of the question, and the answer.
    fn read(bytes: Bytes) -> Result<(String, Answer), Malformed> {
        let message = Message::read(&bytes)?;
        let text = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| message.application.get(name));
            found.map(value::text).unwrap_or_default()
        };
        let status = text(["status-code", "statusCode"]).parse().unwrap_or(0);
        let said = text(["status-description", "statusDescription"]);
        let name = text(["error-condition", "errorCondition"]);
        let name = match (name.as_str(), status) {
            ("", 401 | 403) => "amqp:unauthorized-access".to_owned(),
            ("", 404) => "amqp:not-found".to_owned(),
            ("", 503) => "com.microsoft:server-busy".to_owned(),
            ("", 500..) => "amqp:internal-error".to_owned(),
            ("", status) => format!("status {status}"),
            (name, _) => crate::error::one_line(name),
        };
        let id = value::text(message.properties().correlation_id);
        Ok((id, Answer { status, condition: Condition::new(name, &said), message: bytes }))
    }

    /// The value that it consists of.
    pub(super) fn body(&self) -> Value<'_> {
        Message::read(&self.message).ok().and_then(|message| message.body().next()).unwrap_or(Value::NULL)
    }

    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The two links to a node.
pub(super) struct Node {
    sender: Sender,
    receiver: Receiver,
    inbox: Inbox,
    reply_to: String,
    asked: u64,
    patience: Duration,
    address: &'static str,
}

impl Node {
    /// `patience` is for each step with the node.
    pub(super) async fn attach(
        session: &mut SessionHandle<()>,
        payloads: &Payloads,
        address: &'static str,
        patience: Duration,
    ) -> Result<Node> {
        let reply_to = format!("tracemq-{}", unique());
        let attach = async {
            let sender = Sender::builder()
                .name(format!("{address}-sender-{reply_to}"))
                .source(Source::builder().address(reply_to.as_str()).build())
                .target(address)
                .attach(session)
                .await
                .map_err(|error| Broken::from(&error))?;
            let name = format!("{address}-receiver-{reply_to}");
            let inbox = payloads.link(&name, LARGEST_ANSWER);
            let mut receiver = Receiver::builder()
                .name(name)
                .source(address)
                .target(Target::builder().address(reply_to.as_str()).build())
                .max_message_size(LARGEST_ANSWER as u64)
                .verify_incoming_source(false);
            receiver.buffer_size = QUEUED_FRAMES;
            let receiver = receiver.attach(session).await.map_err(|error| Broken::from(&error))?;
            Ok::<_, Broken>((sender, receiver, inbox))
        };
        let (sender, receiver, inbox) = match timeout(patience, attach).await {
            Ok(links) => links.map_err(|broken| broken.error(address))?,
            Err(_) => return Err(silent(address, patience)),
        };
        Ok(Node { sender, receiver, inbox, reply_to, asked: 0, patience, address })
    }

    /// Asks, and returns the answers in the order of the questions.
    pub(super) async fn ask(&mut self, questions: Vec<Question>) -> Result<Vec<Answer>> {
        let (address, patience) = (self.address, self.patience);
        let asked = match timeout(patience, self.ask_all(questions)).await {
            Ok(answers) => answers.map_err(|broken| broken.error(address)),
            Err(_) => Err(silent(address, patience)),
        };
        asked.map_err(|error| error.while_doing("ask the service"))
    }

    async fn ask_all(&mut self, questions: Vec<Question>) -> Result<Vec<Answer>, Broken> {
        let first = self.asked;
        let mut answers: Vec<Option<Answer>> = Vec::new();
        for (properties, body) in questions {
            let message = Outgoing {
                header: None,
                delivery_annotations: None,
                message_annotations: None,
                properties: Some(
                    Properties::builder()
                        .message_id(self.asked.to_string())
                        .reply_to(self.reply_to.as_str())
                        .build(),
                ),
                application_properties: Some(properties),
                body: AmqpValue(body),
                footer: None,
            };
            self.asked += 1;
            answers.push(None);
            // Whether it arrived is seen by its answer.
            drop(self.sender.send_batchable(message).await.map_err(|error| Broken::from(&error))?);
        }
        let mut open = answers.len();
        while open > 0 {
            let delivery = self.receiver.recv::<Sections<Data>>().await;
            let delivery = delivery.map_err(|error| Broken::from(&error))?;
            self.receiver.accept(&delivery).await.map_err(|_| Broken::Lost("the connection broke".into()))?;
            let answer = self.inbox.take(delivery.body()).map(Answer::read);
            let Ok(Ok((id, answer))) = answer else {
                return Err(Broken::Lost("the server's answer can't be read".into()));
            };
            let number = id.parse::<u64>().ok();
            let place = number
                .and_then(|number| usize::try_from(number.checked_sub(first)?).ok())
                .and_then(|index| answers.get_mut(index));
            if let Some(place @ None) = place {
                *place = Some(answer);
                open -= 1;
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

fn silent(address: &str, patience: Duration) -> Error {
    Error::new(ErrorKind::TIMEOUT, format!("{address} does not answer within {}", Span::from(patience)))
        .hint("is it Event Hubs? a broker of queues is reached by amqp:// or amqps://; --connect-timeout waits longer")
        .temporary()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Writer, code};

    #[test]
    fn answers_are_read_whatever_they_hold() {
        let answer = |fill: &dyn Fn(&mut Writer<'_>)| {
            let mut bytes = Vec::new();
            Writer::new(&mut bytes).describe(code::APPLICATION_PROPERTIES).map(|w| fill(w));
            Answer::read(Bytes::from(bytes)).expect("an answer").1
        };
        let good = answer(&|w| {
            w.string("status-code");
            w.int(202);
        });
        assert!(good.is_good() && good.body().is_null());
        let denied = answer(&|w| {
            w.string("statusCode");
            w.long(401);
            w.string("status-description");
            w.string("no\u{7} way");
        });
        assert!(!denied.is_good());
        assert_eq!(denied.condition.error("x").kind(), ErrorKind::AUTH);
        assert_eq!(denied.condition.text, "no way");
        let custom = answer(&|w| {
            w.string("status-code");
            w.uint(400);
            w.string("error-condition");
            w.symbol("com.microsoft:argument-error");
        });
        assert_eq!(custom.condition.name, "com.microsoft:argument-error");
        let other = answer(&|w| {
            w.string("status-code");
            w.string("x");
        });
        assert_eq!(other.status, 0);
        assert!(Answer::read(Bytes::from_static(b"\x40")).is_err());
    }
}
