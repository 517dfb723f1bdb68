//! Finding, trusting and refusing plugins: each kind of bad library gets one line that says what is wrong and what to do, a
//! command that needs it ends with 7, and the others go on working.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tracemq_tests::{Done, Installation, SHORT, Tracemq, fixture};

/// The line that says why a library is refused. Being told to trust it does not help.
#[track_caller]
fn refused(tracemq: &Tracemq, path: &Path) -> String {
    refused_within(tracemq, path, "20000")
}

/// As [`refused`], of one that is asked for so many milliseconds at most.
#[track_caller]
fn refused_within(tracemq: &Tracemq, path: &Path, limit: &str) -> String {
    let cmd = |args: [&str; 2]| tracemq.cmd(args).env("TRACEMQ_PROBE_TIMEOUT_MS", limit);
    let done = cmd(["plugin", "trust"]).arg(path).finish().expect(7);
    let listed = cmd(["plugin", "list"]).finish().expect(0);
    let reason = done.reason().strip_prefix("tracemq: ").unwrap_or(done.reason()).to_owned();
    if path.exists() {
        assert!(listed.lines().contains(&format!("  {reason}")), "{reason}\n{listed:?}");
    }
    let (place, why) = reason.split_at_checked(path.display().to_string().len()).unwrap_or_default();
    assert_eq!(Path::new(place), path, "{done:?}");
    why.trim_start().to_owned()
}

fn file(tracemq: &Tracemq, name: &str, content: &[u8]) -> PathBuf {
    let folder = tracemq.home().join("plugins");
    fs::create_dir_all(&folder).expect("the home can be written to");
    let path = folder.join(name);
    fs::write(&path, content).expect("the home can be written to");
    path
}

#[test]
fn what_is_no_library_is_named_for_what_it_is() {
    let tracemq = Tracemq::new();
    assert_eq!(refused(&tracemq, &tracemq.home().join("plugins/none.so")), "is not there; check the name");
    for (content, why) in [
        (&b"not a library\n"[..], "is not a library: it is a text file; remove it from the plugin folder"),
        (b"", "is not a library: it is empty; copy it again"),
        (b"MZ\x90\x00\x03", "is not a library: it is made for Windows; remove it from the plugin folder"),
        (b"\x00\x01\xff\xfe", "is not a library: it has no ELF header; remove it from the plugin folder"),
    ] {
        assert_eq!(refused(&tracemq, &file(&tracemq, "other.so", content)), why);
    }
    let whole = fs::read(fixture("no_plugin")).expect("it was built");
    let cut = file(&tracemq, "cut.so", &whole[..whole.len() / 3]);
    let why = refused(&tracemq, &cut);
    assert!(
        why.starts_with(&format!("is not a whole library: it has {} of at least ", whole.len() / 3)),
        "{why}"
    );
    assert!(why.ends_with(" bytes; copy it again"), "{why}");
}

#[test]
fn a_library_for_another_machine() {
    let tracemq = Tracemq::new();
    let mut library = fs::read(fixture("loopback")).expect("it was built");
    let (machine, name) = if cfg!(target_arch = "aarch64") { (62_u16, "x86_64") } else { (183, "aarch64") };
    library[18..20].copy_from_slice(&machine.to_le_bytes());
    let here = std::env::consts::ARCH;
    assert_eq!(
        refused(&tracemq, &file(&tracemq, "libforeign.so", &library)),
        format!("is built for {name}, this machine is {here}; get the plugin's {here} build")
    );
}

#[test]
fn a_library_without_a_plugin_that_fits() {
    let tracemq = Tracemq::new();
    for (name, why) in [
        (
            "no_plugin",
            "holds no plugin: it does not export tracemq_plugin_header; remove it, or build it with export_plugin! as a cdylib",
        ),
        ("other_product", "has a plugin header of another product; remove it from the plugin folder"),
        ("other_major", "was built for plugin API 2.0.0, this host has 1.1.0; update tracemq"),
    ] {
        assert_eq!(refused(&tracemq, &tracemq.drop_in(&fixture(name))), why);
    }
}

