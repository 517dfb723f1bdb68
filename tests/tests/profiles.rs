//! Saved connections: what is written, what is refused, and what wins.

use std::os::unix::fs::PermissionsExt;
use tracemq_tests::{Certificates, Listener, Mosquitto, NOWHERE, Tracemq};

#[test]
fn a_profile_is_added_listed_shown_used_and_removed() {
    let tracemq = Tracemq::with_loopback();
    let flags = "--password env:PW --level high --tag a --tag b --property k=v --priority 3 --emit 2";
    tracemq.profile(&format!("add here {NOWHERE} {flags}")).expect(0);

    let file = tracemq.home().join("profiles/here.toml");
    assert_eq!(file.metadata().expect("the profile's file").permissions().mode() & 0o777, 0o600);
    let shown = tracemq.profile("show here").expect(0).text();
    for line in [
        "protocol = \"loopback\"",
        "password = \"env:PW\"",
        "tag = [\"a\", \"b\"]",
        "priority = 3",
        "emit = 2",
    ] {
        assert!(shown.contains(line), "{line} is missing in\n{shown}");
    }
    assert!(tracemq.profile("list").expect(0).text().contains(NOWHERE));
    let listed = tracemq.profile("list --json").expect(0).text();
    assert!(listed.contains("\"name\":\"here\"") && listed.contains("\"protocol\":\"loopback\""), "{listed}");

    tracemq.cmd(["pub", "here", "t", "x"]).finish().expect_failure(2, &["profile here", "env:PW", "not set"]);
    let used = tracemq.cmd(["pub", "here", "t", "x"]).env("PW", "hunter2").finish().expect(3);
    assert!(used.reason().contains("here") && !used.stderr.contains("hunter2"), "{used:?}");

    tracemq.profile(&format!("add here {NOWHERE}")).expect_failure(2, &["already", "--force"]);
    tracemq.profile(&format!("add here {NOWHERE} --force")).expect(0);
    assert!(!tracemq.profile("show here").expect(0).text().contains("env:PW"));
    tracemq.profile("remove here").expect(0);
    tracemq.profile("remove here").expect_failure(2, &["no profile \"here\""]);
}

#[test]
fn a_secret_in_clear_is_refused_with_the_command_that_is_right() {
    let tracemq = Tracemq::with_loopback();
    let done = tracemq.profile(&format!("add p {NOWHERE} --password hunter2"));
    let done = done.expect_failure(
        2,
        &[
            "`tracemq secret set p-password`",
            &format!("`tracemq profile add p {NOWHERE} --password vault:p-password`"),
            "env:NAME",
        ],
    );
    assert!(!done.stderr.contains("hunter2"), "{done:?}");
    let done = tracemq.profile("add p loopback://ann:hunter2@127.0.0.1:1");
    let done = done.expect_failure(
        2,
        &[
            "`tracemq secret set p-password`",
            "`tracemq profile add p loopback://ann@127.0.0.1:1 --password vault:p-password`",
        ],
    );
    assert!(!done.stderr.contains("hunter2"), "{done:?}");
    assert!(!tracemq.home().join("profiles/p.toml").exists());

    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
    tracemq.write("profiles/p.toml", format!("url = \"{NOWHERE}\"\n[connection]\npassword = \"hunter2\"\n"));
    let used = tracemq.cmd(["pub", "p", "t", "x"]).finish();
    let used = used.expect_failure(
        2,
        &["password in the profile p", "`tracemq secret set p-password`", "password = \"vault:p-password\""],
    );
    let shown = tracemq.profile("show p").expect(0);
    assert!(shown.text().contains("password = \"***\""), "{shown:?}");
    assert!(!shown.text().contains("hunter2") && !used.stderr.contains("hunter2"));
}

#[test]
fn what_is_wrong_in_a_file_is_named() {
    let tracemq = Tracemq::with_loopback();
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
    for (content, parts) in [
        ("url = ", &["profile p", "line 1"][..]),
        ("hub = \"x\"", &["\"hub\" is not known"]),
        (
            "url = \"loopback://h\"\n[connection]\nlevle = \"low\"",
            &["levle in the profile p", "did you mean level?"],
        ),
        ("url = \"loopback://h\"\n[connection]\nlevel = 7", &["level in the profile p: 7 is not allowed"]),
        ("url = \"loopback://h:x\"", &["profile p", "the port \"x\""]),
        ("url = \"gopher://h\"\nprotocol = \"loopback\"", &["gopher"]),
    ] {
        tracemq.write("profiles/p.toml", content);
        tracemq.cmd(["pub", "p", "t", "x"]).finish().expect_failure(2, parts);
        assert!(
            tracemq.profile("list").expect(0).text().starts_with('p'),
            "a broken profile is still listed"
        );
    }
}

