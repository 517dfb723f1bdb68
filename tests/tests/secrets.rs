//! Secrets by reference, and the vault: `age` itself opens it, two processes lose nothing, and whatever happens to it, no
//! wrong secret comes out.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracemq_tests::{Cmd, Done, LONG, Mosquitto, Tracemq};

fn secret(tracemq: &Tracemq, line: &str) -> Cmd {
    tracemq.cmd(["secret"]).args(line.split_whitespace()).env_remove("TRACEMQ_VAULT_PASSPHRASE")
}

fn set(tracemq: &Tracemq, name: &str, text: &str) {
    secret(tracemq, &format!("set {name}")).stdin(text).finish().expect(0);
}

fn vault(tracemq: &Tracemq) -> PathBuf {
    tracemq.home().join("vault.age")
}

fn identity(tracemq: &Tracemq) -> PathBuf {
    tracemq.home().join("identity.txt")
}

/// What the reference tool finds in the vault.
fn opened(vault: &Path, identity: &Path) -> Done {
    Cmd::peer("age").args(["-d", "-i"]).arg(identity).arg(vault).finish()
}

fn document(tracemq: &Tracemq) -> String {
    opened(&vault(tracemq), &identity(tracemq)).expect(0).text()
}

fn recipient(tracemq: &Tracemq) -> String {
    secret(tracemq, "export-identity --public").finish().expect(0).text().trim().to_owned()
}

/// All files of a folder, one after another.
fn all_bytes(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in folder.read_dir().expect("a folder").flatten() {
        let path = entry.path();
        bytes.extend(if path.is_dir() { all_bytes(&path) } else { std::fs::read(&path).expect("a file") });
    }
    bytes
}

#[test]
fn a_secret_is_set_listed_used_and_removed_and_age_opens_the_vault() {
    let tracemq = Tracemq::new();
    assert_eq!(secret(&tracemq, "list").finish().expect(0).text(), "");
    assert!(!vault(&tracemq).exists(), "looking makes no vault");
    set(&tracemq, "broker", "s3cret of \"ann\"\n");
    set(&tracemq, "other.one", "x");
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines(), ["broker", "other.one"]);
    let listed = secret(&tracemq, "list --json").finish().expect(0).lines();
    assert_eq!(listed, ["{\"name\":\"broker\"}", "{\"name\":\"other.one\"}"]);

    for path in [vault(&tracemq), identity(&tracemq)] {
        assert_eq!(path.metadata().expect("it is there").mode() & 0o777, 0o600, "{}", path.display());
    }
    let text = document(&tracemq);
    assert!(
        text.contains("version = 1\n") && text.contains("broker = \"s3cret of \\\"ann\\\"\"\n"),
        "{text}"
    );
    let bytes = all_bytes(tracemq.home());
    assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "the secret lies about in clear");

    let broker = Mosquitto::builder().user("ann", "s3cret of \"ann\"").start();
    let publish = |password: &str| {
        let flags = ["pub", &broker.url(), "t", "x", "--username", "ann", "--password", password];
        tracemq.cmd(flags).finish()
    };
    let done = publish("vault:broker").expect(0);
    assert!(!done.stderr.contains("in clear"), "{done:?}");
    publish("vault:other.one").expect(4);
    publish("vault:brokr").expect_failure(2, &["--password", "no secret \"brokr\"", "did you mean broker?"]);

    secret(&tracemq, "remove other.one").finish().expect(0);
    secret(&tracemq, "remove other.one").finish().expect_failure(2, &["no secret \"other.one\""]);
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines(), ["broker"]);
}

