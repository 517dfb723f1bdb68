//! No secret is shown: a random one in every secret field of every installed plugin, by reference and in clear, and whatever
//! is done with it, is in no output.
//!
//! The fields come from what the plugins say of themselves, so that a new one is tried as soon as it is there. What is done:
//! a server that is not there, one that sends back whatever it gets, a server of our own, profiles; all at trace level. The
//! forms in which a secret is looked for are made here, not by the code that is under test.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tracemq_tests::{Cmd, Done, Tracemq, fixture, free_port, until};

/// How long a command may go on before it is interrupted: what it has to say it says at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// After that no further command is started. On an idle machine all of them take a fifth of it.
const LIMIT: Duration = Duration::from_secs(200);

/// A secret option, and where it belongs.
#[derive(Clone, Debug)]
struct Field {
    plugin: Value,
    schema: String,
    name: String,
    /// It is written `NAME=VALUE`.
    pair: bool,
    url: bool,
}

impl Field {
    fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    fn scheme(&self, at: usize) -> &str {
        let schemes = self.plugin["schemes"].as_array().expect("schemes");
        schemes[at % schemes.len()]["name"].as_str().expect("a name")
    }

    fn can(&self, verb: &str) -> bool {
        self.plugin["verbs"].as_array().expect("verbs").iter().any(|known| known == verb)
    }
}

fn plugins(tracemq: &Tracemq) -> Vec<Value> {
    let listed = tracemq.cmd(["plugin", "list", "--json"]).finish().expect(0).lines();
    let ids = listed.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone());
    let info = |id: &str| tracemq.cmd(["plugin", "info", id, "--json"]).finish().expect(0).text();
    ids.map(|id| serde_json::from_str(&info(id.as_str().expect("an id"))).expect("JSON")).collect()
}

fn fields(plugin: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    for (schema, content) in plugin["schemas"].as_object().expect("schemas") {
        for (name, property) in content["properties"].as_object().into_iter().flatten() {
            if property["x-secret"] == true {
                fields.push(Field {
                    plugin: plugin.clone(),
                    schema: schema.clone(),
                    name: name.clone(),
                    pair: property["x-type"] == "pair" || property["type"] == "object",
                    url: property["x-type"] == "url",
                });
            }
        }
    }
    fields
}

/// Random secrets: what a password generator makes, and what people and hostile people write.
struct Secrets(Mutex<TestRunner>);

impl Secrets {
    fn next(&self) -> String {
        let mut runner = self.0.lock().expect("no thread panicked with it");
        let strategy = proptest::prop_oneof![
            "[A-Za-z0-9+/]{12,40}=",
            "[!-~]{10,24}",
            "[a-zA-Z0-9%\"'\\\\ $`é✓:@/?#&=;,]{10,24}",
            "[0-9]{10,14}",
        ];
        // Neither a reference by chance, nor what is trimmed off a line.
        let strategy = strategy.prop_map(|text| format!("q{}Z", text.trim()));
        strategy.new_tree(&mut runner).expect("a text").current()
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The texts that must not be shown.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).expect("a text");
    let debug = format!("{secret:?}");
    let mut forms = vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        debug[1..debug.len() - 1].to_owned(),
        percent(secret),
        percent(secret).to_lowercase(),
        secret.replace('%', "%25").replace('@', "%40").replace(':', "%3A").replace('/', "%2F"),
        format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned(),
    ];
    for before in ["", "x", "xy"] {
        for text in
            [STANDARD.encode(format!("{before}{secret}")), URL_SAFE.encode(format!("{before}{secret}"))]
        {
            // Without the letters that what stands beside it has a part in.
            forms.push(text[before.len() * 2..text.len() - 4].to_owned());
        }
    }
    forms
}

fn assert_hidden(done: &Done, secret: &str, what: &str) {
    let output = format!("{}\n{}", done.text(), done.stderr);
    for form in forms(secret) {
        assert!(!output.contains(&form), "{what}: {secret:?} is shown as {form:?}\n{done:?}");
    }
}

