//! The files of profiles: two processes at once, links, folders that can't be written to, full disks, and names.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tracemq_tests::{Cmd, LONG, NOWHERE, Tracemq};

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[test]
fn two_terminals_that_add_200_profiles_each_have_400() {
    let tracemq = Tracemq::with_loopback();
    let script = |letter: char| {
        format!(
            "for i in $(seq 200); do \"$T\" --quiet profile add {letter}$i {NOWHERE} --client-name {letter}$i || exit; done"
        )
    };
    let run = |script: String| {
        Cmd::new("sh")
            .args(["-c", &script])
            .env("TRACEMQ_HOME", tracemq.home())
            .env("T", tracemq_tests::Installation::find().binary())
            .limit(LONG)
            .start()
    };
    let running = ['a', 'b'].map(|letter| run(script(letter)));
    for run in running {
        run.wait().expect(0);
    }
    let listed = tracemq.profile("list --json").expect(0).lines();
    assert_eq!(listed.len(), 400);
    assert!(listed.iter().all(|line| line.contains("\"error\":null")), "each can be read");
    let left: Vec<_> = std::fs::read_dir(tracemq.home().join("profiles"))
        .expect("the folder of the profiles")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| !name.to_string_lossy().ends_with(".toml"))
        .collect();
    assert_eq!(left, [".lock"]);
}

#[test]
fn changes_of_one_profile_at_once_are_all_there() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add p {NOWHERE}")).expect(0);
    let changes = ["--group plant", "--color red", "--guard read-only"];
    let running: Vec<_> = changes
        .iter()
        .map(|change| tracemq.cmd(["profile", "set", "p"]).args(change.split_whitespace()).start())
        .collect();
    running.into_iter().for_each(|run| drop(run.wait().expect(0)));
    let shown = tracemq.profile("show p").expect(0).text();
    for part in ["group = \"plant\"", "color = \"red\"", "guard = \"read-only\""] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    // Of several that want the same name, one gets it.
    let running: Vec<_> = (0..4).map(|_| tracemq.cmd(["profile", "add", "one", NOWHERE]).start()).collect();
    let codes: Vec<i32> = running.into_iter().map(|run| run.wait().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 2).count(), 3, "{codes:?}");
}

#[test]
fn folder_and_files_are_their_owners_alone() {
    let tracemq = Tracemq::with_loopback();
    let script = format!("umask 0; \"$T\" profile add p {NOWHERE} && \"$T\" profile set p --group g");
    tracemq.apart(&script).finish().expect(0);
    let folder = tracemq.home().join("profiles");
    assert_eq!((mode(&folder), mode(&folder.join("p.toml"))), (0o700, 0o600));
    assert_eq!(mode(&folder.join(".lock")), 0o600);
}

#[test]
fn a_link_is_written_through() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add other {NOWHERE}")).expect(0);
    let kept = tracemq.write("dotfile.toml", format!("# kept elsewhere\nurl = \"{NOWHERE}\"\n"));
    let link = tracemq.home().join("profiles/p.toml");
    symlink(&kept, &link).expect("a link");
    tracemq.cmd(["sub", "p", "t"]).finish().expect(3);
    tracemq.profile("set p --group g").expect(0);
    tracemq
        .cmd(["profile", "edit", "p"])
        .env_remove("VISUAL")
        .env("EDITOR", "sed -i s/elsewhere/there/")
        .finish()
        .expect(0);
    tracemq.profile(&format!("add p {NOWHERE}")).expect_failure(2, &["p already"]);
    assert!(link.is_symlink());
    let content = std::fs::read_to_string(&kept).expect("the file that the link leads to");
    assert_eq!(content, format!("# kept there\nurl = \"{NOWHERE}\"\ngroup = \"g\"\n"));
    tracemq.profile("copy p q").expect(0);
    assert!(!tracemq.home().join("profiles/q.toml").is_symlink(), "a copy is a file of its own");
    tracemq.profile("rename p r").expect(0);
    tracemq.profile("remove r").expect(0);
    assert!(kept.exists(), "removing takes the link away, not what it leads to");

    symlink(tracemq.home().join("nowhere"), tracemq.home().join("profiles/d.toml")).expect("a link");
    tracemq.profile(&format!("add d {NOWHERE}")).expect_failure(2, &["d already"]);
    tracemq
        .profile(&format!("add d {NOWHERE} --force"))
        .expect_failure(1, &["symbolic link", "leads nowhere"]);
    assert!(!tracemq.home().join("nowhere").exists());
    tracemq.profile("remove d").expect(0);
}

