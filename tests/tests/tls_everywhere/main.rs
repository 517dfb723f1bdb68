//! TLS and proxies are the same with every plugin: one table of cases over all protocols that have them.
//!
//! Which plugins there are is asked of the installation; which servers stand for a protocol is said in `peers.rs`. A plugin
//! with TLS that has none there fails the test that counts them.

mod clients;
mod peers;
mod proxies;
mod schemas;
mod serving;

use std::path::Path;

/// A path of the tests' own making.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