#[test]
fn read_only_is_obeyed_whatever_the_plugin_thinks() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add look {NOWHERE} --guard read-only")).expect(0);
    for line in ["pub look t x", "request look t x", "bench pub look t", "bench echo look t"] {
        tracemq.cmd(line.split_whitespace()).finish().expect_failure(4, &["look", "read-only"]);
    }
    tracemq.cmd(["sub", "look", "t"]).finish().expect(3);
}

#[test]
fn a_guarded_profile_keeps_what_protects_its_connection() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add look {NOWHERE} --guard read-only")).expect(0);
    tracemq.profile(&format!("add free {NOWHERE}")).expect(0);
    for line in ["sub look t --careless", "list look --careless"] {
        let done = tracemq.cmd(line.split_whitespace()).finish();
        done.expect_failure(4, &["look is guarded", "--careless", "profile set look --guard none"]);
    }
    tracemq.cmd(["sub", "look", "t", "--careless=false"]).finish().expect(3);
    tracemq.cmd(["sub", "free", "t", "--careless"]).finish().expect(3);
    let file = tracemq.home().join("profiles/look.toml");
    let text = std::fs::read_to_string(&file).expect("the profile") + "\n[connection]\ncareless = true\n";
    std::fs::write(&file, text).expect("a file of our own");
    for line in ["sub look t", "profile test look"] {
        tracemq.cmd(line.split_whitespace()).finish().expect_failure(4, &["look is guarded", "--careless"]);
    }
    // Nothing of the connection is used by a server.
    tracemq.cmd(["serve", "look", "--bind", "127.0.0.1:0"]).start().wait_stdout("loopback://");
}

#[test]
fn keys_of_a_guarded_profile_are_written_nowhere() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let broker = Mosquitto::builder().certificates(&certificates).listener(Listener::Tls).start();
    let url = format!("mqtts://localhost:{}", broker.port_of(Listener::Tls));
    for (name, guard) in [("free", &[][..]), ("guarded", &["--guard", "read-only"])] {
        let command = tracemq.cmd(["profile", "add", name, &url]).args(guard);
        command.arg("--tls-ca").arg(&certificates.ca).finish().expect(0);
    }
    let keys = tracemq.home().join("keys");
    for line in [&["profile", "test", "guarded"][..], &["sub", "guarded", "t", "-W", "1ms"]] {
        let done = tracemq.cmd(line).env("SSLKEYLOGFILE", &keys).finish();
        assert!(matches!(done.code(), 0 | 5), "{done:?}");
        assert!(done.stderr.contains("SSLKEYLOGFILE is not obeyed"), "{done:?}");
        assert!(!keys.exists(), "{done:?}");
    }
    // One that is not guarded is no exception when it is tested beside one that is.
    let both =
        tracemq.cmd(["profile", "test", "free", "guarded"]).env("SSLKEYLOGFILE", &keys).finish().expect(0);
    assert!(!keys.exists(), "{both:?}");
    let free = tracemq.cmd(["profile", "test", "free"]).env("SSLKEYLOGFILE", &keys).finish().expect(0);
    assert!(keys.exists(), "without a guard they are written\n{free:?}");
}

#[test]
fn names_are_checked_and_near_ones_suggested() {
    let tracemq = Tracemq::with_loopback();
    for name in ["../x", "a/b", ".x", "a:b", &"x".repeat(65), "loopback"] {
        tracemq.profile(&format!("add {name} {NOWHERE}")).expect(2);
    }
    assert!(!tracemq.home().join("profiles").exists());
    tracemq.profile(&format!("add local {NOWHERE}")).expect(0);
    tracemq
        .cmd(["sub", "lcoal", "t"])
        .finish()
        .expect_failure(2, &["no profile \"lcoal\"", "did you mean local?"]);
    tracemq.cmd(["sub", "loopback", "t"]).finish().expect_failure(2, &["is a protocol", "loopback://HOST"]);
}
