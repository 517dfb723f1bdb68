//! Secrets in URLs and connection strings, in whatever shape and wherever they are typed: shown nowhere, and saved nowhere but
//! in the vault.

use tracemq_tests::{Done, Tracemq, assert_hidden, assert_hidden_below};

const SECRET: &str = "hunter2+x";

/// `S` stands for the secret.
const SHAPES: [&str; 22] = [
    "mqtt://ann:S@127.0.0.1:1",
    "mqtt://:S@127.0.0.1:1",
    "mqtt://ann:S#more@127.0.0.1:1",
    "mqtt://ann:S/more@127.0.0.1:1",
    "mqtt://ann:more,S@127.0.0.1:1",
    "nats://S@127.0.0.1:1",
    "nats://S@127.0.0.1:1,127.0.0.1:2",
    "nats://127.0.0.1:1,S@127.0.0.1:2",
    "nats://S@127.0.0.1:1,nats://S@127.0.0.1:2",
    "nats://ann:S@127.0.0.1:1,bob:S@127.0.0.1:2",
    "ws://ann:S@127.0.0.1:1/a@b",
    "ws://127.0.0.1:1/?mail=me@b.example&token=S",
    "ws://127.0.0.1:1/?access_token=more@S",
    "ws://127.0.0.1:1/?room=1;api-key=S",
    "ws://127.0.0.1:1/?key=S&room=1",
    "ws://127.0.0.1:1/?X-Auth=S",
    "ws://127.0.0.1:1/?pwd=S#more",
    "sb://name:S@127.0.0.1:1/hub",
    "sb://127.0.0.1:1/hub?SharedAccessKeyName=name&SharedAccessKey=S",
    "SharedAccessKeyName=name;SharedAccessKey=S;Endpoint=sb://127.0.0.1:1/;EntityPath=hub",
    "Endpoint = sb://127.0.0.1:1/; SharedAccessKeyName = name; SharedAccessKey = S; EntityPath = hub",
    "Endpoint=sb://127.0.0.1:1/;SharedAccessKeyName=name;SharedAccessKey=more://S;EntityPath=hub",
];

fn hidden(tracemq: &Tracemq, words: &[&str]) -> Done {
    let done = tracemq.cmd(words).finish();
    for bytes in [&done.stdout, done.stderr.as_bytes()] {
        assert_hidden(SECRET, bytes, &format!("{done:?}"));
    }
    done
}

#[test]
fn a_secret_of_any_shape_is_hidden_and_saved_in_the_vault_alone() {
    for shape in SHAPES {
        let tracemq = Tracemq::new();
        let url = shape.replace('S', SECRET).replace("hunter2+xharedAccess", "SharedAccess");
        let topic = if url.starts_with("ws") { &[][..] } else { &["t"] };
        let used = hidden(&tracemq, &[&["sub", &url], topic, &["-vvv", "--no-reconnect"]].concat());
        assert!([2, 3].contains(&used.code()), "{used:?}");
        // The shapes that are no URL are told as such, the others must be understood.
        let understood = used.code() == 3;
        let added = hidden(&tracemq, &["profile", "add", "p", &url]).expect(2);
        let fix = "`tracemq secret set p-";
        assert_eq!(
            added.stderr.contains(fix),
            understood || shape.contains("sb://127.0.0.1:1/hub?"),
            "{added:?}"
        );
        let imported = hidden(&tracemq, &["profile", "import", &url, "--yes", "--name", "p"]);
        assert_eq!(imported.code() == 0, added.stderr.contains(fix), "{imported:?}");
        if imported.code() == 0 {
            hidden(&tracemq, &["profile", "show", "p"]).expect(0);
            hidden(&tracemq, &["profile", "export", "p", "-o", "-"]).expect(0);
            hidden(&tracemq, &["profile", "test", "p"]);
        }
        assert_hidden_below(&[SECRET.into()], tracemq.home());
        // Somebody wrote it there with an editor.
        std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
        tracemq.write("profiles/q.toml", format!("url = {:?}\n", url));
        for words in [
            &["profile", "show", "q"][..],
            &["profile", "list"],
            &["profile", "list", "--json"],
            &["profile", "export", "q", "-o", "-"],
        ] {
            hidden(&tracemq, words);
        }
        hidden(&tracemq, &["profile", "test", "q"]).expect(2);
    }
}

#[test]
fn a_url_in_the_place_of_a_name_shows_no_secret() {
    let tracemq = Tracemq::new();
    let url = format!("mqtt://ann:{SECRET}@127.0.0.1:1");
    let string = format!("Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey={SECRET}");
    for url in [url.as_str(), &string] {
        for words in [
            &[url][..],
            &["profile", "add", url],
            &["profile", "add", url, url],
            &["profile", "show", url],
            &["profile", "edit", url],
            &["profile", "set", url, "--color", "red"],
            &["profile", "copy", url, "b"],
            &["profile", "rename", "a", url],
            &["profile", "remove", url],
            &["profile", "export", url],
            &["profile", "import", url, "--from", url],
            &["profile", "import", url, "--name", url],
            &["secret", "set", url],
            &["secret", "remove", url],
            &["plugin", "info", url],
            &["plugin", "trust", url],
            &["pub", "t", url, "x"],
            &["sub", "mqtt://127.0.0.1:1", "t", "--qos", url],
            &["sub", "mqtt://127.0.0.1:1", "t", "--no-such-option", url],
            &["serve", "mqtt", "--bind", url],
            &["bench", url],
        ] {
            let done = hidden(&tracemq, words);
            assert_ne!(done.code(), 0, "{done:?}");
        }
    }
    assert_hidden_below(&[SECRET.into()], tracemq.home());
}

#[test]
fn what_a_path_holds_is_no_secret() {
    let tracemq = Tracemq::new();
    let url = "wss://127.0.0.1:1/ws/btcusdt@trade";
    let done = tracemq.cmd(["sub", url, "--no-reconnect"]).finish().expect_failure(3, &[url]);
    assert!(!done.stderr.contains("in clear"), "{done:?}");
    tracemq.cmd(["profile", "add", "p", url]).finish().expect(0);
    assert!(tracemq.cmd(["profile", "show", "p"]).finish().expect(0).text().contains(url));
}

#[test]
fn a_header_that_tells_of_a_secret_is_not_shown() {
    let tracemq = Tracemq::new();
    for name in ["Authorization", "Cookie", "X-API-Key", "x-auth-token"] {
        let header = format!("{name}=Bearer {SECRET}");
        let add =
            ["profile", "add", "p", "ws://h", "--ws-header", &header, "--ws-header", "X-Room=1", "--force"];
        tracemq.cmd(add).finish().expect(0);
        let text = hidden(&tracemq, &["profile", "show", "p"]).expect(0).text();
        assert!(text.contains(&format!("{name}=***")) && text.contains("X-Room=1"), "{text}");
        let export = hidden(&tracemq, &["profile", "export", "p", "-o", "-"]).expect(0).text();
        assert!(export.contains("X-Room=1"), "{export}");
    }
}
