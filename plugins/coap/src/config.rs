//! The options of a connection.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::{NetOptions, TlsVersion};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::blockwise::{Preferences, Room};
#[cfg(feature = "dtls")]
use crate::dtls::PskOptions;
use crate::endpoint::Parameters;
use crate::message::Block;
use crate::oscore::OscoreOptions;
use crate::target::Transport;

/// The largest response that is put together unless said otherwise.
const MAX_BODY_SIZE: u32 = 16 << 20;
/// Doubled twenty times it can still be counted with.
const LONGEST_ACK_TIMEOUT: Duration = Duration::from_secs(3600);
/// As good as for ever.
const LONGEST_ANSWER_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);
/// What RFC 7252 section 4.8 has.
const MAX_RETRANSMIT: u8 = 4;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectOptions {
    /// How long to wait for an acknowledgement before sending again, at least; the wait is up to half as long again, and doubles each time
    #[schemars(title = "Acknowledgement time-out", extend(
        "x-group" = "transmission", "x-order" = 30, "x-title-fr" = "Délai d'acquittement",
        "x-help-fr" = "Attente minimale d'un acquittement avant de renvoyer ; elle est allongée au hasard de moitié au plus, et double à chaque fois"
    ))]
    pub ack_timeout: Span,

    /// How often to send a confirmable message again before giving up
    #[schemars(title = "Retransmissions", range(max = 20), extend(
        "x-group" = "transmission", "x-order" = 31, "x-title-fr" = "Renvois",
        "x-help-fr" = "Nombre de renvois d'un message confirmable avant d'abandonner"
    ))]
    pub max_retransmit: u8,

    /// How long to wait for the answer to a request that was acknowledged, or that is not confirmable; 0 waits for ever
    #[schemars(title = "Answer time-out", extend(
        "x-group" = "transmission", "x-order" = 32, "x-title-fr" = "Délai de réponse",
        "x-help-fr" = "Attente de la réponse à une requête acquittée ou non confirmable ; 0 : attendre toujours"
    ))]
    pub answer_timeout: Span,

    /// How many requests may be under way at once (NSTART). Constrained devices and networks want 1; with more, messages may arrive in another order
    #[schemars(title = "NSTART", range(min = 1, max = 1024), extend(
        "x-group" = "transmission", "x-order" = 33, "x-title-fr" = "NSTART",
        "x-help-fr" = "Nombre de requêtes en cours à la fois (NSTART). Les appareils et réseaux contraints en veulent 1 ; au-delà, les messages peuvent arriver dans un autre ordre"
    ))]
    pub nstart: u16,

    /// Size of blocks for what does not fit into one message: 16, 32, 64, 128, 256, 512 or 1024. When given, the server is asked for it from the start; else blocks are 1024 bytes, and the server chooses those of its answers
    #[schemars(title = "Block size", range(min = 16, max = 1024), extend(
        "x-group" = "blocks", "x-order" = 40, "x-title-fr" = "Taille des blocs",
        "x-help-fr" = "Taille des blocs pour ce qui ne tient pas dans un message : 16, 32, 64, 128, 256, 512 ou 1024. Si elle est donnée, elle est demandée au serveur d'emblée ; sinon les blocs font 1024 octets et le serveur choisit ceux de ses réponses"
    ))]
    pub block_size: Option<u16>,

    /// Longest answer to put together out of blocks
    #[schemars(title = "Longest answer", range(min = 1024), extend(
        "x-type" = "size", "x-group" = "blocks", "x-order" = 41, "x-title-fr" = "Plus longue réponse",
        "x-help-fr" = "Plus longue réponse à reconstituer à partir de blocs"
    ))]
    pub max_body_size: u32,

    /// Network interface for requests to a group, by name or address
    #[schemars(title = "Multicast interface", extend(
        "x-group" = "multicast", "x-order" = 50, "x-title-fr" = "Interface de multidiffusion",
        "x-help-fr" = "Interface réseau des requêtes à un groupe, par son nom ou son adresse"
    ))]
    pub interface: Option<String>,

    /// How many routers a request to a group may pass, and one more
    #[schemars(title = "Multicast hops", range(min = 0), extend(
        "x-group" = "multicast", "x-order" = 51, "x-title-fr" = "Sauts de multidiffusion",
        "x-help-fr" = "Nombre de routeurs qu'une requête à un groupe peut passer, plus un"
    ))]
    pub multicast_hops: u8,

    #[serde(flatten)]
    pub oscore: OscoreOptions,

    #[cfg(feature = "dtls")]
    #[serde(flatten)]
    pub psk: PskOptions,

    #[serde(flatten)]
    pub net: NetOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            ack_timeout: Span::from_secs(2),
            max_retransmit: MAX_RETRANSMIT,
            answer_timeout: Span::from_secs(60),
            nstart: 1,
            block_size: None,
            max_body_size: MAX_BODY_SIZE,
            interface: None,
            multicast_hops: 1,
            oscore: OscoreOptions::default(),
            #[cfg(feature = "dtls")]
            psk: PskOptions::default(),
            net: NetOptions::default(),
        }
    }
}

