//! Secrets and pass phrases that are typed: not echoed, asked for twice where a slip would cost, and the terminal is as it
//! was afterwards. The pass phrase of a vault is that of `age`.

use tracemq_tests::{Cmd, Installation, Tracemq};

fn document(tracemq: &Tracemq) -> String {
    let (vault, identity) = (tracemq.home().join("vault.age"), tracemq.home().join("identity.txt"));
    Cmd::peer("age").args(["-d", "-i"]).arg(identity).arg(vault).finish().expect(0).text()
}

#[test]
fn a_secret_is_asked_for_twice_and_not_shown() {
    let tracemq = Tracemq::new();
    let mut terminal = tracemq.cmd(["secret", "set", "x"]).on_terminal();
    terminal.answer("Secret x: ", "s3cret");
    terminal.answer("Secret x again: ", "s3crett\x7f");
    terminal.wait_for("secret x saved");
    let screen = terminal.expect(0);
    assert!(!screen.contains("s3c"), "{screen}");
    assert!(document(&tracemq).contains("x = \"s3cret\"\n"));

    let mut terminal = tracemq.cmd(["secret", "set", "x"]).on_terminal();
    terminal.answer("Secret x: ", "one-of-them");
    terminal.answer("again: ", "other-one");
    terminal.wait_for("the two are not the same");
    let screen = terminal.expect(2);
    assert!(!screen.contains("one-of") && !screen.contains("other-"), "{screen}");
    assert!(document(&tracemq).contains("x = \"s3cret\"\n"));
}

#[test]
fn ctrl_c_leaves_the_terminal_as_it_was() {
    let tracemq = Tracemq::new();
    let script =
        format!("'{}' secret set x; echo status $?; stty -a", Installation::find().binary().display());
    let shell = Cmd::new("/bin/sh").args(["-c", &script]).env("TRACEMQ_HOME", tracemq.home());
    let mut terminal = shell.on_terminal();
    terminal.wait_for("Secret x: ");
    terminal.press("s3c\x03");
    terminal.wait_for("status 130");
    let screen = terminal.expect(0);
    assert!(screen.contains(" echo ") && screen.contains("icanon") && screen.contains("isig"), "{screen}");
    assert!(
        !screen.contains("-echo ") && !screen.contains("-icanon") && !screen.contains("-isig"),
        "{screen}"
    );
    assert!(!tracemq.home().join("vault.age").exists());
}

#[test]
fn a_vault_with_a_pass_phrase_is_opened_by_age_and_by_us() {
    let tracemq = Tracemq::new();
    tracemq.cmd(["secret", "set", "x"]).stdin("s3cret").finish().expect(0);
    let mut terminal = tracemq.cmd(["secret", "rekey", "--passphrase"]).on_terminal();
    terminal.answer("New pass phrase: ", "correct horse");
    terminal.answer("New pass phrase again: ", "correct horse");
    let screen = terminal.expect(0);
    assert!(!screen.contains("horse"), "{screen}");

    let vault = tracemq.home().join("vault.age");
    let mut terminal = Cmd::peer("age").arg("-d").arg(&vault).on_terminal();
    terminal.answer("Enter passphrase", "correct horse");
    terminal.wait_for("x = \"s3cret\"");
    terminal.expect(0);

    let mut terminal = tracemq.cmd(["secret", "list"]).on_terminal();
    terminal.answer("Pass phrase of the vault", "correct horse");
    terminal.wait_for("x");
    let screen = terminal.expect(0);
    assert!(!screen.contains("horse"), "{screen}");
    let mut terminal = tracemq.cmd(["secret", "list"]).on_terminal();
    terminal.answer("Pass phrase of the vault", "correct house");
    terminal.wait_for("not encrypted to this identity or pass phrase");
    terminal.expect(1);

    // What age has encrypted.
    let plain = tracemq.write("plain.toml", "version = 1\n[secrets]\nby_age = \"s3cret\"\n");
    let mut terminal = Cmd::peer("age").args(["-p", "-o"]).arg(&vault).arg(plain).on_terminal();
    terminal.answer("Enter passphrase", "battery staple");
    terminal.answer("Confirm passphrase", "battery staple");
    terminal.expect(0);
    let mut terminal = tracemq.cmd(["secret", "list"]).on_terminal();
    terminal.answer("Pass phrase of the vault", "battery staple");
    terminal.wait_for("by_age");
    terminal.expect(0);
}

#[test]
fn without_a_terminal_it_says_where_a_pass_phrase_may_come_from() {
    let tracemq = Tracemq::new();
    tracemq.cmd(["secret", "set", "x"]).stdin("s3cret").finish().expect(0);
    let to = tracemq
        .cmd(["secret", "rekey", "--passphrase", "--from", "env:PHRASE"])
        .env("PHRASE", "correct horse");
    to.finish().expect(0);
    let alone = Cmd::new("setsid").arg("-w").arg(Installation::find().binary()).args(["secret", "list"]);
    let alone = alone.env("TRACEMQ_HOME", tracemq.home()).finish();
    alone.expect_failure(1, &["pass phrase", "no terminal", "TRACEMQ_VAULT_PASSPHRASE"]);
}
