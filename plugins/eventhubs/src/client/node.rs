//! Asking a node of the service, and its answers: `$cbs` and `$management` (AMQP management, draft 1).
//!
//! Several questions may be on their way at once: an answer is found by its correlation id, and one that nobody waits for is
//! left aside. Not fe2o3-amqp-management, which takes the next answer for the right one.

use std::time::Duration;

use fe2o3_amqp::link::{Receiver, RecvError, Sender};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Body, Message, MessageId, Properties, Source, Target,
};
use fe2o3_amqp_types::primitives::SimpleValue;
use serde_amqp::Value;
use tokio::time::timeout;
use tracemq_plugin_api::prelude::*;

use super::{QUEUED_FRAMES, unique};
use crate::error::{Broken, Condition};
use crate::value;

/// In bytes.
const LARGEST_ANSWER: u64 = 4 << 20;

/// A question without its ids.
pub(super) type Question = (ApplicationProperties, Value);

/// What a node answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// As in HTTP.
    pub(super) status: i64,
    /// What the service says about it; may have a condition of its own.
    pub(super) condition: Condition,
    pub(super) body: Value,
}

impl Answer {
    fn read(message: Message<Body<Value>>) -> (Option<MessageId>, Answer) {
        let mut properties = message.application_properties.map(|map| map.0).unwrap_or_default();
        let mut take = |names: [&str; 2]| names.iter().find_map(|name| properties.swap_remove(*name));
        let text = |value: Option<SimpleValue>| {
            let bytes = value.map(value::simple_bytes).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let status = text(take(["status-code", "statusCode"])).parse().unwrap_or(0);
        let said = text(take(["status-description", "statusDescription"]));
        let name = text(take(["error-condition", "errorCondition"]));
        let name = match (name.as_str(), status) {
            ("", 401 | 403) => "amqp:unauthorized-access".to_owned(),
            ("", 404) => "amqp:not-found".to_owned(),
            ("", 503) => "com.microsoft:server-busy".to_owned(),
            ("", 500..) => "amqp:internal-error".to_owned(),
            ("", status) => format!("status {status}"),
            (name, _) => crate::error::one_line(name),
        };
        let body = if let Body::Value(AmqpValue(value)) = message.body { value } else { Value::Null };
        let id = message.properties.and_then(|properties| properties.correlation_id);
        (id, Answer { status, condition: Condition::new(name, &said), body })
    }

    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The two links to a node.
pub(super) struct Node {
    sender: Sender,
    receiver: Receiver,
    reply_to: String,
    asked: u64,
    patience: Duration,
    address: &'static str,
}

impl Node {
    /// `patience` is for each step with the node.
    pub(super) async fn attach(
        session: &mut SessionHandle<()>,
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
            let mut receiver = Receiver::builder()
                .name(format!("{address}-receiver-{reply_to}"))
                .source(address)
                .target(Target::builder().address(reply_to.as_str()).build())
                .max_message_size(LARGEST_ANSWER)
                .verify_incoming_source(false);
            receiver.buffer_size = QUEUED_FRAMES;
            let receiver = receiver.attach(session).await.map_err(|error| Broken::from(&error))?;
            Ok::<_, Broken>((sender, receiver))
        };
        let (sender, receiver) = match timeout(patience, attach).await {
            Ok(links) => links.map_err(|broken| broken.error(address))?,
            Err(_) => return Err(silent(address, patience)),
        };
        Ok(Node { sender, receiver, reply_to, asked: 0, patience, address })
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
            let message = Message {
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
            let delivery = match self.receiver.recv::<Body<Value>>().await {
                Ok(delivery) => delivery,
                Err(RecvError::MessageDecode(_)) => {
                    return Err(Broken::Lost("the server's answer can't be read".into()));
                }
                Err(error) => return Err(Broken::from(&error)),
            };
            self.receiver.accept(&delivery).await.map_err(|_| Broken::Lost("the connection broke".into()))?;
            let (id, answer) = Answer::read(delivery.into_message());
            let number = id.and_then(|id| value::id_text(&id).parse::<u64>().ok());
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

    #[test]
    fn answers_are_read_whatever_they_hold() {
        let answer = |properties: ApplicationProperties| {
            Answer::read(Message::builder().application_properties(properties).body(Body::Empty).build()).1
        };
        let good = answer(ApplicationProperties::builder().insert("status-code", 202_i32).build());
        assert!(good.is_good());
        let denied = answer(
            ApplicationProperties::builder()
                .insert("statusCode", 401_i64)
                .insert("status-description", "no\u{7} way")
                .build(),
        );
        assert!(!denied.is_good());
        assert_eq!(denied.condition.error("x").kind(), ErrorKind::AUTH);
        assert_eq!(denied.condition.text, "no way");
        let custom = ApplicationProperties::builder()
            .insert("status-code", 400_u32)
            .insert("error-condition", "com.microsoft:argument-error")
            .build();
        assert_eq!(answer(custom).condition.name, "com.microsoft:argument-error");
        assert_eq!(answer(ApplicationProperties::builder().insert("status-code", "x").build()).status, 0);
    }
}
