//! MQTTX's export (JSON): a list of connections, since 1.12 with records of the folders they stand in; an older version
//! exports a single connection without the list.

use serde_json::Value;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::sdk::{Fields, Import, ImportedFile, ImportedProfile};
use tracemq_plugin_api::serde_json;

use super::{Topics, seconds, url};

pub const ID: &str = "mqttx";

/// What MQTTX keeps for its own use.
const OWN: [&str; 12] = [
    "id",
    "createAt",
    "updateAt",
    "unreadMessageCount",
    "orderId",
    "isCollection",
    "parentId",
    "client",
    "resubscribe",
    "reconnect",
    "reconnectPeriod",
    "pushProps",
];

pub fn is(json: &Value) -> bool {
    let is_connection =
        |record: &Value| ["clientId", "host", "mqttVersion"].iter().all(|field| record.get(field).is_some());
    match json {
        Value::Array(records) => records.iter().any(is_connection),
        record => is_connection(record),
    }
}

/// # Errors
/// Not of that shape, or a connection that has no server.
pub fn read(json: Value) -> Result<Import> {
    let records = match json {
        Value::Array(records) => records,
        record @ Value::Object(_) => vec![record],
        _ => return Err(Error::config("an export of MQTTX is a list of connections")),
    };
    let folder = |id: &Value| {
        let found = records.iter().find(|record| is_folder(record) && record.get("id") == Some(id))?;
        found.get("name")?.as_str().map(str::to_owned)
    };
    let groups: Vec<Option<String>> =
        records.iter().map(|record| record.get("parentId").and_then(folder)).collect();
    let mut import = Import::new(ID);
    for (index, (record, group)) in records.into_iter().zip(groups).enumerate() {
        if is_folder(&record) {
            continue;
        }
        let Value::Object(fields) = record else {
            return Err(Error::config(format!("connection {} is not an object", index + 1)));
        };
        let mut profile = connection(Fields::new("", fields))
            .map_err(|error| Error::config(format!("connection {}: {}", index + 1, error.message())))?;
        profile.group = group;
        import.profiles.push(profile);
    }
    match import.profiles.is_empty() {
        true => Err(Error::config("there is no connection in it")),
        false => Ok(import),
    }
}

fn is_folder(record: &Value) -> bool {
    record.get("isCollection").and_then(Value::as_bool) == Some(true)
}

fn connection(mut from: Fields) -> Result<ImportedProfile> {
    let host = from.text("host")?.ok_or_else(|| Error::config("the host is missing"))?;
    let mut profile = ImportedProfile::new(from.text("name")?.unwrap_or_else(|| host.clone()));
    let ssl = from.flag("ssl")?.unwrap_or_default();
    let protocol = from.text("protocol")?;
    let scheme = match (protocol.as_deref(), ssl) {
        (None, false) | (Some("mqtt"), _) => "mqtt",
        (None, true) | (Some("mqtts"), _) => "mqtts",
        (Some("ws"), _) => "mqtt+ws",
        (Some("wss"), _) => "mqtt+wss",
        (Some(_), _) => return Err(Error::config("protocol is none of mqtt, mqtts, ws and wss")),
    };
    // MQTTX keeps the path of a WebSocket for connections that have none, too.
    let path = from.text("path")?.filter(|_| scheme.starts_with("mqtt+")).unwrap_or_default();
    profile.url = Some(url(scheme, &host, from.number("port")?, &path)?);

    let version = from.text("mqttVersion")?.unwrap_or_else(|| "5.0".into());
    if !["3.1", "3.1.1", "5.0"].contains(&version.as_str()) {
        return Err(Error::config("mqttVersion is none of 3.1, 3.1.1 and 5.0"));
    }
    let is_v5 = version == "5.0";
    profile.set("protocol_version", Some(version));
    profile.set("client_id", from.text("clientId")?);
    if from.flag("clientIdWithTime")? == Some(true) {
        profile.note("clientIdWithTime: MQTTX puts the time behind the client id; here it stays as it is");
    }
    profile.set("username", from.text("username")?);
    profile.secret("password", from.text("password")?);
    profile.set("clean_session", from.flag("clean")?.filter(|clean| !clean));
    profile.set("keep_alive", from.number("keepalive")?.map(seconds));
    profile.set("connect_timeout", from.number("connectTimeout")?.map(seconds));
    tls(&mut from, &mut profile, scheme.ends_with('s'))?;

    let properties = from.object("properties")?;
    connect_properties(properties, &mut profile, is_v5)?;
    let will = from.object("will")?;
    last_will(will, &mut profile, is_v5)?;
    subscriptions(from.list("subscriptions")?, &mut profile, is_v5)?;
    let messages = from.list("messages")?.len();
    if messages > 0 {
        profile.note(format!("messages: {messages} recorded ones stay in MQTTX's file"));
    }
    let own = from.drop_all(&OWN);
    profile.left("fields that only MQTTX has a use for", &own);
    profile.left("not carried over", &from.rest());
    Ok(profile)
}

