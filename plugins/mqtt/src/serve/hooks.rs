//! Our say in what the broker library does: who may connect, what is refused, what is shown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rmqtt::codec::types::Publish as CodecPublish;
use rmqtt::codec::v5::{PublishAckReason, SubscribeAckReason};
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ConnectInfo, From as Origin, FromType, Id, LastWill, Publish, PublishAclResult,
    PublishResult, Reason, Subscribe, SubscribeAclResult,
};

use tokio::time::{Instant, sleep};
use tracemq_plugin_api::net::Users;
use tracemq_plugin_api::sdk::Feed;

use super::budget::Budget;
use super::event::{BrokerEvent, BrokerMessage, Properties, Text};
use super::filter;
use super::links::Links;
use super::options::DenyRule;
use super::reasons::{code, describe, disconnect_code};
use super::stores::Retained;
use super::wills::Wills;

/// How long a publisher waits for memory before its message is refused.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// How long a new connection waits for the end of an earlier one of the same client, and how often it looks.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
const SETTLE_PAUSE: Duration = Duration::from_millis(2);
/// How long a connection waits before it takes over the session of one that seems alive.
const TAKEOVER_PAUSE: Duration = Duration::from_millis(20);

/// What the hooks decide by and report to.
pub(super) struct House {
    pub(super) users: Users,
    pub(super) deny_subscribe: Vec<DenyRule>,
    pub(super) deny_publish: Vec<DenyRule>,
    pub(super) max_topic_aliases: u16,
    pub(super) links: Arc<Links>,
    pub(super) budget: Arc<Budget>,
    pub(super) retained: Arc<Retained>,
    pub(super) events: Arc<Feed<BrokerEvent>>,
    pub(super) messages: Arc<Feed<BrokerMessage>>,
    pub(super) wills: Wills,
    /// The library's context, while the broker runs. It refers to us, so [`House::detach`] must be called.
    pub(super) scx: Mutex<Option<ServerContext>>,
}

impl House {
    /// Registers itself for all that it wants to know.
    pub(super) async fn attach(self: &Arc<Self>, scx: &ServerContext) {
        let register = scx.extends.hook_mgr().register();
        for kind in [
            Type::ClientAuthenticate,
            Type::ClientConnected,
            Type::ClientDisconnected,
            Type::ClientSubscribeCheckAcl,
            Type::SessionSubscribed,
            Type::MessagePublish,
            Type::MessagePublishCheckAcl,
            Type::MessageExpiryCheck,
            Type::MessageDropped,
            Type::OfflineInflightMessages,
        ] {
            register.add(kind, Box::new(Hooks(Arc::clone(self)))).await;
        }
        register.start().await;
        *self.scx() = Some(scx.clone());
    }

    /// Lets go of the library, so that its memory can be freed.
    pub(super) fn detach(&self) {
        *self.scx() = None;
    }

    fn scx(&self) -> MutexGuard<'_, Option<ServerContext>> {
        self.scx.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while an earlier session of the same client is between its end and its removal.
    ///
    /// A client that reconnects at once would fall into that gap, in which the library answers
    /// "server unavailable". A session that is alive, or is kept for its client, is not waited for.
    async fn settle(&self, id: &Id) {
        let Some(scx) = self.scx().clone() else { return };
        let deadline = Instant::now() + SETTLE_PATIENCE;
        while Instant::now() < deadline {
            let entry = scx.extends.shared().await.entry(id.clone());
            let Some(session) = entry.session() else { return };
            if session.connected().await.unwrap_or(false) {
                let alive = || {
                    let link = self.links.find(session.id.remote_addr);
                    link.is_some_and(|link| !link.is_client_closed())
                };
                if alive() {
                    // Its last bytes, a DISCONNECT perhaps, may still be under way.
                    sleep(TAKEOVER_PAUSE).await;
                    if alive() {
                        return;
                    }
                }
            } else if is_kept(&session).await {
                return;
            }
            sleep(SETTLE_PAUSE).await;
        }
    }

    pub(super) fn report(&self, event: BrokerEvent) {
        self.events.push(event, size_of::<BrokerEvent>());
    }

    async fn authenticate(&self, connect: &ConnectInfo) -> AuthResult {
        let id = connect.id();
        let Some(link) = self.links.find(id.remote_addr) else {
            log::warn!("refused a program on this machine that tried the broker's inner port");
            return AuthResult::NotAuthorized;
        };
        let refused = |reason: String| {
            self.report(BrokerEvent::Refused {
                client: Some(id.client_id.clone()),
                peer: Some(link.peer),
                what: "connection",
                topic: None,
                reason,
            });
        };
        let name = connect.username().map(AsRef::<str>::as_ref);
        if !self.users.allow(name, connect.password().map(AsRef::as_ref)) {
            refused(match name {
                Some(name) => format!("unknown user \"{name}\" or wrong password"),
                None => "a user name and a password are required".to_owned(),
            });
            return AuthResult::BadUsernameOrPassword;
        }
        if let Some(will) = connect.last_will() {
            let topic: &str = match &will {
                LastWill::V3(will) => &will.topic,
                LastWill::V5(will) => &will.topic,
            };
            let fault = filter::topic_fault(topic).or_else(|| {
                DenyRule::find(&self.deny_publish, topic).map(|rule| format!("denied by \"{}\"", rule.filter))
            });
            if let Some(fault) = fault {
                refused(format!("last will to \"{topic}\": {fault}"));
                return AuthResult::NotAuthorized;
            }
        }
        self.settle(id).await;
        AuthResult::Allow(false, None)
    }

