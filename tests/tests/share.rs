//! Exports: what is in them and what is not, for every option of all five protocols, and what comes of them elsewhere.

use std::collections::BTreeSet;
use toml::Table;
use tracemq_tests::{
    Certificates, Cmd, Done, Everything, PROTOCOLS, Tracemq, assert_hidden, assert_hidden_below, everything,
    schemas, stored_profile,
};

/// A URL of each protocol with a password in it, as a profile must not have it but may.
fn url_of(protocol: &str) -> &'static str {
    match protocol {
        "mqtt" => "mqtts://ann:URLs3cret%2B1@broker.example:8883",
        "nats" => "nats://ann:URLs3cret%2B1@a.example:4222,b.example",
        "websocket" => "wss://ann:URLs3cret%2B1@web.example/chat?room=1",
        "coap" => "coaps://thing.example/a",
        _ => "amqps://ann:URLs3cret%2B1@queue.example/q1",
    }
}

fn add(tracemq: &Tracemq, name: &str, all: &Everything) {
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
    tracemq.write(&format!("profiles/{name}.toml"), &all.text);
}

fn export(tracemq: &Tracemq, all: &Everything, arguments: &[&str]) -> Done {
    let cmd = tracemq.cmd(["profile", "export"]).args(arguments).cwd(tracemq.home());
    all.variables.iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value)).finish()
}

fn made(protocol: &str) -> (Tracemq, Certificates, Everything) {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let mut all = everything(&schemas(&tracemq, protocol), protocol, url_of(protocol), &certificates);
    if url_of(protocol).contains('@') {
        all.secrets.push("URLs3cret+1".into());
    }
    let key = std::fs::read_to_string(&certificates.client.key).expect("the key");
    all.secrets.push(key.lines().nth(1).expect("a line of the key").to_owned());
    add(&tracemq, "all", &all);
    (tracemq, certificates, all)
}

/// What an export lists as left out: `password`, `serve.user.ann`.
fn left_out(profile: &Table) -> BTreeSet<String> {
    let left = profile.get("left_out").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let text = |item: &toml::Value, key: &str| item.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    left.iter()
        .map(|item| {
            let parts = [text(item, "table"), text(item, "option"), text(item, "item")];
            parts.into_iter().flatten().collect::<Vec<_>>().join(".")
        })
        .collect()
}

