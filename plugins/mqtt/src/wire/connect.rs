//! CONNECT for the three versions (3.1 and 3.1.1, section 3.1; 5.0, section 3.1).
//!
//! Written here for all of them: rumqttc's cannot do 3.1, nor a password without a user name, nor an empty or
//! binary password.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWillProperties};

use super::frame::put_varint;
use super::property::put_binary;
use super::{Invalid, MAX_REMAINING, QoS, Version, topic};

/// The message that the server publishes when the client goes away without DISCONNECT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Any bytes, at most 65,535.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// The server keeps it for later subscribers.
    pub retain: bool,
    /// 5.0: seconds the server waits before it publishes the will.
    pub delay: Option<u32>,
    /// 5.0: seconds the message stays valid.
    pub message_expiry: Option<u32>,
    /// 5.0: the payload is UTF-8 text.
    pub payload_is_text: bool,
    /// 5.0: what the payload is.
    pub content_type: Option<String>,
    /// 5.0: where an answer is expected.
    pub response_topic: Option<String>,
    /// 5.0: what the answer has to repeat.
    pub correlation_data: Option<Bytes>,
    /// 5.0: names and values.
    pub user_properties: Vec<(String, String)>,
}

impl Will {
    fn properties(&self) -> LastWillProperties {
        LastWillProperties {
            delay_interval: self.delay,
            payload_format_indicator: self.payload_is_text.then_some(1),
            message_expiry_interval: self.message_expiry,
            content_type: self.content_type.clone(),
            response_topic: self.response_topic.clone(),
            correlation_data: self.correlation_data.clone(),
            user_properties: self.user_properties.clone(),
        }
    }

    fn check(&self, version: Version) -> Result<(), Invalid> {
        let will = |error: Invalid| Invalid::new(format!("last will: {error}"));
        topic::check_topic(&self.topic).map_err(will)?;
        topic::check_binary("last will payload", &self.payload)?;
        let is_plain = Self {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: self.qos,
            retain: self.retain,
            ..Self::default()
        } == *self;
        if !version.is_v5() && !is_plain {
            return Err(Invalid::new(format!(
                "last will: delay, expiry, content type, response topic, correlation data and user properties \
                 need MQTT 5.0, this connection speaks {version}"
            )));
        }
        if let Some(text) = &self.content_type {
            topic::check_string("last will content type", text)?;
        }
        if let Some(text) = &self.response_topic {
            topic::check_topic(text).map_err(will)?;
        }
        if let Some(data) = &self.correlation_data {
            topic::check_binary("last will correlation data", data)?;
        }
        check_pairs("last will user property", &self.user_properties)
    }
}

/// All that a CONNECT can say.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Protocol version.
    pub version: Version,
    /// Empty: the server makes one up (not in 3.1; in 3.1.1 with a clean session only).
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password; secret.
    pub password: Option<Bytes>,
    /// Seconds; 0 switches it off.
    pub keep_alive: u16,
    /// Clean session (3.x), clean start (5.0).
    pub clean: bool,
    /// Last will.
    pub will: Option<Will>,
    /// 5.0: seconds the session outlives the connection; `u32::MAX` never ends.
    pub session_expiry: Option<u32>,
    /// 5.0: most unacknowledged QoS 1 and 2 messages we take at once, 1 to 65,535.
    pub receive_maximum: Option<u16>,
    /// 5.0: largest packet we take, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// 5.0: topic aliases the server may use towards us.
    pub topic_alias_maximum: Option<u16>,
    /// 5.0: ask for response information in CONNACK.
    pub request_response_information: Option<bool>,
    /// 5.0: false asks the server to leave out reason strings and user properties.
    pub request_problem_information: Option<bool>,
    /// 5.0: names and values.
    pub user_properties: Vec<(String, String)>,
    /// 5.0: enhanced authentication: method and first data; the data is secret.
    pub authentication: Option<(String, Bytes)>,
}

