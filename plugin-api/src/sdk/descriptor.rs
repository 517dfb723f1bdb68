//! What a plugin says of itself: a JSON text, from which the host makes flags, forms and refusals.

use super::ImportFormat;
use serde::{Deserialize, Serialize};

/// What can be done with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Publish,
    Subscribe,
    Request,
    Serve,
    List,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Publish => "publish",
            Verb::Subscribe => "subscribe",
            Verb::Request => "request",
            Verb::Serve => "serve",
            Verb::List => "list",
        }
    }
}

/// A URL scheme that the plugin answers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    pub name: String,
    /// The port when the URL names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Whether a verb takes a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    #[default]
    Required,
    Optional,
    No,
}

/// Whether publish (and request) and subscribe take topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    #[serde(default)]
    pub publish: Wanted,
    #[serde(default)]
    pub subscribe: Wanted,
}

/// The plugin's options as flat JSON Schemas. Our own keywords, beside the standard ones, are in the crate's README:
/// `x-secret`, `x-reveals`, `x-file`, `x-type`, `x-group`, `x-order`, `x-env`, `x-title-fr`, `x-help-fr`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schemas {
    pub connection: serde_json::Value,
    pub publish: serde_json::Value,
    pub subscribe: serde_json::Value,
    pub request: serde_json::Value,
    pub serve: serde_json::Value,
}

/// The whole of it, as it crosses. Fields that a later version adds are ignored by an older host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Lower-case letters, digits and hyphens: the name of the protocol on the command line.
    pub id: String,
    pub name: String,
    pub version: String,
    /// The version of the plugin API that the plugin was built with.
    pub api: String,
    #[serde(default)]
    pub about: String,
    pub schemes: Vec<Scheme>,
    pub verbs: Vec<Verb>,
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default)]
    pub topics: Topics,
    /// The files of other programs that the plugin reads. Since 1.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<ImportFormat>,
    pub schemas: Schemas,
}

/// The part of a descriptor that the author writes; the schemas come from the option structs.
#[derive(Clone, Debug)]
pub struct About {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) about: &'static str,
    pub(super) schemes: Vec<Scheme>,
    pub(super) verbs: Vec<Verb>,
    pub(super) capabilities: Vec<&'static str>,
    pub(super) topics: Topics,
    pub(super) imports: Vec<ImportFormat>,
}

impl About {
    /// `id` is the protocol's name on the command line: lower-case letters, digits and hyphens.
    pub fn new(id: &'static str, name: &'static str, version: &'static str) -> About {
        About {
            id,
            name,
            version,
            about: "",
            schemes: Vec::new(),
            verbs: Vec::new(),
            capabilities: Vec::new(),
            topics: Topics::default(),
            imports: Vec::new(),
        }
    }

    /// One sentence about the plugin.
    pub fn about(mut self, text: &'static str) -> About {
        self.about = text;
        self
    }

    /// A URL scheme and its default port.
    pub fn scheme(mut self, name: &str, port: Option<u16>) -> About {
        self.schemes.push(Scheme { name: name.to_owned(), port });
        self
    }

    pub fn verbs(mut self, verbs: &[Verb]) -> About {
        self.verbs = verbs.to_vec();
        self
    }

    /// What tests and tools may rely on: `headers`, `wildcards`, `retained`, `acknowledged`. With `default-host`, a URL may name
    /// no host: the plugin knows from elsewhere where to go. With `path-is-topic`, a URL with a path names a topic: publishing
    /// and requests then need no other, and a lone argument is the payload. With `user-is-token`, the user of a URL without a
    /// password is the secret of the option `token`.
    pub fn capabilities(mut self, capabilities: &[&'static str]) -> About {
        self.capabilities = capabilities.to_vec();
        self
    }

    /// A kind of file of another program that [`Protocol::import`](super::Protocol::import) reads.
    pub fn import(mut self, format: ImportFormat) -> About {
        self.imports.push(format);
        self
    }

    /// Whether publish and subscribe take topics; both are required unless said otherwise.
    pub fn topics(mut self, publish: Wanted, subscribe: Wanted) -> About {
        self.topics = Topics { publish, subscribe };
        self
    }
}
