//! Two network namespaces with a cable between them: for what the loopback interface can't do, such as multicast with IPv6.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Cmd;
use crate::wait::{SHORT, until};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two networks of one cable. They need root, and are gone with this.
#[derive(Debug)]
pub struct Namespaces {
    near: String,
    far: String,
}

/// The interface at either end.
pub const CABLE: &str = "cable0";

impl Namespaces {
    /// The near end has these addresses, and the far end those, each with the length of its prefix. Panics where the system
    /// does not let us.
    pub fn joined(near: &[&str], far: &[&str]) -> Namespaces {
        let name =
            |end| format!("tmq-{}-{}-{end}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let both = Namespaces { near: name("near"), far: name("far") };
        ip(&["netns", "add", &both.near]);
        ip(&["netns", "add", &both.far]);
        let peer = ["peer", "name", CABLE, "netns", &both.far];
        ip(&[&["link", "add", CABLE, "netns", &both.near, "type", "veth"][..], &peer].concat());
        for (namespace, addresses) in [(&both.near, near), (&both.far, far)] {
            // An address of ours alone, at once: nobody else is there to have it as well.
            ip(&["-n", namespace, "link", "set", CABLE, "addrgenmode", "none"]);
            for address in addresses {
                let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
                ip(&[&["-n", namespace, "addr", "add", address, "dev", CABLE], nodad].concat());
            }
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            ip(&["-n", namespace, "link", "set", CABLE, "up"]);
            // Groups of IPv4 need a route, as any address.
            ip(&["-n", namespace, "route", "add", "224.0.0.0/4", "dev", CABLE]);
        }
        for namespace in [&both.near, &both.far] {
            // What is sent before the cable is known to be plugged in at both ends is lost.
            let up = || ip(&["-n", namespace, "link", "show", CABLE]).contains("state UP").then_some(());
            until(SHORT, up).expect("the cable carries");
        }
        both
    }

    /// The command, to be run at the near end.
    pub fn near(&self, command: Cmd) -> Cmd {
        command.wrapped_in("ip", &["netns", "exec", &self.near])
    }

    pub fn far(&self, command: Cmd) -> Cmd {
        command.wrapped_in("ip", &["netns", "exec", &self.far])
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            // One that was not made is not there to be removed.
            let _ = Cmd::peer("ip").args(["netns", "del", namespace]).finish();
        }
    }
}

fn ip(arguments: &[&str]) -> String {
    Cmd::peer("ip").args(arguments).finish().expect(0).text()
}
