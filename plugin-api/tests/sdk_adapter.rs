//! The adapter, through the functions that cross: what a plugin does, and what becomes of a plugin that fails.

use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tracemq_plugin_api::abi::{self, ConnectionBox, FfiFuture, PluginRef};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Adapter, Call, Descriptor, spawn};

const SOON: Duration = Duration::from_secs(10);

struct Sample;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// How it behaves
    manner: String,
    /// What nobody may see
    #[schemars(extend("x-secret" = true))]
    key: Option<String>,
    retries: u8,
}

impl Default for Options {
    fn default() -> Options {
        Options { manner: "well".into(), key: None, retries: 3 }
    }
}

/// How many connections are being made.
static CONNECTING: AtomicUsize = AtomicUsize::new(0);

struct Connecting;

impl Drop for Connecting {
    fn drop(&mut self) {
        CONNECTING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Protocol for Sample {
    type Connect = Options;
    type Serve = NoOptions;
    type Connection = SampleConnection;
    type Server = NoServer;

    fn about() -> About {
        About::new("sample", "Sample", "1.2.3")
            .scheme("sample", Some(9))
            .verbs(&[Verb::Publish, Verb::Subscribe])
    }

    async fn connect(options: Options, context: Context) -> Result<SampleConnection> {
        match options.manner.as_str() {
            "panic" => panic!("it was {}", "told to"),
            "hang" => {
                CONNECTING.fetch_add(1, Ordering::SeqCst);
                let _connecting = Connecting;
                std::future::pending().await
            }
            "sleep" => tokio::time::sleep(Duration::from_millis(1)).await,
            "events" => {
                for number in 0..5000 {
                    context.events().emit(Event::new(EventKind::WARNING, format!("event {number}")));
                }
            }
            _ => {}
        }
        Ok(SampleConnection { manner: options.manner, begun: AtomicUsize::new(0) })
    }

    fn check(call: &Call<'_, Sample>) -> Result<()> {
        match call.topics.first().map(String::as_str) {
            Some("bad") => Err(Error::config("`bad` is no topic").hint("take another")),
            Some("panic") => panic!("the topic"),
            _ => Ok(()),
        }
    }
}

struct SampleConnection {
    manner: String,
    begun: AtomicUsize,
}

impl Connection for SampleConnection {
    type Publish = NoOptions;
    type Subscribe = NoOptions;

    async fn publish(&self, batch: Batch, _: Arc<NoOptions>) -> Result<Vec<Outcome>> {
        let payload = batch.get(0).map(|message| message.payload().to_vec());
        match payload.as_deref() {
            Some(b"panic") => std::panic::panic_any(42),
            // Tells how many calls began before it, and stays under way.
            Some(b"count") => {
                let before = self.begun.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(vec![Outcome::refused(before.to_string())])
            }
            _ => Ok(batch.iter().map(|_| Outcome::sent()).collect()),
        }
    }

    async fn subscribe(&self, _: Vec<String>, _: NoOptions) -> Result<Subscription> {
        let (sender, subscription) = queue(1);
        spawn(async move {
            let mut batch = BatchBuilder::new();
            batch.add("t", "1");
            sender.send(batch.finish()).await;
        });
        Ok(subscription)
    }
}

impl Drop for SampleConnection {
    fn drop(&mut self) {
        // Only the plugin's own runtime can start this: the thread that drops is the host's.
        tokio::spawn(async {});
        if self.manner == "panic in drop" {
            panic!("at the very end");
        }
    }
}

fn plugin() -> PluginRef {
    abi::linked::<Adapter<Sample>>()
}

fn answer<T>(call: FfiFuture<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { timeout(SOON, call).await.expect("an answer").into_result() })
}

fn connect(manner: &str) -> Result<ConnectionBox> {
    answer(plugin().connect()(json!({"manner": manner}).to_string().into(), "{}".into()))
}

fn message(payload: &str) -> Batch {
    let mut batch = BatchBuilder::new();
    batch.add("t", payload);
    batch.finish()
}

fn assert_panicked(error: &Error, text: &str) {
    assert_eq!(error.kind(), ErrorKind::PANIC);
    assert_eq!(error.message(), format!("the plugin panicked: {text}"));
    assert!(error.hint_text().contains("report"), "{error}");
}

#[test]
fn the_descriptor_holds_what_the_author_wrote_and_the_schemas() {
    let text = plugin().describe()().into_result().unwrap();
    let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&descriptor.id[..], &descriptor.version[..], &descriptor.api[..]),
        ("sample", "1.2.3", "1.1.0")
    );
    assert_eq!((&descriptor.schemes[0].name[..], descriptor.schemes[0].port), ("sample", Some(9)));
    let properties = &descriptor.schemas.connection["properties"];
    assert_eq!(properties["manner"]["description"], "How it behaves");
    assert_eq!(properties["retries"]["default"], 3);
    assert_eq!(properties["key"]["x-secret"], true);
    assert_eq!(descriptor.schemas.serve["properties"], Value::Null);
}

