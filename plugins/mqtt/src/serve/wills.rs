//! Last wills that a client asks for when it leaves (MQTT 5.0 section 3.14.2.1, "disconnect with will message").
//!
//! The library publishes the will of a lost client only, and drops it on any DISCONNECT.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmqtt::codec::v5::DisconnectReasonCode;
use rmqtt::session::{Session, SessionState};
use rmqtt::types::{Disconnect, From as Origin, Publish};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::event::Text;
use super::hooks::House;

/// Wills that wait for their delay, at most one for each session that is kept.
#[derive(Debug, Default)]
pub(super) struct Wills(Mutex<HashMap<Text, AbortHandle>>);

impl Wills {
    /// The client is back: its will is not sent (section 3.1.3.2.2).
    pub(super) fn revoke(&self, client: &Text) {
        if let Some(waiting) = self.lock().remove(client) {
            waiting.abort();
        }
    }

    /// The client left: sends its will if it asked for that, after the delay.
    pub(super) async fn execute(&self, house: &Arc<House>, session: &Session) {
        let Ok(Some(disconnect @ Disconnect::V5(_))) = session.disconnect().await else { return };
        if disconnect.reason_code() != Some(DisconnectReasonCode::DisconnectWithWillMessage) {
            return;
        }
        let Ok(connect) = session.connect_info().await else { return };
        let Some(will) = connect.last_will() else { return };
        // Not later than the session.
        let delay = will
            .will_delay_interval()
            .unwrap_or(Duration::ZERO)
            .min(session.fitter.session_expiry_interval(Some(&disconnect)));
        let Ok(publish) = Publish::try_from(will) else { return };
        let (house, session) = (Arc::clone(house), session.clone());
        let client = session.id.client_id.clone();
        if delay.is_zero() {
            return send(&house, &session, publish).await;
        }
        let task = tokio::spawn(async move {
            sleep(delay).await;
            house.wills.lock().remove(&session.id.client_id);
            send(&house, &session, publish).await;
        });
        if let Some(earlier) = self.lock().insert(client, task.abort_handle()) {
            earlier.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Text, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(house: &House, session: &Session, publish: Publish) {
    let origin = Origin::from_lastwill(session.id.clone());
    let publish = house.take_in(&origin, &publish).unwrap_or(publish);
    let expiry = publish.retain.then_some(Duration::ZERO);
    if let Err(error) = SessionState::forwards(&session.scx, origin, publish, false, expiry).await {
        log::warn!("the last will of {} was not sent: {error}", session.id.client_id);
    }
}
