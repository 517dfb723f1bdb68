//! Imports of files that somebody else wrote: damaged, forged, meant badly; and the questions on a terminal.

use std::path::Path;
use tracemq_tests::{Certificates, Done, Tracemq, assert_hidden_below, forged, stored_profile};

fn import(tracemq: &Tracemq, text: impl Into<Vec<u8>>, arguments: &[&str]) -> Done {
    tracemq.cmd(["profile", "import", "-"]).args(arguments).stdin(text).finish()
}

/// A forged profile `p` with these settings, and more behind them.
fn profile(settings: &str, more: &str) -> String {
    forged(&format!(
        "[[profile]]\nname = \"p\"\n[profile.settings]\nprotocol = \"mqtt\"\nurl = \"mqtt://h\"\n{settings}\n{more}"
    ))
}

/// Nothing was written, neither a profile nor anything else.
#[track_caller]
fn untouched(tracemq: &Tracemq) {
    for name in ["profiles/p.toml", "certificates", "vault.age"] {
        assert!(!tracemq.home().join(name).exists(), "{name} was written");
    }
}

#[test]
fn a_forged_file_is_read_like_any_other() {
    let tracemq = Tracemq::new();
    import(&tracemq, profile("[profile.settings.connection]\nclient_id = \"x\"", ""), &["--yes"]).expect(0);
    assert_eq!(stored_profile(&tracemq, "p")["connection"]["client_id"].as_str(), Some("x"));
}

#[test]
fn a_command_is_refused_unless_it_is_allowed() {
    let tracemq = Tracemq::new();
    let marker = tracemq.home().join("ran");
    for settings in [
        format!("[profile.settings.connection]\npassword = \"cmd:touch {}\"", marker.display()),
        format!("[profile.settings.serve]\nuser = [\"ann=cmd:touch {}\"]", marker.display()),
    ] {
        let done = import(&tracemq, profile(&settings, ""), &["--yes"]);
        let done = done.expect_failure(4, &["profile p", "would run a command", "--allow-commands"]);
        assert!(done.stderr.contains(&format!("cmd:touch {}", marker.display())), "it is shown\n{done:?}");
        untouched(&tracemq);
    }
    let url = format!(
        "[[profile]]\nname = \"p\"\n[profile.settings]\nprotocol = \"mqtt\"\nurl = \"cmd:touch {}\"\n",
        marker.display()
    );
    import(&tracemq, forged(&url), &["--yes"]).expect_failure(4, &["url would run a command"]);
    assert!(!marker.exists(), "it was run");
    let settings = "[profile.settings.connection]\npassword = \"cmd:pass show broker\"\n";
    import(&tracemq, profile(settings, ""), &["--yes", "--allow-commands"]).expect(0);
    assert_eq!(
        stored_profile(&tracemq, "p")["connection"]["password"].as_str(),
        Some("cmd:pass show broker")
    );
}

#[test]
fn other_references_are_shown() {
    let tracemq = Tracemq::new();
    let settings =
        "[profile.settings.connection]\npassword = \"env:HOME_SECRET\"\nproxy = \"file:/etc/hostname\"\n";
    let done = import(&tracemq, profile(settings, ""), &["--yes"]).expect(0);
    for part in ["password refers to env:HOME_SECRET", "proxy refers to file:/etc/hostname"] {
        assert!(done.stderr.contains(part), "{part}\n{done:?}");
    }
}

