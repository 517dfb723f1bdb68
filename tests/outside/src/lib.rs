//! A plugin as a stranger writes it: one crate, one dependency, no `unsafe`.
//!
//! `ticker://` ticks; `ticker://HOST:PORT` hands lines to a `tracemq serve ticker`. Its sockets are those of the standard
//! library, on threads of its own: a plugin need not be asynchronous inside.

#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::schemars::{self, JsonSchema};
use tracemq_plugin_api::sdk::{MessageView, now};
use tracemq_plugin_api::serde::{self, Deserialize};
use tracemq_plugin_api::tokio::sync::oneshot;

/// The longest line that the server reads.
const LONGEST: u64 = 1 << 16;

struct Ticker;

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "serde", default, deny_unknown_fields)]
#[schemars(crate = "schemars")]
struct ConnectOptions {
    /// What to call the clock
    #[schemars(title = "Label", extend("x-title-fr" = "Nom", "x-help-fr" = "Comment appeler l'horloge"))]
    label: String,
    /// Key that the server asks for
    #[schemars(extend("x-secret" = true, "x-help-fr" = "Clé que demande le serveur"))]
    key: Option<String>,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions { label: "tick".into(), key: None }
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(crate = "serde", default, deny_unknown_fields)]
#[schemars(crate = "schemars")]
struct PublishOptions {
    /// Send the text in capitals
    #[schemars(extend("x-help-fr" = "Envoyer le texte en capitales"))]
    loud: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "serde", default, deny_unknown_fields)]
#[schemars(crate = "schemars")]
struct SubscribeOptions {
    /// Time between two ticks
    #[schemars(extend("x-help-fr" = "Temps entre deux tics"))]
    every: Span,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions { every: Span::from_secs(1) }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "serde", default, deny_unknown_fields)]
#[schemars(crate = "schemars")]
struct ServeOptions {
    /// Address and port to listen on
    #[schemars(extend("x-help-fr" = "Adresse et port d'écoute"))]
    bind: String,
    /// Key that clients must know
    #[schemars(extend("x-secret" = true, "x-help-fr" = "Clé que les clients doivent connaître"))]
    key: Option<String>,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions { bind: "127.0.0.1:0".into(), key: None }
    }
}

impl Protocol for Ticker {
    type Connect = ConnectOptions;
    type Serve = ServeOptions;
    type Connection = TickerConnection;
    type Server = TickerServer;

    fn about() -> About {
        About::new("ticker", "Ticker", env!("CARGO_PKG_VERSION"))
            .about("A clock, and a place to hand lines in")
            .scheme("ticker", None)
            .verbs(&[Verb::Publish, Verb::Subscribe, Verb::Serve])
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<TickerConnection> {
        let address = context.url().and_then(|url| url.split_once("://")).map_or("", |(_, rest)| rest);
        let server = match address.trim_end_matches('/') {
            "" => None,
            address => {
                let stream =
                    TcpStream::connect(address).map_err(|error| failed(&error).while_doing("connect"))?;
                Some(Arc::new(Mutex::new(BufReader::new(stream))))
            }
        };
        Ok(TickerConnection { options, server })
    }

    async fn serve(options: ServeOptions, _: Context) -> Result<TickerServer> {
        TickerServer::start(&options)
    }
}

struct TickerConnection {
    options: ConnectOptions,
    server: Option<Arc<Mutex<BufReader<TcpStream>>>>,
}

impl Connection for TickerConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        let Some(server) = self.server.clone() else {
            return Err(Error::config("a clock takes no messages")
                .hint("give the address of a server: ticker://HOST:PORT"));
        };
        let key = self.options.key.clone().unwrap_or_default();
        let lines: Vec<String> = batch.iter().map(|message| line_of(message, &key, options.loud)).collect();
        in_thread(move || {
            let mut server =
                server.lock().map_err(|_| Error::new(ErrorKind::CLOSED, "an earlier call failed"))?;
            lines.iter().map(|line| hand_in(&mut server, line)).collect()
        })
        .await
    }

    async fn subscribe(&self, topics: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        let topic = topics.into_iter().next().unwrap_or_else(|| "tick".into());
        let label = self.options.label.clone();
        let (sender, subscription) = queue(4);
        std::thread::spawn(move || {
            for number in 1_u64.. {
                std::thread::sleep(options.every.duration());
                if sender.is_closed() {
                    return;
                }
                // A tick that nobody has room for is not kept: the clock goes on.
                let Some(room) = sender.try_reserve() else { continue };
                let mut batch = BatchBuilder::new();
                batch
                    .add(&topic, &format!("{label} {number}"))
                    .header("clock", &label)
                    .meta("tick", MetaValue::Uint(number))
                    .time(now());
                room.send(batch.finish());
            }
        });
        Ok(subscription)
    }
}

