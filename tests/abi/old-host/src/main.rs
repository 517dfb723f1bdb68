//! `old-host LIBRARY URL`: loads the plugin as the host of 1.0 did, and makes each call of it once. What came of them is
//! printed for the test that started it; the status is 1 when the library is refused.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tracemq_plugin_api::abi::{self, FfiFuture, HEADER_SYMBOL, HostLog, PluginHeader, host_box};
use tracemq_plugin_api::sdk::{BatchBuilder, Descriptor};
use tracemq_plugin_api::serde_json::{self, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Log;

impl HostLog for Log {
    fn log(&self, level: u32, target: &str, message: &str) {
        eprintln!("{level} {target}: {message}");
    }

    fn log_level(&self) -> u32 {
        2
    }
}

async fn answer<T>(call: FfiFuture<T>) -> Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(10), call).await?.into_result()?)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, url] = &arguments[..] else {
        eprintln!("usage: old-host LIBRARY URL");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(library, url))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(library: &str, url: &str) -> Result<()> {
    // SAFETY: the test built the library; it stays loaded until the process ends.
    let plugin = unsafe {
        let library = std::mem::ManuallyDrop::new(libloading::Library::new(library)?);
        let header: *const PluginHeader = *library.get(HEADER_SYMBOL)?;
        abi::open(header)?
    };
    let descriptor: Descriptor = serde_json::from_str(&plugin.describe()().into_result()?)?;
    println!("describe {} api {}", descriptor.id, descriptor.api);
    plugin.start()(host_box(Log)).into_result()?;
    let call = json!({"verb": "subscribe", "url": url, "connection": {}, "topics": ["a/b"]});
    plugin.check()(call.to_string().into()).into_result()?;

    let context = json!({"url": url, "target": url, "host": "old-host/1.0.0"}).to_string();
    let connection = answer(plugin.connect()("{}".into(), context.into())).await?;
    for event in answer(connection.events()).await? {
        println!("event {}", event.kind().name());
    }
    let subscription = answer(connection.subscribe(json!(["a/b"]).to_string().into(), "{}".into())).await?;
    let mut batch = BatchBuilder::new();
    for text in ["one", "two", "three"] {
        batch.add("a/b", text).header("colour", "blue");
    }
    for outcome in answer(connection.publish(batch.finish(), "{}".into())).await? {
        println!("outcome {} {}", outcome.is_success(), outcome.reason());
    }
    let mut seen = 0;
    while seen < 3 {
        let batch = answer(subscription.next_batch(2)).await?;
        for message in batch.iter() {
            seen += 1;
            println!("message {} {}", message.topic_text(), String::from_utf8_lossy(message.payload()));
            for (name, value) in message.headers() {
                println!("header {} {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            }
        }
        if batch.is_end() {
            return Err("the stream ended early".into());
        }
    }
    answer(subscription.close()).await?;

    let mut question = BatchBuilder::new();
    question.add("a/b", "what?");
    let answers = answer(connection.request(question.finish(), "{}".into())).await?;
    for message in answer(answers.next_batch(1)).await?.iter() {
        println!("answer {}", String::from_utf8_lossy(message.payload()));
    }
    println!("list {}", answer(connection.list("".into())).await?);
    answer(connection.close()).await?;
    println!("closed");
    Ok(())
}
