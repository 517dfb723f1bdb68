//! What became of a published message, as JSON: `{"number":1,"status":"acknowledged","reason":"","details":{}}`.

use super::json::{embedded, string};
use std::borrow::Cow;
use std::io::Write;
use tracemq_plugin_api::sdk::{Outcome, OutcomeStatus};

/// A status of a later version is shown by its number.
pub fn status_name(status: OutcomeStatus) -> Cow<'static, str> {
    match status {
        OutcomeStatus::SENT => "sent".into(),
        OutcomeStatus::ACKNOWLEDGED => "acknowledged".into(),
        OutcomeStatus::REFUSED => "refused".into(),
        OutcomeStatus::UNCONFIRMED => "unconfirmed".into(),
        OutcomeStatus::UNAUTHORIZED => "unauthorized".into(),
        other => format!("status-{}", other.0).into(),
    }
}

/// Appends a line. `number` is that of the message in the run, from 1.
pub fn append_outcome(number: u64, outcome: &Outcome, out: &mut Vec<u8>) {
    // Writing to a `Vec` can't fail.
    let _ = write!(out, "{{\"number\":{number},\"status\":\"{}\",\"reason\":", status_name(outcome.status()));
    string(outcome.reason(), out);
    out.extend_from_slice(b",\"details\":");
    match outcome.details_json() {
        "" => out.extend_from_slice(b"{}"),
        details => embedded(details, out),
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_object_a_line() {
        let mut out = Vec::new();
        append_outcome(1, &Outcome::acknowledged().details(json!({"sequence": 7})), &mut out);
        append_outcome(2, &Outcome::refused("\"no\"\n"), &mut out);
        append_outcome(3, &Outcome::new(OutcomeStatus(77), ""), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"number\":1,\"status\":\"acknowledged\",\"reason\":\"\",\"details\":{\"sequence\":7}}\n\
             {\"number\":2,\"status\":\"refused\",\"reason\":\"\\\"no\\\"\\n\",\"details\":{}}\n\
             {\"number\":3,\"status\":\"status-77\",\"reason\":\"\",\"details\":{}}\n"
        );
    }
}