#[test]
fn a_library_that_fails_when_it_is_opened() {
    let tracemq = Tracemq::new();
    let crash = tracemq.drop_in(&fixture("crash_on_open"));
    assert_eq!(
        refused(&tracemq, &crash),
        "crashes when it is opened (SIGSEGV); report this to the plugin's author"
    );
    let hang = tracemq.drop_in(&fixture("hang_on_open"));
    assert_eq!(
        refused_within(&tracemq, &hang, "300"),
        format!(
            "hangs when it is opened: no answer within 0.3 s; `tracemq plugin info {}` tries again",
            hang.display()
        )
    );
    let panic = tracemq.drop_in(&fixture("panic_describe"));
    assert_eq!(
        refused(&tracemq, &panic),
        "panics when it is asked to describe itself: I do not know who I am; report this to the plugin's author"
    );
}

#[test]
fn what_is_known_to_hang_is_not_waited_for_again() {
    let tracemq = Tracemq::new();
    refused_within(&tracemq, &tracemq.drop_in(&fixture("hang_on_open")), "300");
    let started = Instant::now();
    tracemq.cmd(["plugin", "list"]).env("TRACEMQ_PROBE_TIMEOUT_MS", "600000").limit(SHORT).finish().expect(0);
    assert!(started.elapsed() < SHORT);
}

#[test]
fn what_is_remembered_of_a_file_goes_with_its_content() {
    let tracemq = Tracemq::new();
    let path = file(&tracemq, "changing.so", &fs::read(fixture("loopback")).expect("it was built"));
    let trust = || tracemq.cmd(["plugin", "trust"]).arg(&path).finish();
    assert!(trust().expect(0).text().contains("loopback 0.1.0"));
    for (name, text) in [("twin", "twin 1.0.0"), ("loopback", "loopback 0.1.0")] {
        fs::copy(fixture(name), &path).expect("the home can be written to");
        assert!(trust().expect(0).text().contains(text));
        let done = tracemq.cmd(["plugin", "list"]).finish().expect(0);
        assert!(done.lines().iter().any(|line| line.starts_with(&format!("{name} "))), "{done:?}");
    }
    fs::copy(fixture("no_plugin"), &path).expect("the home can be written to");
    assert!(trust().expect(7).reason().contains("holds no plugin"));
    fs::copy(fixture("loopback"), &path).expect("the home can be written to");
    trust().expect(0);
    tracemq.cmd(["pub", "loopback://", "t", "x"]).finish().expect(0);
}

#[test]
fn an_invalid_descriptor_is_told_by_its_rule() {
    let tracemq = Tracemq::new();
    for (name, part) in [("bad_id", "Bad Id/../"), ("bad_schema", "point")] {
        let why = refused(&tracemq, &tracemq.drop_in(&fixture(name)));
        assert!(why.starts_with("has an invalid descriptor: "), "{why}");
        assert!(why.contains(part) && why.ends_with("; report this to the plugin's author"), "{why}");
    }
}

#[test]
fn the_bad_do_not_stop_the_good() {
    let tracemq = Tracemq::new();
    for name in ["crash_on_open", "no_plugin", "other_major", "panic_describe", "bad_id"] {
        let path = tracemq.drop_in(&fixture(name));
        tracemq.cmd(["plugin", "trust"]).arg(path).finish().expect(7);
    }
    file(&tracemq, "a.so", b"text");
    tracemq.drop_in(&fixture("faulty"));
    tracemq.add_plugin(&fixture("loopback"));
    let done = tracemq.cmd(["sub", "loopback://", "t", "--emit", "2", "--format", "raw"]).finish().expect(0);
    assert_eq!(done.lines().len(), 2);
    let done = tracemq.cmd(["plugin", "list"]).finish().expect(0);
    assert!(done.lines().iter().any(|line| line.starts_with("loopback ")), "{done:?}");
    let lines = done.lines();
    let refused = lines.iter().skip_while(|line| *line != "Refused:").skip(1);
    assert_eq!(refused.count(), 7, "{done:?}");
}

#[test]
fn the_first_of_two_for_one_scheme_wins() {
    let tracemq = Tracemq::new();
    let loopback = tracemq.add_plugin(&fixture("loopback"));
    let twin = tracemq.add_plugin(&fixture("twin"));
    let done = tracemq.cmd(["plugin", "list"]).finish().expect(0);
    let warning = format!(
        "{} is not used for loopback://: {} has it too and comes first",
        twin.display(),
        loopback.display()
    );
    assert!(done.stderr.contains(&warning), "{done:?}");
    // Loopback can subscribe, the twin can't; the twin is there for the rest.
    tracemq.cmd(["sub", "loopback://", "t", "--emit", "1"]).finish().expect(0);
    tracemq.cmd(["pub", "twin://", "t", "x"]).finish().expect(0);

    // The same plugin twice.
    let copy = file(&tracemq, "zz.so", &fs::read(&loopback).expect("it is there"));
    tracemq.cmd(["plugin", "trust"]).arg(&copy).finish();
    let done = tracemq.cmd(["plugin", "list"]).finish().expect(0);
    let line =
        format!("{} is not used: {} offers \"loopback\" and comes first", copy.display(), loopback.display());
    assert!(done.text().contains(&line), "{done:?}");
}

