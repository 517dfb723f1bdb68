//! In the place of DTLS in a build without it (feature `dtls`): nothing, as [`Secure::new`] says.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use tracemq_plugin_api::prelude::*;

use crate::config::ConnectOptions;
use crate::endpoint::Endpoint;
use crate::target::Target;

/// There is none.
pub(crate) enum Secure {}

impl Secure {
    /// # Errors
    /// Always.
    pub(crate) fn new(_: &Target, _: &ConnectOptions) -> Result<Secure> {
        Err(Error::unsupported("coaps:// needs DTLS, without which this plugin was built"))
    }

    pub(crate) fn begin(&mut self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn is_open(&self) -> bool {
        match *self {}
    }

    pub(crate) fn poll_transmit(&mut self, _: &mut Endpoint) -> Result<Option<Bytes>> {
        match *self {}
    }

    pub(crate) fn receive(&mut self, _: &mut Endpoint, _: SocketAddr, _: &[u8]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn take_last_words(&mut self) -> Vec<Bytes> {
        match *self {}
    }

    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        match *self {}
    }

    pub(crate) fn handle_timeout(&mut self, _: &mut Endpoint, _: SocketAddr) -> Result<()> {
        match *self {}
    }

    pub(crate) fn down(&mut self, _: &mut Endpoint, _: SocketAddr) {
        match *self {}
    }

    pub(crate) fn close(&mut self) -> Vec<Bytes> {
        match *self {}
    }
}
