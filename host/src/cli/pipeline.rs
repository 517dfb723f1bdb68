//! Calls on their way, answered in the order in which they were made.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tracemq_plugin_api::sdk::{Error, Outcome};

/// So many batches may be unconfirmed at once, at most. With full ones that is 4096 messages, enough for a round trip of 10 ms at
/// 400,000 messages a second.
pub const DEPTH: usize = 16;

pub type Outcomes = Result<Vec<Outcome>, Error>;

struct Call<F> {
    first: u64,
    count: usize,
    future: Pin<Box<F>>,
    done: Option<Outcomes>,
}

impl<F: Future<Output = Outcomes>> Call<F> {
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.done.is_none() {
            self.done = Some(ready!(self.future.as_mut().poll(context)));
        }
        Poll::Ready(())
    }
}

/// What became of one call.
pub struct Sent {
    /// The number of its first message, from 1.
    pub first: u64,
    pub count: usize,
    pub outcomes: Outcomes,
}

/// Publish calls on their way.
pub struct Pipeline<F> {
    calls: VecDeque<Call<F>>,
    depth: usize,
    pushed: u64,
}

impl<F: Future<Output = Outcomes>> Pipeline<F> {
    /// With room for at most [`DEPTH`] calls.
    pub fn new(depth: usize) -> Pipeline<F> {
        let depth = depth.clamp(1, DEPTH);
        Pipeline { calls: VecDeque::with_capacity(depth), depth, pushed: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.calls.len() < self.depth
    }

    /// Starts a call of `count` messages. It is polled once here, so that calls start in their order.
    pub async fn push(&mut self, count: usize, future: F) {
        let mut call = Call { first: self.pushed + 1, count, future: Box::pin(future), done: None };
        self.pushed += count as u64;
        poll_fn(|context| Poll::Ready(call.advance(context).is_ready())).await;
        self.calls.push_back(call);
    }

    /// Waits for the oldest call; pending for ever when there is none. Cancel-safe.
    pub async fn next(&mut self) -> Sent {
        poll_fn(|context| match self.calls.front_mut() {
            Some(call) => call.advance(context),
            None => Poll::Pending,
        })
        .await;
        let call = self.calls.pop_front().expect("it was there a moment ago");
        Sent { first: call.first, count: call.count, outcomes: call.done.expect("it is done") }
    }

    /// Gives up what is on its way: first number and count of each call.
    pub fn abandon(self) -> impl Iterator<Item = (u64, usize)> {
        self.calls.into_iter().map(|call| (call.first, call.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn answers_come_in_the_order_of_the_calls() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pipeline = Pipeline::new(DEPTH);
            let mut answers = Vec::new();
            for count in 1..=DEPTH {
                assert!(pipeline.has_room());
                let (answer, future) = oneshot::channel::<Outcomes>();
                pipeline.push(count, async { future.await.unwrap() }).await;
                answers.push(answer);
            }
            assert!(!pipeline.has_room());
            let last = answers.pop().unwrap();
            for (index, answer) in answers.into_iter().enumerate().rev() {
                answer.send(Ok(vec![Outcome::sent(); index + 1])).unwrap();
            }
            let mut first = 1;
            for count in 1..DEPTH {
                let sent = pipeline.next().await;
                assert_eq!((sent.first, sent.count, sent.outcomes.unwrap().len()), (first, count, count));
                first += count as u64;
            }
            drop(last);
            assert_eq!(pipeline.abandon().collect::<Vec<_>>(), [(first, DEPTH)]);
        });
    }

    #[test]
    fn a_call_starts_before_the_next_is_made() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let started = std::cell::RefCell::new(Vec::new());
            let mut pipeline = Pipeline::new(DEPTH);
            for number in 0..3 {
                let started = &started;
                let call = async move {
                    started.borrow_mut().push(number);
                    std::future::pending().await
                };
                pipeline.push(1, call).await;
                assert_eq!(started.borrow().len(), number + 1);
            }
            assert_eq!(*started.borrow(), [0, 1, 2]);
        });
    }
}
