//! `bench echo`: the same messages sent and received, on one connection.
//!
//! A payload starts with a stamp of hexadecimal digits, so that it passes through protocols that carry text: the run, the
//! message's number, and when it was handed over.

use super::result::Figures;
use super::{Bench, DRAIN};
use crate::cli::payload::Envelope;
use crate::cli::run::{self, Cut, Limits, Stop};
use crate::failure::Failure;
use crate::session::Subscription;
use bytes::{Bytes, BytesMut};
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracemq_plugin_api::sdk::{Batch, MAX_BATCH, Part};

/// The mark of one run.
pub struct Stamp {
    run: u64,
    start: Instant,
}

impl Stamp {
    /// Run, number and time, 16 digits each.
    pub const LENGTH: usize = 48;

    fn new() -> Stamp {
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        Stamp { run: time ^ u64::from(std::process::id()).rotate_left(40), start: Instant::now() }
    }

    /// Messages from the number `first` on, stamped with now. Payloads are slices of one buffer.
    pub fn batch(&self, envelope: &Envelope, filler: &Bytes, first: u64, count: usize) -> Batch {
        let now = self.start.elapsed().as_nanos() as u64;
        let mut stamp = [0_u8; Stamp::LENGTH];
        write_hex(&mut stamp[..16], self.run);
        write_hex(&mut stamp[32..], now);
        let mut data = BytesMut::with_capacity(filler.len() * count);
        for number in first..first + count as u64 {
            write_hex(&mut stamp[16..32], number);
            data.extend_from_slice(&stamp);
            data.extend_from_slice(&filler[Stamp::LENGTH..]);
        }
        let mut letters = envelope.batch(count);
        let buffer = letters.buffer(data.freeze());
        for index in 0..count {
            letters.add(Part::In(buffer, index * filler.len()..(index + 1) * filler.len()));
        }
        letters.finish()
    }

    /// Number and age of a message of this run that came `now` after its start.
    fn read(&self, payload: &[u8], now: Duration) -> Option<(u64, Duration)> {
        let field = |index: usize| read_hex(payload.get(index * 16..index * 16 + 16)?);
        let (run, number, time) = (field(0)?, field(1)?, field(2)?);
        (run == self.run).then_some((number, now.saturating_sub(Duration::from_nanos(time))))
    }
}

/// `format!` and `from_str_radix` would take more time than all else that is done for a message.
fn write_hex(digits: &mut [u8], number: u64) {
    for (index, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * index) & 15) as usize];
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

/// Which messages have come: a bit each.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Whether the message is a new one.
    fn add(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

impl Bench<'_> {
    /// Sends and receives until everything sent has come back, or nothing comes any more.
    pub(super) async fn echo(&self, figures: &mut Figures) -> Result<(), Cut> {
        let subscription = self.subscription().await?;
        let stamp = Stamp::new();
        let mut heard = Figures::new(self.plan.size);
        let all_sent = Cell::new(false);
        let broken_off = Notify::new();

        let sending = async {
            let outcome = self.publish(Some(&stamp), figures).await;
            all_sent.set(true);
            if matches!(outcome, Err(Cut::Failed(_) | Cut::Stop(Stop::Signal))) {
                broken_off.notify_one();
            }
            outcome
        };
        let limits = Limits::new(None);
        let receiving = limits.keep(async {
            tokio::select! {
                outcome = self.receive(&subscription, &stamp, &all_sent, &mut heard) => outcome,
                () = broken_off.notified() => Ok(()),
            }
        });
        let (sent, received) = tokio::join!(sending, receiving);
        run::close(subscription.close()).await;
        figures.take_deliveries(heard);
        match sent {
            Ok(()) | Err(Cut::Stop(Stop::Time)) => received?,
            cut => cut,
        }
    }

    async fn receive(
        &self,
        subscription: &Subscription,
        stamp: &Stamp,
        all_sent: &Cell<bool>,
        heard: &mut Figures,
    ) -> Result<(), Cut> {
        let mut seen = Seen::default();
        while !(all_sent.get() && heard.received >= self.sent.get()) {
            let batch = match timeout(DRAIN, subscription.next_batch(MAX_BATCH)).await {
                Ok(Ok(batch)) => batch,
                Ok(Err(error)) => {
                    let doing = self.doing("receive from");
                    return Err(Failure::from_plugin(&error, &doing, &self.job.target, false).into());
                }
                // Nothing for so long: after the last message that is the end, before it the sender waits too.
                Err(_) if all_sent.get() => return Ok(()),
                Err(_) => continue,
            };
            heard.dropped += batch.dropped();
            let now = stamp.start.elapsed();
            for message in batch.iter() {
                // Others may publish to the topic as well, and may have read a stamp of ours.
                let Some((number, age)) = stamp.read(message.payload(), now) else { continue };
                if number >= self.sent.get() {
                    continue;
                }
                if seen.add(number) { heard.delivered(age) } else { heard.duplicates += 1 }
            }
            if batch.is_end() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_those_of_others_are_not() {
        let stamp = Stamp::new();
        let filler = Bytes::from(vec![b'x'; 60]);
        let batch = stamp.batch(&Envelope::new("t"), &filler, 7, 3);
        let numbers: Vec<u64> = batch
            .iter()
            .map(|message| {
                assert_eq!(message.payload().len(), 60);
                let (number, age) = stamp.read(message.payload(), stamp.start.elapsed()).unwrap();
                assert!(age < Duration::from_secs(5), "{age:?}");
                number
            })
            .collect();
        assert_eq!(numbers, [7, 8, 9]);
        let age = Duration::ZERO;
        let other = Stamp { run: stamp.run ^ 1, start: stamp.start };
        assert!(other.read(batch.get(0).unwrap().payload(), age).is_none());
        assert!(stamp.read(b"short", age).is_none());
        assert!(stamp.read(&[0xff; 60], age).is_none());
    }

    #[test]
    fn each_number_is_new_once() {
        let mut seen = Seen::default();
        for number in [0, 63, 64, 1000] {
            assert!(seen.add(number));
            assert!(!seen.add(number));
        }
        assert!(seen.add(1));
    }
}
