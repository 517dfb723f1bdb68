//! The options of a security context, the same for a connection and for a server.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use super::context::{Context, LONGEST_ID, Parameters};
use super::replay::{Replay, Seen};
use super::sequence::{Counting, Sequence};
use super::server::Server;

/// The longest id context: its length is one byte of the option.
const LONGEST_CONTEXT: usize = 255;

/// To be flattened into the options of a connection and of a server. All in hex, with or without 0x.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OscoreOptions {
    /// OSCORE: master secret, in hex; protects every message end to end (AES-CCM-16-64-128, HKDF-SHA-256)
    #[schemars(title = "OSCORE master secret", extend(
        "x-secret" = true, "x-group" = "oscore", "x-order" = 400, "x-title-fr" = "Secret maître OSCORE",
        "x-help-fr" = "OSCORE : secret maître, en hexadécimal ; protège chaque message de bout en bout (AES-CCM-16-64-128, HKDF-SHA-256)"
    ))]
    pub oscore_master_secret: Option<String>,

    /// OSCORE: master salt, in hex (default none)
    #[schemars(title = "OSCORE master salt", extend(
        "x-secret" = true, "x-group" = "oscore", "x-order" = 401, "x-title-fr" = "Sel maître OSCORE",
        "x-help-fr" = "OSCORE : sel maître, en hexadécimal (par défaut aucun)"
    ))]
    pub oscore_master_salt: Option<String>,

    /// OSCORE: id of this side, in hex, at most 7 bytes (default empty)
    #[schemars(title = "OSCORE sender id", extend(
        "x-group" = "oscore", "x-order" = 402, "x-title-fr" = "Identifiant d'émetteur OSCORE",
        "x-help-fr" = "OSCORE : identifiant de ce côté, en hexadécimal, 7 octets au plus (par défaut vide)"
    ))]
    pub oscore_sender_id: Option<String>,

    /// OSCORE: id of the other side, in hex, at most 7 bytes (default empty)
    #[schemars(title = "OSCORE recipient id", extend(
        "x-group" = "oscore", "x-order" = 403, "x-title-fr" = "Identifiant de destinataire OSCORE",
        "x-help-fr" = "OSCORE : identifiant de l'autre côté, en hexadécimal, 7 octets au plus (par défaut vide)"
    ))]
    pub oscore_recipient_id: Option<String>,

    /// OSCORE: id context, in hex (default none)
    #[schemars(title = "OSCORE id context", extend(
        "x-group" = "oscore", "x-order" = 404, "x-title-fr" = "Contexte d'identifiant OSCORE",
        "x-help-fr" = "OSCORE : contexte des identifiants, en hexadécimal (par défaut aucun)"
    ))]
    pub oscore_id_context: Option<String>,
}

impl fmt::Debug for OscoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OscoreOptions")
            .field("oscore_master_secret", &self.oscore_master_secret.as_ref().map(|_| "***"))
            .field("oscore_sender_id", &self.oscore_sender_id)
            .field("oscore_recipient_id", &self.oscore_recipient_id)
            .field("oscore_id_context", &self.oscore_id_context)
            .finish_non_exhaustive()
    }
}

impl OscoreOptions {
    /// What both sides know; `None` without OSCORE.
    ///
    /// # Errors
    /// A text that is not hex, an id that is too long, two ids that are the same, other options without the secret.
    pub fn parameters(&self) -> Result<Option<Parameters>> {
        let others = [
            ("--oscore-master-salt", &self.oscore_master_salt),
            ("--oscore-sender-id", &self.oscore_sender_id),
            ("--oscore-recipient-id", &self.oscore_recipient_id),
            ("--oscore-id-context", &self.oscore_id_context),
        ];
        let Some(secret) = &self.oscore_master_secret else {
            return match others.iter().find(|(_, value)| value.is_some()) {
                Some((option, _)) => Err(Error::config(format!("{option} needs --oscore-master-secret"))),
                None => Ok(None),
            };
        };
        let master_secret = hex("--oscore-master-secret", secret)?;
        if master_secret.is_empty() {
            return Err(Error::config("--oscore-master-secret is empty"));
        }
        let [(_, salt), sender, recipient, (_, context)] = others;
        let id = |(option, value): (&str, &Option<String>)| {
            let id = hex(option, value.as_deref().unwrap_or_default())?;
            match id.len() <= LONGEST_ID {
                true => Ok(id),
                false => Err(Error::config(format!("{option}: an id has at most {LONGEST_ID} bytes"))),
            }
        };
        let (sender_id, recipient_id) = (id(sender)?, id(recipient)?);
        if sender_id == recipient_id {
            return Err(Error::config("--oscore-sender-id and --oscore-recipient-id must differ")
                .hint("what is the sender id here is the recipient id on the other side"));
        }
        let id_context = context.as_deref().map(|text| hex("--oscore-id-context", text)).transpose()?;
        if id_context.as_ref().is_some_and(|context| context.len() > LONGEST_CONTEXT) {
            return Err(Error::config(format!("--oscore-id-context: at most {LONGEST_CONTEXT} bytes")));
        }
        let master_salt = hex("--oscore-master-salt", salt.as_deref().unwrap_or_default())?;
        Ok(Some(Parameters { master_secret, master_salt, sender_id, recipient_id, id_context }))
    }

