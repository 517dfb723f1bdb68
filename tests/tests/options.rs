//! A plugin's options as flags, in help, from the environment; where the target may stand; secrets.

use tracemq_tests::{Done, NOWHERE, Tracemq};

fn run(tracemq: &Tracemq, line: &str) -> Done {
    tracemq.cmd(line.split_whitespace()).finish()
}

#[test]
fn flags_stand_before_and_after_the_target() {
    let tracemq = Tracemq::with_loopback();
    let (server, url) = tracemq.serve_loopback(&[]);
    for line in [
        format!("pub {url} t x --priority 3"),
        format!("pub --priority 3 {url} t x"),
        format!("pub --priority=3 --sign {url} t x"),
        format!("--no-reconnect pub --sign=false {url} --priority 3 t x"),
        format!("pub --priority 3 -- {url} t --x"),
    ] {
        run(&tracemq, &line).expect(0);
    }
    server.interrupt();
}

#[test]
fn a_wrong_value_is_refused_before_anything_is_opened() {
    let tracemq = Tracemq::with_loopback();
    for (flags, parts) in [
        ("--priority 12", &["--priority: 12 is not allowed (a whole number from 0 to 9)"][..]),
        ("--level lowish", &["--level: lowish is not allowed (low, medium or high)"]),
        ("--delay soon", &["--delay: soon is not allowed", "500ms"]),
        ("--sign=maybe", &["--sign: maybe is not allowed (true or false)"]),
        ("--share 2x", &["--share: 2x is not allowed"]),
        ("--property x", &["--property: x is not allowed (NAME=VALUE)"]),
        ("--queue 1 --queue 2", &["--queue: may be given once only"]),
        ("--queue", &["--queue needs a value"]),
        ("--preload /no/such/file", &["--preload: /no/such/file: no such file"]),
        ("--levle low", &["nor Loopback has an option --levle", "did you mean --level?"]),
    ] {
        run(&tracemq, &format!("pub {NOWHERE} t x {flags}")).expect_failure(2, parts);
    }
    run(&tracemq, &format!("pub --sign true {NOWHERE} t")).expect_failure(2, &["\"true\"", "--flag=true"]);
    // Before the target, an unknown flag is still what is told of.
    run(&tracemq, &format!("pub --levle low {NOWHERE} t x")).expect_failure(2, &["--levle", "--level?"]);
}

#[test]
fn help_shows_the_plugins_options_on_stdout() {
    let tracemq = Tracemq::with_loopback();
    let help = run(&tracemq, &format!("sub {NOWHERE} --help")).expect(0);
    for part in
        ["Loopback options:", "Limits options:", "--level <low|medium|high>", "[default: medium]", "--count"]
    {
        assert!(help.text().contains(part), "{part} is not shown\n{help:?}");
    }
    assert_eq!(help.stderr, "");
    let help = run(&tracemq, "sub --help").expect(0);
    assert!(help.text().contains("tracemq sub TARGET --help"), "{help:?}");
    assert!(!help.text().contains("--level"), "{help:?}");
}

#[test]
fn without_arguments_and_with_a_slip() {
    let tracemq = Tracemq::new();
    let done = tracemq.cmd::<_, &str>([]).finish().expect(2);
    assert!(done.stdout.is_empty() && done.stderr.contains("Usage: tracemq"), "{done:?}");
    run(&tracemq, "sbu x://h").expect_failure(2, &["tracemq sbu", "did you mean sub?"]);
    assert!(run(&tracemq, "help sub").expect(0).text().contains("--count"));
    run(&tracemq, "sub").expect_failure(2, &["<TARGET> is missing"]);
    assert!(run(&tracemq, "--version").expect(0).text().starts_with("tracemq "));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            run(&tracemq, &format!("completions {shell}")).expect(0).text().contains("request"),
            "{shell}"
        );
    }
}

#[test]
fn a_secret_is_a_reference_or_warned_about_and_never_shown() {
    let tracemq = Tracemq::with_loopback();
    let file = tracemq.write("password", "hunter2\n");
    let password = |value: &str| tracemq.cmd(["pub", NOWHERE, "t", "x", "--password", value]);
    // What is told comes from the connection, so the reference has been resolved.
    let from_file = password(&format!("file:{}", file.display())).finish().expect(3);
    let from_env = password("env:SECRET").env("SECRET", "hunter2").finish().expect(3);
    let literal = password("hunter2").finish().expect(3);
    assert!(literal.stderr.contains("--password stands in clear"), "{literal:?}");
    for done in [&from_file, &from_env] {
        assert!(!done.stderr.contains("in clear"), "{done:?}");
    }
    let in_url = run(&tracemq, "pub loopback://ann:hunter2@127.0.0.1:1 t x").expect(4);
    assert!(in_url.stderr.contains("ann:***@") && in_url.stderr.contains("in clear"), "{in_url:?}");
    for done in [from_file, from_env, literal, in_url] {
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
    password("env:NOT_SET").finish().expect_failure(2, &["--password", "env:NOT_SET", "not set"]);
    password("file:/no/such").finish().expect_failure(2, &["--password", "file:/no/such", "no such file"]);
    password("vault:prod")
        .finish()
        .expect_failure(2, &["--password", "vault:prod", "no secret \"prod\"", "tracemq secret set prod"]);
}

#[test]
fn serve_takes_a_protocol_a_url_or_a_profile() {
    let tracemq = Tracemq::with_loopback();
    tracemq.cmd("profile add here loopback --bind 127.0.0.1:0".split(' ')).finish().expect(0);
    for target in ["loopback://127.0.0.1:0", "here"] {
        let server = tracemq.cmd(["serve", target]).start();
        server.wait_stdout("loopback://127.0.0.1:");
        server.interrupt().expect(0);
    }
    run(&tracemq, "serve gopher").expect_failure(7, &["gopher", "loopback"]);
    run(&tracemq, "sub here t").expect_failure(2, &["profile here", "no url"]);
}

#[test]
fn a_target_by_reference() {
    let tracemq = Tracemq::with_loopback();
    let (server, url) = tracemq.serve_loopback(&[]);
    tracemq.cmd(["pub", "env:HUB", "t", "x"]).env("HUB", &url).finish().expect(0);
    let file = tracemq.write("url", format!("{url}\n"));
    tracemq.cmd(["pub", &format!("file:{}", file.display()), "t", "x"]).finish().expect(0);
    tracemq.cmd(["pub", "env:HUB", "t", "x"]).finish().expect_failure(2, &["TARGET", "env:HUB", "not set"]);
    server.interrupt();
}