/// Sends back what it gets, over TCP and UDP, on one port.
fn echo() -> u16 {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = tcp.local_addr().expect("its port").port();
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)) {
            break (tcp, udp);
        }
    };
    let port = udp.local_addr().expect("its port").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            drop(udp.send_to(&buffer[..length], peer));
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Runs a command to its end, or interrupts it.
fn run(cmd: Cmd) -> Done {
    let mut run = cmd.start();
    until(PATIENCE, || (!run.alive()).then_some(()));
    if run.alive() { run.interrupt() } else { run.wait() }
}

/// Runs jobs on a few threads, until the time has run out; all of each kind come before the second round.
fn all<T: Send + Sync>(jobs: Vec<T>, run: impl Fn(&T) + Sync) -> usize {
    let (end, next) = (Instant::now() + LIMIT, Mutex::new(0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while Instant::now() < end {
                        let at = {
                            let mut next = next.lock().expect("no thread panicked with it");
                            *next += 1;
                            *next - 1
                        };
                        let Some(job) = jobs.get(at) else { return };
                        run(job);
                    }
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    next.into_inner().expect("no thread panicked with it").min(jobs.len())
}

#[test]
fn no_secret_of_any_plugin_is_shown() {
    let tracemq = Tracemq::new();
    let plugins = plugins(&tracemq);
    let fields: Vec<Field> = plugins.iter().flat_map(fields).collect();
    for plugin in &plugins {
        let id = plugin["id"].as_str().expect("an id");
        assert!(fields.iter().any(|field| field.plugin["id"] == id), "{id} has no secret option at all");
    }
    let (echo, secrets) = (echo(), Secrets(Mutex::new(TestRunner::default())));
    // In the order in which they matter most, should the time run out.
    let mut jobs = Vec::new();
    for way in 0..4 {
        jobs.extend(fields.iter().map(|field| (field, way)));
    }
    let count = jobs.len();
    let tried = all(jobs, |&(field, way)| {
        let secret = secrets.next();
        let (reference, echoes) = (way % 2 == 0, way < 2);
        let port = if echoes { echo } else { free_port() };
        let url = format!("{}://127.0.0.1:{port}", field.scheme(way));
        // The secret part of a URL is its password.
        let value = if field.url {
            format!("http://u:{}@127.0.0.1:{port}", percent(&secret))
        } else {
            secret.clone()
        };
        let given = match (reference, field.pair) {
            (true, true) => "name=env:SECRET".to_owned(),
            (true, false) => "env:SECRET".to_owned(),
            (false, true) => format!("name={value}"),
            (false, false) => value.clone(),
        };
        let flag = format!("{}={given}", field.flag());
        let mut words: Vec<&str> = match field.schema.as_str() {
            "serve" => vec!["serve", field.plugin["id"].as_str().expect("an id"), "--bind", "127.0.0.1:0"],
            "subscribe" => vec!["sub", &url, "t"],
            "request" => vec!["request", &url, "t", "x"],
            "connection" if way >= 2 && field.can("subscribe") => vec!["sub", &url, "t"],
            _ => vec!["pub", &url, "t", "x"],
        };
        words.extend([flag.as_str(), "-vvv", "--no-reconnect"]);
        let done = run(tracemq.cmd(&words).env("SECRET", &value));
        assert_hidden(&done, &secret, &format!("{} {} {}", field.plugin["id"], field.schema, field.name));
        if !reference && done.code() != 2 {
            assert!(done.stderr.contains("stands in clear"), "no warning of ps\n{done:?}");
        }
    });
    assert!(tried >= count / 2, "only {tried} of {count} could be tried in {LIMIT:?}");
}

#[test]
fn no_password_of_a_url_and_no_key_of_a_connection_string_is_shown() {
    let tracemq = Tracemq::new();
    let (echo, secrets) = (echo(), Secrets(Mutex::new(TestRunner::default())));
    let mut jobs = Vec::new();
    for plugin in plugins(&tracemq) {
        for scheme in plugin["schemes"].as_array().expect("schemes") {
            let scheme = scheme["name"].as_str().expect("a name").to_owned();
            jobs.extend([true, false].map(|string| (scheme.clone(), string)));
        }
    }
    let count = jobs.len();
    let tried = all(jobs, |(scheme, string)| {
        let secret = secrets.next();
        let target = match string {
            false => {
                format!("{scheme}://user:{}@127.0.0.1:{echo}/t?token={}", percent(&secret), percent(&secret))
            }
            // A ; would end it, in any implementation.
            true => format!(
                "Endpoint={scheme}://127.0.0.1:{echo}/;SharedAccessKeyName=n;SharedAccessKey={};EntityPath=t",
                secret.replace(';', "")
            ),
        };
        let secret = if *string { secret.replace(';', "") } else { secret };
        for (typed, clear) in [(target.as_str(), true), ("env:TARGET", false)] {
            let words = ["pub", typed, "t", "x", "-vvv", "--no-reconnect"];
            let done = run(tracemq.cmd(words).env("TARGET", &target));
            assert_hidden(&done, &secret, typed);
            assert!(!clear || done.code() == 2 || done.stderr.contains("stands in clear"), "{done:?}");
        }
    });
    assert!(tried >= count / 2, "only {tried} of {count} could be tried in {LIMIT:?}");
}

#[test]
fn profiles_show_no_secret_and_their_use_shows_none() {
    let tracemq = Tracemq::new();
    let secrets = Secrets(Mutex::new(TestRunner::default()));
    let folder = tracemq.home().join("profiles");
    std::fs::create_dir_all(&folder).expect("the home can be written to");
    let fields: Vec<Field> = plugins(&tracemq).iter().flat_map(fields).collect();
    let jobs: Vec<_> = fields.iter().enumerate().flat_map(|job| [(job, true), (job, false)]).collect();
    let count = jobs.len();
    let tried = all(jobs, |&((number, field), reference)| {
        let (secret, name) = (secrets.next(), format!("p{number}-{reference}"));
        let id = field.plugin["id"].as_str().expect("an id");
        let value =
            if field.url { format!("http://u:{}@127.0.0.1:1", percent(&secret)) } else { secret.clone() };
        let text = if reference { "env:SECRET" } else { &value };
        let text = serde_json::to_string(&if field.pair { format!("name={text}") } else { text.to_owned() });
        let text = text.expect("a text");
        let text = if field.pair { format!("[{text}]") } else { text };
        let content = format!(
            "protocol = \"{id}\"\nurl = \"{}://127.0.0.1:{}\"\n[{}]\n{} = {text}\n",
            field.scheme(0),
            free_port(),
            if field.schema == "request" { "publish" } else { &field.schema },
            field.name,
        );
        std::fs::write(folder.join(format!("{name}.toml")), content).expect("the home can be written to");
        let verb = match field.schema.as_str() {
            "serve" => vec!["serve", &name, "-vvv"],
            "subscribe" => vec!["sub", &name, "t", "-vvv"],
            _ => vec!["pub", &name, "t", "x", "-vvv"],
        };
        for words in
            [verb, vec!["profile", "show", &name], vec!["profile", "list"], vec!["profile", "list", "--json"]]
        {
            let done = run(tracemq.cmd(&words).env("SECRET", &value));
            assert_hidden(&done, &secret, &format!("{words:?} with {} {}", field.schema, field.name));
            if !reference && words[0] != "profile" {
                // The command that puts it right.
                done.expect_failure(2, &[&field.name, "env:NAME"]);
            }
        }
    });
    assert!(tried >= count / 2, "only {tried} of {count} could be tried in {LIMIT:?}");
}

#[test]
fn a_panic_and_what_a_plugin_tells_of_its_url_show_no_secret() {
    let tracemq = Tracemq::new();
    tracemq.add_plugin(&fixture("faulty"));
    let secrets = Secrets(Mutex::new(TestRunner::default()));
    for call in ["check", "connect", "publish"] {
        let secret = secrets.next();
        let url = format!("faulty://user:{}@panic/{call}", percent(&secret));
        let done = run(tracemq.cmd(["pub", &url, "t", "x", "-vvv"]));
        assert_hidden(&done, &secret, call);
        let done = done.expect(7);
        assert!(done.stderr.contains("***"), "the panic tells of its URL\n{done:?}");
    }
}
