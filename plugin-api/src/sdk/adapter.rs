//! From the safe traits to the functions that cross: one adapter for every plugin, linked or loaded.

use super::events::EventStream;
use super::guard::{Quiet, guard};
use super::protocol::Facts;
use super::runtime::{call, direct, want_workers};
use super::turns::Turns;
use super::{
    Batch, Call, Connection, Context, Descriptor, Error, Events, ImportFile, Outcome, Protocol, Result,
    Schemas, Server, Verb,
};
use crate::abi::{
    API_VERSION, ConnectionApi, ConnectionApi_TO, ConnectionBox, Event, FfiFuture, FfiResult, HostBox,
    ModuleSource, Plugin, ServerApi, ServerApi_TO, ServerBox, SubscriptionApi, SubscriptionApi_TO,
    SubscriptionBox,
};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RString, RVec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

/// The functions of the protocol `P`, as they cross.
pub struct Adapter<P>(PhantomData<P>);

impl<P: Protocol> ModuleSource for Adapter<P> {
    fn module() -> Plugin {
        Plugin {
            describe: describe::<P>,
            start: start::<P>,
            check: check::<P>,
            connect: connect::<P>,
            serve: serve::<P>,
            import: import::<P>,
        }
    }
}

extern "C" fn describe<P: Protocol>() -> FfiResult<RString> {
    guard(|| {
        let descriptor = descriptor::<P>();
        serde_json::to_string(&descriptor)
            .map(RString::from)
            .map_err(|error| Error::config(format!("the descriptor can't be written: {error}")))
    })
}

fn descriptor<P: Protocol>() -> Descriptor {
    let about = P::about();
    let publish = schema::<<P::Connection as Connection>::Publish>();
    Descriptor {
        id: about.id.into(),
        name: about.name.into(),
        version: about.version.into(),
        api: format!("{}.{}.{}", API_VERSION.0, API_VERSION.1, API_VERSION.2),
        about: about.about.into(),
        schemes: about.schemes,
        verbs: about.verbs,
        capabilities: about.capabilities.into_iter().map(Into::into).collect(),
        topics: about.topics,
        imports: about.imports,
        schemas: Schemas {
            connection: schema::<P::Connect>(),
            publish: publish.clone(),
            subscribe: schema::<<P::Connection as Connection>::Subscribe>(),
            request: publish,
            serve: schema::<P::Serve>(),
        },
    }
}

fn schema<T: schemars::JsonSchema>() -> serde_json::Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

extern "C" fn start<P: Protocol>(host: HostBox) -> FfiResult<()> {
    guard(|| {
        want_workers(P::WORKERS);
        super::logging::forward(host, P::QUIETED);
        Ok(())
    })
}

/// The JSON form of a [`Call`].
#[derive(Deserialize)]
struct CallText {
    verb: Verb,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    connection: Option<serde_json::Value>,
    #[serde(default)]
    options: serde_json::Value,
    #[serde(default)]
    topics: Vec<String>,
}

extern "C" fn check<P: Protocol>(text: RString) -> FfiResult<()> {
    guard(|| {
        let text: CallText = parse(&text)?;
        let connect = text.connection.map(typed::<P::Connect>).transpose()?;
        let (mut publish, mut subscribe, mut serve) = (None, None, None);
        match text.verb {
            Verb::Publish | Verb::Request => publish = Some(typed(text.options)?),
            Verb::Subscribe => subscribe = Some(typed(text.options)?),
            Verb::Serve => serve = Some(typed(text.options)?),
            Verb::List => {}
        }
        P::check(&Call {
            verb: text.verb,
            url: text.url.as_deref(),
            connect: connect.as_ref(),
            topics: &text.topics,
            publish: publish.as_ref(),
            subscribe: subscribe.as_ref(),
            serve: serve.as_ref(),
        })
    })
}

extern "C" fn connect<P: Protocol>(options: RString, context: RString) -> FfiFuture<ConnectionBox> {
    call(async move {
        let (context, events) = context_of(&context)?;
        let connection = P::connect(parse(&options)?, context).await?;
        let shared = SharedConnection {
            connection: Arc::new(Quiet::new(connection)),
            events: Arc::new(events),
            publish: OptionCache::new(),
            turns: Turns::default(),
        };
        Ok(ConnectionApi_TO::from_value(shared, TD_Opaque))
    })
}

extern "C" fn serve<P: Protocol>(options: RString, context: RString) -> FfiFuture<ServerBox> {
    call(async move {
        let (context, events) = context_of(&context)?;
        let server = P::serve(parse(&options)?, context).await?;
        let shared = SharedServer {
            server: Arc::new(Quiet::new(server)),
            events: Arc::new(events),
            publish: OptionCache::new(),
            turns: Turns::default(),
        };
        Ok(ServerApi_TO::from_value(shared, TD_Opaque))
    })
}

/// What the host says of a file that it hands over.
#[derive(Deserialize)]
struct ImportCall {
    #[serde(default)]
    format: String,
    #[serde(default)]
    name: String,
}

extern "C" fn import<P: Protocol>(call: RString, content: RVec<u8>) -> FfiResult<RString> {
    guard(|| {
        let call: ImportCall = parse(&call)?;
        let format = Some(call.format.as_str()).filter(|format| !format.is_empty());
        let found = P::import(&ImportFile::new(format, &call.name, &content))?;
        serde_json::to_string(&found)
            .map(RString::from)
            .map_err(|_| Error::config("what was read can't be written as JSON"))
    })
}