#[test]
fn a_panic_becomes_an_error_with_its_text() {
    assert_panicked(&connect("panic").err().unwrap(), "it was told to");
    let call = json!({"verb": "subscribe", "topics": ["panic"]});
    assert_panicked(&plugin().check()(call.to_string().into()).into_result().unwrap_err(), "the topic");
    let connection = connect("well").unwrap();
    assert_panicked(
        &answer(connection.publish(message("panic"), "".into())).unwrap_err(),
        "without a message",
    );
    // And it goes on working.
    let outcomes = answer(connection.publish(message("fine"), "".into())).unwrap();
    assert!(outcomes[0].is_success());
}

#[test]
fn a_panic_in_a_destructor_ends_nothing() {
    drop(connect("panic in drop").unwrap());
    assert!(connect("well").is_ok());
}

#[test]
fn publish_calls_begin_in_the_order_in_which_they_are_made() {
    let connection = connect("well").unwrap();
    let mut calls: Vec<_> = (0..200).map(|_| connection.publish(message("count"), "{}".into())).collect();
    // One that is given up does not hold up those behind it.
    drop(calls.pop());
    calls.push(connection.publish(message("count"), "{}".into()));
    let begun: Vec<usize> =
        calls.into_iter().map(|call| answer(call).unwrap()[0].reason().parse().unwrap()).collect();
    assert!(begun.is_sorted(), "{begun:?}");
}

#[test]
fn dropping_the_call_ends_the_work() {
    let call = plugin().connect()(json!({"manner": "hang"}).to_string().into(), "{}".into());
    wait_until(|| CONNECTING.load(Ordering::SeqCst) == 1);
    drop(call);
    wait_until(|| CONNECTING.load(Ordering::SeqCst) == 0);
}

fn wait_until(holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "it did not come to hold");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The host's threads have no reactor of the plugin's: what needs one must run on the plugin's own.
#[test]
fn a_timer_works_although_the_caller_has_no_runtime() {
    let call = plugin().connect()(json!({"manner": "sleep"}).to_string().into(), "{}".into());
    assert!(answer(call).is_ok());
}

#[test]
fn a_subscription_ends_when_its_task_does() {
    let connection = connect("well").unwrap();
    let subscription = answer(connection.subscribe("[\"t\"]".into(), "{}".into())).unwrap();
    assert_eq!(answer(subscription.next_batch(10)).unwrap().len(), 1);
    assert!(answer(subscription.next_batch(10)).unwrap().is_end());
}

#[test]
fn options_that_do_not_fit_are_the_users_error() {
    for (options, part) in [
        ("{\"retries\": 300}", "300"),
        ("{\"unknown\": 1}", "unknown"),
        ("{", "not JSON"),
        ("5", "does not fit"),
    ] {
        let error = answer(plugin().connect()(options.into(), "{}".into())).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::CONFIG, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn a_call_is_checked_before_anything_is_opened() {
    let check = |call: Value| plugin().check()(call.to_string().into()).into_result();
    assert!(check(json!({"verb": "publish", "connection": {}, "topics": ["good"]})).is_ok());
    assert!(check(json!({"verb": "publish", "connection": {"retries": "many"}})).is_err());
    let error = check(json!({"verb": "subscribe", "topics": ["bad"]})).unwrap_err();
    assert_eq!(error.to_string(), "`bad` is no topic; take another");
    // A later version may say more.
    assert!(check(json!({"verb": "subscribe", "topics": [], "colour": "blue"})).is_ok());
}

#[test]
fn what_a_plugin_does_not_offer_is_said_to_be_unsupported() {
    let connection = connect("well").unwrap();
    for error in [
        answer(connection.request(message("x"), "".into())).err().unwrap(),
        answer(connection.list("".into())).unwrap_err(),
        answer(plugin().serve()("{}".into(), "{}".into())).err().unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UNSUPPORTED, "{error}");
    }
}

#[test]
fn events_are_bounded_and_the_loss_is_told() {
    let connection = connect("events").unwrap();
    let mut events = answer(connection.events()).unwrap();
    assert!(events.len() <= 1025, "{} events", events.len());
    let last = events.pop().unwrap();
    assert_eq!(last.text(), "3976 events were not shown: too many at once");
    assert_eq!(events[0].text(), "event 0");
}

#[test]
fn errors_say_what_was_tried_why_it_failed_and_what_can_be_done() {
    let error = Error::new(ErrorKind::AUTH, "not authorized")
        .while_doing("subscribe to a/b")
        .code("0x87")
        .hint("check the access list")
        .temporary();
    assert_eq!(error.to_string(), "subscribe to a/b: not authorized (0x87); check the access list");
    assert!(error.is_temporary() && !Error::config("x").is_temporary());
    assert_eq!(Error::config("only this").to_string(), "only this");
}

#[test]
fn outcomes_tell_success_from_the_rest() {
    let details = json!({"sequence": 5});
    let outcome = Outcome::acknowledged().details(details.clone());
    assert!(outcome.is_success() && Outcome::sent().is_success());
    assert_eq!(serde_json::from_str::<Value>(outcome.details_json()).unwrap(), details);
    let same = Outcome::acknowledged().details_of(&std::collections::BTreeMap::from([("sequence", 5)]));
    assert_eq!(same.details_json(), outcome.details_json());
    assert_eq!(Outcome::sent().details_of(&5).details_json(), "", "no object");
    for outcome in [Outcome::refused("why"), Outcome::unauthorized("why"), Outcome::unconfirmed("why")] {
        assert!(!outcome.is_success());
        assert_eq!(outcome.reason(), "why");
    }
}