#[test]
fn every_kind_of_reference_stands_wherever_a_secret_or_a_url_may() {
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().user("ann", "s3cret").start();
    let url = broker.url().replacen("://", "://ann:s3cret@", 1);
    set(&tracemq, "url", &url);
    set(&tracemq, "password", "s3cret");
    let file = tracemq.write("password.txt", "s3cret\n");
    let tool = tracemq.write(
        "secret-tool",
        "#!/bin/sh\n[ \"$*\" = 'lookup service tracemq account broker' ] && printf s3cret\n",
    );
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).expect("a program");
    let path = format!("{}:{}", tracemq.home().display(), std::env::var("PATH").unwrap_or_default());

    let command = format!("cmd:sh -c 'cat \"{}\"'", file.display());
    for password in
        ["vault:password", "env:PW", &format!("file:{}", file.display()), &command, "keyring:broker"]
    {
        let flags = ["pub", &broker.url(), "t", "x", "--username", "ann", "--password", password];
        let done = tracemq.cmd(flags).env("PW", "s3cret").env("PATH", &path).finish().expect(0);
        assert_eq!(done.stderr, "", "{password}");
    }
    for target in ["vault:url", "cmd:printenv URL"] {
        let done = tracemq.cmd(["pub", target, "t", "x"]).env("URL", &url).finish().expect(0);
        assert_eq!(done.stderr, "", "{target}");
        let shown = tracemq.cmd(["pub", target, "t", "x", "--qos", "7"]).env("URL", &url).finish().expect(2);
        assert!(!shown.stderr.contains("s3cret"), "{shown:?}");
    }
    tracemq.cmd(["profile", "add", "here", "vault:url"]).finish().expect(0);
    tracemq.cmd(["pub", "here", "t", "x"]).finish().expect(0);
    let lone = tracemq.cmd(["pub", "vault:password", "t", "x"]).finish();
    assert!(!lone.expect_failure(2, &["TARGET", "no URL"]).stderr.contains("s3cret"));
}

#[test]
fn a_program_that_fails_is_told_of_without_its_output() {
    let tracemq = Tracemq::new();
    for (reference, parts) in [
        ("cmd:sh -c 'echo hunter2; exit 3'", &["sh ended with status 3"][..]),
        ("cmd:sh -c 'echo hunter2; kill -9 $$'", &["ended by a signal"]),
        ("cmd:sh -c 'yes hunter2'", &["sh printed more than 1 MiB"]),
        ("cmd:no-such-program hunter2", &["there is no program no-such-program"]),
        ("cmd:sh -c 'printf hunter2", &["' that is opened is not closed"]),
        ("cmd:true hunter2", &["true printed nothing"]),
        ("keyring:hunter", &["there is no program s", "is read by"]),
    ] {
        let done = tracemq.cmd(["secret", "set", "x", "--from", reference]).finish_without_tools();
        let done = done.expect_failure(2, parts);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
    // What it says itself goes where the user sees it, its stdin is empty, and its arguments are no shell's.
    let done = tracemq.cmd([
        "secret",
        "set",
        "x",
        "--from",
        "cmd:sh -c 'echo asked >&2; cat; echo $0$1' a '$HOME b'",
    ]);
    let done = done.stdin("from stdin").finish().expect(0);
    assert!(done.stderr.starts_with("asked\n"), "{done:?}");
    assert!(document(&tracemq).contains("x = \"a$HOME b\"\n"), "{}", document(&tracemq));
}

trait WithoutTools {
    fn finish_without_tools(self) -> Done;
}

impl WithoutTools for Cmd {
    /// Where no keyring's tool is installed.
    fn finish_without_tools(self) -> Done {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for program in ["sh", "yes", "true"] {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
            let found = found.iter().find(|file| file.exists()).expect("a program of every system");
            symlink(found, folder.path().join(program)).expect("a link");
        }
        self.env("PATH", folder.path()).finish()
    }
}

#[test]
fn what_cannot_be_a_secret_is_refused_and_changes_nothing() {
    let tracemq = Tracemq::new();
    for (line, stdin, parts) in [
        ("set x", "", &["the secret x is empty"][..]),
        ("set x --stdin", "\n", &["the secret x is empty"]),
        ("set ../x", "s3cret", &["is no name for a secret"]),
        ("set x --from s3cret", "", &["--from takes a reference"]),
        ("set x --from env:NOT_SET_AT_ALL", "", &["--from: env:NOT_SET_AT_ALL", "not set"]),
        ("set x s3cret", "", &["takes nothing more"]),
    ] {
        let done = secret(&tracemq, line).stdin(stdin).finish().expect_failure(2, parts);
        assert!(line == "set x s3cret" || !done.stderr.contains("s3cret"), "{done:?}");
    }
    let large = secret(&tracemq, "set x").stdin(vec![b'x'; 1024 * 1024 + 1]).finish();
    large.expect_failure(2, &["more than 1 MiB"]);
    assert!(!vault(&tracemq).exists());
}

#[test]
fn two_processes_that_set_a_hundred_each_make_two_hundred() {
    let tracemq = Tracemq::new();
    let set_all = |who: char| {
        for number in 0..100 {
            set(&tracemq, &format!("{who}{number}"), &format!("secret {number} of {who}"));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| set_all('a'));
        scope.spawn(|| set_all('b'));
    });
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines().len(), 200);
    let text = document(&tracemq);
    assert!(text.contains("a99 = \"secret 99 of a\"\n") && text.contains("b0 = \"secret 0 of b\"\n"));
}

