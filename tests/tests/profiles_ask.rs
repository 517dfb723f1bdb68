//! Profiles that are put together by questions on a terminal.

use tracemq_tests::Tracemq;

fn text(tracemq: &Tracemq, name: &str) -> String {
    std::fs::read_to_string(tracemq.home().join(format!("profiles/{name}.toml"))).expect("the profile")
}

/// `tracemq profile add`. The installation has plugins of its own, so that the protocol is asked for.
fn add(tracemq: &Tracemq, words: &[&str]) -> tracemq_tests::Cmd {
    tracemq.cmd(["profile", "add"]).args(words)
}

#[test]
fn what_is_missing_is_asked_for() {
    let tracemq = Tracemq::with_loopback();
    let mut terminal = add(&tracemq, &[]).on_terminal();
    terminal.answer("Name of the profile", "a/b");
    terminal.wait_for("is no name for a profile");
    terminal.answer("Name of the profile", "loopback");
    terminal.wait_for("name of a protocol");
    terminal.answer("Name of the profile", "here");
    terminal.answer("Protocol (", "gopher");
    terminal.wait_for("no protocol \"gopher\"");
    terminal.answer("Protocol (", "loopback");
    terminal.answer("URL (loopback://) [loopback://localhost]", "gopher://h");
    terminal.wait_for("gopher");
    terminal.answer("URL (", "loopback://u:hunter2@h");
    terminal.wait_for("leave the password out");
    terminal.answer("URL (", "loopback://127.0.0.1:1");
    terminal.answer("Client name (Name by which the other side knows this client) [loopback]", "");
    terminal.answer("User (User to log in as)", "ann");
    terminal.answer("Password (Password of the user; not shown; env:NAME", "env:PW");
    terminal.answer("Level (How important this client is; low, medium or high) [medium]", "higher");
    terminal.wait_for("higher is not allowed");
    terminal.answer("Level (", "high");
    terminal.wait_for("profile here saved");
    let screen = terminal.expect(0);
    assert!(!screen.contains("env:PW"), "what is secret is not shown, not even a reference\n{screen}");
    let expected = "protocol = \"loopback\"\nurl = \"loopback://127.0.0.1:1\"\n\n[connection]\nusername = \"ann\"\npassword = \
                    \"env:PW\"\nlevel = \"high\"\n";
    assert_eq!(text(&tracemq, "here"), expected);
}

#[test]
fn what_was_said_is_not_asked_for() {
    let tracemq = Tracemq::with_loopback();
    let mut terminal =
        add(&tracemq, &["--username", "bob", "there", "--level", "low", "--password", "env:PW"])
            .on_terminal();
    terminal.answer("Protocol (", "loopback");
    terminal.answer("URL (", "");
    terminal.answer("Client name", "me");
    terminal.wait_for("saved");
    let screen = terminal.expect(0);
    assert!(!screen.contains("User (") && !screen.contains("Level ("), "{screen}");
    let text = text(&tracemq, "there");
    for line in
        ["url = \"loopback://localhost\"", "client_name = \"me\"", "username = \"bob\"", "level = \"low\""]
    {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    // With all that is needed nothing is asked, and help is help.
    add(&tracemq, &["third", "loopback://"]).on_terminal().expect(0);
    let screen = add(&tracemq, &["--help"]).on_terminal().expect(0);
    assert!(screen.contains("Usage:") && !screen.contains("Name of the profile"), "{screen}");
}

#[test]
fn a_secret_is_not_echoed_and_ctrl_c_leaves_nothing_behind() {
    let tracemq = Tracemq::with_loopback();
    let begin = || {
        let mut terminal = add(&tracemq, &["p", "--level", "low"]).on_terminal();
        terminal.answer("Protocol (", "loopback");
        terminal.answer("URL (", "");
        terminal.answer("Client name", "");
        terminal.answer("User (", "");
        terminal.wait_for("refer to one): ");
        terminal
    };
    let mut terminal = begin();
    // Typed, taken back, and typed again: the keys for erase and for erase line.
    terminal.press("hunter2\u{15}enx\u{7f}v:PW\n");
    terminal.wait_for("saved");
    let screen = terminal.expect(0);
    assert!(!screen.contains("hunter2") && !screen.contains("env:PW"), "{screen}");
    assert!(text(&tracemq, "p").contains("password = \"env:PW\""));

    tracemq.cmd(["profile", "remove", "p"]).finish().expect(0);
    let mut terminal = begin();
    terminal.press("hunt\u{3}");
    let screen = terminal.expect(130);
    assert!(!screen.contains("hunt"), "{screen}");
    assert!(!tracemq.home().join("profiles/p.toml").exists());
}

#[test]
fn a_secret_that_is_typed_is_kept_in_the_vault() {
    let tracemq = Tracemq::with_loopback();
    let begin = |name: &str| {
        let mut terminal = add(&tracemq, &[name, "--level", "low", "--force"]).on_terminal();
        terminal.answer("Protocol (", "loopback");
        terminal.answer("URL (", "loopback://");
        terminal.answer("Client name", "");
        terminal.answer("User (", "ann");
        terminal
    };
    let mut terminal = begin("p");
    terminal.answer("Password (", "open-sesame");
    terminal.answer("Keep it in the vault as vault:p-password? [Y/n]", "n");
    terminal.wait_for("no secret in clear");
    terminal.answer("Password (", "open-sesame");
    terminal.answer("Keep it in the vault as vault:p-password? [Y/n]", "");
    terminal.wait_for("saved");
    let screen = terminal.expect(0);
    assert!(!screen.contains("open-sesame"), "{screen}");
    assert!(text(&tracemq, "p").contains("password = \"vault:p-password\""));
    let done = tracemq.cmd(["list", "p", "options"]).finish().expect(0);
    assert!(done.text().contains("11 characters"), "the password is the one that was typed\n{done:?}");

    // A name that is taken stays what it is, and what is broken off puts nothing in.
    let mut terminal = begin("p");
    terminal.answer("Password (", "another");
    terminal.wait_for("vault:p-password-2?");
    terminal.press("\u{3}");
    terminal.expect(130);
    assert_eq!(tracemq.cmd(["secret", "list"]).finish().expect(0).lines(), ["p-password"]);
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let tracemq = Tracemq::with_loopback();
    add(&tracemq, &[]).stdin("here\n").finish().expect_failure(2, &["<NAME>", "<URL>", "missing"]);
    add(&tracemq, &["here"]).stdin("loopback\n").finish().expect_failure(2, &["<URL>", "missing"]);
}