impl ConnectOptions {
    /// # Errors
    /// A value that can't be, or an option that the transport has no place for.
    pub fn check(&self, transport: Transport) -> Result<()> {
        self.preferences()?;
        let ack_timeout = self.ack_timeout.duration();
        if ack_timeout.is_zero() || ack_timeout > LONGEST_ACK_TIMEOUT {
            return Err(Error::config("--ack-timeout: it is more than 0 and at most 1h"));
        }
        let defaults = ConnectOptions::default();
        let datagrams = [
            ("--ack-timeout", self.ack_timeout != defaults.ack_timeout),
            ("--max-retransmit", self.max_retransmit != defaults.max_retransmit),
        ];
        let groups = [
            ("--interface", self.interface.is_some()),
            ("--multicast-hops", self.multicast_hops != defaults.multicast_hops),
        ];
        let scheme = transport.scheme();
        if let Some((option, _)) = datagrams.iter().find(|(_, set)| *set && !transport.is_datagram()) {
            return Err(Error::config(format!(
                "{option} is for coap and coaps: over {scheme}:// nothing is sent again"
            )));
        }
        if let Some((option, _)) = groups.iter().find(|(_, set)| *set && transport != Transport::Udp) {
            return Err(Error::config(format!("{option} is for coap: {scheme}:// reaches no groups")));
        }
        self.check_security(transport)
    }

    fn check_security(&self, transport: Transport) -> Result<()> {
        self.oscore.parameters()?;
        let scheme = transport.scheme();
        #[cfg(feature = "dtls")]
        {
            self.psk.check()?;
            if self.psk.is_set() && !transport.is_secure() {
                return Err(Error::config(format!(
                    "--psk-identity and --psk-key are for coaps and coaps+tcp: {scheme}:// is not encrypted"
                )));
            }
            if self.psk.is_set() {
                no_keys_with_1_3(self.net.tls.tls_min_version)?;
            }
        }
        if let Some(option) = self.net.tls.first_set().filter(|_| !transport.is_secure()) {
            return Err(Error::config(format!(
                "{option} is for coaps and coaps+tcp: {scheme}:// is not encrypted"
            )));
        }
        if transport == Transport::Dtls {
            no_dtls_1_3(self.net.tls.tls_min_version)?;
        }
        if self.net.proxy.proxy.is_some() && transport.is_datagram() {
            return Err(Error::config(format!(
                "--proxy is for coap+tcp and coaps+tcp: the datagrams of {scheme}:// can't go through one"
            )));
        }
        Ok(())
    }

    /// What a group of servers can't have, since each of them would need keys of its own.
    ///
    /// # Errors
    /// A security context, or DTLS.
    pub fn check_group(&self, transport: Transport) -> Result<()> {
        if self.oscore.parameters()?.is_some() {
            return Err(Error::config(
                "--oscore-master-secret: a group of servers can't share OSCORE's keys",
            ));
        }
        match transport {
            Transport::Udp => Ok(()),
            other => Err(Error::config(format!("{}:// reaches no groups: write coap://", other.scheme()))),
        }
    }