fn parsed(text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn first_profile(text: &str) -> Table {
    let document = parsed(text);
    document["profile"][0].as_table().expect("a profile").clone()
}

#[test]
fn a_plain_export_has_no_secret_of_any_protocol_in_any_form() {
    for protocol in PROTOCOLS {
        let (tracemq, certificates, all) = made(protocol);
        let done = export(&tracemq, &all, &["all"]).expect(0);
        let text = std::fs::read_to_string(tracemq.home().join("all.tracemq.toml")).expect("the export");
        for secret in &all.secrets {
            assert_hidden(secret, text.as_bytes(), "the export");
            assert_hidden(secret, done.stderr.as_bytes(), "what was said of it");
        }
        for (variable, _) in &all.variables {
            assert!(
                !text.contains(variable.as_str()),
                "{protocol}: what {variable} is called is nobody's business"
            );
        }
        let profile = first_profile(&text);
        assert_eq!(left_out(&profile), all.left_out, "{protocol}");
        for place in &all.left_out {
            assert!(done.stderr.contains(place.as_str()), "{place} is not told of\n{done:?}");
        }
        let ca = std::fs::read_to_string(&certificates.ca).expect("the CA").replace("\r\n", "\n");
        let carried = profile["certificate"].as_array().expect("certificates");
        let pem = |option: &str| {
            let found = carried
                .iter()
                .find(|item| item["option"].as_str() == Some(option) && item.get("table").is_none());
            found.and_then(|item| item["pem"].as_str()).map(str::to_owned)
        };
        assert_eq!(pem("tls_ca"), Some(ca), "{protocol}");
        assert!(pem("tls_cert").is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")), "{protocol}");
    }
}

#[test]
fn what_may_be_shared_arrives_as_it_was_and_what_was_left_out_is_asked_for() {
    for protocol in PROTOCOLS {
        let (from, _certificates, all) = made(protocol);
        export(&from, &all, &["all", "-o", "out.tracemq.toml"]).expect(0);
        let to = Tracemq::new();
        let file = from.home().join("out.tracemq.toml");
        let done = to.cmd(["profile", "import", "--yes"]).arg(&file).finish().expect(0);
        // Exactly what was left out is missing, with what completes it.
        let todo: BTreeSet<String> = done
            .stderr
            .lines()
            .filter(|line| {
                line.contains("completes it")
                    || line.contains("put the file at")
                    || line.contains("profile edit")
            })
            .filter_map(|line| Some(line.strip_prefix("all: ")?.split(" (").next()?.to_owned()))
            .collect();
        assert_eq!(todo, all.left_out, "{protocol}\n{done:?}");

        let (sent, got) = (parsed(&all.text), stored_profile(&to, "all"));
        for table in ["connection", "publish", "subscribe", "serve"] {
            let place =
                |name: &str| if table == "connection" { name.to_owned() } else { format!("{table}.{name}") };
            for (name, value) in sent[table].as_table().expect("a table") {
                let place = place(name);
                let is_left =
                    all.left_out.iter().any(|left| *left == place || left.starts_with(&format!("{place}.")));
                let arrived = got.get(table).and_then(|table| table.get(name));
                if all.paths.contains(&place) {
                    assert_eq!(arrived, None, "{place}");
                    continue;
                }
                let Some(arrived) = arrived else { panic!("{protocol}: {place} did not arrive\n{got}") };
                match name.as_str() {
                    "tls_ca" | "tls_cert" => {
                        let path = std::path::Path::new(arrived.as_str().expect("a path"));
                        assert!(path.starts_with(to.home().join("certificates/all")), "{}", path.display());
                        assert_eq!(mode(path), 0o600);
                    }
                    _ if is_left && all.files.contains(&place) => {
                        assert!(
                            arrived.as_str().is_some_and(|path| path.contains("/certificates/all/")),
                            "{place}"
                        );
                    }
                    _ if is_left => assert!(arrived.to_string().contains("vault:all-"), "{place}: {arrived}"),
                    _ => assert_eq!(arrived, value, "{protocol}: {place}"),
                }
            }
        }
        assert_eq!(mode(&to.home().join("profiles/all.toml")), 0o600);
        assert_hidden_below(&all.secrets, to.home());
    }
}

fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

#[test]
fn an_encrypted_export_brings_every_secret_and_key() {
    for protocol in PROTOCOLS {
        let (from, certificates, all) = made(protocol);
        let to = Tracemq::new();
        // Whoever is to open it: their vault's public key.
        let recipient =
            to.cmd(["secret", "export-identity", "--public"]).finish().expect(0).text().trim().to_owned();
        assert!(recipient.starts_with("age1"), "{recipient}");
        export(&from, &all, &["all", "--to", &recipient, "-o", "out.age"]).expect(0);
        let file = from.home().join("out.age");
        let sealed = std::fs::read(&file).expect("the export");
        all.secrets.iter().for_each(|secret| assert_hidden(secret, &sealed, "the encrypted export"));

        let done = to.cmd(["profile", "import", "--yes"]).arg(&file).finish().expect(0);
        assert!(!done.stderr.contains("completes it"), "nothing is missing\n{done:?}");
        all.secrets
            .iter()
            .for_each(|secret| assert_hidden(secret, done.stderr.as_bytes(), "what was said of it"));
        // Keys are files, as options of this kind are; secrets are in the vault alone.
        let (key, secrets) = all.secrets.split_last().expect("the key");
        assert_hidden_below(secrets, to.home());
        assert!(std::fs::read_to_string(&certificates.client.key).expect("the key").contains(key.as_str()));

        // What arrived, seen from outside: encrypted for a key of age's own tool, and opened with it.
        let identity = to.home().join("key.txt");
        Cmd::peer("age-keygen").arg("-o").arg(&identity).finish().expect(0);
        let text = std::fs::read_to_string(&identity).expect("the key file");
        let public = text
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "))
            .expect("a public key")
            .to_owned();
        to.cmd(["profile", "export", "all", "--to", &public, "-o", "again.age"])
            .cwd(to.home())
            .finish()
            .expect(0);
        let opened = Cmd::peer("age")
            .args(["-d", "-i"])
            .arg(&identity)
            .arg(to.home().join("again.age"))
            .finish()
            .expect(0);
        let text = opened.text();
        let profile = first_profile(&text);
        assert_eq!(left_out(&profile), BTreeSet::new());
        let carried = profile["secret"].as_array().expect("secrets");
        for (_, value) in &all.variables {
            let there = carried.iter().any(|item| item["text"].as_str() == Some(value));
            assert!(there, "{protocol}: {value} did not arrive\n{text}");
        }
        assert!(profile["file"].as_array().is_some_and(|files| !files.is_empty()), "{protocol}");
    }
}

#[test]
fn only_who_it_is_for_opens_an_encrypted_export() {
    let (from, _certificates, all) = made("mqtt");
    let (to, stranger) = (Tracemq::new(), Tracemq::new());
    let recipient =
        to.cmd(["secret", "export-identity", "--public"]).finish().expect(0).text().trim().to_owned();
    stranger.cmd(["secret", "export-identity", "--public"]).finish().expect(0);
    // Recipients may stand in a file, with comments.
    let list = from.write("team.txt", format!("# the team\n{recipient}\n\n"));
    let done = export(&from, &all, &["all", "--to", &list.to_string_lossy()]).expect(0);
    assert!(done.stderr.contains("all.tracemq.toml.age"), "{done:?}");
    let file = from.home().join("all.tracemq.toml.age");
    assert!(std::fs::read_to_string(&file).expect("text").starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    let done = stranger.cmd(["profile", "import", "--yes"]).arg(&file).finish();
    done.expect_failure(1, &["can't be opened", "--identity"]);
    // With the identity in hand it is opened anywhere.
    let identity =
        stranger.write("borrowed.txt", to.cmd(["secret", "export-identity"]).finish().expect(0).stdout);
    set_mode(&identity, 0o600);
    let import = stranger.cmd(["profile", "import", "--yes", "--identity"]).arg(&identity).arg(&file);
    import.finish().expect(0);
    // From stdin, and binary, as age itself writes it.
    let plain = Cmd::peer("age").args(["-d", "-i"]).arg(&identity).arg(&file).finish().expect(0).stdout;
    let plain = from.write("plain.toml", plain);
    Cmd::peer("age")
        .args(["-r", &recipient, "-o"])
        .arg(from.home().join("binary"))
        .arg(&plain)
        .finish()
        .expect(0);
    let binary = std::fs::read(from.home().join("binary")).expect("the file");
    to.cmd(["profile", "import", "--yes", "-"]).stdin(binary.clone()).finish().expect(0);
    // A byte changed, anywhere: not opened, or the same.
    let before = stored_profile(&to, "all");
    for at in (0..binary.len()).step_by(binary.len() / 40 + 1) {
        let mut damaged = binary.clone();
        damaged[at] ^= 0x10;
        let done = to.cmd(["profile", "import", "--yes", "--name", "damaged", "-"]).stdin(damaged).finish();
        assert_ne!(done.code(), 0, "byte {at}\n{done:?}");
    }
    to.cmd(["profile", "import", "--yes", "--name", "cut", "-"])
        .stdin(&binary[..binary.len() - 20])
        .finish()
        .expect(1);
    assert_eq!(stored_profile(&to, "all"), before);
    assert!(!to.home().join("profiles/damaged.toml").exists());
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

#[test]
fn several_profiles_go_into_one_file_and_stdout_is_one() {
    let tracemq = Tracemq::new();
    for name in ["a", "b.c"] {
        tracemq.cmd(["profile", "add", name, "mqtt://h", "--client-id", name]).finish().expect(0);
    }
    let done = tracemq.cmd(["profile", "export", "a", "b.c", "a", "-o", "-"]).finish().expect(0);
    let document = parsed(&done.text());
    assert_eq!(document["profile"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["format"].as_integer(), Some(1));
    let other = Tracemq::new();
    other.cmd(["profile", "import", "-", "--yes"]).stdin(done.stdout).finish().expect(0);
    assert_eq!(stored_profile(&other, "b.c")["connection"]["client_id"].as_str(), Some("b.c"));

    let here =
        |arguments: &[&str]| tracemq.cmd(["profile", "export"]).args(arguments).cwd(tracemq.home()).finish();
    here(&["a"]).expect(0);
    here(&["a"]).expect_failure(2, &["already", "--force"]);
    here(&["a", "--force"]).expect(0);
    here(&["a", "b.c"]).expect(0);
    assert!(tracemq.home().join("profiles.tracemq.toml").is_file());
    here(&["none"]).expect_failure(2, &["no profile \"none\""]);
    here(&["../a"]).expect_failure(2, &["no name"]);
    here(&["a", "--to", "age1qqqq"]).expect_failure(2, &["--to"]);
    here(&["a", "--to", "/no/such/file"]).expect_failure(2, &["--to", "neither"]);
    here(&["a", "-o", "/no/such/folder/x"]).expect_failure(1, &["can't be written"]);
}

#[test]
fn what_a_file_holds_decides_and_not_what_it_is_called() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let read = |path: &std::path::Path| std::fs::read_to_string(path).expect("a PEM file");
    let both = format!("{}{}", read(&certificates.client.cert), read(&certificates.client.key));
    let noted = format!("password: hunter2\n{}", read(&certificates.ca));
    let (both, noted) = (tracemq.write("cert.pem", both), tracemq.write("ca.key", noted));
    let add = tracemq
        .cmd(["profile", "add", "p", "mqtts://h", "--tls-cert"])
        .arg(&both)
        .arg("--tls-ca")
        .arg(&noted);
    add.finish().expect(0);
    let text = tracemq.cmd(["profile", "export", "p", "-o", "-"]).finish().expect(0).text();
    assert!(!text.contains("PRIVATE") && !text.contains("hunter2"), "{text}");
    let profile = first_profile(&text);
    assert_eq!(left_out(&profile), BTreeSet::from(["tls_cert".to_owned()]));
    assert_eq!(profile["certificate"].as_array().map(Vec::len), Some(1));
}

#[test]
fn without_its_plugin_nobody_knows_what_is_secret() {
    let tracemq = Tracemq::new();
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
    tracemq.write(
        "profiles/p.toml",
        "protocol = \"gopher\"\nurl = \"gopher://h\"\n[connection]\nx = \"hunter2\"\n",
    );
    let done = tracemq.cmd(["profile", "export", "p", "-o", "-"]).finish();
    let done = done.expect_failure(7, &["its plugin is not there to tell what is secret"]);
    assert!(done.stdout.is_empty() && !done.stderr.contains("hunter2"), "{done:?}");
}

#[test]
fn a_connection_string_and_a_token_in_a_url_are_secrets() {
    let tracemq = Tracemq::new();
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
    let string = "Endpoint=sb://ns.example/;SharedAccessKeyName=Root;SharedAccessKey=hunter2+/=;EntityPath=h";
    tracemq.write("profiles/string.toml", format!("url = \"{string}\"\n"));
    tracemq.write("profiles/reference.toml", "protocol = \"eventhubs\"\nurl = \"env:AZURE\"\n");
    tracemq.write("profiles/token.toml", "url = \"nats://hunter2@a,b\"\n");
    tracemq.write("profiles/query.toml", "url = \"wss://h/p?token=hunter2\"\n");
    tracemq.write(
        "profiles/header.toml",
        "url = \"ws://h\"\n[connection]\nws_header = [\"Authorization=Bearer hunter2\", \"X-A=b\"]\n",
    );
    for (name, left, kept) in [
        ("string", "url", ""),
        ("reference", "url", ""),
        ("token", "token", "nats://a,b"),
        ("query", "url", ""),
        ("header", "ws_header.Authorization", "X-A=b"),
    ] {
        let done =
            tracemq.cmd(["profile", "export", name, "-o", "-"]).env("AZURE", string).finish().expect(0);
        assert_hidden("hunter2", &done.stdout, name);
        assert!(done.text().contains(kept), "{done:?}");
        assert_eq!(left_out(&first_profile(&done.text())), BTreeSet::from([left.to_owned()]), "{name}");
    }
}