#[test]
fn no_file_leads_out_of_our_folders() {
    let tracemq = Tracemq::new();
    for name in ["../p", "/tmp/p", "a/b", "..", ".hidden", "x\\u0000y", &"x".repeat(300), "-p", ""] {
        let text = forged(&format!(
            "[[profile]]\nname = \"{name}\"\n[profile.settings]\nprotocol = \"mqtt\"\nurl = \"mqtt://h\"\n"
        ));
        import(&tracemq, text, &["--yes"]).expect_failure(2, &["no name for a profile"]);
    }
    for settings in [
        "[profile.settings.connection]\ntls_ca = \"/etc/passwd\"",
        "[profile.settings.connection]\ntls_key = \"../../identity.txt\"",
        "[profile.settings.serve]\ntls_cert = \"x.pem\"",
    ] {
        import(&tracemq, profile(settings, ""), &["--yes"]).expect_failure(2, &["names a file"]);
    }
    let certificates = Certificates::new();
    let ca = std::fs::read_to_string(&certificates.ca).expect("the CA");
    let carried = |option: &str| {
        profile("", &format!("[[profile.certificate]]\noption = \"{option}\"\npem = '''\n{ca}'''"))
    };
    // An option that is no file's name, and one that there is not.
    for option in ["client_id", "../../x", "nope"] {
        let tracemq = Tracemq::new();
        let done = import(&tracemq, carried(option), &["--yes"]).expect(0);
        assert!(done.stderr.contains("left out"), "{done:?}");
        assert!(!tracemq.home().join("certificates").exists());
    }
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
    let smuggled = profile("", &format!("[[profile.certificate]]\noption = \"tls_ca\"\npem = '''\n{key}'''"));
    import(&tracemq, smuggled, &["--yes"]).expect_failure(2, &["tls_ca", "no certificate"]);
    untouched(&tracemq);

    // A folder that leads elsewhere.
    let elsewhere = tempfile::tempdir().expect("a folder");
    for link in ["certificates", "certificates/p"] {
        let tracemq = Tracemq::new();
        let path = tracemq.home().join(link);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::os::unix::fs::symlink(elsewhere.path(), &path).expect("a link");
        import(&tracemq, carried("tls_ca"), &["--yes"])
            .expect_failure(1, &["symbolic link", "nothing was imported"]);
        assert!(!tracemq.home().join("profiles/p.toml").exists());
    }
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("the folder").count(), 0);
}

#[test]
fn nothing_that_is_there_is_replaced_unasked() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    let ca = std::fs::read_to_string(&certificates.ca).expect("the CA");
    let more = format!("[[profile.certificate]]\noption = \"tls_ca\"\npem = '''\n{ca}'''");
    let text = |id: &str| {
        profile(
            &format!("[profile.settings.connection]\nclient_id = \"{id}\"\npassword = \"hunter2{id}\""),
            &more,
        )
    };
    import(&tracemq, text("one"), &["--yes"]).expect(0);
    let first = stored_profile(&tracemq, "p");
    let ca_file = first["connection"]["tls_ca"].as_str().expect("a path").to_owned();
    import(&tracemq, text("two"), &["--yes"])
        .expect_failure(2, &["there is a profile p already", "--force", "--name"]);
    assert_eq!(stored_profile(&tracemq, "p"), first);
    import(&tracemq, text("two"), &["--yes", "--name", "q"]).expect(0);
    import(&tracemq, text("two"), &["--yes", "--force"]).expect(0);
    let second = stored_profile(&tracemq, "p");
    assert_eq!(second["connection"]["client_id"].as_str(), Some("two"));
    // The secret and the file of before are still there, under their names.
    assert_ne!(second["connection"]["password"], first["connection"]["password"]);
    assert!(Path::new(&ca_file).is_file());
    assert_ne!(second["connection"]["tls_ca"].as_str(), Some(ca_file.as_str()));
    assert_hidden_below(&["hunter2one".into(), "hunter2two".into()], tracemq.home());
    import(&tracemq, text("x"), &["--yes", "--name", "mqtt"]).expect_failure(2, &["name of a protocol"]);
    import(&tracemq, text("x"), &["--yes", "--name", "a/b"]).expect_failure(2, &["no name"]);
}

