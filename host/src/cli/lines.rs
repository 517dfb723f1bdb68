//! `pub --lines`: each line of stdin is a message.
//!
//! A thread reads large blocks and hands over whole lines; payloads are slices of those blocks, so that a line costs no
//! allocation and no copy. Blocks are taken as they come: a line typed at a terminal goes at once, and when lines arrive
//! faster than the peer confirms them they gather in the pipe and come in full batches.

use super::payload::{Envelope, LONGEST};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};
use tokio::sync::mpsc;
use tracemq_plugin_api::sdk::{Batch, MAX_BATCH, Part};

const BLOCK: usize = 128 * 1024;
/// Blocks read ahead.
const AHEAD: usize = 4;

/// Lines, in batches.
pub struct Lines {
    blocks: mpsc::Receiver<io::Result<Bytes>>,
    /// What is left of the block before: lines, each with its line feed but perhaps the last of all.
    rest: Bytes,
    failed: Option<io::Error>,
}

impl Lines {
    pub fn of_stdin() -> io::Result<Lines> {
        Lines::new(io::stdin())
    }

    fn new(source: impl Read + Send + 'static) -> io::Result<Lines> {
        let (sender, blocks) = mpsc::channel(AHEAD);
        std::thread::Builder::new().name("tracemq-lines".into()).spawn(move || {
            if let Err(error) = read(source, &sender) {
                // A command that has ended does not want to know.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
        Ok(Lines { blocks, rest: Bytes::new(), failed: None })
    }

    /// The next batch: all lines that are there now, at least one, at most [`MAX_BATCH`]. `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// Stdin could not be read, after the lines before that.
    pub async fn next(&mut self, envelope: &Envelope, most: usize) -> io::Result<Option<Batch>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.rest.is_empty() {
            match self.blocks.recv().await {
                Some(block) => self.rest = block?,
                None => return Ok(None),
            }
        }
        let most = most.min(MAX_BATCH);
        let mut letters = envelope.batch(most);
        loop {
            let buffer = letters.buffer(self.rest.clone());
            let mut start = 0;
            while letters.len() < most && start < self.rest.len() {
                let end = find(&self.rest[start..]).map_or(self.rest.len(), |at| start + at);
                letters.add(Part::In(buffer, start..end));
                start = end + 1;
            }
            self.rest = self.rest.slice(start.min(self.rest.len())..);
            if letters.len() == most {
                break;
            }
            match self.blocks.try_recv() {
                Ok(Ok(block)) => self.rest = block,
                Ok(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(Some(letters.finish()))
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    // The standard library looks for a byte many at a time, but offers it for this alone.
    let mut rest = bytes;
    let skipped = io::BufRead::skip_until(&mut rest, b'\n').unwrap_or_default();
    (skipped > 0 && bytes[skipped - 1] == b'\n').then(|| skipped - 1)
}

fn read(mut source: impl Read, blocks: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    // Up to here there is no line feed in the buffer.
    let mut searched = 0;
    loop {
        let filled = buffer.len();
        // Grows with a line that is longer than a block, so that its copies stay few.
        buffer.resize(filled + BLOCK.max(filled), 0);
        let count = loop {
            match source.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        buffer.truncate(filled + count);
        let whole = match count {
            // The last line needs no line feed.
            0 => buffer.len(),
            _ => buffer[searched..].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| searched + at + 1),
        };
        if whole > 0 && blocks.blocking_send(Ok(buffer.split_to(whole).freeze())).is_err() {
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        searched = buffer.len();
        if searched > LONGEST {
            let text = format!("a line is longer than {LONGEST} bytes, the most that a message holds");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn payloads(batch: &Batch) -> Vec<Vec<u8>> {
        batch.iter().map(|message| message.payload().to_vec()).collect()
    }

    fn all(source: impl Read + Send + 'static, most: usize) -> (Vec<Vec<u8>>, io::Result<()>) {
        let envelope = Envelope::new("t");
        let mut lines = Lines::new(source).unwrap();
        let mut found = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(async {
            while let Some(batch) = lines.next(&envelope, most).await? {
                assert!(!batch.is_empty() && batch.len() <= most);
                found.extend(payloads(&batch));
            }
            Ok(())
        });
        (found, outcome)
    }

    /// Gives a few bytes at a time.
    struct Drip(Vec<u8>, usize);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    #[test]
    fn lines_however_they_are_cut() {
        let text = b"one\n\nthree \xff\r\n\nfive".to_vec();
        let want: Vec<Vec<u8>> = text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        for drip in [1, 2, 3, 1000] {
            for most in [1, 2, 256] {
                let (found, outcome) = all(Drip(text.clone(), drip), most);
                assert_eq!(found, want, "{drip} bytes at a time, batches of {most}");
                outcome.unwrap();
            }
        }
    }

    #[test]
    fn a_line_feed_at_the_end_makes_no_empty_message_and_no_input_makes_none() {
        assert_eq!(all(Drip(b"a\n".to_vec(), 100), 256).0, [b"a"]);
        assert!(all(Drip(Vec::new(), 100), 256).0.is_empty());
        assert_eq!(all(Drip(b"\n".to_vec(), 100), 256).0, [b""]);
    }

    #[test]
    fn a_line_longer_than_many_blocks() {
        let mut text = vec![b'x'; 5 * BLOCK + 17];
        text.extend_from_slice(b"\ny");
        let (found, _) = all(Drip(text, 60_000), 256);
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [5 * BLOCK + 17, 1]);
    }

    #[test]
    fn a_lone_line_does_not_wait_for_others() {
        let (reader, mut writer) = io::pipe().unwrap();
        let envelope = Envelope::new("t");
        let mut lines = Lines::new(reader).unwrap();
        writer.write_all(b"alone\npart of the next").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batch = runtime.block_on(lines.next(&envelope, 256)).unwrap().unwrap();
        assert_eq!(payloads(&batch), [b"alone"]);
        drop(writer);
        let batch = runtime.block_on(lines.next(&envelope, 256)).unwrap().unwrap();
        assert_eq!(payloads(&batch), [b"part of the next"]);
    }

    #[test]
    fn what_could_not_be_read_is_told_after_what_could() {
        struct Breaks(bool);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("the disk is gone"));
                }
                buffer[..4].copy_from_slice(b"one\n");
                Ok(4)
            }
        }
        let (found, outcome) = all(Breaks(false), 256);
        assert_eq!(found, [b"one"]);
        assert_eq!(outcome.unwrap_err().to_string(), "the disk is gone");
    }
}
