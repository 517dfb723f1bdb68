//! RabbitMQ with its plugin for AMQP 1.0, as a server that this project did not write.
//!
//! It has a home, a node name, ports and an epmd of its own, so that it meets no other one, and none outlives the test.

use crate::certificates::Certificates;
use crate::ports::free_port;
use crate::process::{Cmd, Run};
use crate::wait::{LONG, until};
use std::net::TcpStream;
use tempfile::TempDir;

/// Where Debian puts the script that does not change the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

#[derive(Debug)]
pub struct RabbitMq {
    // The server ends before the daemon that knows its name.
    run: Run,
    _epmd: Run,
    port: u16,
    _folder: TempDir,
}

impl RabbitMq {
    /// Returns when it accepts clients, which takes an idle machine ten seconds. The user `guest` has the password `guest`.
    #[allow(clippy::new_without_default, reason = "it starts a server")]
    pub fn new() -> RabbitMq {
        RabbitMq::start(|port| format!("listeners.tcp.default = 127.0.0.1:{port}\n"))
    }

    /// With TLS. The user `test-client` has the password `guest`, and the client certificate of this name is as good.
    pub fn secure(certificates: &Certificates) -> RabbitMq {
        let (ca, server) = (certificates.ca.display(), &certificates.server);
        let tls = format!(
            "ssl_options.cacertfile = {ca}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n",
            server.cert.display(),
            server.key.display()
        );
        let login = "default_user = test-client\ndefault_pass = guest\nssl_cert_login_from = common_name\n\
                     auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n";
        RabbitMq::start(|port| {
            format!("listeners.tcp = none\nlisteners.ssl.default = 127.0.0.1:{port}\n{tls}{login}")
        })
    }

    fn start(config: impl Fn(u16) -> String) -> RabbitMq {
        let folder =
            tempfile::Builder::new().prefix("tracemq-rabbit-").tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let (port, names, distribution) = (free_port(), free_port(), free_port());
        std::fs::write(path("plugins"), "[rabbitmq_amqp1_0,rabbitmq_auth_mechanism_ssl].\n")
            .expect("a file of ours");
        let config = format!(
            "{}log.console = true
log.file = false
",
            config(port)
        );
        std::fs::write(path("rabbitmq.conf"), config).expect("a file of ours");
        let names = names.to_string();
        let epmd = Cmd::peer("epmd").args(["-address", "127.0.0.1", "-port", &names]).start();
        let listens = until(LONG, || TcpStream::connect(("127.0.0.1", names.parse().expect("a port"))).ok());
        assert!(listens.is_some(), "epmd does not listen: {epmd:?}");
        let run = Cmd::new(SERVER)
            // Without a shell in between, so that the process that is stopped is the server.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env("HOME", folder.path())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", &names)
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_NODENAME", format!("tracemq-{port}@localhost"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", path("none"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .limit(LONG)
            .start();
        run.wait_stdout_by(LONG, "the end of RabbitMQ's start", &|line| {
            line.contains("Server startup complete")
        });
        RabbitMq { run, _epmd: epmd, port, _folder: folder }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `guest`, with the address of a queue.
    pub fn url(&self, queue: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{queue}", self.port)
    }

    /// What it says.
    pub fn run(&self) -> &Run {
        &self.run
    }
}
