//! What a run of `bench` has measured, for people and as JSON.

use crate::failure::{Exit, Failure};
use crate::output::escape;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::{Duration, Instant};
use tracemq_plugin_api::sdk::Batch;

/// Three digits are more than a run repeats; an hour is longer than any confirmation is waited for.
const DIGITS: u8 = 3;
const LONGEST: Duration = Duration::from_secs(3600);

/// Counters and latencies of a run.
pub struct Figures {
    size: usize,
    started: Instant,
    ended: Instant,
    /// Confirmed, or handed to the network by a protocol that confirms nothing.
    confirmed: u64,
    refused: u64,
    reason: String,
    pub unconfirmed: u64,
    pub received: u64,
    /// Of these the first, which came before the clock was started.
    early: u64,
    pub duplicates: u64,
    pub dropped: u64,
    latencies: Histogram<u64>,
    deliveries: Option<u64>,
}

impl Figures {
    pub fn new(size: usize) -> Figures {
        let now = Instant::now();
        let latencies = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, DIGITS);
        Figures {
            size,
            started: now,
            ended: now,
            confirmed: 0,
            refused: 0,
            reason: String::new(),
            unconfirmed: 0,
            received: 0,
            early: 0,
            duplicates: 0,
            dropped: 0,
            latencies: latencies.expect("the bounds are constants"),
            deliveries: None,
        }
    }

    /// The clock starts.
    pub fn start(&mut self) {
        self.started = Instant::now();
        self.ended = self.started;
    }

    /// A batch was answered.
    pub fn confirmed(&mut self, confirmed: u64, refused: u64, latency: Duration) {
        self.ended = Instant::now();
        self.confirmed += confirmed;
        self.refused += refused;
        self.latencies.saturating_record_n(latency.as_nanos() as u64, confirmed);
    }

    /// The first reason is kept.
    pub fn refused(&mut self, reason: &str) {
        if self.reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
    }

    /// A batch has arrived. The first one starts the clock, since nobody knows how long it was on its way.
    pub fn arrived(&mut self, batch: &Batch) {
        self.dropped += batch.dropped();
        if batch.is_empty() {
            return;
        }
        self.ended = Instant::now();
        if self.received == 0 {
            self.started = self.ended;
            self.early = batch.len() as u64;
        }
        self.received += batch.len() as u64;
        self.size = batch.get(0).map_or(0, |message| message.payload().len());
    }

    /// A message has come back.
    pub fn delivered(&mut self, age: Duration) {
        self.ended = Instant::now();
        self.received += 1;
        self.latencies.saturating_record(age.as_nanos() as u64);
    }

    /// The other half of an echo. What counts is how long messages took to come back.
    pub fn take_deliveries(&mut self, heard: Figures) {
        self.ended = self.ended.max(heard.ended);
        self.received = heard.received;
        self.duplicates = heard.duplicates;
        self.dropped = heard.dropped;
        self.latencies = heard.latencies;
        self.deliveries = Some(self.confirmed + self.unconfirmed);
    }

    /// What the run has come to. `lost` are messages that did not come back.
    pub fn result<'a>(&self, mode: &'a str, target: &'a str, topic: &'a str) -> Outcome<'a> {
        let seconds = self.ended.duration_since(self.started).as_secs_f64();
        let messages = if mode == "pub" { self.confirmed } else { self.received };
        let timed = if mode == "sub" { messages - self.early } else { messages };
        let rate = if seconds > 0.0 { timed as f64 / seconds } else { 0.0 };
        Outcome {
            mode,
            target,
            topic,
            messages,
            size: self.size,
            seconds,
            messages_per_second: rate,
            bytes_per_second: rate * self.size as f64,
            latency_us: (!self.latencies.is_empty()).then(|| Latency::of(&self.latencies)),
            refused: self.refused,
            unconfirmed: self.unconfirmed,
            lost: self.deliveries.map(|sent| sent.saturating_sub(self.received)),
            duplicates: self.deliveries.map(|_| self.duplicates),
            dropped: self.dropped,
        }
    }

    /// A benchmark of refusals is none.
    pub fn verdict(&self, mode: &str, target: &str) -> Result<(), Failure> {
        let failed =
            |text: String| Err(Failure::new(Exit::Failed, format!("bench {mode} on {target}: {text}")));
        if self.refused > 0 {
            return failed(format!("{} messages were refused; the first: {}", self.refused, self.reason));
        }
        if self.unconfirmed > 0 {
            return failed(format!("{} messages were not confirmed in time", self.unconfirmed));
        }
        Ok(())
    }
}