fn line_of(message: MessageView<'_>, key: &str, loud: bool) -> String {
    let text = String::from_utf8_lossy(message.payload()).replace(['\n', '\t'], " ");
    let text = if loud { text.to_uppercase() } else { text };
    format!("{key}\t{}\t{text}\n", message.topic_text())
}

fn hand_in(server: &mut BufReader<TcpStream>, line: &str) -> Result<Outcome> {
    let mut answer = String::new();
    server.get_mut().write_all(line.as_bytes()).map_err(|error| failed(&error))?;
    server.read_line(&mut answer).map_err(|error| failed(&error))?;
    match answer.trim_end() {
        "ok" => Ok(Outcome::acknowledged()),
        "" => Err(Error::new(ErrorKind::CLOSED, "the server closed the connection")),
        reason => Ok(Outcome::unauthorized(reason)),
    }
}

/// Blocking work on a thread of its own: the plugin's runtime has other calls to serve.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::OTHER, "the thread ended early")))
}

struct TickerServer {
    address: String,
    messages: Mutex<Option<Subscription>>,
    stopped: Arc<AtomicBool>,
}

impl TickerServer {
    fn start(options: &ServeOptions) -> Result<TickerServer> {
        let listening =
            |error: std::io::Error| failed(&error).while_doing(format!("listen on {}", options.bind));
        let listener = TcpListener::bind(&options.bind).map_err(listening)?;
        let address = format!("ticker://{}", listener.local_addr().map_err(listening)?);
        listener.set_nonblocking(true).map_err(listening)?;
        let (sender, subscription) = queue(16);
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, key) = (Arc::clone(&stopped), options.key.clone().unwrap_or_default());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (sender, key) = (sender.clone(), key.clone());
                        std::thread::spawn(move || attend(stream, &sender, &key));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(TickerServer { address, messages: Mutex::new(Some(subscription)), stopped })
    }
}

impl Server for TickerServer {
    type Publish = NoOptions;

    fn addresses(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    fn messages(&self) -> Result<Subscription> {
        let messages = self.messages.lock().ok().and_then(|mut messages| messages.take());
        messages.ok_or_else(|| Error::new(ErrorKind::OTHER, "the messages were already taken"))
    }
}

impl Drop for TickerServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// One client's lines, until it goes or says something else.
fn attend(stream: TcpStream, sender: &BatchSender, key: &str) {
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let mut client = BufReader::new(stream);
    let mut line = String::new();
    while (&mut client).take(LONGEST).read_line(&mut line).is_ok_and(|count| count > 0) {
        let answer = match line.trim_end_matches('\n').splitn(3, '\t').collect::<Vec<_>>()[..] {
            [known, topic, text] if known == key => match sender.try_reserve() {
                Some(room) => {
                    let mut batch = BatchBuilder::new();
                    batch.add(topic, text);
                    room.send(batch.finish());
                    "ok\n"
                }
                None => "too many lines at once\n",
            },
            [_, _, _] => "wrong key\n",
            _ => return,
        };
        if client.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::CONNECT, error.to_string())
}

export_plugin!(Ticker);
