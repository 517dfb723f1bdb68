//! The consumer of a subscription: an existing durable one, a new durable one, or one that lives as long as the subscription.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{ConsumerErrorKind, Stream};
use futures_util::TryStreamExt;
use tracemq_plugin_api::prelude::*;

use super::bucket::{STREAM, stream_of};
use super::{Deliver, JetStream, error};
use crate::subscribe::Ack;

/// A consumer that nobody asks for messages for so long is forgotten by the server. It outlives a reconnect.
const FORGOTTEN: Duration = Duration::from_secs(300);
const NO_SUCH_STREAM: u64 = 10059;
/// Names in a hint.
const SHOWN: usize = 20;

/// What is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// A key-value bucket instead of a stream.
    pub(crate) bucket: Option<String>,
    pub(crate) stream: String,
    pub(crate) deliver: Option<Deliver>,
    pub(crate) durable: Option<String>,
    pub(crate) ack: Option<Ack>,
    /// Subjects on the wire; none: all.
    pub(crate) filters: Vec<String>,
    pub(crate) to_end: bool,
    /// Bytes that may wait to be shown.
    pub(crate) buffer: usize,
}

/// A consumer that is there.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) explicit: bool,
    /// The most messages it gives to one request, where its maker has said so.
    pub(super) most: Option<u64>,
    /// The last message of the stream when it was made.
    pub(super) last: u64,
    pub(super) state: State,
}

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) pending: u64,
    /// Delivered, to us or others, and not acknowledged.
    pub(super) unacknowledged: usize,
}

/// What asking for a consumer brought.
pub(super) enum Found {
    There(State),
    NoConsumer,
}

impl JetStream {
    /// A stream's handle and state.
    ///
    /// # Errors
    /// There is none of that name: the hint says which there are.
    pub(super) async fn stream(&self, name: &str, bucket: Option<&str>) -> Result<Stream> {
        let found = self
            .ask(async |api| {
                api.get_stream(name).await.map_err(|error| match error.kind() {
                    GetStreamErrorKind::JetStream(told) if told.error_code().0 == NO_SUCH_STREAM => {
                        Error::new(ErrorKind::PROTOCOL, String::new()).code(NO_SUCH_STREAM.to_string())
                    }
                    GetStreamErrorKind::InvalidStreamName | GetStreamErrorKind::EmptyName => {
                        Error::config(format!("{name:?} can't be the name of a stream"))
                    }
                    _ => error::any(&error),
                })
            })
            .await;
        match found {
            Err(error) if error.code_text() == NO_SUCH_STREAM.to_string() => {
                Err(self.no_such(name, bucket).await)
            }
            other => other,
        }
    }

    async fn no_such(&self, name: &str, bucket: Option<&str>) -> Error {
        // Nothing is said of what there is when it can't be found out.
        let mut names: Vec<String> = self
            .ask(async |api| api.stream_names().try_collect().await.map_err(|error| error::any(&error)))
            .await
            .unwrap_or_default();
        names.sort();
        let is_bucket = |name: &&String| name.starts_with(STREAM);
        let (text, names, what): (_, Vec<&str>, _) = match bucket {
            Some(bucket) => (
                format!("there is no bucket {bucket:?}"),
                names.iter().filter(is_bucket).map(|name| &name[STREAM.len()..]).collect(),
                "buckets",
            ),
            None => (
                format!("there is no stream {name:?}"),
                names.iter().map(String::as_str).collect(),
                "streams",
            ),
        };
        let more = if names.len() > SHOWN { ", …" } else { "" };
        let shown = names
            .iter()
            .take(SHOWN)
            .map(|name| name.escape_debug().to_string())
            .collect::<Vec<_>>()
            .join(", ");
        let hint = match (names.is_empty(), bucket.is_some()) {
            (true, false) => "this account has no streams".to_owned(),
            (true, true) => {
                "this account has no buckets; `tracemq pub --bucket … --create-bucket` makes one".to_owned()
            }
            (false, _) => format!("the {what} are: {shown}{more}"),
        };
        Error::new(ErrorKind::PROTOCOL, text).code(NO_SUCH_STREAM.to_string()).hint(hint)
    }

