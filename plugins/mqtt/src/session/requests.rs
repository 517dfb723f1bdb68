//! SUBSCRIBE and UNSUBSCRIBE: those that wait for a connection, those that wait for an answer, and the subscriptions
//! that have to be asked for again when the server has lost the session.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::ids::PacketIds;
use super::limits::Limits;
use super::notice::Notice;
use crate::wire::control::ListAck;
use crate::wire::request::{Filter, Subscribe, put_unsubscribe};
use crate::wire::{Invalid, Version, WireError};

#[derive(Clone)]
enum Request {
    Subscribe { token: u64, subscribe: Subscribe, again: bool },
    Unsubscribe { token: u64, filters: Vec<String> },
}

pub(super) struct Requests {
    version: Version,
    waiting: VecDeque<Request>,
    open: Vec<(u16, Request)>,
    granted: Vec<(u64, Subscribe)>,
}

impl Requests {
    pub(super) fn new(version: Version) -> Self {
        Self { version, waiting: VecDeque::new(), open: Vec::new(), granted: Vec::new() }
    }

    pub(super) fn subscribe(&mut self, token: u64, subscribe: Subscribe) {
        self.waiting.push_back(Request::Subscribe { token, subscribe, again: false });
    }

    pub(super) fn unsubscribe(&mut self, token: u64, filters: Vec<String>) {
        self.waiting.push_back(Request::Unsubscribe { token, filters });
    }

    /// Unanswered or unsent.
    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    /// Filters that the server granted.
    pub(super) fn granted(&self) -> impl Iterator<Item = &Filter> {
        self.granted.iter().flat_map(|(_, subscribe)| &subscribe.filters)
    }

    /// What was not answered is asked again on the next connection, before what was not even sent.
    pub(super) fn connection_lost(&mut self, ids: &mut PacketIds) {
        for (pid, request) in self.open.drain(..).rev() {
            ids.release(pid);
            self.waiting.push_front(request);
        }
    }

    /// The server has no session, or may have none (3.1 cannot tell): ask for all subscriptions again.
    pub(super) fn session_lost(&mut self) {
        self.waiting.retain(|request| !matches!(request, Request::Subscribe { again: true, .. }));
        for (token, subscribe) in self.granted.iter().rev() {
            let (token, subscribe) = (*token, subscribe.clone());
            self.waiting.push_front(Request::Subscribe { token, subscribe, again: true });
        }
    }

    pub(super) fn poll(
        &mut self,
        limits: &Limits,
        room: usize,
        ids: &mut PacketIds,
        notices: &mut Vec<Notice>,
        out: &mut BytesMut,
    ) {
        while out.len() < room && !self.waiting.is_empty() {
            let Some(pid) = ids.take() else { return };
            let Some(request) = self.waiting.pop_front() else { return };
            let start = out.len();
            match self.encode(&request, pid, limits, out) {
                Ok(()) => self.open.push((pid, request)),
                Err(error) => {
                    out.truncate(start);
                    ids.release(pid);
                    let (Request::Subscribe { token, .. } | Request::Unsubscribe { token, .. }) = request;
                    notices.push(Notice::RequestNotAllowed { token, error });
                }
            }
        }
    }

    fn encode(
        &self,
        request: &Request,
        pid: u16,
        limits: &Limits,
        out: &mut BytesMut,
    ) -> Result<(), Invalid> {
        let start = out.len();
        match request {
            Request::Subscribe { subscribe, .. } => {
                limits.check_subscribe(subscribe)?;
                subscribe.encode(pid, self.version, out)?;
                limits.check_size("SUBSCRIBE", out.len() - start)
            }
            Request::Unsubscribe { filters, .. } => {
                put_unsubscribe(filters, pid, self.version, out)?;
                limits.check_size("UNSUBSCRIBE", out.len() - start)
            }
        }
    }

    pub(super) fn on_suback(
        &mut self,
        ack: ListAck,
        ids: &mut PacketIds,
        notices: &mut Vec<Notice>,
    ) -> Result<(), WireError> {
        let Some(at) = self.open.iter().position(|(pid, _)| *pid == ack.pid) else { return Ok(()) };
        let (pid, request) = self.open.remove(at);
        let Request::Subscribe { token, mut subscribe, again } = request else {
            return Err(WireError::protocol("SUBACK for an UNSUBSCRIBE"));
        };
        ids.release(pid);
        if ack.reasons.len() != subscribe.filters.len() {
            return Err(WireError::protocol(format!(
                "SUBACK has {} codes for {} filters",
                ack.reasons.len(),
                subscribe.filters.len()
            )));
        }
        let filters = std::mem::take(&mut subscribe.filters);
        self.forget(filters.iter().map(|filter| filter.filter.as_str()));
        let mut results = Vec::with_capacity(filters.len());
        for (filter, reason) in filters.into_iter().zip(ack.reasons) {
            if !again {
                results.push((filter.filter.clone(), reason));
            } else if reason.is_failure() {
                let (filter, text) = (filter.filter.clone(), ack.text.clone());
                notices.push(Notice::SubscriptionLost { token, filter, reason, text });
            }
            if !reason.is_failure() {
                subscribe.filters.push(filter);
            }
        }
        if !again {
            notices.push(Notice::Subscribed { token, results, text: ack.text });
        }
        if !subscribe.filters.is_empty() {
            self.granted.push((token, subscribe));
        }
        Ok(())
    }

    pub(super) fn on_unsuback(
        &mut self,
        ack: ListAck,
        ids: &mut PacketIds,
        notices: &mut Vec<Notice>,
    ) -> Result<(), WireError> {
        let Some(at) = self.open.iter().position(|(pid, _)| *pid == ack.pid) else { return Ok(()) };
        let (pid, request) = self.open.remove(at);
        let Request::Unsubscribe { token, filters } = request else {
            return Err(WireError::protocol("UNSUBACK for a SUBSCRIBE"));
        };
        ids.release(pid);
        if self.version.is_v5() && ack.reasons.len() != filters.len() {
            return Err(WireError::protocol(format!(
                "UNSUBACK has {} codes for {} filters",
                ack.reasons.len(),
                filters.len()
            )));
        }
        let reason = |at: usize| ack.reasons.get(at).copied().unwrap_or_default();
        let done = filters.iter().enumerate().filter(|(at, _)| !reason(*at).is_failure());
        let done: Vec<&str> = done.map(|(_, filter)| filter.as_str()).collect();
        self.forget(done.into_iter());
        let results = filters.into_iter().enumerate().map(|(at, filter)| (filter, reason(at))).collect();
        notices.push(Notice::Unsubscribed { token, results });
        Ok(())
    }

    /// A later SUBSCRIBE for the same filter replaces the earlier one (5.0, section 3.8.4).
    fn forget<'a>(&mut self, filters: impl Iterator<Item = &'a str> + Clone) {
        for (_, subscribe) in &mut self.granted {
            subscribe.filters.retain(|known| !filters.clone().any(|filter| filter == known.filter));
        }
        self.granted.retain(|(_, subscribe)| !subscribe.filters.is_empty());
    }
}