#[test]
fn an_unknown_scheme_tells_who_is_known_and_where_it_looked() {
    let tracemq = Tracemq::with_loopback();
    let folder = tracemq.home().join("plugins").display().to_string();
    let done = tracemq.cmd(["sub", "gopher://host", "t"]).finish().expect(7);
    for part in ["no plugin knows \"gopher\"", "loopback (loopback)", &folder] {
        assert!(done.reason().contains(part), "{part}\n{done:?}");
    }
}

#[test]
fn nothing_runs_that_is_not_trusted() {
    let tracemq = Tracemq::new();
    let path = tracemq.drop_in(&fixture("loopback"));
    let line = format!(
        "{path} is not trusted; to trust it, run `tracemq plugin trust {path}`",
        path = path.display()
    );
    let publish = || tracemq.cmd(["pub", "loopback://", "t", "x"]).finish();
    let done = publish().expect(7);
    assert!(done.reason().contains(&line), "{done:?}");
    let done = tracemq.cmd(["plugin", "list"]).finish().expect(0);
    assert!(done.lines().contains(&format!("  {line}")), "{done:?}");

    let done = tracemq.cmd(["plugin", "trust"]).arg(&path).finish().expect(0);
    assert!(done.text().starts_with(&format!("{} is trusted, SHA-256 ", path.display())), "{done:?}");
    publish().expect(0);

    // One byte more at its end changes nothing of what it does, but it is another file.
    File::options()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"x"))
        .expect("it can be changed");
    let done = publish().expect(7);
    let today = format!(
        "is not trusted: its content changed since you trusted it on {}; to trust it as it is now, run `tracemq plugin trust {}`",
        done.reason().split("trusted it on ").nth(1).and_then(|rest| rest.get(..10)).unwrap_or_default(),
        path.display()
    );
    assert_eq!(done.reason(), format!("tracemq: {} {today}", path.display()));
    tracemq.cmd(["plugin", "trust"]).arg(&path).finish().expect(0);
    publish().expect(0);

    tracemq.cmd(["plugin", "trust", "--remove"]).arg(&path).finish().expect(0);
    publish().expect(7);
    tracemq.cmd(["plugin", "trust", "--remove"]).arg(&path).finish().expect(1);
}

/// What came with the program is trusted, as long as nobody else can write there.
#[test]
fn what_was_installed_is_trusted_unless_others_can_write_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let tracemq = Tracemq::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = folder.path().join("tracemq");
    fs::copy(Installation::find().binary(), &binary).expect("the program can be copied");
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).expect("a folder");
    let library = plugins.join("libloopback.so");
    fs::copy(fixture("loopback"), &library).expect("a file can be copied");
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(&plugins, 0o755);
    mode(&library, 0o644);
    let publish = || {
        let command = tracemq_tests::Cmd::new(&binary).args(["pub", "loopback://", "t", "x"]);
        command.env("TRACEMQ_HOME", tracemq.home()).env_remove("TRACEMQ_PLUGIN_PATH").finish()
    };
    publish().expect(0);
    mode(&library, 0o666);
    publish().expect_failure(
        7,
        &["not trusted although it came with tracemq", "others can write to it (mode 666)"],
    );
    mode(&library, 0o644);
    mode(&plugins, 0o777);
    publish().expect_failure(
        7,
        &["not trusted although it came with tracemq", "others can write to it (mode 777)"],
    );
}

