//! What happens beside the messages, on stderr: a line each, for people or as JSON.

use super::{escape, json, write_time};
use crate::redact;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracemq_plugin_api::sdk::{Event, EventKind};

/// Which events are shown, and how.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    pub verbose: bool,
    pub quiet: bool,
    /// As JSON objects, `{"time":…,"event":…,"text":…,"details":{…}}`.
    pub json: bool,
}

/// Shows the events of one connection or server.
pub struct Shown {
    show: Show,
    connected: bool,
    closing: Arc<AtomicBool>,
}

impl Shown {
    /// `closing` is set when the host itself says goodbye.
    pub fn new(show: Show, closing: Arc<AtomicBool>) -> Shown {
        Shown { show, connected: false, closing }
    }

    pub fn event(&mut self, event: &Event) {
        match self.line_for(event) {
            // Its texts are masked already; a mask in the place of a number would break it.
            Some(text) if self.show.json => line_unmasked(&text),
            Some(text) => line(&text),
            None => {}
        }
    }

    fn line_for(&mut self, event: &Event) -> Option<String> {
        let again = self.connected;
        self.connected |= event.kind() == EventKind::CONNECTED;
        if self.show.quiet {
            return None;
        }
        if self.show.json {
            return Some(object(event));
        }
        let routine = match event.kind() {
            // That the first attempt went well is what the user expects; only after a loss is it news.
            EventKind::CONNECTED => !again,
            EventKind::SUBSCRIBED => true,
            // After the subscription has ended nobody misses what still comes.
            EventKind::DISCONNECTED | EventKind::DROPPED => self.closing.load(Ordering::Relaxed),
            _ => false,
        };
        (self.show.verbose || !routine).then(|| text(event))
    }
}

fn text(event: &Event) -> String {
    let text = if event.text().is_empty() { event.kind().name() } else { event.text() };
    match event.kind() {
        EventKind::WARNING => format!("warning: {text}"),
        _ => text.to_owned(),
    }
}

fn object(event: &Event) -> String {
    let mut out = b"{\"time\":\"".to_vec();
    write_time(event.time(), &mut out);
    out.extend_from_slice(b"\",\"event\":");
    json::string(event.kind().name(), &mut out);
    out.extend_from_slice(b",\"text\":");
    json::string(&redact::text(event.text()), &mut out);
    out.extend_from_slice(b",\"details\":");
    match event.details_json() {
        "" => out.extend_from_slice(b"{}"),
        details => json::embedded(&redact::json_text(details), &mut out),
    }
    out.push(b'}');
    String::from_utf8(out).expect("it was put together from texts")
}

/// One line on stderr, secrets masked. What others have written into it cannot act on the terminal.
pub fn line(text: &str) {
    line_unmasked(&redact::text(text));
}

/// As [`line`], for what is meant to hold a secret.
pub fn line_unmasked(text: &str) {
    let text = format!("{}\n", escape::line(text));
    // With stderr gone there is nobody left to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn show(verbose: bool, quiet: bool, json: bool) -> Shown {
        Shown::new(Show { verbose, quiet, json }, Arc::default())
    }

    #[test]
    fn the_first_connection_is_no_news_and_the_second_is() {
        let connected = Event::new(EventKind::CONNECTED, "connected to x");
        let mut shown = show(false, false, false);
        assert_eq!(shown.line_for(&connected), None);
        let lost = Event::new(EventKind::RECONNECTING, "reconnecting in 2 s: reset");
        assert_eq!(shown.line_for(&lost).unwrap(), "reconnecting in 2 s: reset");
        assert_eq!(shown.line_for(&connected).unwrap(), "connected to x");
        assert_eq!(show(true, false, false).line_for(&connected).unwrap(), "connected to x");
    }

    #[test]
    fn an_end_is_news_unless_it_is_our_own() {
        let ended = Event::new(EventKind::DISCONNECTED, "disconnected: the server is shutting down");
        let mut shown = show(false, false, false);
        assert!(shown.line_for(&ended).is_some());
        shown.closing.store(true, Ordering::Relaxed);
        assert_eq!(shown.line_for(&ended), None);
    }

    #[test]
    fn quiet_shows_none() {
        let refused = Event::new(EventKind::SUBSCRIPTION_REFUSED, "a/b refused");
        assert_eq!(show(true, true, true).line_for(&refused), None);
    }

    #[test]
    fn an_event_as_json() {
        let event = Event::new(EventKind::CLIENT_CONNECTED, "c\"1 came").details(json!({"client": "c\"1"}));
        let value: Value = serde_json::from_str(&show(false, false, true).line_for(&event).unwrap()).unwrap();
        assert_eq!(value["event"], "client-connected");
        assert_eq!(value["text"], "c\"1 came");
        assert_eq!(value["details"], json!({"client": "c\"1"}));
        let bare = Event::new(EventKind(999), "of a later version");
        let value: Value = serde_json::from_str(&show(false, false, true).line_for(&bare).unwrap()).unwrap();
        assert_eq!((&value["event"], &value["details"]), (&json!("event"), &json!({})));
    }
}