    /// The security context, counting on where it stopped; `None` without OSCORE.
    ///
    /// # Errors
    /// As [`OscoreOptions::parameters`]; no folder, or one that can't be used, to keep the sequence number in.
    pub fn open(&self, state_dir: Option<&Path>) -> Result<Option<Context>> {
        let Some(parameters) = self.parameters()? else { return Ok(None) };
        let folder = state_dir.ok_or_else(|| {
            Error::config("OSCORE needs a folder to keep its sequence number in, and there is none")
                .hint("a sequence number that came twice would give the messages away")
        })?;
        let counting = |fingerprint: &str| {
            Sequence::open(folder, fingerprint).map(|sequence| Box::new(sequence) as Box<dyn Counting>)
        };
        Ok(Some(Context::new(parameters, counting)?))
    }

    /// The same for a server, which also knows of all requests before; `None` without OSCORE.
    ///
    /// # Errors
    /// As [`OscoreOptions::open`].
    pub fn open_server(&self, state_dir: Option<&Path>) -> Result<Option<Server>> {
        let (Some(mut context), Some(folder)) = (self.open(state_dir)?, state_dir) else { return Ok(None) };
        context.remember_in(|fingerprint| {
            Seen::open(folder, fingerprint).map(|seen| Box::new(seen) as Box<dyn Replay>)
        })?;
        Server::new(context).map(Some)
    }
}

/// The text may be a secret, so that it is not repeated.
fn hex(option: &str, text: &str) -> Result<Vec<u8>> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let wrong =
        || Error::config(format!("{option}: write it in hex, two digits for each byte, for instance 0x01"));
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> OscoreOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn hex_with_and_without_its_prefix() {
        let parameters = options(serde_json::json!({
            "oscore_master_secret": "0x0102", "oscore_recipient_id": "AB\n", "oscore_id_context": "",
        }));
        let parameters = parameters.parameters().unwrap().unwrap();
        assert_eq!(parameters.master_secret, [1, 2]);
        assert_eq!((&parameters.sender_id[..], &parameters.recipient_id[..]), (&[][..], &[0xAB][..]));
        assert_eq!(parameters.id_context.as_deref(), Some(&[][..]));
        assert!(options(serde_json::json!({})).parameters().unwrap().is_none());
    }

    #[test]
    fn what_can_not_work_names_its_option_and_no_secret() {
        for (json, part) in [
            (serde_json::json!({"oscore_sender_id": "01"}), "--oscore-master-secret"),
            (serde_json::json!({"oscore_master_secret": "beef5"}), "--oscore-master-secret"),
            (serde_json::json!({"oscore_master_secret": "é1"}), "--oscore-master-secret"),
            (serde_json::json!({"oscore_master_secret": ""}), "empty"),
            (serde_json::json!({"oscore_master_secret": "beef"}), "differ"),
            (
                serde_json::json!({"oscore_master_secret": "beef", "oscore_sender_id": "0102030405060708"}),
                "at most 7",
            ),
        ] {
            let error = options(json).parameters().expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("beef"), "{error}");
        }
        let debug = format!("{:?}", options(serde_json::json!({"oscore_master_secret": "beef"})));
        assert!(!debug.contains("beef"), "{debug}");
    }

    #[test]
    fn without_a_folder_nothing_is_protected() {
        let options = options(serde_json::json!({"oscore_master_secret": "beef", "oscore_sender_id": "01"}));
        assert!(options.open(None).unwrap_err().to_string().contains("folder"));
        let folder = tempfile::tempdir().unwrap();
        assert!(options.open(Some(folder.path())).unwrap().is_some());
    }
}
