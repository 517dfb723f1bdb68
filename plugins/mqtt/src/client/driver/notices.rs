//! What the session tells: outcomes, answers to subscriptions, authentication.

use tracemq_plugin_api::prelude::*;

use super::Driver;
use crate::auth::AuthMethod;
use crate::session::Notice;
use crate::wire::Reason;

impl Driver {
    pub(super) fn settle_notices(&mut self) {
        for notice in self.session.notices() {
            match notice {
                Notice::Published { token, outcome } => self.publishing.settle(token, outcome),
                Notice::Subscribed { token, results, text } => {
                    self.subscribed(token, &results, text.as_deref())
                }
                Notice::RequestNotAllowed { token, error } => {
                    self.answer(token, Err(Error::new(ErrorKind::PROTOCOL, error.to_string())));
                }
                Notice::SubscriptionLost { filter, reason, text, .. } => {
                    self.events.emit(refusal_event(&filter, reason, text.as_deref()));
                }
                Notice::Unsubscribed { .. } => {}
                Notice::Auth { reason, method, data } => self.authenticate(reason, method.as_deref(), &data),
            }
        }
    }

    fn subscribed(&mut self, token: u64, results: &[(String, Reason)], text: Option<&str>) {
        let refused: Vec<_> = results.iter().filter(|(_, reason)| reason.is_failure()).collect();
        if refused.len() < results.len() {
            for (filter, reason) in refused {
                self.events.emit(refusal_event(filter, *reason, text));
            }
            return self.answer(token, Ok(()));
        }
        let Some((filter, reason)) = refused.first() else { return self.answer(token, Ok(())) };
        if !self.asked.iter().any(|(asked, _)| *asked == token) {
            for (filter, reason) in &refused {
                self.events.emit(refusal_event(filter, *reason, text));
            }
        }
        let kind = if matches!(reason.0, 0x80 | 0x87) { ErrorKind::AUTH } else { ErrorKind::PROTOCOL };
        let more = if refused.len() > 1 { format!(" and {} more", refused.len() - 1) } else { String::new() };
        let text = text.map_or_else(String::new, |text| format!(" ({})", text.escape_debug()));
        let error =
            Error::new(kind, format!("the server refused the subscription to {filter:?}{more}{text}"))
                .code(reason.to_string())
                .hint("check what the server allows this user to subscribe to");
        self.answer(token, Err(error));
    }

    /// Answers whoever waits for SUBACK before it has come, for without room it can't come: a resumed session may bring any
    /// number of messages before it, and only who has a subscription takes them.
    pub(super) fn let_pull(&mut self) {
        for (_, done) in self.asked.drain(..) {
            // Whoever asked may be gone.
            let _ = done.send(Ok(()));
        }
    }

    fn answer(&mut self, token: u64, result: Result<()>) {
        if result.is_err() {
            self.sinks.remove(token);
        }
        if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == token) {
            // Whoever asked may be gone.
            let _ = self.asked.swap_remove(at).1.send(result);
        }
    }

    /// A server may ask for a new authentication of an open connection by answering ours only; so this is its end or
    /// its next step, and a server that fails it is left at the next packet.
    fn authenticate(&mut self, reason: Reason, method: Option<&str>, data: &[u8]) {
        let Some(auth) = &mut self.auth else {
            log::warn!("the server sent AUTH ({reason}, {method:?}), though no method was asked for");
            return;
        };
        if reason == Reason::SUCCESS
            && let Err(error) = auth.finish(data)
        {
            log::warn!("{error}");
        }
    }
}

fn refusal_event(filter: &str, reason: Reason, text: Option<&str>) -> Event {
    let text = text.map_or_else(String::new, |text| format!(" ({})", text.escape_debug()));
    Event::new(
        EventKind::SUBSCRIPTION_REFUSED,
        format!("the server refused the subscription to {filter:?}: {reason}{text}"),
    )
    .details(serde_json::json!({ "filter": filter, "code": reason.0 }))
}
