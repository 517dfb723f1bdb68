//! The right to use a hub: tokens, put to `$cbs` and renewed before they end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fe2o3_amqp_types::messaging::ApplicationProperties;
use serde_amqp::Value;
use serde_amqp::primitives::Timestamp;
use tokio::time::Instant;
use tracemq_plugin_api::prelude::*;

use super::node::{Node, Question};
use crate::connection_string::Credential;
use crate::sas;

const TYPE: &str = "servicebus.windows.net:sastoken";
/// A token is renewed when a quarter of its life is left, and no sooner than so long before its end.
const SOONEST: Duration = Duration::from_secs(300);

/// The tokens of one connection.
pub(super) struct Tokens {
    node: Node,
    credential: Credential,
    lifetime: Duration,
    /// Host and port, as resources have them.
    authority: String,
    /// The resources that were put.
    resources: Vec<String>,
    /// When the next renewal is due; for all together, they have the same life.
    due: Option<Instant>,
}

impl Tokens {
    pub(super) fn new(node: Node, credential: Credential, lifetime: Duration, authority: String) -> Tokens {
        Tokens { node, credential, lifetime, authority, resources: Vec::new(), due: None }
    }

    /// Puts a token for a hub, once.
    pub(super) async fn authorize(&mut self, hub: &str) -> Result<()> {
        let resource = self.resource(hub);
        if self.resources.contains(&resource) {
            return Ok(());
        }
        let before = self.due;
        self.put(std::slice::from_ref(&resource)).await?;
        // All are renewed together, when the first one has to be.
        self.due = before.into_iter().chain(self.due).min();
        self.resources.push(resource);
        Ok(())
    }

    /// Waits until tokens have to be renewed.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(super) async fn renew(&mut self) -> Result<()> {
        let resources = self.resources.clone();
        self.put(&resources).await
    }

    /// A token that may be shown to the management node.
    pub(super) fn token(&self, hub: &str) -> Result<String> {
        Ok(self.sign(&self.resource(hub))?.0)
    }

    fn resource(&self, hub: &str) -> String {
        format!("sb://{}/{hub}", self.authority)
    }

    async fn put(&mut self, resources: &[String]) -> Result<()> {
        let (begun, left) = (Instant::now(), self.left());
        let questions =
            resources.iter().map(|resource| self.question(resource)).collect::<Result<Vec<_>>>()?;
        let answers = self.node.ask(questions).await?;
        for (answer, resource) in answers.iter().zip(resources) {
            if !answer.is_good() {
                let error = answer.condition.error(resource);
                return Err(match error.kind() {
                    ErrorKind::AUTH => error.hint(match self.credential {
                        Credential::Key { .. } => "check the key and its name",
                        Credential::Signature(_) => "the token may have ended, or may be for another hub",
                    }),
                    _ => error,
                });
            }
        }
        self.due = match self.credential {
            Credential::Key { .. } => Some(begun + left.saturating_sub((self.lifetime / 4).min(SOONEST))),
            Credential::Signature(_) => None,
        };
        Ok(())
    }

    /// How long a token that is signed now is good for: it ends with a whole second.
    fn left(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(self.lifetime.as_secs())
            .saturating_sub(Duration::from_nanos(now.subsec_nanos().into()))
    }

    fn question(&self, resource: &str) -> Result<Question> {
        let (token, expiry) = self.sign(resource)?;
        let milliseconds = i64::try_from(expiry.saturating_mul(1000)).unwrap_or(i64::MAX);
        let properties = ApplicationProperties::builder()
            .insert("operation", "put-token")
            .insert("type", TYPE)
            .insert("name", resource)
            .insert("expiration", Timestamp::from_milliseconds(milliseconds))
            .build();
        Ok((properties, Value::String(token)))
    }

    /// The token and when it ends, in seconds since 1970.
    fn sign(&self, resource: &str) -> Result<(String, u64)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match &self.credential {
            Credential::Key { name, key } => {
                let expiry = now + self.lifetime.as_secs();
                Ok((sas::sign(name, key, resource, expiry), expiry))
            }
            Credential::Signature(text) => {
                let token = sas::Token::parse(text)
                    .map_err(|error| Error::config(format!("SharedAccessSignature: {error}")))?;
                if token.is_expired(now) {
                    let milliseconds = i64::try_from(token.expiry.saturating_mul(1000)).unwrap_or(i64::MAX);
                    let ended = crate::value::time(milliseconds);
                    return Err(Error::new(ErrorKind::AUTH, format!("the token ended at {ended}"))
                        .hint("a SharedAccessSignature can't be renewed: get a new one, or use the key"));
                }
                Ok((text.clone(), token.expiry))
            }
        }
    }
}
