//! The plugin's two entry points, and the connection that the host holds.

use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{NoOptions, NoServer};

/// CoAP.
pub struct Coap;

impl Protocol for Coap {
    type Connect = NoOptions;
    type Serve = NoOptions;
    type Connection = Open;
    type Server = NoServer;

    fn about() -> About {
        About::new("coap", "CoAP", env!("CARGO_PKG_VERSION"))
            .about("CoAP: constrained devices over UDP, DTLS, TCP and TLS")
    }

    async fn connect(_: NoOptions, _: Context) -> Result<Open> {
        Err(Error::unsupported("not yet"))
    }
}

/// An open connection.
pub struct Open {}

impl Connection for Open {
    type Publish = NoOptions;
    type Subscribe = NoOptions;
}
