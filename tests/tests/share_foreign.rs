//! Connections of other programs, in files as these programs write them, and URLs.

use std::path::{Path, PathBuf};
use toml::Table;
use tracemq_tests::{
    Certificates, Done, Tracemq, assert_hidden, assert_hidden_below, fixture, stored_profile,
};

const SECRETS: [&str; 2] = ["hunter2+/=", "hunter3"];

/// A folder that is not the home, where the other programs' files are.
fn elsewhere() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tracemq-other-").tempdir().expect("a temporary folder")
}

fn write(folder: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("a file in a temporary folder");
    path
}

/// Imports it, and looks that no secret is anywhere but in the vault.
#[track_caller]
fn import(tracemq: &Tracemq, file: &Path, arguments: &[&str]) -> Done {
    let done = tracemq.cmd(["profile", "import", "--yes"]).arg(file).args(arguments).finish().expect(0);
    let secrets = SECRETS.map(str::to_owned);
    assert_hidden_below(&secrets, tracemq.home());
    secrets.iter().for_each(|secret| assert_hidden(secret, done.stderr.as_bytes(), "what was said of it"));
    done
}

/// What is in the vault under a reference, seen through an encrypted export that age's own tool opens.
fn in_vault(tracemq: &Tracemq, profile: &str, option: &str) -> String {
    let key = tracemq.home().join("age-key.txt");
    if !key.exists() {
        tracemq_tests::Cmd::peer("age-keygen").arg("-o").arg(&key).finish().expect(0);
    }
    let text = std::fs::read_to_string(&key).expect("the key file");
    let public =
        text.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a public key").to_owned();
    let sealed = tracemq.cmd(["profile", "export", profile, "--to", &public, "-o", "-"]).finish().expect(0);
    let opened = tracemq_tests::Cmd::peer("age")
        .args(["-d", "-i"])
        .arg(&key)
        .stdin(sealed.stdout)
        .finish()
        .expect(0)
        .text();
    let document: Table = opened.parse().expect("TOML");
    let secrets =
        document["profile"][0].get("secret").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let found = secrets.iter().find(|item| item["option"].as_str() == Some(option));
    found.and_then(|item| item["text"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn urls_of_every_protocol() {
    let tracemq = Tracemq::new();
    for (url, name, protocol, saved, option, secret) in [
        (
            "mqtts://ann:hunter3@broker.example:8883",
            "broker.example",
            "mqtt",
            "mqtts://ann@broker.example:8883",
            "password",
            "hunter3",
        ),
        ("nats://hunter3@a.example:4222", "a.example", "nats", "nats://a.example:4222", "token", "hunter3"),
        (
            "wss://ann:hunter3@web.example/chat",
            "web.example",
            "websocket",
            "wss://ann@web.example/chat",
            "password",
            "hunter3",
        ),
        (
            "amqps://ann:hunter3@q.example/q1",
            "q.example",
            "eventhubs",
            "amqps://ann@q.example/q1",
            "password",
            "hunter3",
        ),
        (
            "nats://ann:hunter3@c.example:4222,nats://ann:hunter3@d.example",
            "c.example",
            "nats",
            "nats://c.example:4222,nats://d.example",
            "password",
            "hunter3",
        ),
        ("coap://thing.example/a", "thing.example", "coap", "coap://thing.example/a", "", ""),
        // Nothing is secret in it.
        (
            "wss://stream.example:9443/ws/btcusdt@trade",
            "stream.example",
            "websocket",
            "wss://stream.example:9443/ws/btcusdt@trade",
            "",
            "",
        ),
    ] {
        let done = tracemq.cmd(["profile", "import", url, "--yes"]).finish().expect(0);
        assert_hidden("hunter3", done.stderr.as_bytes(), "stderr");
        let profile = stored_profile(&tracemq, name);
        assert_eq!((profile["protocol"].as_str(), profile["url"].as_str()), (Some(protocol), Some(saved)));
        if !option.is_empty() {
            let reference = profile["connection"][option].as_str().expect("a reference");
            assert_eq!(reference, format!("vault:{name}-{option}"));
            assert_eq!(in_vault(&tracemq, name, option), secret);
        }
    }
    let string = "Endpoint=sb://ns.servicebus.example/;SharedAccessKeyName=Root;SharedAccessKey=hunter2+/=;EntityPath=h";
    tracemq
        .cmd(["profile", "import", "env:AZURE", "--yes", "--name", "hub"])
        .env("AZURE", string)
        .finish()
        .expect(0);
    assert_eq!(stored_profile(&tracemq, "hub")["url"].as_str(), Some("vault:hub-url"));
    assert_eq!(in_vault(&tracemq, "hub", "url"), string);
    // And out of a file with nothing else in it.
    let folder = elsewhere();
    let file = write(&folder, "string.txt", format!("{string}\n"));
    import(&tracemq, &file, &[]);
    assert_eq!(stored_profile(&tracemq, "ns.servicebus.example")["protocol"].as_str(), Some("eventhubs"));
    assert_hidden_below(&SECRETS.map(str::to_owned), tracemq.home());
    for (url, code) in [("gopher://h", 7), ("mqtt://h:x", 2), ("mqtt://u:hunter3%@h", 2)] {
        let done = tracemq.cmd(["profile", "import", url, "--yes"]).finish().expect(code);
        assert!(!done.stderr.contains("hunter3"), "{done:?}");
    }
}

const NATS: &str = r#"{
  "description": "Production",
  "url": "nats://a.example:4222,nats://b.example:4222",
  "socks_proxy": "socks5://ann:hunter3@proxy.example:1080",
  "token": "",
  "user": "ann",
  "password": "hunter2+/=",
  "creds": "",
  "nkey": "",
  "cert": "CERT",
  "key": "KEY",
  "ca": "CA",
  "nsc": "",
  "jetstream_domain": "hub",
  "jetstream_api_prefix": "",
  "jetstream_event_prefix": "",
  "inbox_prefix": "",
  "user_jwt": "",
  "color_scheme": "",
  "tls_first": true
}"#;

#[test]
fn a_context_of_nats() {
    let (tracemq, folder, certificates) = (Tracemq::new(), elsewhere(), Certificates::new());
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let text = NATS
        .replace("CERT", &path(&certificates.client.cert))
        .replace("KEY", &path(&certificates.client.key))
        .replace("CA\"", &format!("{}\"", path(&certificates.ca)));
    let file = write(&folder, "prod.json", text);
    let done = import(&tracemq, &file, &[]);
    for part in ["context of the nats command line", "description", "jetstream_domain"] {
        assert!(done.stderr.contains(part), "{part}\n{done:?}");
    }
    let profile = stored_profile(&tracemq, "prod");
    assert_eq!(profile["url"].as_str(), Some("nats://a.example:4222,b.example:4222"));
    let connection = &profile["connection"];
    assert_eq!(connection["username"].as_str(), Some("ann"));
    assert_eq!(connection["tls_first"].as_bool(), Some(true));
    assert_eq!(connection["tls_key"].as_str(), Some(path(&certificates.client.key).as_str()));
    assert_eq!(connection["proxy"].as_str(), Some("vault:prod-proxy"));
    assert_eq!(in_vault(&tracemq, "prod", "password"), "hunter2+/=");
    assert_eq!(in_vault(&tracemq, "prod", "proxy"), "socks5://ann:hunter3@proxy.example:1080");
    // Said to be one, and none.
    for content in ["{", "[]", "{\"url\": \"http://h\"}", "{\"url\": {\"hunter3\": 1}}"] {
        let file = write(&folder, "broken.json", content);
        let done = tracemq.cmd(["profile", "import", "--yes", "--from", "nats-context"]).arg(&file).finish();
        assert!(!done.expect(2).stderr.contains("hunter3"));
    }
}

#[test]
fn an_export_of_mqttx() {
    let (tracemq, folder) = (Tracemq::new(), elsewhere());
    let text = r##"[
      {"id": "collection_1", "name": "Plant", "isCollection": true, "parentId": null, "orderId": 0},
      {"id": "1", "clientId": "mqttx_1", "name": "press line", "clean": false, "protocol": "mqtts",
       "host": "broker.example", "port": 8883, "keepalive": 30, "connectTimeout": 10, "reconnect": true,
       "reconnectPeriod": 4000, "username": "ann", "password": "hunter2+/=", "path": "/mqtt", "certType": "server",
       "ssl": true, "rejectUnauthorized": true, "ALPNProtocols": "", "ca": "", "cert": "", "key": "",
       "mqttVersion": "5.0", "unreadMessageCount": 0, "clientIdWithTime": false, "isCollection": false,
       "parentId": "collection_1", "orderId": 1, "createAt": "2024-01-01 10:00:00:000",
       "updateAt": "2024-01-01 10:00:00:000", "messages": [],
       "subscriptions": [{"id": "s", "topic": "plant/#", "qos": 1, "nl": true, "rap": false, "rh": 0, "createAt": "x"}],
       "will": {"lastWillTopic": "gone", "lastWillPayload": "bye", "lastWillQos": 1, "lastWillRetain": false,
        "properties": {"contentType": ""}},
       "properties": {"sessionExpiryInterval": 60, "receiveMaximum": null}},
      {"clientId": "mqttx_2", "name": "mqtt", "clean": true, "protocol": "ws", "host": "127.0.0.1", "port": 8083,
       "keepalive": 60, "connectTimeout": 10, "username": "", "password": "", "path": "/mqtt", "ssl": false,
       "mqttVersion": "3.1.1", "ca": "", "cert": "", "key": "", "subscriptions": [], "messages": []}
    ]"##;
    let file = write(&folder, "data.json", text);
    let done = import(&tracemq, &file, &[]);
    assert!(done.stderr.contains("MQTTX") && done.stderr.contains("plant/#"), "{done:?}");
    let profile = stored_profile(&tracemq, "press-line");
    assert_eq!(profile["url"].as_str(), Some("mqtts://broker.example:8883"));
    assert_eq!(profile["group"].as_str(), Some("Plant"));
    assert_eq!(profile["connection"]["session_expiry"].as_str(), Some("60s"));
    assert_eq!(profile["subscribe"]["no_local"].as_bool(), Some(true));
    assert_eq!(in_vault(&tracemq, "press-line", "password"), "hunter2+/=");
    // The name of a protocol is none for a profile.
    assert_eq!(stored_profile(&tracemq, "mqtt-2")["url"].as_str(), Some("mqtt+ws://127.0.0.1:8083/mqtt"));
    for content in [text.replace("broker.example", ""), text.replace("\"5.0\"", "5"), text[..300].to_owned()]
    {
        let file = write(&folder, "broken.json", content);
        let done = tracemq.cmd(["profile", "import", "--yes", "--force"]).arg(&file).finish().expect(2);
        assert!(!done.stderr.contains("hunter"), "{done:?}");
    }
}

#[test]
fn settings_of_mqtt_explorer_with_certificates_in_them() {
    use base64::Engine;
    let (tracemq, folder, certificates) = (Tracemq::new(), elsewhere(), Certificates::new());
    let base64 = |path: &Path| {
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(path).expect("a PEM file"))
    };
    let text = serde_json::json!({
        "ConnectionManager_connections": {"5d5b": {
            "configVersion": 1, "certValidation": true, "clientId": "mqtt-explorer-1a2b3c4d", "id": "5d5b",
            "name": "Werk 1 (Süd)", "encryption": true, "password": "hunter2+/=", "username": "ann",
            "subscriptions": [{"topic": "#", "qos": 0}, {"topic": "$SYS/#", "qos": 0}], "type": "mqtt",
            "host": "broker.example", "port": 8883, "protocol": "mqtt",
            "selfSignedCertificate": {"name": "ca.pem", "data": base64(&certificates.ca)},
            "clientCertificate": {"name": "c.pem", "data": base64(&certificates.client.cert)},
            "clientKey": {"name": "c.key", "data": base64(&certificates.client.key)}}},
        "Settings": {"autoExpandLimit": 0}
    });
    let file = write(&folder, "settings.json", text.to_string());
    let done = import(&tracemq, &file, &[]);
    assert!(done.stderr.contains("Settings") && done.stderr.contains("$SYS/#"), "{done:?}");
    let profile = stored_profile(&tracemq, "Werk-1-S-d");
    assert_eq!(profile["url"].as_str(), Some("mqtts://broker.example:8883"));
    for (option, original) in [
        ("tls_ca", &certificates.ca),
        ("tls_cert", &certificates.client.cert),
        ("tls_key", &certificates.client.key),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let path = Path::new(profile["connection"][option].as_str().expect("a path"));
        assert!(path.starts_with(tracemq.home()), "{}", path.display());
        assert_eq!(path.metadata().expect("the file").permissions().mode() & 0o777, 0o600);
        let lines = |path: &Path| {
            std::fs::read_to_string(path).expect("PEM").lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(path), lines(original), "{option}");
    }
    for (from, to) in [("\"port\":8883", "\"port\":\"hunter3\""), ("broker.example", "broker/hunter3")] {
        let file = write(&folder, "settings.json", text.to_string().replace(from, to));
        let done = tracemq.cmd(["profile", "import", "--yes", "--force"]).arg(&file).finish().expect(2);
        assert!(!done.stderr.contains("hunter"), "{done:?}");
    }
    let file = write(&folder, "settings.json", "{\"ConnectionManager_connections\": {\"a\": \"hunter3\"}}");
    let done =
        tracemq.cmd(["profile", "import", "--yes"]).arg(&file).finish().expect_failure(2, &["not an object"]);
    assert!(!done.stderr.contains("hunter3"));
}

