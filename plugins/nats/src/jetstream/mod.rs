//! JetStream and its key-value buckets.
//!
//! Streams, consumers and buckets are asked for and made through async-nats, on a connection that is opened when it is first
//! needed. What there may be much of stays on the connection of our own client: a message that is published is confirmed by an
//! ordinary answer, and a consumer delivers ordinary messages to an inbox. So both have the speed and the backpressure of the
//! core, `pub` needs no second login, and a stored message with malformed headers is shown: async-nats would drop the
//! connection over it, ask for it again, and so on.

mod acks;
mod answers;
mod bucket;
mod consume;
mod consumer;
mod deliver;
mod error;
mod list;
mod position;
mod publish;
mod pulls;
mod shown;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Context as Api;
use async_nats::{Event as NatsEvent, ServerError};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tracemq_plugin_api::prelude::*;

use crate::client::{Client, Gateway};
use crate::config::Settings;
use answers::Answers;

pub(crate) use bucket::{check_bucket, check_key, check_key_pattern};
pub(crate) use consumer::Wish;
pub(crate) use deliver::Deliver;
pub(crate) use list::List;

/// The server answers most requests in milliseconds; a cluster that elects a leader takes seconds.
const ANSWER: Duration = Duration::from_secs(5);
/// How long streams of messages may take to acknowledge what was shown.
const GOODBYE: Duration = Duration::from_secs(3);

/// JetStream of one connection.
pub(crate) struct JetStream {
    client: Arc<Client>,
    settings: Settings,
    events: Events,
    reconnect: bool,
    opened: OnceCell<Opened>,
    answers: Answers,
    run: publish::Run,
    /// Streams that are being read: they acknowledge what was shown before the connection is closed.
    readers: Mutex<Vec<JoinHandle<()>>>,
}

/// The second connection.
struct Opened {
    api: Api,
    /// The last refusal of the server.
    refused: watch::Receiver<Option<String>>,
    _gateway: Gateway,
}

impl JetStream {
    pub(crate) fn new(client: Arc<Client>, settings: Settings, context: &Context) -> JetStream {
        // Without the prefix: a stream of all its subjects would store what comes to an inbox below it.
        let answers = Answers::new(client.inbox());
        JetStream {
            client,
            settings,
            events: context.events().clone(),
            reconnect: context.reconnect(),
            opened: OnceCell::new(),
            answers,
            run: publish::Run::default(),
            readers: Mutex::default(),
        }
    }

    async fn opened(&self) -> Result<&Opened> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Opened> {
        let mut settings = self.settings.clone();
        settings.name.push_str("-js");
        let patience = settings.net.timeout.connect_timeout.duration() * 2;
        let gateway = Gateway::open(settings, self.events.clone(), self.reconnect).await?;
        let (refusals, refused) = watch::channel(None);
        let options = async_nats::ConnectOptions::with_token(gateway.token.clone())
            .name("tracemq-js")
            .connection_timeout(patience)
            .request_timeout(Some(ANSWER))
            .ignore_discovered_servers()
            .event_callback(move |event| {
                if let NatsEvent::ServerError(ServerError::Other(text)) = event {
                    refusals.send_replace(Some(text));
                }
                std::future::ready(())
            });
        let connected = options.connect(gateway.url.as_str()).await;
        let client = connected.map_err(|error| {
            Error::new(
                ErrorKind::CONNECT,
                format!("the second connection, for JetStream, can't be made: {error}"),
            )
        })?;
        let mut api = async_nats::jetstream::new(client);
        api.set_timeout(ANSWER);
        Ok(Opened { api, refused, _gateway: gateway })
    }

    /// Asks something of JetStream. What the user may not ask is not answered, but refused beside it.
    async fn ask<T, F>(&self, ask: impl FnOnce(Api) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let opened = self.opened().await?;
        let mut refused = opened.refused.clone();
        refused.mark_unchanged();
        let refusal = async {
            loop {
                if refused.changed().await.is_err() {
                    return std::future::pending().await;
                }
                let text = refused.borrow_and_update().clone().unwrap_or_default();
                if text.to_ascii_lowercase().contains("permissions violation") {
                    return text;
                }
            }
        };
        tokio::select! {
            biased;
            answer = ask(opened.api.clone()) => answer,
            text = refusal => Err(error::not_allowed(&text)),
        }
    }

    /// What is wrong when nobody answers: no JetStream at all, or not what was asked for.
    async fn is_enabled(&self) -> Result<()> {
        self.ask(async |api| {
            let answer = api.request::<_, _, serde_json::Value>("INFO", &()).await;
            match answer.map_err(|error| error::request(&error)) {
                Ok(answer)
                    if answer["error"]["err_code"] == 10039 || answer["error"]["err_code"] == 10076 =>
                {
                    Err(error::not_enabled())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Waits until what was shown is acknowledged.
    pub(crate) async fn close(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        let done = async {
            for reader in readers {
                // One that panicked has nothing to wait for.
                let _ = reader.await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, done).await;
    }
}