fn tls(from: &mut Fields, profile: &mut ImportedProfile, encrypted: bool) -> Result<()> {
    let own_certificates = from.text("certType")?.is_some_and(|kind| kind == "self");
    if !encrypted {
        from.flag("rejectUnauthorized")?;
        let left = from.drop_all(&["ca", "cert", "key", "ALPNProtocols"]);
        profile.left("without TLS these have no use", &left);
        return Ok(());
    }
    if from.flag("rejectUnauthorized")? == Some(false) {
        profile.set("insecure_skip_verify", Some(true));
    }
    if let Some(protocols) = from.text("ALPNProtocols")? {
        let names: Vec<&str> = protocols
            .split(',')
            .map(|name| name.trim_matches(['[', ']', ' ']))
            .filter(|name| !name.is_empty())
            .collect();
        profile.set("tls_alpn", Some(names));
    }
    if own_certificates {
        for (field, property) in [("ca", "tls_ca"), ("cert", "tls_cert"), ("key", "tls_key")] {
            profile.file(property, from.text(field)?.map(ImportedFile::Path));
        }
    } else {
        let left = from.drop_all(&["ca", "cert", "key"]);
        profile.left(
            "MQTTX did not use these, since the server's certificate is signed by a public authority",
            &left,
        );
    }
    Ok(())
}

fn connect_properties(mut from: Fields, profile: &mut ImportedProfile, is_v5: bool) -> Result<()> {
    if !is_v5 {
        // Their defaults stand there even then.
        from.drop_all(&["sessionExpiryInterval"]);
        profile.left("these are of MQTT 5.0", &from.rest());
        return Ok(());
    }
    profile.set("session_expiry", from.number("sessionExpiryInterval")?.map(seconds));
    profile.set("receive_maximum", from.number("receiveMaximum")?);
    profile.set("maximum_packet_size", from.number("maximumPacketSize")?);
    profile.set("topic_alias_maximum", from.number("topicAliasMaximum")?);
    profile.set("request_response_information", from.flag("requestResponseInformation")?);
    profile.set("request_problem_information", from.flag("requestProblemInformation")?);
    profile.set("user_property", user_properties(&mut from)?);
    match from.text("authenticationMethod")? {
        Some(method) if ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&method.as_str()) => {
            profile.set("auth_method", Some(method));
        }
        Some(_) => profile.note("properties.authenticationMethod is none that this plugin knows"),
        None => {}
    }
    profile.left("not carried over", &from.rest());
    Ok(())
}

/// Names with one value each, or with several.
fn user_properties(from: &mut Fields) -> Result<Option<Value>> {
    let wrong = || Error::config("userProperties are not names with texts");
    let pairs = match from.take("userProperties") {
        None => return Ok(None),
        Some(Value::Object(pairs)) => pairs,
        Some(_) => return Err(wrong()),
    };
    let mut texts = Vec::new();
    for (name, value) in pairs {
        let values = if let Value::Array(values) = value { values } else { vec![value] };
        for value in values {
            texts.push(format!("{name}={}", value.as_str().ok_or_else(wrong)?));
        }
    }
    Ok(Some(texts.into()))
}

