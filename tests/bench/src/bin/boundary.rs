//! What a message costs between a plugin and the host: `boundary LIBRARY [MESSAGES] [ROUNDS]`.
//!
//! A plugin that makes messages up (`maker` of the fixtures, loaded as the host loads any) is counted against the same
//! messages sent one by one through a tokio channel between two threads of this program. Both are measured in turn, in one
//! run; the medians of the rounds are written as JSON. Allocations are counted on both sides of the boundary.

use bytes::Bytes;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracemq_plugin_api::abi::{ConnectionBox, FfiFuture, MAX_BATCH};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOPIC: &str = "plant/line-7/oven/temperature";

/// Payload lengths that are measured.
const SIZES: [usize; 2] = [100, 1024];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let library = arguments.next().ok_or("usage: boundary LIBRARY [MESSAGES] [ROUNDS]")?;
    let messages = arguments.next().map_or(Ok(4_000_000), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    // One thread beside this one, as a plugin has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let connection = connect(&runtime, &library)?;
    let mut results = Vec::new();
    for size in SIZES {
        let (mut plugin, mut channel, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        let (mut host_allocations, mut plugin_allocations) = (0.0, 0.0);
        for _ in 0..rounds {
            let before = (ALLOCATIONS.load(Ordering::Relaxed), allocations_of(&runtime, &connection)?);
            let through_plugin = through_plugin(&runtime, &connection, size, messages)?;
            let after = (ALLOCATIONS.load(Ordering::Relaxed), allocations_of(&runtime, &connection)?);
            host_allocations = (after.0 - before.0) as f64 / messages as f64;
            plugin_allocations = (after.1 - before.1) as f64 / messages as f64;
            let through_channel = through_channel(&runtime, size, messages)?;
            ratio.push(through_plugin / through_channel);
            plugin.push(through_plugin);
            channel.push(through_channel);
        }
        results.push(json!({
            "payload_bytes": size,
            "plugin_messages_per_second": median(plugin).round(),
            "channel_messages_per_second": median(channel).round(),
            "ratio": median(ratio),
            "host_allocations_per_message": host_allocations,
            "plugin_allocations_per_message": plugin_allocations,
        }));
    }
    let report = json!({"messages": messages, "rounds": rounds, "results": results});
    writeln!(std::io::stdout(), "{report:#}")?;
    Ok(())
}

fn connect(runtime: &Runtime, library: &str) -> Result<ConnectionBox> {
    let context = json!({"url": "maker://", "target": "maker://"}).to_string();
    answer(runtime, tracemq_bench::load(library)?.connect()("{}".into(), context.into()))
}

fn answer<T>(runtime: &Runtime, call: FfiFuture<T>) -> Result<T> {
    Ok(runtime.block_on(call).into_result()?)
}

/// What the plugin has allocated since it was loaded.
fn allocations_of(runtime: &Runtime, connection: &ConnectionBox) -> Result<u64> {
    let listing: Value = serde_json::from_str(&answer(runtime, connection.list("".into()))?)?;
    listing["rows"][0][0].as_u64().ok_or_else(|| "the plugin does not tell its allocations".into())
}

/// Messages per second from the plugin.
fn through_plugin(runtime: &Runtime, connection: &ConnectionBox, size: usize, messages: u64) -> Result<f64> {
    let (topics, options) = (json!([TOPIC]).to_string(), json!({"size": size}).to_string());
    let subscription = answer(runtime, connection.subscribe(topics.into(), options.into()))?;
    runtime.block_on(async {
        let start = Instant::now();
        let mut seen = 0;
        while seen < messages {
            let batch = subscription.next_batch(MAX_BATCH as u32).await.into_result()?;
            for message in batch.iter() {
                black_box((message.topic(), message.payload()));
            }
            seen += batch.len() as u64;
        }
        Ok(seen as f64 / start.elapsed().as_secs_f64())
    })
}

/// A message as a client library hands it over.
struct Message {
    topic: Bytes,
    payload: Bytes,
}

/// Messages per second through a channel, made up in the same way: 256 in one buffer.
fn through_channel(runtime: &Runtime, size: usize, messages: u64) -> Result<f64> {
    let (sender, mut receiver) = mpsc::channel::<Message>(8 * MAX_BATCH);
    let maker = runtime.spawn(async move {
        let step = TOPIC.len() + size;
        loop {
            let mut bytes = Vec::with_capacity(step * MAX_BATCH);
            for _ in 0..MAX_BATCH {
                bytes.extend_from_slice(TOPIC.as_bytes());
                bytes.resize(bytes.len() + size, b'x');
            }
            let bytes = Bytes::from(bytes);
            for start in (0..bytes.len()).step_by(step) {
                let split = start + TOPIC.len();
                let message =
                    Message { topic: bytes.slice(start..split), payload: bytes.slice(split..start + step) };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        }
    });
    let rate = runtime.block_on(async {
        let start = Instant::now();
        let mut seen = 0;
        while seen < messages {
            let Some(message) = receiver.recv().await else { return Err("the maker ended early") };
            black_box((&message.topic[..], &message.payload[..]));
            seen += 1;
        }
        Ok(seen as f64 / start.elapsed().as_secs_f64())
    })?;
    drop(receiver);
    runtime.block_on(maker)?;
    Ok(rate)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