impl Connect {
    /// A CONNECT with only these three said.
    pub fn new(version: Version, client_id: impl Into<String>, clean: bool) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            username: None,
            password: None,
            keep_alive: 60,
            clean,
            will: None,
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: None,
            request_response_information: None,
            request_problem_information: None,
            user_properties: Vec::new(),
            authentication: None,
        }
    }

    fn properties(&self) -> ConnectProperties {
        let (method, data) = match &self.authentication {
            Some((method, data)) => (Some(method.clone()), (!data.is_empty()).then(|| data.clone())),
            None => (None, None),
        };
        ConnectProperties {
            session_expiry_interval: self.session_expiry,
            receive_maximum: self.receive_maximum,
            max_packet_size: self.maximum_packet_size,
            topic_alias_max: self.topic_alias_maximum,
            request_response_info: self.request_response_information.map(u8::from),
            request_problem_info: self.request_problem_information.map(u8::from),
            user_properties: self.user_properties.clone(),
            authentication_method: method,
            authentication_data: data,
        }
    }

    /// # Errors
    /// What the version cannot say, or a value out of its range; the text names it.
    pub fn check(&self) -> Result<(), Invalid> {
        let version = self.version;
        topic::check_string("client id", &self.client_id)?;
        if self.client_id.is_empty() && version == Version::V31 {
            return Err(Invalid::new("client id is empty: MQTT 3.1 needs one of 1 to 23 characters"));
        }
        if self.client_id.is_empty() && version == Version::V311 && !self.clean {
            return Err(Invalid::new("client id is empty: a session that is kept needs one in MQTT 3.1.1"));
        }
        if let Some(username) = &self.username {
            topic::check_string("user name", username)?;
        }
        if self.password.is_some() && self.username.is_none() && !version.is_v5() {
            return Err(Invalid::new(format!(
                "a password without a user name needs MQTT 5.0, this is {version}"
            )));
        }
        // The value stays out of the text: it is secret.
        topic::check_binary("password", self.password.as_deref().unwrap_or_default())?;
        if let Some(will) = &self.will {
            will.check(version)?;
        }
        if !version.is_v5() {
            if self.properties() != ConnectProperties::new() {
                return Err(Invalid::new(format!(
                    "session expiry, receive maximum, maximum packet size, topic alias maximum, request/response \
                     information, user properties and enhanced authentication need MQTT 5.0, this connection \
                     speaks {version}"
                )));
            }
            return Ok(());
        }
        if self.receive_maximum == Some(0) {
            return Err(Invalid::new("receive maximum 0: it must be 1 to 65535"));
        }
        if self.maximum_packet_size == Some(0) {
            return Err(Invalid::new("maximum packet size 0: it must be at least 1"));
        }
        if let Some((method, data)) = &self.authentication {
            topic::check_string("authentication method", method)?;
            topic::check_binary("authentication data", data)?;
        }
        check_pairs("user property", &self.user_properties)
    }

    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// As [`Self::check`], or a packet above 268,435,455 bytes.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Invalid> {
        self.check()?;
        let too_long = |_| Invalid::new("CONNECT is above 268435455 bytes: fewer user properties are needed");
        let mut body = BytesMut::new();
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        put_binary(&mut body, name.as_bytes());
        body.put_u8(level);
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos.level() << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.username.is_some()) << 7;
        body.put_u8(flags);
        body.put_u16(self.keep_alive);
        if self.version.is_v5() {
            self.properties().write(&mut body).map_err(too_long)?;
        }
        put_binary(&mut body, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                will.properties().write(&mut body).map_err(too_long)?;
            }
            put_binary(&mut body, will.topic.as_bytes());
            put_binary(&mut body, &will.payload);
        }
        if let Some(username) = &self.username {
            put_binary(&mut body, username.as_bytes());
        }
        if let Some(password) = &self.password {
            put_binary(&mut body, password);
        }
        if body.len() > MAX_REMAINING {
            return Err(too_long(rumqttc::v5::mqttbytes::Error::PayloadTooLong));
        }
        out.put_u8(0x10);
        put_varint(out, body.len());
        out.put_slice(&body);
        Ok(())
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |set: bool| if set { "***" } else { "none" };
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &secret(self.password.is_some()))
            .field("keep_alive", &self.keep_alive)
            .field("clean", &self.clean)
            .field("will", &self.will.as_ref().map(|will| &will.topic))
            .field("session_expiry", &self.session_expiry)
            .field("authentication", &self.authentication.as_ref().map(|(method, _)| method))
            .finish_non_exhaustive()
    }
}