#[test]
fn options_of_mosquitto() {
    let (tracemq, folder, certificates) = (Tracemq::new(), elsewhere(), Certificates::new());
    let text = format!(
        "# this machine\n-h broker.example\n-p 8884\n--cafile {}\n-u ann\n-P hunter2+/=\n-i bench\n-k 30\n-q 1\n\
         -t plant/#\n-V mqttv5\n--proxy socks5h://u:hunter3@proxy:1080\n--tls-version tlsv1.2\n--ciphers HIGH\n-v\n",
        certificates.ca.display()
    );
    let file = write(&folder, "mosquitto_sub", &text);
    let done = import(&tracemq, &file, &["--name", "bench"]);
    assert!(done.stderr.contains("--ciphers HIGH, -v") && done.stderr.contains("plant/#"), "{done:?}");
    let profile = stored_profile(&tracemq, "bench");
    assert_eq!(profile["url"].as_str(), Some("mqtts://broker.example:8884"));
    assert_eq!(profile["connection"]["keep_alive"].as_str(), Some("30s"));
    assert_eq!(profile["connection"]["tls_min_version"].as_str(), Some("1.2"));
    assert_eq!(profile["connection"]["tls_ca"].as_str(), Some(&*certificates.ca.to_string_lossy()));
    assert_eq!(in_vault(&tracemq, "bench", "password"), "hunter2+/=");
    assert_eq!(in_vault(&tracemq, "bench", "proxy"), "socks5h://u:hunter3@proxy:1080");
    let broken = write(&folder, "mosquitto_sub", format!("{text}hunter3\n"));
    let done =
        tracemq.cmd(["profile", "import", "--yes"]).arg(&broken).finish().expect_failure(2, &["line 16"]);
    assert!(!done.stderr.contains("hunter"), "{done:?}");
}

