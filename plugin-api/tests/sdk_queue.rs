//! The queue between a plugin and the host: bounded, cancel-safe, and exact about what has been dealt with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tracemq_plugin_api::prelude::*;

const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that something does not happen.
const MOMENT: Duration = Duration::from_millis(30);

fn numbers(range: std::ops::Range<u32>) -> Batch {
    let mut batch = BatchBuilder::new();
    for number in range {
        batch.add("t", &number.to_string());
    }
    batch.finish()
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.iter().map(|message| String::from_utf8_lossy(message.payload()).into_owned()).collect()
}

#[tokio::test]
async fn a_large_batch_is_handed_over_in_parts() {
    let (sender, subscription) = queue(1);
    sender.send(numbers(0..5)).await;
    assert_eq!(texts(&subscription.next_batch(2).await.unwrap()), ["0", "1"]);
    assert_eq!(texts(&subscription.next_batch(2).await.unwrap()), ["2", "3"]);
    assert_eq!(texts(&subscription.next_batch(2).await.unwrap()), ["4"]);
    // A host that asks for nothing gets one, lest it ask for ever.
    sender.send(numbers(5..7)).await;
    assert_eq!(texts(&subscription.next_batch(0).await.unwrap()), ["5"]);
}

#[tokio::test]
async fn messages_count_as_dealt_with_when_the_next_are_asked_for() {
    let (sender, subscription) = queue(4);
    sender.send(numbers(0..3)).await;
    sender.send(numbers(3..4)).await;
    assert_eq!(subscription.next_batch(2).await.unwrap().len(), 2);
    assert_eq!(sender.consumed(), 0);
    assert_eq!(subscription.next_batch(2).await.unwrap().len(), 1);
    assert_eq!(sender.consumed(), 2);
    timeout(SOON, sender.progress()).await.expect("told that it went on");
    assert_eq!(subscription.next_batch(2).await.unwrap().len(), 1);
    assert_eq!(sender.consumed(), 3);
    subscription.close().await;
    assert_eq!(sender.consumed(), 4);
}

#[tokio::test]
async fn closing_takes_no_more_and_does_not_count_what_was_never_handed_out() {
    let (sender, subscription) = queue(4);
    sender.send(numbers(0..3)).await;
    sender.send(numbers(3..6)).await;
    assert_eq!(subscription.next_batch(2).await.unwrap().len(), 2);
    subscription.close().await;
    assert_eq!(sender.consumed(), 2);
    assert!(subscription.next_batch(2).await.unwrap().is_end());
    assert!(!sender.send(numbers(6..7)).await);
    assert!(sender.is_closed() && sender.reserve().await.is_none() && sender.try_reserve().is_none());
    timeout(SOON, sender.closed()).await.expect("told that it is closed");
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let (sender, subscription) = queue(2);
    for number in 0..50 {
        let call = timeout(Duration::from_micros(200), subscription.next_batch(10)).await;
        assert!(call.is_err(), "there was nothing to return");
        sender.send(numbers(number..number + 1)).await;
        let batch = timeout(SOON, subscription.next_batch(10)).await.unwrap().unwrap();
        assert_eq!(texts(&batch), [number.to_string()]);
    }
}

#[tokio::test]
async fn a_full_queue_makes_the_sender_wait() {
    let (sender, subscription) = queue(2);
    let kept = sender.reserve().await.expect("room");
    sender.send(numbers(1..2)).await;
    assert!(sender.try_reserve().is_none());
    assert!(timeout(MOMENT, sender.send(numbers(2..3))).await.is_err());
    kept.send(numbers(0..1));
    subscription.next_batch(1).await.unwrap();
    assert!(timeout(SOON, sender.send(numbers(2..3))).await.unwrap());
}

#[tokio::test]
async fn the_stream_ends_with_its_senders() {
    let (sender, subscription) = queue(2);
    let second = sender.clone();
    second.send(numbers(0..1)).await;
    drop((sender, second));
    assert_eq!(subscription.next_batch(10).await.unwrap().len(), 1);
    for _ in 0..2 {
        assert!(subscription.next_batch(10).await.unwrap().is_end());
    }
}

#[tokio::test]
async fn an_error_comes_after_what_was_sent_before_it() {
    let (sender, subscription) = queue(4);
    sender.send(numbers(0..1)).await;
    sender.fail(Error::new(ErrorKind::CLOSED, "the line was cut")).await;
    assert_eq!(subscription.next_batch(10).await.unwrap().len(), 1);
    let error = subscription.next_batch(10).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::CLOSED, "the line was cut"));
    assert!(subscription.next_batch(10).await.unwrap().is_end());
}

#[tokio::test]
async fn a_task_that_panics_does_not_look_like_one_that_has_ended() {
    let (sender, subscription) = queue(4);
    let task = tokio::spawn(async move {
        sender.send(numbers(0..1)).await;
        panic!("the fault of the task");
    });
    assert!(task.await.is_err());
    assert_eq!(subscription.next_batch(10).await.unwrap().len(), 1);
    let error = subscription.next_batch(10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PANIC, "{error}");
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        panic!("even this");
    }
}

#[tokio::test]
async fn the_guard_goes_with_the_subscription_and_may_panic() {
    let (_sender, subscription) = queue(1);
    let gone = Arc::new(AtomicBool::new(false));
    let subscription = subscription.with_guard(Flag(Arc::clone(&gone)));
    assert!(!gone.load(Ordering::SeqCst));
    drop(subscription);
    assert!(gone.load(Ordering::SeqCst));
}