    /// Takes or makes the consumer. `from`: where to go on after one that was lost.
    pub(super) async fn consumer(&self, wish: &Wish, from: Option<u64>) -> Result<Consumer> {
        let stream = self.stream(&wish.stream, wish.bucket.as_deref()).await?;
        let last = stream.cached_info().state.last_sequence;
        if let Some(durable) = &wish.durable
            && let Some(info) = self.info(&stream, durable).await?
        {
            wish.check(&info)?;
            if wish.deliver.is_some() {
                // What was delivered and not acknowledged comes again.
                let after = match info.num_ack_pending {
                    0 => info.delivered.stream_sequence,
                    _ => info.ack_floor.stream_sequence,
                };
                let text = format!(
                    "the consumer {durable} exists: it goes on after message {after}, whatever --deliver says"
                );
                self.events.emit(Event::new(EventKind::WARNING, text));
            }
            return Ok(Consumer::new(&info, true, last));
        }
        let explicit = wish.explicit();
        let mut config = pull::Config {
            durable_name: wish.durable.clone(),
            description: wish.durable.is_none().then(|| "tracemq sub".to_owned()),
            deliver_policy: match from {
                Some(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
                None => wish.begin().policy()?,
            },
            ack_policy: if explicit { AckPolicy::Explicit } else { AckPolicy::None },
            inactive_threshold: if wish.durable.is_none() { FORGOTTEN } else { Duration::ZERO },
            ..pull::Config::default()
        };
        let several = wish.filters.len() > 1;
        match wish.filters.as_slice() {
            // The last of each subject is only to be had with a filter.
            [] if config.deliver_policy == DeliverPolicy::LastPerSubject => {
                config.filter_subject = ">".into();
            }
            [] => {}
            [only] => config.filter_subject.clone_from(only),
            _ => config.filter_subjects.clone_from(&wish.filters),
        }
        let info = self
            .ask(async |api| {
                if several && !api.client().is_server_compatible(2, 10, 0) {
                    let version = api.client().server_info().version;
                    return Err(Error::unsupported(format!(
                        "this server ({}) filters by one subject only; several need 2.10",
                        version.escape_debug()
                    ))
                    .hint("give one filter, with wildcards"));
                }
                let made = api.create_consumer_on_stream(config, &wish.stream).await;
                made.map(|consumer| consumer.cached_info().clone()).map_err(|error| match error.kind() {
                    ConsumerErrorKind::TimedOut => error::no_answer(),
                    _ => error::any(&error),
                })
            })
            .await
            .map_err(|error| error.while_doing(format!("make a consumer of {}", wish.stream)))?;
        Ok(Consumer::new(&info, wish.durable.is_some(), last))
    }

    async fn info(&self, stream: &Stream, name: &str) -> Result<Option<Info>> {
        self.ask(async |_| match stream.consumer_info(name).await {
            Ok(info) => Ok(Some(info)),
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound => Ok(None),
                ConsumerInfoErrorKind::InvalidName => {
                    Err(Error::config(format!("--durable {name:?} can't be the name of a consumer")))
                }
                ConsumerInfoErrorKind::TimedOut => Err(error::no_answer()),
                _ => Err(error::any(&error)),
            },
        })
        .await
    }

    /// Asks for a consumer that was there.
    ///
    /// # Errors
    /// The stream is no more, or nobody knows.
    pub(super) async fn look_for(&self, wish: &Wish, name: &str) -> Result<Found> {
        let stream = self.stream(&wish.stream, wish.bucket.as_deref()).await.map_err(|error| {
            match error.code_text() == NO_SUCH_STREAM.to_string() {
                true => wish.stream_deleted(),
                false => error,
            }
        })?;
        Ok(match self.info(&stream, name).await? {
            Some(info) => Found::There(State::of(&info)),
            None => Found::NoConsumer,
        })
    }