fn last_will(mut from: Fields, profile: &mut ImportedProfile, is_v5: bool) -> Result<()> {
    from.drop_all(&["id"]);
    let mut properties = from.object("properties")?;
    let Some(topic) = from.text("lastWillTopic")? else {
        // Without a topic MQTTX sends none.
        from.drop_all(&["lastWillQos", "lastWillRetain"]);
        let left = [from.rest(), drop_false(properties)].concat();
        profile.left("a last will without a topic is not sent", &left);
        return Ok(());
    };
    profile.set("will_topic", Some(topic));
    profile.set("will_payload", from.text("lastWillPayload")?);
    profile.set("will_qos", from.number("lastWillQos")?.filter(|qos| *qos > 0));
    profile.set("will_retain", from.flag("lastWillRetain")?.filter(|retain| *retain));
    if is_v5 {
        profile.set("will_delay", properties.number("willDelayInterval")?.map(seconds));
        profile.set("will_message_expiry", properties.number("messageExpiryInterval")?.map(seconds));
        profile.set("will_content_type", properties.text("contentType")?);
        profile.set("will_response_topic", properties.text("responseTopic")?);
        match properties.take("correlationData") {
            Some(Value::String(text)) => profile.set("will_correlation_data", Some(text)),
            Some(_) => profile.note("will.properties.correlationData is no text"),
            None => {}
        }
        profile.set("will_user_property", user_properties(&mut properties)?);
        profile.left("not carried over", &drop_false(properties));
    } else {
        profile.left("these are of MQTT 5.0", &drop_false(properties));
    }
    profile.left("not carried over", &from.rest());
    Ok(())
}

/// What is left of a will's properties; `payloadFormatIndicator: false` is the same as nothing.
fn drop_false(mut properties: Fields) -> Vec<String> {
    if let Some(indicator) = properties.take("payloadFormatIndicator")
        && indicator != Value::Bool(false)
    {
        let mut left = properties.rest();
        left.push("will.properties.payloadFormatIndicator".into());
        return left;
    }
    properties.rest()
}