    async fn connected(&self, session: &Session) {
        self.wills.revoke(&session.id.client_id);
        let link = self.links.find(session.id.remote_addr);
        let level = session.protocol().await.unwrap_or_default();
        if let Some(link) = &link {
            link.accept(level);
        }
        self.report(BrokerEvent::Connected {
            client: session.id.client_id.clone(),
            peer: link.as_ref().map(|link| link.peer),
            transport: link.as_ref().map(|link| link.transport),
            version: match level {
                3 => "3.1",
                4 => "3.1.1",
                _ => "5.0",
            },
            user: session.id.username.clone(),
        });
    }

    async fn disconnected(self: &Arc<Self>, session: &Session, reason: &Reason) {
        self.wills.execute(self, session).await;
        let link = self.links.find(session.id.remote_addr);
        let peer = link.as_ref().map(|link| link.peer);
        if let Some(link) = link {
            link.leave(disconnect_code(reason));
        }
        let reason = describe(reason);
        self.report(BrokerEvent::Disconnected { client: session.id.client_id.clone(), peer, reason });
    }

    fn check_subscribe(&self, session: &Session, subscribe: &Subscribe) -> Option<SubscribeAclResult> {
        let rule = DenyRule::find(&self.deny_subscribe, &subscribe.topic_filter)?;
        self.report(BrokerEvent::Refused {
            client: Some(session.id.client_id.clone()),
            peer: self.links.find(session.id.remote_addr).map(|link| link.peer),
            what: "subscribe",
            topic: Some(subscribe.topic_filter.clone()),
            reason: format!("denied by \"{}\"", rule.filter),
        });
        let reason = SubscribeAckReason::try_from(rule.code).unwrap_or(SubscribeAckReason::NotAuthorized);
        Some(SubscribeAclResult::new_failure(reason))
    }

    /// Judges a PUBLISH; an allowed one is shown.
    async fn check_publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        let link = || self.links.find(session.id.remote_addr);
        let refuse = |code: u8, disconnect: bool, reason: String| {
            let link = link();
            if let (true, Some(link)) = (disconnect, &link) {
                link.blame(code);
            }
            self.report(BrokerEvent::Refused {
                client: Some(session.id.client_id.clone()),
                peer: link.map(|link| link.peer),
                what: "publish",
                topic: Some(publish.topic.clone()),
                reason: reason.clone(),
            });
            let code = PublishAckReason::try_from(code).unwrap_or(PublishAckReason::NotAuthorized);
            PublishAclResult(PublishResult::reason_code(code, Some(reason.into()), disconnect))
        };
        let alias = publish.properties.as_ref().and_then(|known| known.topic_alias);
        if let Some(alias) = alias.filter(|alias| alias.get() > self.max_topic_aliases) {
            let reason = format!("topic alias {alias} is above the maximum of {}", self.max_topic_aliases);
            return refuse(code::TOPIC_ALIAS_INVALID, true, reason);
        }
        if let Some(fault) = filter::topic_fault(&publish.topic) {
            return refuse(code::TOPIC_NAME_INVALID, true, fault);
        }
        if let Some(rule) = DenyRule::find(&self.deny_publish, &publish.topic) {
            return refuse(rule.code, false, format!("denied by \"{}\"", rule.filter));
        }
        if !self.budget.room(ROOM_PATIENCE).await {
            let reason = "the broker holds too many undelivered bytes; slow subscribers?".to_owned();
            return refuse(code::QUOTA_EXCEEDED, false, reason);
        }
        if publish.retain
            && !publish.payload.is_empty()
            && !self.retained.room(publish.topic.len() + publish.payload.len()).await
        {
            let reason = "the broker keeps as many retained messages as it may".to_owned();
            return refuse(code::QUOTA_EXCEEDED, false, reason);
        }
        self.show(session.id.client_id.clone(), publish, false);
        PublishAclResult::allow()
    }

    /// Counts the payload; a last will, which the library does not check, is shown here.
    pub(super) fn take_in(&self, origin: &Origin, publish: &Publish) -> Option<Publish> {
        let counted = (!publish.payload.is_empty()).then(|| {
            let mut counted = publish.clone();
            counted.payload = self.budget.track(&publish.payload);
            counted
        });
        if matches!(origin.typ(), FromType::LastWill) {
            self.show(origin.id.client_id.clone(), counted.as_ref().unwrap_or(publish), true);
        }
        counted
    }

    fn show(&self, client: Text, publish: &CodecPublish, will: bool) {
        let properties = publish.properties.as_ref().map_or_else(Properties::default, |known| Properties {
            user: known.user_properties.clone(),
            content_type: known.content_type.clone(),
            response_topic: known.response_topic.clone(),
            correlation_data: known.correlation_data.clone(),
            message_expiry: known.message_expiry_interval.map(Into::into),
            utf8: known.is_utf8_payload,
        });
        let message = BrokerMessage {
            time: SystemTime::now(),
            client,
            will,
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            qos: publish.qos.value(),
            retain: publish.retain,
            dup: publish.dup,
            properties,
        };
        let weight = message.weight();
        self.messages.push(message, weight);
    }

    /// Whether a message is larger than its receiver takes (MQTT 5.0 section 3.1.2.11.4: it is then left out,
    /// where the library would end the connection). The bound is 5 bytes smaller, as the library's is.
    async fn too_large(&self, session: &Session, publish: &Publish) -> bool {
        let Ok(connect) = session.connect_info().await else { return false };
        let Some(max) = connect.max_packet_size() else { return false };
        let size = encoded_size(publish);
        if size <= max.get().saturating_sub(5) as usize {
            return false;
        }
        self.report(BrokerEvent::Dropped {
            client: Some(session.id.client_id.clone()),
            topic: publish.topic.clone(),
            reason: format!("it has {size} bytes, the client takes packets of at most {max}"),
        });
        true
    }

    fn dropped(&self, to: Option<Text>, publish: &Publish, reason: &Reason) {
        let expires =
            publish.properties.as_ref().is_some_and(|known| known.message_expiry_interval.is_some());
        match reason {
            // A refusal of ours was reported when it was made.
            Reason::PublishResult(_) => return,
            // So was a message that is too large, which has to pass for an expired one.
            Reason::MessageExpiration if !expires => return,
            _ => {}
        }
        self.report(BrokerEvent::Dropped {
            client: to,
            topic: publish.topic.clone(),
            reason: describe(reason),
        });
    }
}

