//! The CoAP plugin as a library to load. The protocol itself is in `tracemq-coap`, which exports nothing, so that it can be
//! linked beside others.

tracemq_plugin_api::export_plugin!(tracemq_coap::Coap);
