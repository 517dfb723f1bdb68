//! A stream whose first bytes were read to see what it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// So much has to be seen: `AMQP` or `GET `.
pub(super) const SEEN: usize = 4;

/// Gives the bytes that were looked at first.
#[derive(Debug)]
pub(super) struct Peeked<S> {
    seen: [u8; SEEN],
    given: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Peeked<S> {
    /// Waits for the first bytes.
    ///
    /// # Errors
    /// The stream fails, or ends before.
    pub(super) async fn new(mut stream: S) -> io::Result<Peeked<S>> {
        let mut seen = [0; SEEN];
        stream.read_exact(&mut seen).await?;
        Ok(Peeked { seen, given: 0, stream })
    }

    pub(super) fn seen(&self) -> [u8; SEEN] {
        self.seen
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Peeked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < SEEN {
            let count = buf.remaining().min(SEEN - this.given);
            buf.put_slice(&this.seen[this.given..this.given + count]);
            this.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Peeked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_is_read_in_order() {
        let mut peeked = Peeked::new(&b"AMQP\x03\x01more"[..]).await.expect("enough");
        assert_eq!(&peeked.seen(), b"AMQP");
        let mut first = [0; 3];
        peeked.read_exact(&mut first).await.expect("enough");
        let mut rest = Vec::new();
        peeked.read_to_end(&mut rest).await.expect("readable");
        assert_eq!((&first, &rest[..]), (b"AMQ", &b"P\x03\x01more"[..]));
        assert!(Peeked::new(&b"AMQ"[..]).await.is_err());
    }
}
