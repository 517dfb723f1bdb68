//! MQTT Explorer's `settings.json`: a store of several things, among them the connections by their ids. Certificates and the
//! key are in it, in base64. It speaks MQTT 3.1.1.

use serde_json::Value;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::sdk::{Fields, Import, ImportedFile, ImportedProfile};
use tracemq_plugin_api::serde_json;

use super::{Topics, url};

pub const ID: &str = "mqtt-explorer";

const STORE: &str = "ConnectionManager_connections";
const OWN: [&str; 4] = ["configVersion", "type", "id", "order"];

pub fn is(json: &Value) -> bool {
    json.get(STORE).is_some_and(Value::is_object)
}

/// # Errors
/// Not of that shape, or a connection that has no server.
pub fn read(json: Value) -> Result<Import> {
    let Value::Object(mut stores) = json else {
        return Err(Error::config("settings of MQTT Explorer are a JSON object"));
    };
    let Some(Value::Object(connections)) = stores.shift_remove(STORE) else {
        return Err(Error::config(format!("{STORE} is missing or is not an object")));
    };
    let mut import = Import::new(ID);
    for (index, (_, record)) in connections.into_iter().enumerate() {
        let failed = |why: &str| Error::config(format!("connection {}: {why}", index + 1));
        let Value::Object(fields) = record else { return Err(failed("not an object")) };
        let profile = connection(Fields::new("", fields)).map_err(|error| failed(error.message()))?;
        import.profiles.push(profile);
    }
    if import.profiles.is_empty() {
        return Err(Error::config("there is no connection in it"));
    }
    if !stores.is_empty() {
        let names: Vec<String> = stores.keys().cloned().collect();
        import.notes.push(format!("settings of MQTT Explorer itself: {}", names.join(", ")));
    }
    Ok(import)
}

fn connection(mut from: Fields) -> Result<ImportedProfile> {
    if from.has("type") && from.text("type")?.as_deref() != Some("mqtt") {
        return Err(Error::config("it is not one of MQTT"));
    }
    let host = from.text("host")?.ok_or_else(|| Error::config("the host is missing"))?;
    let mut profile = ImportedProfile::new(from.text("name")?.unwrap_or_else(|| host.clone()));
    let encrypted = from.flag("encryption")?.unwrap_or_default();
    let protocol = from.text("protocol")?;
    let web = match protocol.as_deref() {
        None | Some("mqtt" | "mqtts" | "tcp" | "tls") => false,
        Some("ws" | "wss") => true,
        Some(_) => return Err(Error::config("protocol is neither mqtt nor ws")),
    };
    let scheme = match (web, encrypted) {
        (false, false) => "mqtt",
        (false, true) => "mqtts",
        (true, false) => "mqtt+ws",
        (true, true) => "mqtt+wss",
    };
    let path = if web { from.text("basePath")? } else { None };
    if web && path.is_none() {
        profile.note(
            "MQTT Explorer asks for the path / of the WebSocket, tracemq for /mqtt where none is given",
        );
    }
    profile.url = Some(url(scheme, &host, from.number("port")?, path.as_deref().unwrap_or_default())?);
    profile.set("protocol_version", Some("3.1.1"));
    match from.text("clientId")? {
        Some(id) if is_made_up(&id) => {
            profile.note("clientId: one that MQTT Explorer made up; a new one is made for each connection");
        }
        id => profile.set("client_id", id),
    }
    profile.set("username", from.text("username")?);
    profile.secret("password", from.text("password")?);
    let checked = from.flag("certValidation")?.unwrap_or(true);
    if encrypted {
        profile.set("insecure_skip_verify", (!checked).then_some(true));
        for (field, property) in
            [("selfSignedCertificate", "tls_ca"), ("clientCertificate", "tls_cert"), ("clientKey", "tls_key")]
        {
            let mut file = from.object(field)?;
            profile.file(property, file.text("data")?.map(ImportedFile::Base64));
            file.drop_all(&["name"]);
            profile.left("not carried over", &file.rest());
        }
    } else {
        let left = from.drop_all(&["selfSignedCertificate", "clientCertificate", "clientKey"]);
        profile.left("without TLS these have no use", &left);
    }
    let mut topics = Topics::default();
    for (index, record) in from.list("subscriptions")?.into_iter().enumerate() {
        let wrong = || Error::config(format!("subscriptions[{index}] has no topic"));
        // The first versions kept topics alone.
        let (topic, qos) = match &record {
            Value::String(topic) => (topic.clone(), 0),
            record => {
                let topic = record.get("topic").and_then(Value::as_str).ok_or_else(wrong)?;
                (topic.to_owned(), record.get("qos").and_then(Value::as_u64).unwrap_or_default())
            }
        };
        topics.add(topic, qos);
    }
    topics.into_profile(&mut profile);
    from.drop_all(&OWN);
    profile.left("not carried over", &from.rest());
    Ok(profile)
}