/// Options of MQTT 5.0 are kept when they are the same for all subscriptions, since a profile has one set of them.
fn subscriptions(records: Vec<Value>, profile: &mut ImportedProfile, is_v5: bool) -> Result<()> {
    let mut topics = Topics::default();
    let mut common: Option<Vec<(&str, Value)>> = None;
    let mut same = true;
    for (index, record) in records.into_iter().enumerate() {
        let place = format!("subscriptions[{index}]");
        let Value::Object(fields) = record else {
            return Err(Error::config(format!("{place} is not an object")));
        };
        let mut from = Fields::new(&place, fields);
        let topic = from.text("topic")?.ok_or_else(|| Error::config(format!("{place}.topic is missing")))?;
        let qos = from.number("qos")?.unwrap_or_default();
        let mut options: Vec<(&str, Value)> = Vec::new();
        let set = |flag: Option<bool>| flag.filter(|flag| *flag).map(Value::from);
        options.extend(set(from.flag("nl")?).map(|flag| ("no_local", flag)));
        options.extend(set(from.flag("rap")?).map(|flag| ("retain_as_published", flag)));
        match from.number("rh")? {
            None | Some(0) => {}
            Some(1) => options.push(("retain_handling", "new".into())),
            Some(2) => options.push(("retain_handling", "never".into())),
            Some(_) => return Err(Error::config(format!("{place}.rh is none of 0, 1 and 2"))),
        }
        options.extend(from.number("subscriptionIdentifier")?.map(|id| ("subscription_id", id.into())));
        if from.flag("disabled")? == Some(true) {
            profile.note(format!("{place} is switched off in MQTTX"));
        }
        same &= common.as_ref().is_none_or(|common| *common == options);
        common.get_or_insert(options);
        topics.add(topic, qos);
        from.drop_all(&["id", "createAt", "color", "alias", "retain"]);
        profile.left("not carried over", &from.rest());
    }
    let common = common.unwrap_or_default();
    if !same {
        profile
            .note("the subscriptions differ in their options, of which a profile has one set: none was kept");
    } else if is_v5 {
        profile.subscribe.extend(common.into_iter().map(|(name, value)| (name.to_owned(), value)));
    } else if !common.is_empty() {
        profile.note("options of the subscriptions are of MQTT 5.0");
    }
    topics.into_profile(profile);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As version 1.12 writes it.
    fn exported() -> Value {
        // A text, since it is deeper than the macro goes.
        serde_json::from_str(
            r##"[
            {"id": "collection_1", "name": "Plant", "isCollection": true, "parentId": null, "orderId": 0},
            {
                "id": "4a1b", "clientId": "mqttx_0c1d2e3f", "name": "press line", "clean": false,
                "protocol": "wss", "host": "broker.example", "port": 8084, "keepalive": 30, "connectTimeout": 10,
                "reconnect": true, "reconnectPeriod": 4000, "username": "ann", "password": "hunter2", "path": "/mqtt",
                "certType": "self", "ssl": true, "rejectUnauthorized": false, "ALPNProtocols": "x-amzn-mqtt-ca",
                "ca": "/certs/ca.pem", "cert": "/certs/ann.pem", "key": "/certs/ann.key", "mqttVersion": "5.0",
                "unreadMessageCount": 3, "clientIdWithTime": false, "isCollection": false, "parentId": "collection_1",
                "orderId": 1, "createAt": "2024-01-01 10:00:00:000", "updateAt": "2024-01-01 10:00:00:000",
                "messages": [{"id": "message_1", "createAt": "x", "out": false, "payload": "hello", "qos": 0,
                    "retain": false, "topic": "a"}],
                "subscriptions": [
                    {"id": "s1", "topic": "plant/+/state", "qos": 1, "nl": true, "rap": false, "rh": 2, "color": "#fff",
                        "createAt": "x", "disabled": false, "alias": "", "retain": false,
                        "subscriptionIdentifier": null},
                    {"id": "s2", "topic": "plant/alarm", "qos": 1, "nl": true, "rap": false, "rh": 2, "createAt": "x"}],
                "will": {"id": "w1", "lastWillTopic": "gone", "lastWillPayload": "bye", "lastWillQos": 1,
                    "lastWillRetain": true, "properties": {"willDelayInterval": 5, "payloadFormatIndicator": true,
                    "messageExpiryInterval": 60, "contentType": "text/plain", "responseTopic": "r",
                    "correlationData": "c", "userProperties": {"k": "v"}}},
                "properties": {"sessionExpiryInterval": 3600, "receiveMaximum": 10, "maximumPacketSize": 65536,
                    "topicAliasMaximum": 5, "requestResponseInformation": true, "requestProblemInformation": null,
                    "userProperties": {"a": ["1", "2"], "b": "3"}, "authenticationMethod": null,
                    "authenticationData": null}
            }
        ]"##,
        )
        .expect("JSON")
    }

    #[test]
    fn a_connection_with_everything() {
        assert!(is(&exported()));
        let import = read(exported()).unwrap();
        let [profile] = &import.profiles[..] else { panic!("{import:?}") };
        assert_eq!((profile.name.as_str(), profile.group.as_deref()), ("press line", Some("Plant")));
        assert_eq!(profile.url.as_deref(), Some("mqtt+wss://broker.example:8084/mqtt"));
        assert_eq!(profile.secrets["password"], "hunter2");
        let connection = json!({
            "protocol_version": "5.0", "client_id": "mqttx_0c1d2e3f", "username": "ann", "clean_session": false,
            "keep_alive": "30s", "connect_timeout": "10s", "insecure_skip_verify": true, "tls_alpn": ["x-amzn-mqtt-ca"], "session_expiry": "3600s",
            "receive_maximum": 10, "maximum_packet_size": 65536, "topic_alias_maximum": 5,
            "request_response_information": true, "user_property": ["a=1", "a=2", "b=3"], "will_topic": "gone",
            "will_payload": "bye", "will_qos": 1, "will_retain": true, "will_delay": "5s",
            "will_message_expiry": "60s", "will_content_type": "text/plain", "will_response_topic": "r",
            "will_correlation_data": "c", "will_user_property": ["k=v"],
        });
        assert_eq!(Value::Object(profile.connection.clone()), connection);
        assert_eq!(
            Value::Object(profile.subscribe.clone()),
            json!({"no_local": true, "retain_handling": "never", "qos": [1]})
        );
        assert_eq!(profile.files["tls_key"], ImportedFile::Path("/certs/ann.key".into()));
        let notes = profile.notes.join("\n");
        for part in ["plant/+/state, plant/alarm", "1 recorded", "reconnectPeriod", "payloadFormatIndicator"]
        {
            assert!(notes.contains(part), "{part}\n{notes}");
        }
        assert!(!notes.contains("hunter2"), "{notes}");
    }

    #[test]
    fn an_older_export_of_one_connection() {
        let import = read(json!({
            "clientId": "mqttx_1", "name": "old", "clean": true, "host": "h", "port": 1883, "keepalive": 60,
            "connectTimeout": 10, "reconnect": false, "username": "", "password": "", "path": "/mqtt", "certType": "",
            "ssl": false, "mqttVersion": "3.1.1", "ca": "", "cert": "", "key": "", "subscriptions": [], "messages": [],
            "unreadMessageCount": 0, "will": {"lastWillTopic": "", "lastWillPayload": "", "lastWillQos": 0,
            "lastWillRetain": false, "properties": {"contentType": ""}},
            "properties": {"sessionExpiryInterval": 0}
        }))
        .unwrap();
        let profile = &import.profiles[0];
        assert_eq!(profile.url.as_deref(), Some("mqtt://h:1883"));
        assert!(profile.secrets.is_empty() && profile.files.is_empty() && profile.subscribe.is_empty());
        assert_eq!(profile.connection["protocol_version"], "3.1.1");
        assert!(
            !profile.connection.contains_key("will_qos")
                && !profile.connection.contains_key("session_expiry")
        );
        assert_eq!(profile.notes.len(), 1, "{:?}", profile.notes);
    }

    #[test]
    fn what_is_unknown_or_differs_is_named() {
        let mut json = exported();
        json[1]["holograms"] = true.into();
        json[1]["subscriptions"][1]["qos"] = 2.into();
        json[1]["subscriptions"][1]["rh"] = 0.into();
        let import = read(json).unwrap();
        let profile = &import.profiles[0];
        let notes = profile.notes.join("\n");
        for part in ["holograms", "differ in their options", "each has a --qos"] {
            assert!(notes.contains(part), "{part}\n{notes}");
        }
        assert!(profile.subscribe.is_empty());
    }

    #[test]
    fn damaged_exports_are_refused_without_their_content() {
        let mut cases = Vec::new();
        for (pointer, value) in [
            ("/1/host", json!("")),
            ("/1/host", json!("a/hunter2")),
            ("/1/port", json!(0)),
            ("/1/protocol", json!("hunter2")),
            ("/1/mqttVersion", json!("hunter2")),
            ("/1/password", json!(["hunter2"])),
            ("/1/keepalive", json!("hunter2")),
            ("/1/will", json!("hunter2")),
            ("/1/subscriptions/0", json!("hunter2")),
            ("/1/properties/userProperties", json!(["hunter2"])),
        ] {
            let mut json = exported();
            *json.pointer_mut(pointer).unwrap() = value;
            cases.push(json);
        }
        cases.extend([json!(5), json!([]), json!(["hunter2"])]);
        for json in cases {
            let error = read(json.clone()).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{json}: {error}");
        }
    }
}
