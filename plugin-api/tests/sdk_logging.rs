//! What a plugin logs, and the text of its tasks' panics, after `start`. Alone in its program, since it takes the logger and the
//! panic hook.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tracemq_plugin_api::abi::{self, HostLog, host_box};
use tracemq_plugin_api::log;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Adapter, spawn};

struct Silent;

impl Protocol for Silent {
    type Connect = NoOptions;
    type Serve = NoOptions;
    type Connection = SilentConnection;
    type Server = NoServer;

    fn about() -> About {
        About::new("silent", "Silent", "1.0.0").scheme("silent", None)
    }

    async fn connect(_: NoOptions, _: Context) -> Result<SilentConnection> {
        Ok(SilentConnection)
    }
}

struct SilentConnection;

impl Connection for SilentConnection {
    type Publish = NoOptions;
    type Subscribe = NoOptions;
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

impl HostLog for Recorder {
    fn log(&self, level: u32, target: &str, message: &str) {
        lines().push(format!("{level} {target} {message}"));
    }

    fn log_level(&self) -> u32 {
        4
    }
}

#[test]
fn logs_and_panics_reach_the_host() {
    let plugin = abi::linked::<Adapter<Silent>>();
    for _ in 0..2 {
        // Twice is no fault.
        plugin.start()(host_box(Recorder)).into_result().expect("it starts");
    }
    log::warn!(target: "silent", "so {}", "loud");
    log::trace!(target: "silent", "more detailed than the host wants");
    assert_eq!(*lines(), ["2 silent so loud"]);

    let (sender, subscription) = queue(1);
    let task = spawn(async move {
        let _sender = sender;
        panic!("the fault of the task");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let error = runtime.block_on(async {
        assert!(task.await.is_err());
        subscription.next_batch(1).await.expect_err("the stream has not ended well")
    });
    assert_eq!(error.message(), "the plugin panicked: the fault of the task");
    let place = lines().last().cloned().unwrap_or_default();
    assert!(place.starts_with("4 panic ") && place.contains("sdk_logging.rs"), "{place}");
}