fn context_of(text: &str) -> Result<(Context, EventStream)> {
    let facts: Facts = parse(text)?;
    let (events, stream) = Events::stream();
    Ok((Context { facts, events }, stream))
}

/// Parses options. The text of an option may be a secret, so the message names the place and not the value.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let value: serde_json::Value = serde_json::from_str(if text.is_empty() { "{}" } else { text })
        .map_err(|_| Error::config("options are not JSON"))?;
    typed(value)
}

fn typed<T: DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    let value = if value.is_null() { serde_json::json!({}) } else { value };
    serde_json::from_value(value).map_err(|error| Error::config(format!("an option does not fit: {error}")))
}

/// The options of the last publish call: they are the same for every batch of a run, and are parsed once.
struct OptionCache<T>(Mutex<Option<(RString, Arc<T>)>>);

impl<T: DeserializeOwned> OptionCache<T> {
    fn new() -> OptionCache<T> {
        OptionCache(Mutex::new(None))
    }

    fn get(&self, text: RString) -> Result<Arc<T>> {
        let mut cached = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((known, options)) = &*cached
            && *known == text
        {
            return Ok(Arc::clone(options));
        }
        let options = Arc::new(parse(&text)?);
        *cached = Some((text, Arc::clone(&options)));
        Ok(options)
    }
}

struct SharedConnection<C: Connection> {
    connection: Arc<Quiet<C>>,
    events: Arc<EventStream>,
    publish: OptionCache<C::Publish>,
    turns: Turns,
}

impl<C: Connection> ConnectionApi for SharedConnection<C> {
    fn publish(&self, batch: Batch, options: RString) -> FfiFuture<RVec<Outcome>> {
        let (connection, options) = (Arc::clone(&self.connection), self.publish.get(options));
        let turn = self.turns.next();
        call(turn.run(async move { connection.publish(batch, options?).await.map(RVec::from) }))
    }

    fn subscribe(&self, topics: RString, options: RString) -> FfiFuture<SubscriptionBox> {
        let connection = Arc::clone(&self.connection);
        call(async move {
            let topics = serde_json::from_str(&topics)
                .map_err(|_| Error::config("topics are not a JSON list of texts"))?;
            connection.subscribe(topics, parse(&options)?).await.map(subscription)
        })
    }

    fn request(&self, batch: Batch, options: RString) -> FfiFuture<SubscriptionBox> {
        let (connection, options) = (Arc::clone(&self.connection), self.publish.get(options));
        call(async move { connection.request(batch, options?).await.map(subscription) })
    }

    fn list(&self, what: RString) -> FfiFuture<RString> {
        let connection = Arc::clone(&self.connection);
        call(async move {
            let what = (!what.is_empty()).then(|| what.into_string());
            connection.list(what).await.map(|listing| listing.to_string().into())
        })
    }

    fn events(&self) -> FfiFuture<RVec<Event>> {
        next_events(&self.events)
    }

    fn close(&self) -> FfiFuture<()> {
        let connection = Arc::clone(&self.connection);
        call(async move { connection.close().await })
    }
}

struct SharedServer<S: Server> {
    server: Arc<Quiet<S>>,
    events: Arc<EventStream>,
    publish: OptionCache<S::Publish>,
    turns: Turns,
}

impl<S: Server> ServerApi for SharedServer<S> {
    fn addresses(&self) -> RVec<RString> {
        // No result to carry an error: a panic reads as a server that can't be reached.
        guard(|| Ok(self.server.addresses())).unwrap_or_default().into_iter().map(RString::from).collect()
    }

    fn messages(&self) -> FfiFuture<SubscriptionBox> {
        let server = Arc::clone(&self.server);
        call(async move { server.messages().map(subscription) })
    }

    fn publish(&self, batch: Batch, options: RString) -> FfiFuture<RVec<Outcome>> {
        let (server, options) = (Arc::clone(&self.server), self.publish.get(options));
        let turn = self.turns.next();
        call(turn.run(async move { server.publish(batch, options?).await.map(RVec::from) }))
    }

    fn events(&self) -> FfiFuture<RVec<Event>> {
        next_events(&self.events)
    }

    fn close(&self) -> FfiFuture<()> {
        let server = Arc::clone(&self.server);
        call(async move { server.close().await })
    }
}

fn next_events(events: &Arc<EventStream>) -> FfiFuture<RVec<Event>> {
    let events = Arc::clone(events);
    direct(async move { Ok(RVec::from(events.next().await)) })
}

fn subscription(subscription: super::Subscription) -> SubscriptionBox {
    SubscriptionApi_TO::from_value(SharedSubscription(Arc::new(subscription)), TD_Opaque)
}

struct SharedSubscription(Arc<super::Subscription>);

impl SubscriptionApi for SharedSubscription {
    fn next_batch(&self, max: u32) -> FfiFuture<Batch> {
        let subscription = Arc::clone(&self.0);
        direct(async move { subscription.next_batch(max as usize).await })
    }

    fn close(&self) -> FfiFuture<()> {
        let subscription = Arc::clone(&self.0);
        direct(async move {
            subscription.close().await;
            Ok(())
        })
    }
}