#[test]
fn on_a_full_disk_nothing_is_lost() {
    let tracemq = Tracemq::with_loopback();
    std::fs::create_dir(tracemq.home().join("profiles")).expect("the home can be written to");
    let script = format!(
        "mount -t tmpfs -o size=32k tmpfs \"$P\" && \"$T\" profile add a {NOWHERE} || exit\n\
         cp \"$P/a.toml\" \"$TRACEMQ_HOME/before\"\n\
         head -c 100000 /dev/zero >\"$P/.fill\" 2>/dev/null\n\
         \"$T\" profile set a --group g; echo set $?\n\
         \"$T\" profile add b {NOWHERE}; echo add $?\n\
         \"$T\" profile copy a c; echo copy $?\n\
         EDITOR=true \"$T\" profile edit a; echo edit $?\n\
         cmp \"$P/a.toml\" \"$TRACEMQ_HOME/before\"; echo same $?\n\
         \"$T\" profile rename a d; echo rename $?\n\
         ls -A \"$P\""
    );
    let done = tracemq.apart(&script).finish().expect(0);
    let expected = ["set 1", "add 1", "copy 1", "edit 1", "same 0", "rename 0", ".fill", ".lock", "d.toml"];
    assert_eq!(done.lines(), expected, "{done:?}");
    assert!(done.stderr.to_lowercase().contains("no space left"), "{done:?}");
    assert!(done.stderr.contains("nothing was changed; make room"), "{done:?}");
}

#[test]
fn a_limit_of_the_size_of_files_is_a_full_disk() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add a {NOWHERE}")).expect(0);
    let script = "trap '' XFSZ; ulimit -f 0; \"$T\" profile set a --group g";
    let done = tracemq.apart(script).finish().expect_failure(1, &["profile a can't be written", "too large"]);
    assert!(done.reason().contains("nothing was changed"), "{done:?}");
    assert_eq!(tracemq.profile("list --names --group g").expect(0).text(), "");
    assert!(tracemq.profile("show a").expect(0).text().contains(NOWHERE));
}

#[test]
fn in_a_home_that_can_only_be_read_profiles_are_read() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add a {NOWHERE}")).expect(0);
    let script = format!(
        "mount --bind \"$TRACEMQ_HOME\" \"$TRACEMQ_HOME\" && mount -o remount,bind,ro \"$TRACEMQ_HOME\" || exit\n\
         \"$T\" profile list --names && \"$T\" profile show a >&2 || exit\n\
         \"$T\" sub a t; echo sub $?\n\
         for c in 'add b {NOWHERE}' 'set a --group g' 'copy a b' 'rename a b' 'remove a'; do\n\
           \"$T\" profile $c; echo \"$c $?\"; done\n\
         EDITOR=true \"$T\" profile edit a; echo edit $?"
    );
    let done = tracemq.apart(&script).finish().expect(0);
    let add = format!("add b {NOWHERE} 1");
    let expected =
        ["a", "sub 3", &add, "set a --group g 1", "copy a b 1", "rename a b 1", "remove a 1", "edit 1"];
    assert_eq!(done.lines(), expected, "{done:?}");
    assert!(done.stderr.contains("TRACEMQ_HOME names another folder"), "{done:?}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_told_of() {
    let tracemq = Tracemq::with_loopback();
    tracemq.write("profiles", "a file where the folder should be");
    tracemq.profile(&format!("add a {NOWHERE}")).expect_failure(1, &["profiles/a.toml", "not a directory"]);
    for line in ["list", "set a --color red", "remove a"] {
        tracemq.profile(line).expect_failure(1, &["profiles in"]);
    }
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let tracemq = Tracemq::with_loopback();
    tracemq.profile(&format!("add a {NOWHERE}")).expect(0);
    let long = "x".repeat(300);
    for name in ["../x", "a/b", "..", ".", ".lock", "/etc/passwd", "a b", "é", "-x", "x\n", &long] {
        for words in [
            &["add", "--", name, NOWHERE][..],
            &["show", "--", name],
            &["edit", "--", name],
            &["set", "--color", "red", "--", name],
            &["copy", "--", name, "b"],
            &["copy", "--", "a", name],
            &["rename", "--", name, "b"],
            &["rename", "--", "a", name],
            &["remove", "--", name],
        ] {
            let done = tracemq.cmd(["profile"]).args(words).env("EDITOR", "true").finish();
            done.expect_failure(2, &[]);
        }
    }
    assert_eq!(tracemq.profile("list --names").expect(0).lines(), ["a"]);
    // A NUL can't stand in an argument, but a file may bear any name: it is no profile's.
    tracemq.write("profiles/b c.toml", "url = \"x://h\"");
    assert_eq!(tracemq.profile("list --names").expect(0).lines(), ["a"]);
}