#[test]
fn a_damaged_vault_is_an_error_and_never_a_wrong_secret() {
    let tracemq = Tracemq::new();
    set(&tracemq, "x", "s3cret");
    let whole = std::fs::read(vault(&tracemq)).expect("the vault");
    let broken = |bytes: &[u8]| {
        tracemq.write("vault.age", bytes);
        let done =
            tracemq.cmd(["secret", "set", "y", "--from", "vault:x"]).finish().expect_failure(2, &["vault"]);
        assert!(!done.stderr.contains("s3cret"), "{done:?}");
        let done = secret(&tracemq, "set y").stdin("other").finish().expect_failure(1, &["vault.age"]);
        assert_eq!(std::fs::read(vault(&tracemq)).expect("the vault"), bytes, "it was touched\n{done:?}");
    };
    // Every byte is tried in the host's own tests; here a few of each part, through the front door.
    for at in (0..whole.len()).step_by(29) {
        let mut changed = whole.clone();
        changed[at] ^= 0x01;
        broken(&changed);
    }
    for length in [0, 1, 21, 22, 60, whole.len() - 17, whole.len() - 1] {
        broken(&whole[..length]);
    }
    tracemq.write("vault.age", &whole);
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines(), ["x"]);
}

#[test]
fn a_vault_from_a_later_version_is_told_and_left_alone() {
    let tracemq = Tracemq::new();
    let recipient = recipient(&tracemq);
    let encrypt = |text: &str| {
        let done = Cmd::peer("age").args(["-r", &recipient]).stdin(text).finish().expect(0);
        tracemq.write("vault.age", &done.stdout);
        done.stdout
    };
    let later = encrypt("version = 2\n[secrets]\nx = \"s3cret\"\n[notes]\nx = \"new\"\n");
    for line in ["list", "set y", "remove x", "rekey"] {
        let done = secret(&tracemq, line).stdin("other").finish();
        done.expect_failure(1, &["of version 2", "use a later one"]);
    }
    assert_eq!(std::fs::read(vault(&tracemq)).expect("the vault"), later);
    // What somebody wrote with an editor and age is taken.
    encrypt("version = 1\n[secrets]\n\"by.hand\" = \"s3cret\"\n");
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines(), ["by.hand"]);
    let format = String::from_utf8_lossy(&later).replacen("/v1\n", "/v9\n", 1);
    tracemq.write("vault.age", format.as_bytes());
    secret(&tracemq, "list").finish().expect_failure(1, &["version \"v9\" of the age format"]);
}

