//! What the session tells: answers to pings, refusals, what the server says of itself.

use tracemq_plugin_api::prelude::*;

use super::{Driver, End};
use crate::session::{Mark, Notice};
use crate::wire::ServerInfo;
use tracemq_plugin_api::net::Buffered;

impl Driver {
    pub(super) fn notice(&mut self, notice: Notice, link: &mut Buffered) -> Result<(), End> {
        match notice {
            Notice::Pong { mark, rtt } => {
                log::debug!("round trip to {}: {:.3} ms", self.server.shown(), rtt.as_secs_f64() * 1000.0);
                self.publishing.confirm(mark);
                self.accept(mark);
                self.tell_gap(mark);
                if self.leaving.is_some_and(|leaving| leaving <= mark) {
                    let text = format!("{} is about to shut down (lame duck mode)", self.server.shown());
                    return Err(End::Lost(Error::new(ErrorKind::CLOSED, text).temporary()));
                }
            }
            Notice::Info(info) => self.informed(*info, link),
            Notice::PublishDenied { subject, text } => {
                if !self.publishing.denied(&subject, &text, &self.dial.settings.prefix) {
                    self.warn(format!("the server refused something: -ERR '{text}'"));
                }
            }
            Notice::SubscribeDenied { group, subject, text } => self.denied(group, subject, text),
            Notice::Refused(refusal) => {
                // If it closes the connection, this is why.
                self.warn(format!("{} says: {refusal}", self.server.shown()));
                self.complaint = Some(refusal);
            }
        }
        Ok(())
    }

    /// The gap ends when the server has taken the subscriptions again, not before.
    fn tell_gap(&mut self, mark: Mark) {
        if let Some((_, away)) = self.resumed.take_if(|(resumed, _)| *resumed <= mark) {
            let away = away.as_secs_f64();
            let text =
                format!("gap: what was published in the {away:.1} s without a connection did not come here");
            let details = serde_json::json!({ "gap": true, "seconds": away });
            self.events.emit(Event::new(EventKind::WARNING, text).details(details));
        }
    }

    fn warn(&self, text: String) {
        self.events.emit(Event::new(EventKind::WARNING, text));
    }

    /// The server has told of itself again: of others in its cluster, or that it is about to go.
    fn informed(&mut self, info: ServerInfo, link: &mut Buffered) {
        self.pool.learn(&self.server, &info);
        let goes = info.ldm && !self.info.ldm;
        self.set_info(info);
        if !goes || self.leaving.is_some() {
            return;
        }
        match self.reconnect && self.pool.len() > 1 {
            // Once everything on its way has been confirmed.
            true => self.leaving = Some(self.session.ping(std::time::Instant::now(), &mut link.output)),
            false => self.warn(format!("{} is about to shut down (lame duck mode)", self.server.shown())),
        }
    }

    /// Answers those whose subscriptions the server has dealt with.
    fn accept(&mut self, mark: Mark) {
        while let Some(at) = self.asked.iter().position(|asked| asked.mark <= mark) {
            let asked = self.asked.remove(at);
            let open = self.session.is_open(asked.group) || asked.refused.is_empty();
            let result = match asked.refused.first() {
                Some((subject, text)) if !open => {
                    self.sinks.remove(asked.group);
                    let prefix = &self.dial.settings.prefix;
                    Err(Error::new(
                        ErrorKind::AUTH,
                        format!("the server refused the subscription to {:?}", prefix.shown(subject)),
                    )
                    .code(format!("-ERR '{text}'"))
                    .hint("check what the server allows this user to subscribe to"))
                }
                _ => Ok(()),
            };
            for (subject, text) in asked.refused.iter().filter(|_| result.is_ok()) {
                self.tell_denied(subject, text);
            }
            // Whoever asked may be gone.
            let _ = asked.done.send(result);
        }
    }

    /// Answers whoever waits for a server that can't be heard: nothing is read until messages are taken.
    pub(super) fn let_pull(&mut self) {
        for asked in self.asked.drain(..) {
            // Whoever asked may be gone.
            let _ = asked.done.send(Ok(()));
        }
    }

    fn denied(&mut self, group: u64, subject: String, text: String) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.group == group) {
            asked.refused.push((subject, text));
            return;
        }
        self.tell_denied(&subject, &text);
        if !self.session.is_open(group) {
            let shown = self.dial.settings.prefix.shown(&subject);
            let error = Error::new(
                ErrorKind::AUTH,
                format!("the server no longer allows the subscription to {shown:?}"),
            )
            .code(format!("-ERR '{text}'"));
            self.sinks.end(group, Some(error));
        }
    }

    fn tell_denied(&self, subject: &str, text: &str) {
        let shown = self.dial.settings.prefix.shown(subject);
        let event = Event::new(
            EventKind::SUBSCRIPTION_REFUSED,
            format!("the server refused the subscription to {shown:?}: -ERR '{text}'"),
        );
        self.events.emit(event.details(serde_json::json!({ "subject": shown })));
    }
}