#[test]
fn all_of_a_file_is_written_or_nothing() {
    let tracemq = Tracemq::new();
    let one = |name: &str, more: &str| {
        format!(
            "[[profile]]\nname = \"{name}\"\n[profile.settings]\nprotocol = \"mqtt\"\nurl = \"mqtt://h\"\n{more}\n"
        )
    };
    let secret = "[profile.settings.connection]\npassword = \"hunter2\"";
    for bad in [
        one("b", "[profile.settings.connection]\nkeep_alive = \"soon\""),
        one("p", ""),
        "[[profile]]\nname = \"b\"\n[profile.settings]\nprotocol = \"gopher\"\nurl = \"gopher://h\"\n"
            .to_owned(),
        one("b", "surprise = 1"),
        "[[profile]]\nname = \"b\"\n[profile.settings]\nprotocol = \"mqtt\"\nurl = \"nats://h\"\n".to_owned(),
    ] {
        let done = import(&tracemq, forged(&format!("{}{bad}", one("p", secret))), &["--yes"]);
        assert!([2, 7].contains(&done.code()), "{done:?}");
        untouched(&tracemq);
    }
    // One that is there already.
    tracemq.cmd(["profile", "add", "b", "mqtt://h"]).finish().expect(0);
    let both = forged(&format!("{}{}", one("p", secret), one("b", "")));
    import(&tracemq, both.clone(), &["--yes"]).expect_failure(2, &["profile b already"]);
    untouched(&tracemq);
    // One that can't be written: its name leads nowhere, which is found out last.
    std::os::unix::fs::symlink("/no/such/folder/c.toml", tracemq.home().join("profiles/c.toml"))
        .expect("a link");
    let third = forged(&format!("{}{}", one("p", secret), one("c", "")));
    import(&tracemq, third, &["--yes", "--force"]).expect(1);
    assert!(!tracemq.home().join("profiles/p.toml").exists());
    let secrets = tracemq.cmd(["secret", "list"]).finish().expect(0);
    assert!(!secrets.text().contains("p-password"), "{secrets:?}");
}