pub(super) fn check_pairs(what: &str, pairs: &[(String, String)]) -> Result<(), Invalid> {
    for (name, value) in pairs {
        topic::check_string(&format!("{what} name"), name)?;
        topic::check_string(&format!("{what} value"), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::v5;
    use rumqttc::{Packet, mqttbytes};

    use super::*;

    fn full(version: Version) -> Connect {
        let mut connect = Connect::new(version, "me", false);
        connect.username = Some("user".into());
        connect.password = Some(Bytes::from_static(b"pass"));
        connect.keep_alive = 30;
        connect.will = Some(Will {
            topic: "gone".into(),
            payload: Bytes::from_static(b"bye"),
            qos: QoS::AtLeastOnce,
            retain: true,
            ..Will::default()
        });
        connect
    }

    #[test]
    fn rumqttc_reads_the_3_1_1_packet() {
        let mut out = BytesMut::new();
        full(Version::V311).encode(&mut out).unwrap();
        let Packet::Connect(got) = Packet::read(&mut out, 1000).unwrap() else { panic!() };
        assert_eq!((got.client_id.as_str(), got.clean_session, got.keep_alive), ("me", false, 30));
        let login = got.login.unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("user", "pass"));
        let will = got.last_will.unwrap();
        assert_eq!((will.topic.as_str(), &will.message[..], will.retain), ("gone", &b"bye"[..], true));
        assert_eq!(will.qos, mqttbytes::QoS::AtLeastOnce);
    }

    #[test]
    fn rumqttc_reads_the_5_0_packet() {
        let mut connect = full(Version::V5);
        connect.session_expiry = Some(3600);
        connect.receive_maximum = Some(10);
        connect.maximum_packet_size = Some(9999);
        connect.topic_alias_maximum = Some(7);
        connect.request_response_information = Some(true);
        connect.request_problem_information = Some(false);
        connect.user_properties = vec![("k".into(), "v".into())];
        connect.authentication = Some(("SCRAM-SHA-1".into(), Bytes::from_static(b"n,,")));
        let will = connect.will.as_mut().unwrap();
        will.delay = Some(5);
        will.message_expiry = Some(6);
        will.payload_is_text = true;
        will.content_type = Some("t".into());
        will.response_topic = Some("r".into());
        will.correlation_data = Some(Bytes::from_static(b"c"));
        will.user_properties = vec![("wk".into(), "wv".into())];
        let mut out = BytesMut::new();
        connect.encode(&mut out).unwrap();
        let v5::Packet::Connect(got, will, login) = v5::Packet::read(&mut out, None).unwrap() else {
            panic!()
        };
        assert_eq!((got.client_id.as_str(), got.clean_start, got.keep_alive), ("me", false, 30));
        assert_eq!(got.properties.unwrap(), connect.properties());
        let will = will.unwrap();
        assert_eq!((&will.topic[..], &will.message[..], will.retain), (&b"gone"[..], &b"bye"[..], true));
        assert_eq!(will.properties.unwrap(), connect.will.as_ref().unwrap().properties());
        assert_eq!(login.unwrap().password, "pass");
    }

    #[test]
    fn the_3_1_packet_is_mqisdp_level_3() {
        let mut out = BytesMut::new();
        Connect::new(Version::V31, "me", true).encode(&mut out).unwrap();
        assert_eq!(&out[..], b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3C\x00\x02me");
    }

    #[test]
    fn what_a_version_cannot_say_is_refused() {
        let refused = |connect: &Connect| connect.check().unwrap_err().to_string();
        let mut connect = Connect::new(Version::V311, "", false);
        assert!(refused(&connect).contains("client id is empty"));
        connect.client_id = "x".into();
        connect.session_expiry = Some(1);
        assert!(refused(&connect).contains("need MQTT 5.0"));
        connect = Connect::new(Version::V31, "", true);
        assert!(refused(&connect).contains("1 to 23"));
        connect = Connect::new(Version::V311, "x", true);
        connect.password = Some(Bytes::from_static(b"hush"));
        assert!(refused(&connect).contains("without a user name"));
        connect = full(Version::V311);
        connect.will.as_mut().unwrap().delay = Some(1);
        assert!(refused(&connect).contains("last will: delay"));
        connect = full(Version::V5);
        connect.receive_maximum = Some(0);
        assert!(refused(&connect).contains("1 to 65535"));
        connect = full(Version::V5);
        connect.will.as_mut().unwrap().topic = "a/#".into();
        assert!(refused(&connect).starts_with("last will: invalid topic"));
    }

    #[test]
    fn debug_output_keeps_the_password() {
        let mut connect = full(Version::V5);
        connect.authentication = Some(("m".into(), Bytes::from_static(b"pass")));
        assert!(!format!("{connect:?}").contains("pass\""));
        assert!(format!("{connect:?}").contains("***"));
    }
}
