//! `--jetstream`: a nats-server from PATH with a temporary store, started, watched and stopped.
//!
//! It is told everything in a configuration file of mode 0600, since a command line is visible to everybody. A thread of its
//! own starts it, reads its log and starts it again, on the same port and store, when it ends by itself. The thread is the
//! one that must live: on Linux the child is told to end when it is gone, so that no server is left behind.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::Notify;
use tracemq_plugin_api::net::{ClientAuth, ServerTls};
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};
use tracemq_plugin_api::sdk::{Event, EventKind, Events};

use super::options::{DEFAULT_BIND, ServeOptions};

const PROGRAM: &str = "nats-server";
/// How long it may take until clients can connect.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to end when asked, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Ends within this time after its start are failures to start.
const QUICK: Duration = Duration::from_secs(10);
const MAX_QUICK_ENDS: u32 = 3;
/// Pause before it is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What nats-server can't take from our options.
///
/// # Errors
/// Kind config, naming the option.
pub fn check(options: &ServeOptions) -> Result<()> {
    let refuse =
        |text: &str| Err(Error::config(format!("{text} (with --jetstream, which starts a {PROGRAM})")));
    if options.token.is_some() && !options.user.is_empty() {
        return refuse("--token and --user exclude each other");
    }
    if options.tls.tls_key_password.is_some() {
        return refuse("--tls-key-password: nats-server reads no encrypted keys; give it a plain one");
    }
    let tls = &options.tls;
    let unknown = [
        ("--tls-pkcs12", tls.tls_pkcs12.is_some()),
        ("--tls-client-auth optional", tls.tls_client_auth == Some(ClientAuth::Optional)),
        ("--tls-alpn", !tls.tls_alpn.is_empty()),
        ("--tls-min-version", tls.tls_min_version.is_some()),
    ];
    if let Some((option, _)) = unknown.iter().find(|(_, set)| *set) {
        return refuse(&format!("{option}: {PROGRAM} has nothing like it"));
    }
    if tls.is_set() && !tls.is_self_signed() && (tls.tls_cert.is_none() || tls.tls_key.is_none()) {
        return refuse("TLS needs both --tls-cert and --tls-key, or --tls-self-signed");
    }
    let users = options.users()?;
    let secrets =
        users.iter().map(|user| ("--user", &user.secret)).chain(options.token.iter().map(|t| ("--token", t)));
    for (option, secret) in secrets {
        if secret.starts_with("$2a$") {
            return refuse(&format!(
                "{option}: nats-server takes a secret that begins with $2a$ for a bcrypt digest"
            ));
        }
    }
    configuration(options, SocketAddr::from(([127, 0, 0, 1], 0)), Path::new("/")).map(drop)
}

/// The configuration file.
fn configuration(options: &ServeOptions, address: SocketAddr, store: &Path) -> Result<String> {
    let limits = options.limits()?;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name}: {value}");
    };
    line("server_name", quoted("--jetstream", "tracemq-jetstream")?);
    line("host", quoted("--bind", &address.ip().to_string())?);
    line("port", if address.port() == 0 { "-1".to_owned() } else { address.port().to_string() });
    line("jetstream", format!("{{ store_dir: {} }}", path("the store", store)?));
    line("max_payload", limits.max_payload.to_string());
    line("max_connections", limits.max_connections.to_string());
    line("max_pending", limits.max_pending.to_string());
    line("write_deadline", quoted("--write-deadline", &format!("{}ms", limits.write_deadline.as_millis()))?);
    line("ping_interval", quoted("--ping-interval", &format!("{}ms", limits.ping_interval.as_millis()))?);
    if let Some(token) = &options.token {
        line("authorization", format!("{{ token: {} }}", quoted("--token", token)?));
    }
    let users = options.users()?;
    if !users.is_empty() {
        let mut list = String::new();
        for user in &users {
            let (name, secret) = (quoted("--user", &user.name)?, quoted("--user", &user.secret)?);
            let _ = write!(list, "{{ user: {name}, password: {secret} }} ");
        }
        line("authorization", format!("{{ users: [ {list}] }}"));
    }
    if let (Some(cert), Some(key)) = (&options.tls.tls_cert, &options.tls.tls_key) {
        let ca = match &options.tls.tls_ca {
            Some(ca) => format!("ca_file: {}, verify: true", path("--tls-ca", ca)?),
            None => String::new(),
        };
        let (cert, key) = (path("--tls-cert", cert)?, path("--tls-key", key)?);
        line("tls", format!("{{ cert_file: {cert}, key_file: {key}, {ca} }}"));
    }
    Ok(text)
}