#[test]
fn the_search_path_is_flag_variable_user() {
    let tracemq = Tracemq::new();
    let folders: Vec<PathBuf> = ["flag", "variable"].iter().map(|name| tracemq.home().join(name)).collect();
    for folder in &folders {
        fs::create_dir(folder).expect("a folder");
        fs::copy(fixture("loopback"), folder.join("libloopback.so")).expect("a file can be copied");
        tracemq.cmd(["plugin", "trust"]).arg(folder.join("libloopback.so")).finish().expect(0);
    }
    tracemq.add_plugin(&fixture("loopback"));
    let used = |done: Done| {
        let lines = done.expect(0).lines();
        lines.iter().find(|line| line.starts_with("loopback ")).cloned().expect("it is listed")
    };
    let list = || tracemq.cmd(["plugin", "list"]);
    assert!(used(list().finish()).ends_with("/plugins/libloopback.so"));
    assert!(
        used(list().env("TRACEMQ_PLUGIN_PATH", &folders[1]).finish()).ends_with("/variable/libloopback.so")
    );
    let flag = tracemq.cmd(["--plugin-dir"]).arg(&folders[0]).args(["plugin", "list"]);
    assert!(used(flag.env("TRACEMQ_PLUGIN_PATH", &folders[1]).finish()).ends_with("/flag/libloopback.so"));
}

#[test]
fn info_tells_everything_about_a_plugin() {
    let tracemq = Tracemq::new();
    let path = tracemq.add_plugin(&fixture("loopback"));
    let done = tracemq.cmd(["plugin", "info", "loopback"]).finish().expect(0);
    for part in [
        "Gives back what it is given",
        &path.display().to_string(),
        "by its digest, since ",
        "1.1.0 (this tracemq: 1.1.0)",
        "publish, subscribe, request, serve, list",
        "headers, wildcards, acknowledged",
        "--level",
        "--preload",
    ] {
        assert!(done.text().contains(part), "{part}\n{done:?}");
    }
    let done = tracemq.cmd(["plugin", "info", "--json"]).arg(&path).finish().expect(0);
    let info: serde_json::Value = serde_json::from_str(&done.text()).expect("JSON");
    assert_eq!((&info["id"], &info["trust"]), (&"loopback".into(), &"trusted".into()));
    assert_eq!(info["schemas"]["connection"]["properties"]["password"]["x-secret"], true);
    assert_eq!(info["sha256"].as_str().map(str::len), Some(64));
}

/// Runs `tracemq ARGUMENTS…` on a terminal of its own and types the answer to its question.
fn on_a_terminal(tracemq: &Tracemq, arguments: &[&str], answer: &str) -> (Option<i32>, String) {
    let (mut master, mut slave) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: the two numbers are written to; the rest may be null.
    let failed = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) } != 0;
    assert!(!failed, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: openpty gave both to us alone.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let stderr = slave.try_clone().expect("a second descriptor");
    let mut child = Command::new(Installation::find().binary())
        .args(arguments)
        .env("TRACEMQ_HOME", tracemq.home())
        .env_remove("TRACEMQ_PLUGIN_PATH")
        .stdin(slave)
        .stderr(stderr)
        .stdout(Stdio::null())
        .spawn()
        .expect("it can be started");
    let mut terminal = File::from(master);
    let mut typing = terminal.try_clone().expect("a second descriptor");
    let reader = std::thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
        // The terminal's end is an error once nobody holds the other side.
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    typing.write_all(answer.as_bytes()).expect("a terminal takes what is typed");
    let end = Instant::now() + SHORT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            break status;
        }
        if Instant::now() > end {
            drop(child.kill());
            panic!("still running: {:?}", child.wait());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(typing);
    (status.code(), reader.join().expect("the reader"))
}

#[test]
fn on_a_terminal_the_user_is_asked() {
    let tracemq = Tracemq::new();
    let path = tracemq.drop_in(&fixture("loopback"));
    let publish = ["pub", "loopback://", "t", "x"];
    let (code, text) = on_a_terminal(&tracemq, &publish, "n\n");
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains(&format!("{} is not trusted yet.", path.display())), "{text}");
    assert!(text.contains("Trust it? [y/N] ") && text.contains("SHA-256 "), "{text}");
    let (code, text) = on_a_terminal(&tracemq, &publish, "\n");
    assert_eq!(code, Some(7), "only yes is yes: {text}");
    let (code, text) = on_a_terminal(&tracemq, &publish, "y\n");
    assert_eq!(code, Some(0), "{text}");
    // And it stays so.
    tracemq.cmd(publish).finish().expect(0);
    File::options()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"x"))
        .expect("it can be changed");
    let (code, text) = on_a_terminal(&tracemq, &publish, "y\n");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has changed since you trusted it"), "{text}");
}