/// Turns the unacknowledged messages of a session that waits for its client round: the library takes them up
/// again from the end, where section 4.6 wants the order they were sent in.
async fn reverse_inflight(session: &Session) {
    let mut inflight = session.out_inflight().write().await;
    for message in inflight.to_inflight_messages().into_iter().rev() {
        inflight.push_back(message);
    }
}

/// The remaining length of a 5.0 PUBLISH.
fn encoded_size(publish: &CodecPublish) -> usize {
    let properties = publish.properties.as_ref().map_or(0, |known| {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| 3 + text.len());
        let user: usize = known.user_properties.iter().map(|(key, value)| 5 + key.len() + value.len()).sum();
        user + text(&known.content_type)
            + text(&known.response_topic)
            + known.correlation_data.as_ref().map_or(0, |data| 3 + data.len())
            + known.message_expiry_interval.map_or(0, |_| 5)
            + usize::from(known.is_utf8_payload) * 2
            + known.subscription_ids.len() * 5
    });
    // Topic and packet identifier with their lengths, and the longest length of the properties.
    2 + publish.topic.len() + 2 + 4 + properties + publish.payload.len()
}

/// Whether a session without its client is kept for it, and not about to be removed.
async fn is_kept(session: &Session) -> bool {
    let Ok(connect) = session.connect_info().await else { return false };
    match connect.as_ref() {
        ConnectInfo::V3(_, connect) => !connect.clean_session,
        ConnectInfo::V5(..) => {
            let disconnect = session.disconnect().await.ok().flatten();
            !session.fitter.session_expiry_interval(disconnect.as_ref()).is_zero()
        }
    }
}

struct Hooks(Arc<House>);

#[async_trait]
impl Handler for Hooks {
    async fn hook(&self, parameter: &Parameter, result: Option<HookResult>) -> ReturnType {
        let house = &self.0;
        let result = match parameter {
            Parameter::ClientAuthenticate(connect) => {
                return (false, Some(HookResult::AuthResult(house.authenticate(connect).await)));
            }
            Parameter::ClientConnected(session) => {
                house.connected(session).await;
                result
            }
            Parameter::ClientDisconnected(session, reason) => {
                house.disconnected(session, reason).await;
                result
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                house.check_subscribe(session, subscribe).map(HookResult::SubscribeAclResult)
            }
            Parameter::SessionSubscribed(session, subscribe) => {
                house.report(BrokerEvent::Subscribed {
                    client: session.id.client_id.clone(),
                    filter: subscribe.topic_filter.clone(),
                    group: subscribe.opts.shared_group().cloned(),
                    qos: subscribe.opts.qos_value(),
                });
                result
            }
            Parameter::MessagePublish(_, origin, publish) => {
                house.take_in(origin, publish).map(HookResult::Publish)
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                Some(HookResult::PublishAclResult(house.check_publish(session, publish).await))
            }
            Parameter::MessageExpiryCheck(session, _, publish) => {
                house.too_large(session, publish).await.then_some(HookResult::MessageExpiry)
            }
            Parameter::OfflineInflightMessages(session, _) => {
                reverse_inflight(session).await;
                result
            }
            Parameter::MessageDropped(to, _, publish, reason) => {
                house.dropped(to.as_ref().map(|id| id.client_id.clone()), publish, reason);
                result
            }
            _ => result,
        };
        (true, result)
    }
}