/// `mqtt-explorer-` and eight hexadecimal digits: it throws such ids away itself, so that two of it can be connected.
fn is_made_up(id: &str) -> bool {
    id.strip_prefix("mqtt-explorer-")
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> Value {
        json!({
            "ConnectionManager_connections": {
                "5d5b": {"configVersion": 1, "certValidation": false, "clientId": "mqtt-explorer-1a2b3c4d", "id": "5d5b",
                    "name": "test bench", "encryption": true, "password": "hunter2", "username": "ann",
                    "subscriptions": [{"topic": "#", "qos": 0}, {"topic": "$SYS/#", "qos": 0}], "type": "mqtt",
                    "host": "broker.example", "port": 8083, "protocol": "ws", "basePath": "mqtt", "order": 3,
                    "selfSignedCertificate": {"name": "ca.pem", "data": "Q0E="},
                    "clientCertificate": {"name": "c.pem", "data": "Q0VSVA=="},
                    "clientKey": {"name": "c.key", "data": "S0VZ"}},
                "test.mosquitto.org": {"certValidation": true, "clientId": "mine", "id": "test.mosquitto.org",
                    "name": "test.mosquitto.org", "encryption": false, "subscriptions": ["a", "b"], "type": "mqtt",
                    "host": "test.mosquitto.org", "port": 1883, "protocol": "mqtt"}
            },
            "Settings": {"autoExpandLimit": 0}
        })
    }

    #[test]
    fn connections_with_and_without_tls() {
        assert!(is(&settings()));
        let import = read(settings()).unwrap();
        let [first, second] = &import.profiles[..] else { panic!("{import:?}") };
        assert_eq!(first.url.as_deref(), Some("mqtt+wss://broker.example:8083/mqtt"));
        assert_eq!(first.secrets["password"], "hunter2");
        assert_eq!(
            Value::Object(first.connection.clone()),
            json!({"protocol_version": "3.1.1", "username": "ann", "insecure_skip_verify": true})
        );
        assert_eq!(first.files["tls_ca"], ImportedFile::Base64("Q0E=".into()));
        assert_eq!(first.files["tls_cert"], ImportedFile::Base64("Q0VSVA==".into()));
        assert_eq!(first.files["tls_key"], ImportedFile::Base64("S0VZ".into()));
        assert!(first.notes.iter().any(|note| note.contains("clientId")), "{:?}", first.notes);
        assert!(first.notes.iter().any(|note| note.contains("#, $SYS/#")), "{:?}", first.notes);
        assert_eq!(second.url.as_deref(), Some("mqtt://test.mosquitto.org:1883"));
        assert_eq!(second.connection["client_id"], "mine");
        assert!(second.notes[0].contains("a, b"), "{:?}", second.notes);
        assert_eq!(import.notes, ["settings of MQTT Explorer itself: Settings"]);
    }

    #[test]
    fn what_is_unknown_is_named() {
        let mut json = settings();
        json[STORE]["5d5b"]["holograms"] = 1.into();
        json[STORE]["test.mosquitto.org"]["clientKey"] = json!({"name": "k", "data": "S0VZ"});
        let import = read(json).unwrap();
        assert!(import.profiles[0].notes.join("\n").contains("holograms"));
        assert!(import.profiles[1].notes.join("\n").contains("clientKey"));
        assert!(import.profiles[1].files.is_empty());
    }

    #[test]
    fn damaged_settings_are_refused_without_their_content() {
        let mut cases = vec![json!([]), json!({}), json!({STORE: {}}), json!({STORE: {"a": "hunter2"}})];
        for (field, value) in [
            ("host", json!(null)),
            ("host", json!("hunter2/x")),
            ("port", json!("hunter2")),
            ("protocol", json!("hunter2")),
            ("type", json!("hunter2")),
            ("clientKey", json!("hunter2")),
            ("subscriptions", json!([5])),
            ("password", json!({"p": "hunter2"})),
        ] {
            let mut json = settings();
            json[STORE]["5d5b"][field] = value;
            cases.push(json);
        }
        for json in cases {
            let error = read(json.clone()).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{json}: {error}");
        }
    }
}
