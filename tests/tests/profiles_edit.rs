//! Profiles are edited, set, copied and renamed: nothing is overwritten unasked, and no edit is lost.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tracemq_tests::{Cmd, Done, NOWHERE, Tracemq, until};

/// A program that does this with the file `$1`, and its call as an editor.
fn editor(tracemq: &Tracemq, script: &str) -> String {
    let path = tracemq.write("my editor.sh", format!("#!/bin/sh\nset -e\n{script}\n"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a file of our own");
    format!("\"{}\" --wait", path.display())
}

fn edit(tracemq: &Tracemq, name: &str, script: &str) -> Cmd {
    let editor = editor(tracemq, &format!("test \"$1\" = --wait\nshift\n{script}"));
    tracemq.cmd(["profile", "edit", name]).env("VISUAL", editor).env("EDITOR", "false")
}

fn text(tracemq: &Tracemq, name: &str) -> String {
    let path = tracemq.home().join(format!("profiles/{name}.toml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(tracemq: &Tracemq, name: &str, content: &str) {
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("the home can be written to");
    tracemq.write(&format!("profiles/{name}.toml"), content);
}

/// What lies in the folder of the profiles beside profiles and the lock.
fn others(tracemq: &Tracemq) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(tracemq.home().join("profiles")).expect("the folder of the profiles");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_other = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        name.starts_with('.') && name != ".lock"
    };
    paths.filter(is_other).collect()
}

/// The one edit that was kept: the file's path stands in the reason.
fn kept(tracemq: &Tracemq, done: &Done) -> String {
    let others = others(tracemq);
    let [path] = &others[..] else { panic!("one edit is kept: {others:?}\n{done:?}") };
    assert!(done.reason().contains(&path.display().to_string()), "its path is told\n{done:?}");
    assert_eq!(path.metadata().expect("the edit").permissions().mode() & 0o777, 0o600);
    std::fs::read_to_string(path).expect("the edit can be read")
}

#[test]
fn an_edit_that_is_good_replaces_and_its_comments_stay() {
    let tracemq = Tracemq::with_loopback();
    write(&tracemq, "p", &format!("# mine\nurl = \"{NOWHERE}\" # here\n"));
    let script = "test \"$(stat -c %a \"$1\")\" = 600\nprintf '[connection]\\nqueue = 9\\n' >>\"$1\"";
    let done = edit(&tracemq, "p", script).finish().expect(0);
    assert!(done.stderr.contains("saved"), "{done:?}");
    assert_eq!(text(&tracemq, "p"), format!("# mine\nurl = \"{NOWHERE}\" # here\n[connection]\nqueue = 9\n"));
    let done = edit(&tracemq, "p", "true").finish().expect(0);
    assert!(done.stderr.contains("nothing was changed"), "{done:?}");
    assert_eq!(others(&tracemq), Vec::<PathBuf>::new());
    edit(&tracemq, "none", "true").finish().expect_failure(2, &["no profile \"none\""]);
}

#[test]
fn an_edit_that_is_bad_is_kept_aside() {
    let tracemq = Tracemq::with_loopback();
    let before = format!("url = \"{NOWHERE}\"\n");
    for (script, parts) in [
        ("echo 'url = ' >\"$1\"", &["profile p", "line 1"][..]),
        (": >\"$1\"", &["neither url nor protocol"]),
        ("echo 'hub = 1' >>\"$1\"", &["\"hub\" is not known"]),
        ("printf '[connection]\\nqueu = 1\\n' >>\"$1\"", &["queu in the profile p", "did you mean queue?"]),
        ("printf '[connection]\\nqueue = 99\\n' >>\"$1\"", &["queue in the profile p: 99 is not allowed"]),
        ("printf '[publish]\\npriority = \"x\"\\n' >>\"$1\"", &["priority in the profile p"]),
        ("printf '[serve]\\nbnid = \"x\"\\n' >>\"$1\"", &["bnid in the profile p", "bind"]),
        (
            "printf '[connection]\\npassword = \"hunter2\"\\n' >>\"$1\"",
            &["tracemq secret set p-password", "vault:p-password"],
        ),
        ("echo 'url = \"gopher://h\"' >\"$1\"; echo 'protocol = \"loopback\"' >>\"$1\"", &["gopher"]),
        ("echo 'url = \"loopback://u:hunter2@h\"' >\"$1\"", &["secret stands in clear"]),
        ("printf '\\377' >\"$1\"", &["utf-8"]),
        ("head -c 300000 /dev/zero >\"$1\"", &["size"]),
        ("echo '# more' >>\"$1\"; exit 3", &["the editor", "status: 3"]),
    ] {
        write(&tracemq, "p", &before);
        let done = edit(&tracemq, "p", script).finish();
        assert!(matches!(done.code(), 1 | 2), "{script}: {done:?}");
        let code = done.code();
        let done = done.expect_failure(code, parts);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
        assert_eq!(text(&tracemq, "p"), before, "{script}");
        let [path] = &others(&tracemq)[..] else { panic!("the edit is kept: {script}\n{done:?}") };
        assert!(done.reason().contains(&path.display().to_string()), "{done:?}");
        std::fs::remove_file(path).expect("a file of our own");
    }
    let done = edit(&tracemq, "p", "exit 1").finish().expect_failure(1, &["the editor", "as it was"]);
    assert_eq!(others(&tracemq), Vec::<PathBuf>::new(), "nothing was edited\n{done:?}");
    tracemq
        .cmd(["profile", "edit", "p"])
        .env_remove("VISUAL")
        .env("EDITOR", "/nowhere/ed -x")
        .finish()
        .expect_failure(1, &["/nowhere/ed", "can't be started"]);
}

#[test]
fn an_edit_of_what_somebody_else_changed_meanwhile_is_refused_and_kept() {
    let tracemq = Tracemq::with_loopback();
    write(&tracemq, "p", &format!("url = \"{NOWHERE}\"\n"));
    let go = tracemq.home().join("go");
    let script = format!(
        "echo 'guard = \"read-only\"' >>\"$1\"\n: >\"{0}.there\"\nwhile ! test -e \"{0}\"; do sleep 0.02; done",
        go.display()
    );
    let editing = edit(&tracemq, "p", &script).start();
    let there = go.with_extension("there");
    until(tracemq_tests::SHORT, || there.exists().then_some(())).expect("the editor has been started");
    tracemq.profile("set p --group plant").expect(0);
    std::fs::write(&go, "").expect("the home can be written to");
    let done = editing.wait().expect_failure(1, &["changed", "somebody else"]);
    assert_eq!(kept(&tracemq, &done), format!("url = \"{NOWHERE}\"\nguard = \"read-only\"\n"));
    assert_eq!(text(&tracemq, "p"), format!("url = \"{NOWHERE}\"\ngroup = \"plant\"\n"));
}

#[test]
fn on_a_terminal_a_bad_edit_may_be_edited_again() {
    let tracemq = Tracemq::with_loopback();
    write(&tracemq, "p", &format!("url = \"{NOWHERE}\"\n"));
    // Bad the first time, mended the second.
    let script = "if grep -q levle \"$1\"; then sed -i s/levle/level/ \"$1\"; \
                  else printf '[connection]\\nlevle = \"low\"\\n' >>\"$1\"; fi";
    let mut terminal = edit(&tracemq, "p", script).on_terminal();
    terminal.wait_for("did you mean level?");
    terminal.answer("Edit again? [Y/n]", "");
    terminal.wait_for("saved");
    terminal.expect(0);
    assert!(text(&tracemq, "p").ends_with("level = \"low\"\n"));

    let mut terminal = edit(&tracemq, "p", "echo '[' >>\"$1\"").on_terminal();
    terminal.answer("Edit again? [Y/n]", "n");
    terminal.wait_for("is kept in");
    terminal.expect(2);
    assert_eq!(others(&tracemq).len(), 1);
    assert!(text(&tracemq, "p").ends_with("level = \"low\"\n"));
}

#[test]
fn group_colour_and_guard_are_set_and_taken_away() {
    let tracemq = Tracemq::with_loopback();
    let before = format!("# mine\nurl = \"{NOWHERE}\"\n\n# of the plant\n[connection]\nqueue = 9\n");
    write(&tracemq, "p", &before);
    tracemq.profile("set p --group plant --color bright-red --guard read-only").expect(0);
    let marked = text(&tracemq, "p");
    for part in ["# mine\n", "# of the plant\n", "group = \"plant\"\n", "color = \"bright-red\"\n"] {
        assert!(marked.contains(part), "{part} is missing in\n{marked}");
    }
    tracemq.profile(&format!("add q {NOWHERE} --profile-group plant --profile-color green")).expect(0);
    tracemq.profile(&format!("add a {NOWHERE}")).expect(0);
    let listed = tracemq.profile("list").expect(0).lines();
    let starts: Vec<&str> = listed.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(starts, ["a", "plant:", "p", "q"], "{listed:?}");
    assert!(listed[3].ends_with("read-only"), "{listed:?}");
    let json = tracemq.profile("list --json --group plant").expect(0).lines();
    let first: serde_json::Value = serde_json::from_str(&json[0]).expect("JSON");
    assert_eq!((&first["group"], &first["color"]), (&"plant".into(), &"bright-red".into()));
    assert_eq!(tracemq.profile("list --names --group plant").expect(0).lines(), ["p", "q"]);
    tracemq
        .cmd(["pub", "p", "t", "x"])
        .finish()
        .expect_failure(4, &["read-only", "profile set p --guard none"]);

    let mut terminal = tracemq.cmd(["profile", "list"]).env_remove("NO_COLOR").on_terminal();
    terminal.wait_for("\u{1b}[91mp\u{1b}[0m");
    terminal.expect(0);

    tracemq.profile("set p --color none --guard none").expect(0);
    tracemq.cmd(["profile", "set", "p", "--group", ""]).finish().expect(0);
    assert_eq!(text(&tracemq, "p"), before);
    let done = tracemq.profile("set p").expect(0);
    assert!(done.stderr.contains("nothing was changed"), "{done:?}");
    tracemq.profile("set p --color mauve").expect_failure(2, &["mauve", "magenta"]);
    tracemq.profile("set none --color red").expect_failure(2, &["no profile \"none\""]);
    tracemq.cmd(["profile", "set", "p", "--group", "a\nb"]).finish().expect_failure(2, &["--group"]);
}

#[test]
fn copies_and_renames_take_no_place_unasked() {
    let tracemq = Tracemq::with_loopback();
    let content = format!("# mine\nurl = \"{NOWHERE}\"\n");
    write(&tracemq, "a", &content);
    write(&tracemq, "b", &format!("url = \"{NOWHERE}/b\"\n"));
    for command in ["copy", "rename"] {
        tracemq.profile(&format!("{command} a b")).expect_failure(2, &["b already", "--force"]);
        tracemq.profile(&format!("{command} none c")).expect_failure(2, &["no profile \"none\""]);
        tracemq.profile(&format!("{command} a loopback")).expect_failure(2, &["name of a protocol"]);
        tracemq.profile(&format!("{command} a ../c")).expect_failure(2, &["no name for a profile"]);
        tracemq.profile(&format!("{command} a a")).expect(2);
    }
    assert!(text(&tracemq, "b").contains("/b"));
    tracemq.profile("copy a c").expect(0);
    assert_eq!((text(&tracemq, "a"), text(&tracemq, "c")), (content.clone(), content.clone()));
    tracemq.profile("copy a b --force").expect(0);
    tracemq.profile("rename c d").expect(0);
    tracemq.profile("rename d b --force").expect(0);
    assert_eq!(tracemq.profile("list --names").expect(0).lines(), ["a", "b"]);
    assert_eq!(text(&tracemq, "b"), content);
    tracemq.profile("remove a none").expect_failure(2, &["no profile \"none\""]);
    assert_eq!(text(&tracemq, "a"), content, "none is removed when one isn't there");
    tracemq.profile("remove a b a").expect(0);
    assert_eq!(tracemq.profile("list --names").expect(0).text(), "");
}

#[test]
fn names_of_an_earlier_version_are_read_told_of_and_brought_up_to_date() {
    let tracemq = Tracemq::with_loopback();
    let old = "url = \"loopback://\"\n[connection] # of 0.1\nclient = \"oven\" # mine\nsign = true\n";
    let new = old.replace("client =", "client_name =");
    write(&tracemq, "p", old);
    let told = "client in the profile p is called client_name now";
    let done = tracemq.cmd(["list", "p", "options"]).finish().expect(0);
    assert!(
        done.lines().iter().any(|line| line.starts_with("client_name") && line.ends_with("oven")),
        "{done:?}"
    );
    assert_eq!(done.stderr.matches("called client_name now").count(), 1, "{done:?}");
    assert!(done.stderr.contains(told) && done.stderr.contains("tracemq profile set p"), "{done:?}");
    assert_eq!(text(&tracemq, "p"), old, "using it changes nothing");

    tracemq.profile("copy p q").expect(0);
    assert_eq!(text(&tracemq, "q"), new);
    let done = edit(&tracemq, "p", "grep -q client_name \"$1\"").finish().expect(0);
    assert!(done.stderr.contains(told) && done.stderr.contains("saved"), "{done:?}");
    assert_eq!(text(&tracemq, "p"), new);
    write(&tracemq, "p", old);
    tracemq.profile("set p").expect(0);
    assert_eq!(text(&tracemq, "p"), new);

    // Both names: today's counts, and the other is told of.
    write(&tracemq, "p", &new.replace("sign", "name = \"stove\"\nsign"));
    let done = tracemq.cmd(["list", "p", "options"]).finish().expect(0);
    assert!(
        done.text().contains("oven") && done.stderr.contains("name in the profile p is not used"),
        "{done:?}"
    );
    tracemq.profile("set p").expect(0);
    assert_eq!(text(&tracemq, "p"), new);

    // What is gone is named with what to do, and what is unknown stays in the file whatever rewrites it.
    for (key, parts) in [
        (
            "nickname",
            &["nickname in the profile p", "any more", "client_name is what the other side sees"][..],
        ),
        ("altogether_unknown", &["altogether_unknown in the profile p is no option"]),
    ] {
        let text_with = new.replace("sign", &format!("{key} = 1 # ?\nsign"));
        write(&tracemq, "p", &text_with);
        tracemq.cmd(["list", "p", "options"]).finish().expect_failure(2, parts);
        tracemq.profile("set p --group g").expect(0);
        tracemq.profile("copy p q --force").expect(0);
        let expected = text_with.replace("loopback://\"\n", "loopback://\"\ngroup = \"g\"\n");
        assert_eq!((text(&tracemq, "p"), text(&tracemq, "q")), (expected.clone(), expected));
    }
}