#[test]
fn what_nobody_knows_is_refused_with_what_is_known() {
    let (tracemq, folder) = (Tracemq::new(), elsewhere());
    for content in [&b"hello\n"[..], b"", b"\x00\xff\x00", b"{\"a\": 1}", b"[[[["] {
        let file = write(&folder, "unknown", content);
        let done = tracemq.cmd(["profile", "import", "--yes"]).arg(&file).finish();
        done.expect_failure(
            2,
            &["no export of tracemq", "mqttx", "mqtt-explorer", "mosquitto", "nats-context"],
        );
    }
    let file = write(&folder, "x.json", "{}");
    let done = tracemq.cmd(["profile", "import", "--yes", "--from", "postman"]).arg(&file).finish();
    done.expect_failure(2, &["no plugin reads the format \"postman\"", "mqttx"]);
}

#[test]
fn of_two_plugins_that_read_a_file_the_user_chooses() {
    let (tracemq, folder) = (Tracemq::new(), elsewhere());
    tracemq.add_plugin(&fixture("twin"));
    let file = write(&folder, "mosquitto_sub", "-h broker.example\n-i bench\n");
    let run = |from: &[&str]| tracemq.cmd(["profile", "import", "--yes"]).arg(&file).args(from).finish();
    // They call the format by one name.
    for from in [&[][..], &["--from", "mosquitto"]] {
        let done = run(from).expect_failure(2, &["several plugins", "mqtt:mosquitto", "twin:mosquitto"]);
        assert!(done.reason().contains("--from"), "{done:?}");
    }
    assert!(!tracemq.home().join("profiles").exists());
    run(&["--from", "twin:mosquitto"]).expect(0);
    assert_eq!(stored_profile(&tracemq, "of-twin")["protocol"].as_str(), Some("twin"));
    run(&["--from", "mqtt:mosquitto", "--name", "ours"]).expect(0);
    assert_eq!(stored_profile(&tracemq, "ours")["url"].as_str(), Some("mqtt://broker.example:1883"));
    run(&["--from", "twin:mqttx"]).expect_failure(2, &["no plugin reads the format \"twin:mqttx\""]);
    // What one of them alone takes for its own needs no words.
    let file = write(&folder, "mosquitto_sub", "# ours\n-h broker.example\n");
    tracemq.cmd(["profile", "import", "--yes"]).arg(&file).args(["--name", "alone"]).finish().expect(0);
    assert_eq!(stored_profile(&tracemq, "alone")["protocol"].as_str(), Some("mqtt"));
}

#[test]
fn a_file_is_data_and_never_a_reference() {
    let (tracemq, folder) = (Tracemq::new(), elsewhere());
    let marker = tracemq.home().join("ran");
    let text = format!("-h h\n-u cmd:touch {0}\n-P cmd:touch {0}\n", marker.display());
    let file = write(&folder, "mosquitto_sub", text);
    tracemq.cmd(["profile", "import", "--yes"]).arg(&file).finish().expect(0);
    assert_eq!(in_vault(&tracemq, "h", "password"), format!("cmd:touch {}", marker.display()));
    assert_eq!(stored_profile(&tracemq, "h")["connection"]["password"].as_str(), Some("vault:h-password"));
    assert!(!marker.exists());
    // But a reference that the other program has is one here too.
    let file = write(&folder, "prod.json", "{\"url\": \"h\", \"user\": \"u\", \"password\": \"env://PW\"}");
    let done = tracemq.cmd(["profile", "import", "--yes"]).arg(&file).finish().expect(0);
    assert!(done.stderr.contains("password refers to env:PW"), "{done:?}");
}