#[test]
fn the_identity_must_be_there_fit_and_be_private() {
    let (tracemq, other) = (Tracemq::new(), Tracemq::new());
    set(&tracemq, "x", "s3cret");
    set(&other, "x", "s3cret");
    let with = |path: &Path| secret(&tracemq, "list").env("TRACEMQ_VAULT_IDENTITY", path).finish();
    with(&identity(&tracemq)).expect(0);
    with(&identity(&other)).expect_failure(1, &["vault.age", "not encrypted to this identity"]);
    with(Path::new("/no/such")).expect_failure(1, &["there is no identity file /no/such"]);

    std::fs::set_permissions(identity(&tracemq), PermissionsExt::from_mode(0o640)).expect("a mode");
    secret(&tracemq, "list").finish().expect_failure(1, &["identity.txt", "mode 640", "chmod 600"]);
    std::fs::remove_file(identity(&tracemq)).expect("the identity goes");
    // A new one would not open what is there.
    for line in ["list", "set y", "rekey"] {
        let done = secret(&tracemq, line).stdin("other").finish();
        done.expect_failure(1, &["no identity file", "put it back"]);
    }
    assert!(!identity(&tracemq).exists());
}

#[test]
fn where_nothing_can_be_written_the_vault_stays_as_it_was() {
    let tracemq = Tracemq::new();
    set(&tracemq, "x", "s3cret");
    let before = std::fs::read(vault(&tracemq)).expect("the vault");
    let files = || std::fs::read_dir(tracemq.home()).expect("the home").count();
    let count = files();
    let through = |wrapper: &str| {
        // The program's own environment, started by another program.
        let binary = tracemq_tests::Installation::find().binary();
        let script = format!("{wrapper} '{}' secret set y --from env:SECRET", binary.display());
        let cmd = Cmd::new("/bin/sh")
            .args(["-c", &script])
            .env("SECRET", "other")
            .env("TRACEMQ_HOME", tracemq.home());
        cmd.finish()
    };
    // As on a full disk: not a byte of a file can be written.
    through("trap '' XFSZ; ulimit -f 0; exec").expect_failure(1, &["can't be written, and stays as it was"]);
    assert_eq!(std::fs::read(vault(&tracemq)).expect("the vault"), before);
    assert_eq!(files(), count, "something was left behind");

    // Root may write everywhere, unless that is taken from it.
    // SAFETY: it only tells who we are.
    let root = unsafe { libc::geteuid() } == 0;
    let wrapper = if root { "exec setpriv --bounding-set=-dac_override,-dac_read_search" } else { "exec" };
    std::fs::set_permissions(tracemq.home(), PermissionsExt::from_mode(0o500)).expect("a mode");
    let outcome = through(wrapper);
    let listed = secret(&tracemq, "list").finish();
    std::fs::set_permissions(tracemq.home(), PermissionsExt::from_mode(0o700)).expect("a mode");
    outcome.expect_failure(1, &["vault.age", "permission denied"]);
    assert_eq!(listed.expect(0).lines(), ["x"]);
    assert_eq!(std::fs::read(vault(&tracemq)).expect("the vault"), before);

    let nowhere = secret(&tracemq, "set y").env("TRACEMQ_HOME", "/proc/no-such-place").stdin("other");
    nowhere.finish().expect_failure(1, &["can't be written"]);
}

#[test]
fn on_a_full_disk_nothing_is_lost() {
    let tracemq = Tracemq::new();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$TRACEMQ_HOME\" && cd \"$TRACEMQ_HOME\" || exit\n\
        printf s3cret | \"$T\" secret set x && before=$(sha256sum vault.age identity.txt) || exit\n\
        head -c 2000000 /dev/zero >.fill 2>/dev/null\n\
        printf other | \"$T\" secret set y; echo set $?\n\
        \"$T\" secret remove x; echo remove $?\n\
        \"$T\" secret rekey; echo rekey $?\n\
        PHRASE=tomato \"$T\" secret rekey --passphrase --from env:PHRASE; echo phrase $?\n\
        \"$T\" profile import --yes mqtt://ann:hunter2@h --name p; echo import $?\n\
        rm .fill; test \"$before\" = \"$(sha256sum vault.age identity.txt)\"; echo same $?\n\
        \"$T\" secret list; \"$T\" profile list --names; printf other | \"$T\" secret set y; echo again $?";
    let done = tracemq.apart(script).limit(LONG).finish().expect(0);
    let expected = ["set 1", "remove 1", "rekey 1", "phrase 1", "import 1", "same 0", "x", "again 0"];
    assert_eq!(done.lines(), expected, "{done:?}");
    assert!(done.stderr.to_lowercase().contains("no space left"), "{done:?}");
    assert!(done.stderr.contains("stays as it was"), "{done:?}");
}