    /// Deletes a consumer that nobody needs any more. The server would forget it later.
    pub(super) async fn forget(&self, wish: &Wish, name: &str) {
        let forgotten = self.ask(async |api| {
            api.delete_consumer_from_stream(name, &wish.stream).await.map_err(|error| error::any(&error))
        });
        if let Err(error) = forgotten.await {
            log::debug!("the consumer {name} was not deleted: {error}");
        }
    }
}

impl Wish {
    pub(crate) fn of_bucket(bucket: &str) -> String {
        stream_of(bucket)
    }

    pub(super) fn explicit(&self) -> bool {
        match self.ack {
            Some(ack) => ack == Ack::Explicit,
            None => self.durable.is_some(),
        }
    }

    /// A watch of a bucket begins with what there is.
    pub(super) fn begin(&self) -> Deliver {
        self.deliver.unwrap_or(if self.bucket.is_some() { Deliver::LastPerSubject } else { Deliver::All })
    }

    pub(super) fn stream_deleted(&self) -> Error {
        let text = match &self.bucket {
            Some(bucket) => format!("the bucket {bucket} was deleted while it was watched"),
            None => format!("the stream {} was deleted while it was read", self.stream),
        };
        Error::new(ErrorKind::PROTOCOL, text)
    }

    pub(super) fn consumer_deleted(&self, name: &str) -> Error {
        let text = format!("the consumer {name} of {} was deleted while it was read", self.stream);
        Error::new(ErrorKind::PROTOCOL, text).code("409").hint("subscribe again: it is made anew")
    }

    /// Whether an existing durable consumer does what was asked for.
    fn check(&self, info: &Info) -> Result<()> {
        let name = &info.name;
        let config = &info.config;
        let wrong = |what: String, hint: &str| {
            Err(Error::config(format!("the consumer {name} exists, and {what}")).hint(hint))
        };
        if config.deliver_subject.is_some() {
            return wrong(
                "the server pushes its messages to a subject".into(),
                "subscribe to that subject, or take another name with --durable",
            );
        }
        let has: Vec<&String> = match config.filter_subjects.is_empty() {
            true => Some(&config.filter_subject).filter(|filter| !filter.is_empty()).into_iter().collect(),
            false => config.filter_subjects.iter().collect(),
        };
        if !self.filters.is_empty() && has != self.filters.iter().collect::<Vec<_>>() {
            let has = has.into_iter().map(|filter| filter.escape_debug().to_string()).collect::<Vec<_>>();
            let what = if has.is_empty() {
                "has no filter".into()
            } else {
                format!("filters by {}", has.join(", "))
            };
            return wrong(what, "leave the filter out, or take another name with --durable");
        }
        match (self.ack, config.ack_policy) {
            (Some(Ack::None), AckPolicy::Explicit | AckPolicy::All) => {
                wrong("wants acknowledgements".into(), "leave --ack out, or take another name with --durable")
            }
            (Some(Ack::Explicit), AckPolicy::None) => wrong(
                "takes no acknowledgements".into(),
                "leave --ack out, or take another name with --durable",
            ),
            _ => Ok(()),
        }
    }
}

impl Consumer {
    fn new(info: &Info, durable: bool, last: u64) -> Consumer {
        Consumer {
            name: info.name.clone(),
            durable,
            explicit: info.config.ack_policy != AckPolicy::None,
            most: u64::try_from(info.config.max_batch).ok().filter(|most| *most > 0),
            last,
            state: State::of(info),
        }
    }
}

impl State {
    fn of(info: &Info) -> State {
        State { pending: info.num_pending, unacknowledged: info.num_ack_pending }
    }

    pub(super) fn is_empty(self) -> bool {
        self.pending == 0 && self.unacknowledged == 0
    }
}
