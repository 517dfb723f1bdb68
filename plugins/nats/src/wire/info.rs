//! INFO: what the server says of itself, at the start and whenever it changes.

use serde::Deserialize;
use tracemq_plugin_api::serde;

use super::{WireError, quote};

/// The fields that a client has use for. Unknown ones are ignored, absent ones have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    pub host: String,
    pub port: u16,
    /// Whether messages may have headers.
    pub headers: bool,
    /// Bytes of headers and payload together. 0: the server says none.
    pub max_payload: usize,
    pub jetstream: bool,
    pub auth_required: bool,
    pub tls_required: bool,
    pub tls_available: bool,
    /// What a client with a key has to sign.
    pub nonce: Option<String>,
    /// Other members of the cluster, as host:port.
    pub connect_urls: Vec<String>,
    pub ws_connect_urls: Vec<String>,
    /// Lame duck mode: the server is about to go.
    pub ldm: bool,
    pub cluster: Option<String>,
    pub client_id: u64,
    pub client_ip: String,
}

impl ServerInfo {
    /// # Errors
    /// The text is no JSON object, or a field has another type than it should.
    pub fn read(json: &[u8]) -> Result<ServerInfo, WireError> {
        // A list would be read as the fields in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(WireError::new(format!("its INFO is no JSON object: {}", quote(json))));
        }
        tracemq_plugin_api::serde_json::from_slice(json)
            .map_err(|error| WireError::new(format!("its INFO can't be read ({error}): {}", quote(json))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_wrong_ones_told() {
        let info =
            ServerInfo::read(br#"{"server_id":"X","max_payload":1048576,"new":1,"nonce":"n"}"#).unwrap();
        assert_eq!((info.max_payload, info.nonce.as_deref()), (1_048_576, Some("n")));
        for bad in ["", "{", "[]", r#"{"max_payload":"much"}"#, r#"{"port":-1}"#, "\u{1b}[31m"] {
            let error = ServerInfo::read(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("INFO") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