    /// # Errors
    /// The block size is none.
    pub fn preferences(&self) -> Result<Preferences> {
        let size = self.block_size.unwrap_or(1024);
        let exponent = Block::exponent_of(usize::from(size));
        if 16_u16 << exponent != size {
            return Err(Error::config(format!(
                "--block-size {size}: it is one of 16, 32, 64, 128, 256, 512, 1024"
            )));
        }
        let room = Room::of_datagram(exponent);
        Ok(Preferences { room, early: self.block_size.is_some(), longest: self.max_body_size as usize })
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            ack_timeout: self.ack_timeout.duration(),
            max_retransmit: u32::from(self.max_retransmit),
            nstart: usize::from(self.nstart),
            response_timeout: self.answer_timeout(),
            ..Parameters::default()
        }
    }

    /// `None`: for ever.
    pub fn answer_timeout(&self) -> Option<Duration> {
        let timeout = self.answer_timeout.duration();
        (!timeout.is_zero() && timeout < LONGEST_ANSWER_TIMEOUT).then_some(timeout)
    }
}

/// # Errors
/// More is wanted than pre-shared keys have here.
#[cfg(feature = "dtls")]
pub fn no_keys_with_1_3(oldest: Option<TlsVersion>) -> Result<()> {
    match oldest {
        Some(TlsVersion::V1_3) => {
            Err(Error::config("--tls-min-version 1.3 is for certificates: pre-shared keys have 1.2 here"))
        }
        _ => Ok(()),
    }
}

/// # Errors
/// More is wanted than DTLS has here.
pub fn no_dtls_1_3(oldest: Option<TlsVersion>) -> Result<()> {
    match oldest {
        Some(TlsVersion::V1_3) => Err(Error::config(
            "--tls-min-version 1.3 is for coaps+tcp: DTLS has no newer version than 1.2 here",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> ConnectOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (json, transport, part) in [
            (serde_json::json!({"block_size": 100}), Transport::Udp, "--block-size"),
            (serde_json::json!({"block_size": 2048}), Transport::Tcp, "--block-size"),
            (serde_json::json!({"ack_timeout": "0"}), Transport::Udp, "--ack-timeout"),
            (serde_json::json!({"ack_timeout": "2h"}), Transport::Udp, "--ack-timeout"),
            (serde_json::json!({"max_retransmit": 1}), Transport::Tls, "--max-retransmit"),
            (serde_json::json!({"interface": "eth0"}), Transport::Dtls, "--interface"),
            (serde_json::json!({"tls_ca": "x"}), Transport::Udp, "--tls-ca"),
            (serde_json::json!({"insecure_skip_verify": true}), Transport::Tcp, "--insecure-skip-verify"),
            (serde_json::json!({"proxy": "http://h:1"}), Transport::Dtls, "--proxy"),
            (serde_json::json!({"oscore_sender_id": "01"}), Transport::Udp, "--oscore-master-secret"),
        ] {
            let error = options(json).check(transport).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        for transport in [Transport::Udp, Transport::Dtls, Transport::Tcp, Transport::Tls] {
            options(serde_json::json!({})).check(transport).expect("the defaults fit every transport");
        }
    }

    #[cfg(feature = "dtls")]
    #[test]
    fn pre_shared_keys_are_for_dtls_and_tls() {
        let with = |json| options(json);
        let keys = with(serde_json::json!({"psk_identity": "a", "psk_key": "hunter2"}));
        for transport in [Transport::Dtls, Transport::Tls] {
            keys.check(transport).expect("it has them");
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            let error = keys.check(transport).expect_err("it is not encrypted").to_string();
            assert!(error.contains("--psk-key") && !error.contains("hunter2"), "{error}");
        }
        let newest =
            with(serde_json::json!({"psk_identity": "a", "psk_key": "hunter2", "tls_min_version": "1.3"}));
        let error = newest.check(Transport::Tls).expect_err("keys have 1.2").to_string();
        assert!(error.contains("--tls-min-version"), "{error}");
    }

    #[test]
    fn groups_share_no_keys() {
        let oscore = serde_json::json!({"oscore_master_secret": "00", "oscore_sender_id": "01"});
        assert!(options(oscore).check_group(Transport::Udp).is_err());
        assert!(ConnectOptions::default().check_group(Transport::Dtls).is_err());
        ConnectOptions::default().check_group(Transport::Udp).expect("a plain group");
    }

    #[test]
    fn a_block_size_that_is_given_is_asked_for_early() {
        let given = options(serde_json::json!({"block_size": 64})).preferences().unwrap();
        assert_eq!((given.room, given.early), (Room::of_datagram(2), true));
        assert!(!ConnectOptions::default().preferences().unwrap().early);
    }
}