#[test]
fn links_stay_links() {
    let (tracemq, elsewhere) = (Tracemq::new(), tempfile::tempdir().expect("a temporary folder"));
    set(&tracemq, "x", "s3cret");
    let real = elsewhere.path().join("kept.age");
    std::fs::rename(vault(&tracemq), &real).expect("the vault moves");
    symlink(&real, vault(&tracemq)).expect("a link");
    set(&tracemq, "y", "other");
    secret(&tracemq, "rekey").finish().expect(0);
    assert!(vault(&tracemq).is_symlink() && !real.is_symlink());
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines(), ["x", "y"]);

    let home = elsewhere.path().join("home");
    symlink(tracemq.home(), &home).expect("a link");
    let through = secret(&tracemq, "set z").env("TRACEMQ_HOME", &home).stdin("third").finish();
    through.expect(0);
    assert_eq!(secret(&tracemq, "list").finish().expect(0).lines(), ["x", "y", "z"]);

    std::fs::remove_file(&real).expect("the vault goes");
    for line in ["list", "set x"] {
        let done = secret(&tracemq, line).stdin("s3cret").finish();
        done.expect_failure(1, &["is a link to a file that is not there"]);
    }
}

#[test]
fn rekey_makes_a_new_identity_and_keeps_the_secrets() {
    let tracemq = Tracemq::new();
    secret(&tracemq, "rekey").finish().expect_failure(1, &["there is none yet", "tracemq secret set NAME"]);
    set(&tracemq, "x", "s3cret");
    let old = tracemq.home().join("old.txt");
    std::fs::copy(identity(&tracemq), &old).expect("a copy");
    let before = recipient(&tracemq);
    let done = secret(&tracemq, "rekey").finish().expect(0);
    let after = recipient(&tracemq);
    assert!(before != after && done.stderr.contains(&after), "{done:?}");
    opened(&vault(&tracemq), &old).expect(1);
    assert!(document(&tracemq).contains("x = \"s3cret\""));
    let exported = secret(&tracemq, "export-identity").finish().expect(0).text();
    assert_eq!(exported.matches("AGE-SECRET-KEY-1").count(), 1);
    assert!(exported.contains(&after) && !exported.contains(&before), "{exported}");

    // A file of the user's own is not changed: the vault is encrypted to the first identity in it.
    let own = std::fs::read_to_string(identity(&tracemq)).expect("the identity");
    let own = tracemq.write("own.txt", std::fs::read_to_string(&old).expect("the old one") + &own);
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o600)).expect("a mode");
    let content = std::fs::read(&own).expect("it is there");
    secret(&tracemq, "rekey").env("TRACEMQ_VAULT_IDENTITY", &own).finish().expect(0);
    assert_eq!(std::fs::read(&own).expect("it is there"), content);
    assert!(opened(&vault(&tracemq), &old).expect(0).text().contains("s3cret"));
}

#[test]
fn a_rekey_that_is_killed_at_any_moment_leaves_the_secrets_readable() {
    let tracemq = Tracemq::new();
    set(&tracemq, "x", "s3cret");
    let mut killed = 0;
    for step in 0..40_u32 {
        let mut run = secret(&tracemq, "rekey").start();
        // Spread over what it takes, on a fast machine and on a slow one.
        std::thread::sleep(Duration::from_micros(u64::from(step) * 700));
        if run.alive() {
            run.signal(libc::SIGKILL);
            killed += 1;
        }
        drop(run.wait());
        let done = tracemq.cmd(["secret", "set", "y", "--from", "vault:x"]).finish();
        done.expect(0);
    }
    assert!(killed > 0, "no process lived long enough");
    assert!(document(&tracemq).contains("x = \"s3cret\"\n"));
}