/// A text of nats-server's configuration language. The value may be secret and is not repeated.
fn quoted(option: &str, value: &str) -> Result<String> {
    if value.chars().any(char::is_control) {
        return Err(Error::config(format!("{option}: control characters can't be handed to {PROGRAM}")));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn path(option: &str, value: &Path) -> Result<String> {
    let text = value.to_str();
    quoted(option, text.ok_or_else(|| Error::config(format!("{option}: the path is not UTF-8")))?)
}

/// The program in the first folder of PATH that has it.
fn find(path: Option<&OsStr>) -> Result<PathBuf> {
    let folders = path.map(std::env::split_paths).into_iter().flatten();
    folders.map(|folder| folder.join(PROGRAM)).find(|file| file.is_file()).ok_or_else(|| {
        Error::config(format!("--jetstream: no {PROGRAM} was found on PATH")).hint(
            "install it (Debian: apt install nats-server; it is in /usr/sbin) and see that its folder is on PATH, or leave \
             --jetstream out for a server without JetStream",
        )
    })
}

/// A nats-server under our care. It is stopped when dropped, and its store removed.
pub struct JetStream {
    url: String,
    care: Arc<Care>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the thread and the handle share.
struct Care {
    state: Mutex<State>,
    gone: Notify,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    stopping: bool,
    /// Why it is not started again.
    failed: Option<String>,
}

impl Care {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JetStream {
    /// Clients can connect when this returns. Waits for the server.
    ///
    /// # Errors
    /// No nats-server on PATH or an option that it can't take (config), or it did not start (connect).
    pub fn start(options: &ServeOptions, events: Events, state_dir: Option<&Path>) -> Result<JetStream> {
        check(options)?;
        let program = find(std::env::var_os("PATH").as_deref())?;
        let bind = options.bind.as_deref().unwrap_or(DEFAULT_BIND);
        let address = bind.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(|| {
            Error::config(format!(
                "cannot use \"{bind}\" as a listening address; write ADDR:PORT, for instance {DEFAULT_BIND}"
            ))
        })?;
        let system =
            |error: io::Error| Error::new(ErrorKind::CONNECT, format!("cannot start {PROGRAM}: {error}"));
        let folder = tempfile::Builder::new().prefix("tracemq-jetstream-").tempdir().map_err(system)?;
        let mut options = options.clone();
        if options.tls.is_self_signed() {
            let tls = ServerTls::open(&options.tls, state_dir, bind)?;
            tls.announce(&events);
            let (certificate, key) = tls.made_pem().unwrap_or_default();
            let (cert_file, key_file) = (folder.path().join("server.pem"), folder.path().join("server.key"));
            write_private(&cert_file, &certificate).map_err(system)?;
            write_private(&key_file, &key).map_err(system)?;
            options.tls.tls_cert = Some(cert_file);
            options.tls.tls_key = Some(key_file);
        }
        let scheme = if options.tls.is_set() { "tls" } else { "nats" };
        let care = Arc::new(Care { state: Mutex::default(), gone: Notify::new() });
        let (ready, started) = mpsc::sync_channel(1);
        let keeper = Keeper { program, folder, options, address, care: Arc::clone(&care), events };
        let thread = thread::Builder::new()
            .name("nats-keeper".to_owned())
            .spawn(move || keeper.run(&ready))
            .map_err(system)?;
        let mut server = JetStream { url: String::new(), care, thread: Some(thread) };
        let address = match started.recv_timeout(START_PATIENCE) {
            Ok(result) => result?,
            Err(_) => {
                let text = format!("{PROGRAM} was not ready after {} s", START_PATIENCE.as_secs());
                return Err(Error::new(ErrorKind::TIMEOUT, text));
            }
        };
        server.url = format!("{scheme}://{address}");
        Ok(server)
    }

    /// Where clients connect to.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Waits until it has ended for good.
    pub fn gone(&self) -> impl Future<Output = Error> + Send + 'static {
        let care = Arc::clone(&self.care);
        async move {
            loop {
                let gone = care.gone.notified();
                if let Some(reason) = &care.lock().failed {
                    return Error::new(ErrorKind::CLOSED, reason.clone());
                }
                gone.await;
            }
        }
    }
}

impl Drop for JetStream {
    fn drop(&mut self) {
        {
            let mut state = self.care.lock();
            state.stopping = true;
            if let Some(child) = &state.child
                && let Ok(pid) = i32::try_from(child.id())
            {
                // SAFETY: the child has not been waited for while it is in the state, so the pid is its own.
                unsafe { libc::kill(pid, libc::SIGTERM) };
            }
        }
        let end = Instant::now() + STOP_PATIENCE;
        let ended = || self.care.lock().child.is_none();
        while !ended() && Instant::now() < end {
            thread::sleep(LOOK_AGAIN);
        }
        if let Some(child) = &mut self.care.lock().child {
            log::warn!("{PROGRAM} did not end when asked, and is killed");
            // It may have ended by itself just now.
            let _ = child.kill();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that watches {PROGRAM} panicked");
        }
    }
}

/// The thread that starts the server, and starts it again.
struct Keeper {
    program: PathBuf,
    folder: TempDir,
    options: ServeOptions,
    address: SocketAddr,
    care: Arc<Care>,
    events: Events,
}

impl Keeper {
    fn run(mut self, ready: &mpsc::SyncSender<Result<SocketAddr>>) {
        let mut quick_ends = 0;
        let mut first = true;
        loop {
            let began = Instant::now();
            let ended = self.once(if first { Some(ready) } else { None });
            let mut state = self.care.lock();
            state.child = None;
            if state.stopping {
                return;
            }
            if first && let Err(error) = ended {
                let _ = ready.send(Err(error));
                return;
            }
            first = false;
            let why = match ended {
                Ok(status) => status,
                Err(error) => error.to_string(),
            };
            quick_ends = if began.elapsed() < QUICK { quick_ends + 1 } else { 0 };
            if quick_ends > MAX_QUICK_ENDS {
                state.failed = Some(format!("{PROGRAM} ends again and again: {why}"));
                drop(state);
                self.care.gone.notify_waiters();
                return;
            }
            drop(state);
            let text = format!("{PROGRAM} ended ({why}) and is started again");
            self.events.emit(Event::new(EventKind::WARNING, text));
            thread::sleep(RESTART_PAUSE);
        }
    }

    /// One life of the server. `Ok`: it had been ready, and how it ended.
    fn once(&mut self, ready: Option<&mpsc::SyncSender<Result<SocketAddr>>>) -> Result<String> {
        let system =
            |error: io::Error| Error::new(ErrorKind::CONNECT, format!("cannot start {PROGRAM}: {error}"));
        let file = self.folder.path().join("nats.conf");
        let store = self.folder.path().join("store");
        let text = configuration(&self.options, self.address, &store)?;
        write_private(&file, &text).map_err(system)?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        end_with_us(&mut command);
        let log = {
            let mut state = self.care.lock();
            if state.stopping {
                return Ok("stopped".to_owned());
            }
            let mut child = command.spawn().map_err(system)?;
            let log = child.stderr.take();
            state.child = Some(child);
            log
        };
        let mut was_ready = false;
        let mut complaint = String::new();
        for line in log.into_iter().flat_map(|log| BufReader::new(log).lines()) {
            let Ok(line) = line else { break };
            log::debug!("{PROGRAM}: {line}");
            if let Some((_, address)) = line.split_once("Listening for client connections on ")
                && let Ok(address) = address.trim().parse()
            {
                self.address = address;
            }
            if line.contains("[FTL]") || line.contains("[ERR]") || line.starts_with(PROGRAM) {
                complaint = line;
            } else if line.contains("Server is ready") {
                was_ready = true;
                if let Some(ready) = ready {
                    let _ = ready.send(Ok(self.address));
                }
            }
        }
        // Its log has ended, so it has, or is about to.
        let status = self.wait();
        if was_ready {
            return Ok(status);
        }
        let why = if complaint.is_empty() { status } else { complaint };
        Err(Error::new(ErrorKind::CONNECT, format!("{PROGRAM} did not start: {why}")))
    }

    /// Waits for its end. Without holding the lock, so that it can be killed meanwhile.
    fn wait(&self) -> String {
        loop {
            {
                let mut state = self.care.lock();
                match state.child.as_mut().map(Child::try_wait) {
                    Some(Ok(None)) => {}
                    Some(Ok(Some(status))) => return status.to_string(),
                    Some(Err(error)) => return error.to_string(),
                    None => return String::new(),
                }
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(file)?.write_all(text.as_bytes())
}

#[cfg(target_os = "linux")]
fn end_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl is a system call, which is all that may be done between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_us(_command: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> ServeOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn texts_can_not_break_out_of_the_configuration() {
        let options = options(serde_json::json!({"user": ["a\"b=c\\\" } port: 1"]}));
        let text =
            configuration(&options, SocketAddr::from(([127, 0, 0, 1], 0)), Path::new("/s")).expect("valid");
        assert!(text.contains(r#"{ user: "a\"b", password: "c\\\" } port: 1" }"#), "{text}");
        assert!(text.contains("port: -1"), "{text}");
    }

    #[test]
    fn what_nats_server_can_not_take_is_refused() {
        for (json, told) in [
            (serde_json::json!({"token": "t", "user": ["a=b"]}), "exclude each other"),
            (serde_json::json!({"token": "$2a$11$x"}), "bcrypt"),
            (serde_json::json!({"user": ["a=$2a$11$x"]}), "bcrypt"),
            (serde_json::json!({"token": "a\nb"}), "control characters"),
            (
                serde_json::json!({"tls_cert": "c", "tls_key": "k", "tls_key_password": "hunter2"}),
                "--tls-key-password",
            ),
            (serde_json::json!({"tls_cert": "c"}), "--tls-key"),
        ] {
            let error = check(&options(json)).expect_err(told).to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_path_is_looked_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = find(Some(folder.path().as_os_str())).expect_err("nothing there");
        assert!(error.to_string().contains("no nats-server was found on PATH"));
        std::fs::write(folder.path().join(PROGRAM), "").expect("written");
        assert_eq!(find(Some(folder.path().as_os_str())).expect("there"), folder.path().join(PROGRAM));
    }
}
