//! The first connection: options are checked, a kept session is taken up, versions are tried in turn.

use std::time::{Duration, Instant};

use tracemq_plugin_api::net::Dialer;
use tracemq_plugin_api::prelude::*;

use super::{Driver, facts};
use crate::client::Facts;
use crate::client::dial::Dial;
use crate::client::publishing::Publishing;
use crate::client::sinks::Sinks;
use crate::config::ConnectOptions;
use crate::endpoint::Endpoint;
use crate::session::store::Store;
use crate::session::{KeepAlive, Session, SessionConfig};

impl Driver {
    /// Makes the first connection.
    pub(in crate::client) async fn connect(
        options: ConnectOptions,
        context: Context,
    ) -> Result<(Driver, Facts)> {
        let endpoint = Endpoint::parse(context.url().unwrap_or_default())?;
        options.check()?;
        let net = &options.net;
        let dial = Dial {
            dialer: Dialer::from_options(net)?,
            headers: crate::config::pairs("--ws-header", &options.ws_header)?,
            timeout: net.timeout.connect_timeout.duration(),
            endpoint,
        };
        let client_id = options.client_id.clone().unwrap_or_else(made_up_id);
        let mut auth = options.auth_method()?;
        let versions = options.versions();
        for (at, version) in versions.iter().enumerate() {
            let mut config = SessionConfig::new(options.connect(*version, &client_id)?);
            if let (false, Some(most)) = (version.is_v5(), options.receive_maximum) {
                config.max_in_flight = most;
            }
            config.use_topic_aliases = options.use_topic_aliases;
            let mut session = Session::new(config).map_err(|error| Error::config(error.to_string()))?;
            let store = open_store(&mut session, &dial.endpoint, &client_id, &context)?;
            let auth_of_version = auth.as_mut().filter(|_| version.is_v5());
            match dial.connect(&mut session, auth_of_version).await {
                Ok((link, accepted)) => {
                    let facts = facts(&session, &accepted);
                    let driver = Driver {
                        keep_alive: KeepAlive::new(accepted.keep_alive, Instant::now()),
                        events: context.events().clone(),
                        reconnect: context.reconnect(),
                        dial,
                        session,
                        store,
                        auth,
                        sinks: Sinks::default(),
                        publishing: Publishing::default(),
                        asked: Vec::new(),
                        token: 0,
                        link: Some(link),
                        paused: false,
                        wait: Duration::ZERO,
                        packets: 0,
                    };
                    driver.say_connected(&accepted);
                    return Ok((driver, facts));
                }
                Err(refused) if refused.version && at + 1 < versions.len() => {
                    log::warn!("{}; trying MQTT {}", refused.error.message(), versions[at + 1]);
                }
                Err(refused) => return Err(refused.error),
            }
        }
        Err(Error::config("no protocol version is left to try"))
    }
}

fn open_store(
    session: &mut Session,
    endpoint: &Endpoint,
    client_id: &str,
    context: &Context,
) -> Result<Option<Store>> {
    let Some(dir) = context.state_dir().filter(|_| session.is_persistent()) else { return Ok(None) };
    let opened = Store::open(&dir.join("mqtt"), &endpoint.shown(), client_id)
        .map_err(|error| Error::config(error.to_string()))?;
    if let Some(warning) = opened.warning {
        log::warn!("{warning}");
    }
    let resumed = session.restore(opened.restored);
    if resumed > 0 {
        log::info!("{resumed} messages of an earlier run are sent again");
    }
    Ok(Some(opened.store))
}

/// A client id that every version takes: 1 to 23 letters and digits (3.1.1, section 3.1.3.1).
pub(super) fn made_up_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system for each value.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("tracemq{random:016x}")
}