#[test]
fn more_recipients_can_open_it_until_they_are_removed() {
    let (tracemq, colleague) = (Tracemq::new(), Tracemq::new());
    set(&tracemq, "x", "s3cret");
    let (own, other) = (recipient(&tracemq), recipient(&colleague));
    secret(&tracemq, &format!("rekey --recipient {other}")).finish().expect(0);
    assert_eq!(recipient(&tracemq), own, "the identity stays");
    set(&tracemq, "y", "another");
    assert!(opened(&vault(&tracemq), &identity(&colleague)).expect(0).text().contains("another"));
    assert_eq!(secret(&tracemq, "list --recipients").finish().expect(0).lines(), [other.as_str()]);
    let phrase =
        secret(&tracemq, "rekey --passphrase --from env:PHRASE").env("PHRASE", "correct horse").finish();
    phrase.expect_failure(2, &["no recipients beside it", "--remove-recipient"]);
    secret(&tracemq, &format!("rekey --remove-recipient {other}")).finish().expect(0);
    opened(&vault(&tracemq), &identity(&colleague)).expect(1);
    secret(&tracemq, &format!("rekey --remove-recipient {other}"))
        .finish()
        .expect_failure(2, &["is no recipient"]);
    secret(&tracemq, "rekey --recipient age1nonsense")
        .finish()
        .expect_failure(2, &["--recipient", "checksum"]);
    assert!(document(&tracemq).contains("another"));
}

#[test]
fn a_pass_phrase_opens_it_from_a_reference() {
    let tracemq = Tracemq::new();
    set(&tracemq, "x", "s3cret");
    let to = secret(&tracemq, "rekey --passphrase --from env:PHRASE").env("PHRASE", "correct horse");
    to.finish().expect(0);
    let with = |line: &str, reference: &str| {
        let cmd = secret(&tracemq, line).env("TRACEMQ_VAULT_PASSPHRASE", reference);
        cmd.env("PHRASE", "correct horse").env("WRONG", "correct house").finish()
    };
    assert_eq!(with("list", "env:PHRASE").expect(0).lines(), ["x"]);
    with("list", "env:WRONG").expect_failure(1, &["not encrypted to this identity or pass phrase"]);
    let literal =
        with("list", "correct horse").expect_failure(2, &["TRACEMQ_VAULT_PASSPHRASE holds no reference"]);
    assert!(!literal.stderr.contains("correct horse"), "{literal:?}");
    with("list", "vault:x").expect_failure(2, &["the vault can't hold its own pass phrase"]);
    // Two references, and it is opened once.
    let both =
        ["pub", "mqtt://127.0.0.1:1", "t", "x", "--password", "vault:x", "--tls-key-password", "vault:x"];
    let both =
        tracemq.cmd(both).env("TRACEMQ_VAULT_PASSPHRASE", "cmd:sh -c 'echo asked >&2; echo correct horse'");
    let both = both.finish().expect(3);
    assert_eq!(both.stderr.matches("asked").count(), 1, "{both:?}");

    with("rekey --identity", "env:PHRASE").expect(0);
    assert!(document(&tracemq).contains("x = \"s3cret\"\n"));
}

#[test]
fn a_process_with_a_secret_leaves_no_core() {
    let tracemq = Tracemq::new();
    let mut run = secret(&tracemq, "set x").keep_stdin().start();
    let limits = format!("/proc/{}/limits", run.pid());
    let hardened = tracemq_tests::until(tracemq_tests::SHORT, || {
        let text = std::fs::read_to_string(&limits).ok()?;
        let line = text.lines().find(|line| line.starts_with("Max core file size"))?;
        (line.split_whitespace().filter(|word| *word == "0").count() == 2).then_some(())
    });
    run.write("s3cret\n");
    run.wait().expect(0);
    assert!(hardened.is_some(), "a core file would hold the secret");
}