/// The result; the field names are those of its JSON form.
#[derive(Debug, Serialize)]
pub struct Outcome<'a> {
    mode: &'a str,
    target: &'a str,
    topic: &'a str,
    messages: u64,
    size: usize,
    seconds: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    /// `pub`: from handing a batch over until its last confirmation. `echo`: from handing a message over until it is back.
    latency_us: Option<Latency>,
    refused: u64,
    unconfirmed: u64,
    /// Only of `echo`.
    lost: Option<u64>,
    duplicates: Option<u64>,
    dropped: u64,
}

/// Microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Latency {
    fn of(nanos: &Histogram<u64>) -> Latency {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |quantile| micros(nanos.value_at_quantile(quantile));
        Latency {
            min: micros(nanos.min()),
            mean: nanos.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(nanos.max()),
        }
    }
}

impl Outcome<'_> {
    /// One JSON object, or some lines.
    pub fn text(&self, json: bool) -> String {
        if json {
            let mut text = serde_json::to_string(self).expect("its numbers are finite");
            text.push('\n');
            return text;
        }
        let mut text = format!(
            "{} {} {}: {} messages of {} bytes in {:.3} s\n",
            self.mode,
            self.target,
            escape::line(self.topic),
            self.messages,
            self.size,
            self.seconds
        );
        text.push_str(&format!(
            "rate      {:.0} messages/s, {:.2} MB/s\n",
            self.messages_per_second,
            self.bytes_per_second / 1e6
        ));
        if let Some(latency) = &self.latency_us {
            text.push_str(&format!(
                "latency   min {}, median {}, p90 {}, p99 {}, p99.9 {}, max {}\n",
                span(latency.min),
                span(latency.p50),
                span(latency.p90),
                span(latency.p99),
                span(latency.p999),
                span(latency.max)
            ));
        }
        let losses = [
            ("refused", Some(self.refused)),
            ("unconfirmed", Some(self.unconfirmed)),
            ("lost", self.lost),
            ("duplicates", self.duplicates),
            ("dropped", Some(self.dropped)),
        ];
        for (name, count) in losses {
            if let Some(count @ 1..) = count {
                text.push_str(&format!("{name:<9} {count}\n"));
            }
        }
        text
    }
}

fn span(micros: f64) -> String {
    match micros {
        0.0..1000.0 => format!("{micros:.1} µs"),
        1000.0..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracemq_plugin_api::sdk::BatchBuilder;

    #[test]
    fn confirmations_make_latencies_and_rates() {
        let mut figures = Figures::new(100);
        figures.start();
        figures.confirmed(256, 0, Duration::from_millis(1));
        figures.confirmed(256, 0, Duration::from_millis(3));
        let result = figures.result("pub", "x", "t");
        assert_eq!(result.messages, 512);
        assert!(result.messages_per_second > 0.0 && result.messages_per_second.is_finite());
        let latency = result.latency_us.as_ref().unwrap();
        assert!((latency.p50 - 1000.0).abs() < 2.0 && (latency.max - 3000.0).abs() < 5.0, "{latency:?}");
        assert!(figures.verdict("pub", "x").is_ok());
        let value: serde_json::Value = serde_json::from_str(&result.text(true)).unwrap();
        assert_eq!((&value["messages"], &value["lost"]), (&512.into(), &serde_json::Value::Null));
    }

    #[test]
    fn refusals_are_a_failure_with_their_reason() {
        let mut figures = Figures::new(100);
        figures.refused("0x97 quota exceeded");
        figures.refused("another");
        figures.confirmed(0, 2, Duration::from_millis(1));
        let failure = figures.verdict("pub", "x").unwrap_err();
        assert_eq!(failure.text, "bench pub on x: 2 messages were refused; the first: 0x97 quota exceeded");
        assert!(figures.result("pub", "x", "t").latency_us.is_none());
    }

    #[test]
    fn the_first_batch_only_starts_the_clock() {
        let mut figures = Figures::new(0);
        let mut batch = BatchBuilder::new();
        batch.add("t", "12345");
        let batch = batch.finish();
        figures.arrived(&batch);
        let result = figures.result("sub", "x", "t");
        assert_eq!((result.messages, result.size, result.messages_per_second), (1, 5, 0.0));
    }

    #[test]
    fn what_did_not_come_back_is_lost() {
        let mut figures = Figures::new(48);
        figures.confirmed(10, 0, Duration::from_millis(1));
        let mut heard = Figures::new(48);
        (0..7).for_each(|_| heard.delivered(Duration::from_micros(500)));
        heard.duplicates = 1;
        figures.take_deliveries(heard);
        let result = figures.result("echo", "x", "t");
        assert_eq!((result.messages, result.lost, result.duplicates), (7, Some(3), Some(1)));
        assert!(result.text(false).contains("lost      3\n"), "{}", result.text(false));
    }
}