#[test]
fn a_changed_byte_never_makes_another_secret() {
    let tracemq = Tracemq::new();
    let settings =
        "[profile.settings.connection]\nclient_id = \"bench-17\"\npassword = \"hunter2\"\nusername = \"ann\"";
    let text =
        profile(settings, "[[profile.left_out]]\noption = \"proxy\"\nkind = \"secret\"\nreference = \"env\"");
    import(&tracemq, text.clone(), &["--yes"]).expect(0);
    let whole = stored_profile(&tracemq, "p");
    let other = Tracemq::new();
    for at in (0..text.len()).step_by(5) {
        let mut damaged = text.clone().into_bytes();
        damaged[at] ^= 0x01;
        let done = import(&other, damaged, &["--yes", "--force"]);
        if done.code() == 0 {
            let mut read = stored_profile(&other, "p");
            // A new import has new names in the vault.
            for option in ["password", "proxy"] {
                read["connection"][option] = whole["connection"][option].clone();
            }
            assert_eq!(read, whole, "byte {at}\n{done:?}");
        }
    }
    for (text, part) in [
        (text.replace("format = 1", "format = 9"), "a newer tracemq wrote it"),
        (text.replace("bench-17", "bench-18"), "checksum"),
        (text.replace("[profile.settings", "[profile.settings["), "line"),
        ("format = 1\nsha256 = \"\"\n".to_owned(), "checksum"),
    ] {
        let done = import(&other, text, &["--yes", "--force"]).expect_failure(2, &[part]);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
}

#[test]
fn large_files_are_not_read() {
    let tracemq = Tracemq::new();
    let large = tracemq.write("large.tracemq.toml", vec![b'#'; 9 << 20]);
    tracemq.cmd(["profile", "import", "--yes"]).arg(&large).finish().expect_failure(2, &["8 MiB"]);
    tracemq.cmd(["profile", "import", "--yes", "/dev/zero"]).finish().expect_failure(2, &["8 MiB"]);
    tracemq.cmd(["profile", "import", "--yes", "/no/such"]).finish().expect_failure(2, &["no file"]);
    tracemq.cmd(["profile", "import", "--yes"]).arg(tracemq.home()).finish().expect(1);
}

#[test]
fn what_is_missing_can_be_said_with_the_command() {
    let certificates = Certificates::new();
    let left = "[[profile.left_out]]\noption = \"password\"\nkind = \"secret\"\nreference = \"vault\"\n\
        [[profile.left_out]]\noption = \"tls_key\"\nkind = \"private key\"\n\
        [[profile.left_out]]\ntable = \"serve\"\noption = \"user\"\nitem = \"bob\"\nkind = \"secret\"\n";
    let text = profile("", left);
    let tracemq = Tracemq::new();
    let done = import(&tracemq, text.clone(), &["--yes"]).expect(0);
    for part in [
        "`tracemq secret set p-password` completes it",
        "tls_key (private key): put the file at",
        "serve.user.bob",
    ] {
        assert!(done.stderr.contains(part), "{part}\n{done:?}");
    }
    let key = format!("--secret=tls_key={}", certificates.client.key.display());
    let given = ["--yes", "--force", "--secret=p:password=env:PW", &key, "--secret=serve.user.bob=hunter2"];
    let done = import(&tracemq, text.clone(), &given).expect(0);
    assert!(!done.stderr.contains("completes it") && !done.stderr.contains("put the file"), "{done:?}");
    let stored = stored_profile(&tracemq, "p");
    assert_eq!(stored["connection"]["password"].as_str(), Some("env:PW"));
    assert_eq!(stored["connection"]["tls_key"].as_str(), Some(&*certificates.client.key.to_string_lossy()));
    let user = stored["serve"]["user"].as_array().expect("a list").clone();
    assert!(user[0].as_str().is_some_and(|text| text.starts_with("bob=vault:p-user-bob")), "{user:?}");
    assert_hidden_below(&["hunter2".into()], tracemq.home());
    for (answer, part) in [
        ("--secret=username=x", "not missing"),
        ("--secret=q:password=env:PW", "not missing"),
        ("--secret=password", "OPTION=REF"),
        ("--secret=tls_key=/no/such/file", "no such file"),
        ("--secret=password=", "empty"),
    ] {
        import(&tracemq, text.clone(), &["--yes", "--force", answer]).expect_failure(2, &["--secret", part]);
    }
}

#[test]
fn without_a_terminal_consent_is_a_flag() {
    let tracemq = Tracemq::new();
    let done = import(&tracemq, profile("", ""), &[]).expect_failure(2, &["no terminal", "--yes"]);
    assert!(
        done.stderr.contains("profile p (mqtt)") && done.stderr.contains("mqtt://h"),
        "it is shown\n{done:?}"
    );
    untouched(&tracemq);
}

#[test]
fn on_a_terminal_it_asks_for_exactly_what_was_left_out_and_shows_no_secret() {
    let tracemq = Tracemq::new();
    let left = "[[profile.left_out]]\noption = \"password\"\nkind = \"secret\"\nreference = \"vault\"\n\
        [[profile.left_out]]\noption = \"proxy\"\nkind = \"secret\"\n\
        [[profile.left_out]]\noption = \"tls_key\"\nkind = \"private key\"\n";
    let file = tracemq.write("p.tracemq.toml", profile("", left));
    let start = || tracemq.cmd(["profile", "import"]).arg(&file).on_terminal();
    let mut terminal = start();
    terminal.answer("Import this?", "n");
    terminal.expect(1);
    untouched(&tracemq);

    let mut terminal = start();
    terminal.wait_for("missing: password (secret, by vault:)");
    terminal.answer("Import this?", "y");
    terminal.answer("password", "hunter2");
    terminal.answer("proxy", "env:PROXY");
    terminal.answer("tls_key", "");
    let screen = terminal.expect(0);
    assert!(!screen.contains("hunter2"), "{screen}");
    assert!(screen.contains("put the file at"), "{screen}");
    let got = stored_profile(&tracemq, "p");
    assert_eq!(got["connection"]["proxy"].as_str(), Some("env:PROXY"));
    assert_eq!(got["connection"]["password"].as_str(), Some("vault:p-password"));
    assert_hidden_below(&["hunter2".into()], tracemq.home());

    let mut terminal = start();
    terminal.answer("Replace it?", "n");
    terminal.expect(2);
    assert_eq!(stored_profile(&tracemq, "p"), got);

    let command = profile("[profile.settings.connection]\npassword = \"cmd:echo x\"", "");
    let file = tracemq.write("c.tracemq.toml", command);
    let mut terminal = tracemq.cmd(["profile", "import", "--name", "c"]).arg(&file).on_terminal();
    terminal.wait_for("cmd:echo x");
    terminal.answer("Allow it?", "n");
    terminal.expect(4);
    let mut terminal = tracemq.cmd(["profile", "import", "--name", "c"]).arg(&file).on_terminal();
    terminal.answer("Allow it?", "y");
    terminal.answer("Import this?", "y");
    terminal.expect(0);
    assert_eq!(stored_profile(&tracemq, "c")["connection"]["password"].as_str(), Some("cmd:echo x"));
}
