//! Contexts of the `nats` command line: one JSON file each, named after the context.
//!
//! A context may hold several logins, of which the `nats` program uses one; so does the profile, and the others are named.
//! Values may refer to elsewhere (`env://NAME`, `file://PATH`, `op://`, `nsc://`, `data:`): the first two have their like here.

use serde_json::Value;
use tracemq_plugin_api::prelude::{About, Error, Result};
use tracemq_plugin_api::sdk::{Fields, Import, ImportFile, ImportFormat, ImportedFile, ImportedProfile};
use tracemq_plugin_api::serde_json;

use crate::endpoint::Server;

const ID: &str = "nats-context";
const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// All fields there are, by jsm.go.
const FIELDS: [&str; 25] = [
    "name",
    "description",
    "url",
    "socks_proxy",
    "token",
    "user",
    "password",
    "creds",
    "nkey",
    "cert",
    "key",
    "ca",
    "nsc",
    "jetstream_domain",
    "jetstream_api_prefix",
    "jetstream_event_prefix",
    "inbox_prefix",
    "user_jwt",
    "user_seed",
    "color_scheme",
    "tls_first",
    "windows_cert_store",
    "windows_cert_match_by",
    "windows_cert_match",
    "windows_ca_certs_match",
];

pub fn formats(about: About) -> About {
    about.import(
        ImportFormat::new(ID, "context of the nats command line", "contexte de la ligne de commande nats")
            .file("~/.config/nats/context/*.json"),
    )
}

/// # Errors
/// Kind config: it is damaged, or was said to be a context and is none.
pub fn read(file: &ImportFile<'_>) -> Result<Option<Import>> {
    if !file.may_be(ID) {
        return Ok(None);
    }
    let named = file.format().is_some();
    let fields = match file.json() {
        Ok(Value::Object(fields)) => fields,
        Ok(_) if named => return Err(Error::config("a context is a JSON object")),
        Err(error) if named => return Err(error),
        _ => return Ok(None),
    };
    // Nothing in the file says what it is: it has a server or a login, and no field that a context has not.
    let known = ["url", "creds", "nkey", "nsc", "user_jwt"].iter().any(|field| fields.contains_key(*field))
        && fields.keys().all(|field| FIELDS.contains(&field.as_str()));
    if !named && !known {
        return Ok(None);
    }
    let mut import = Import::new(ID);
    import.profiles.push(context(Fields::new("", fields), file.stem(), |name| std::env::var(name).ok())?);
    Ok(Some(import))
}

/// `environment` looks up a variable.
fn context(
    mut from: Fields,
    name: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<ImportedProfile> {
    let mut profile = ImportedProfile::new(from.text("name")?.unwrap_or_else(|| name.to_owned()));
    let user = servers(&from.text("url")?.unwrap_or_else(|| DEFAULT_URL.into()), &mut profile)?;
    login(&mut from, user, &mut profile, &environment)?;
    let (cert, key) = (from.text("cert")?, from.text("key")?);
    match (cert, key) {
        (Some(cert), Some(key)) => {
            profile.file("tls_cert", Some(path(&cert, &environment)));
            profile.file("tls_key", Some(path(&key, &environment)));
        }
        (None, None) => {}
        _ => profile.note("cert and key are used together: one of them is missing, so that neither was kept"),
    }
    profile.file("tls_ca", from.text("ca")?.map(|ca| path(&ca, &environment)));
    profile.set("tls_first", from.flag("tls_first")?.filter(|first| *first));
    if let Some(proxy) = from.text("socks_proxy")? {
        match proxy.contains('@') {
            true => profile.secret("proxy", Some(proxy)),
            false => profile.set("proxy", Some(proxy)),
        }
    }
    let left = from.drop_all(&["description", "color_scheme"]);
    profile.left("a profile has no place for", &left);
    profile.left("not carried over", &from.rest());
    Ok(profile)
}

/// Who logs in by the URL.
struct User {
    name: String,
    password: Option<String>,
}

/// One URL or several with commas between them; a server without a scheme is `nats://`.
fn servers(text: &str, profile: &mut ImportedProfile) -> Result<Option<User>> {
    let (mut user, mut parts): (Option<User>, Vec<(String, String)>) = (None, Vec::new());
    for (index, part) in text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
        let (scheme, rest) = part.split_once("://").unwrap_or(("nats", part));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" => "nats+ws".to_owned(),
            "wss" => "nats+wss".to_owned(),
            scheme => scheme.to_owned(),
        };
        let (_, found) = Server::parse_list(&format!("{scheme}://{rest}"))
            // Its own words repeat the part, in which a password may have slipped.
            .map_err(|_| {
                Error::config(format!("url: server {} can't be read as a server of NATS", index + 1))
            })?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if let Some(found) = found {
            let found = User { name: found.user, password: found.password };
            let differs = |first: &User| first.name != found.name || first.password != found.password;
            if user.as_ref().is_some_and(differs) {
                profile.note("url: its servers have different users, of which the first was kept");
            }
            user.get_or_insert(found);
        }
        let path = if scheme.starts_with("nats+") { path } else { "" };
        parts.push((scheme, format!("{host}{path}")));
    }
    let Some((scheme, first)) = parts.first().cloned() else {
        return Err(Error::config("url: it names no server"));
    };
    // A URL has one scheme; servers of another stand beside it.
    let (same, other): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(other, _)| *other == scheme);
    let web = scheme.starts_with("nats+");
    let hosts: Vec<String> = same.iter().map(|(_, host)| host.clone()).collect();
    profile.url = Some(match web {
        true => format!("{scheme}://{first}"),
        false => format!("{scheme}://{}", hosts.join(",")),
    });
    let beside = if web { same.into_iter().skip(1).chain(other).collect() } else { other };
    let beside: Vec<String> = beside.into_iter().map(|(scheme, host)| format!("{scheme}://{host}")).collect();
    profile.set("server", (!beside.is_empty()).then_some(beside));
    Ok(user)
}

/// The login that the `nats` program would use; the others are named.
fn login(
    from: &mut Fields,
    of_url: Option<User>,
    profile: &mut ImportedProfile,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let used = ["user", "creds", "nkey", "user_jwt", "token"].into_iter().find(|field| from.has(field));
    if used.is_some() && of_url.is_some() {
        profile.note("a connection has one login; that of the url was not kept");
    }
    match used {
        Some("user") => {
            profile.set("username", from.text("user")?);
            secret("password", from.text("password")?, profile);
        }
        Some("creds") => {
            let creds = from.text("creds")?.unwrap_or_default();
            elsewhere("creds_file", "creds", &creds, profile, environment);
        }
        Some("nkey") => {
            let nkey = from.text("nkey")?.unwrap_or_default();
            elsewhere("nkey_file", "nkey", &nkey, profile, environment);
        }
        Some("user_jwt") => {
            let (jwt, seed) = (from.text("user_jwt")?.unwrap_or_default(), from.text("user_seed")?);
            match seed.filter(|seed| is_literal(&jwt) && is_literal(seed)) {
                // The form in which the two are kept together.
                Some(seed) => profile.file(
                    "creds_file",
                    Some(ImportedFile::Text(format!(
                        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
                    ))),
                ),
                None => {
                    profile.note("user_jwt: without a user_seed beside it there is nothing to log in with")
                }
            }
        }
        Some(_) => secret("token", from.text("token")?, profile),
        None => match of_url {
            Some(User { name, password: Some(password) }) => {
                profile.set("username", Some(name));
                profile.secret("password", Some(password));
            }
            Some(User { name, password: None }) => profile.secret("token", Some(name)),
            None => {}
        },
    }
    let left = from.drop_all(&["user", "password", "creds", "nkey", "user_jwt", "user_seed", "token"]);
    profile.left("a connection has one login; these others were not kept", &left);
    let nsc = from.drop_all(&["nsc"]);
    profile.left(
        "credentials that nsc keeps; write them with `nsc generate creds` and give the file as creds_file",
        &nsc,
    );
    Ok(())
}

/// Whether a value is meant as it stands.
fn is_literal(value: &str) -> bool {
    !["env://", "file://", "op://", "nsc://", "data:"].iter().any(|scheme| value.starts_with(scheme))
}

/// A secret, or where it is.
fn secret(property: &str, value: Option<String>, profile: &mut ImportedProfile) {
    let Some(value) = value else { return };
    if is_literal(&value) {
        profile.secret(property, Some(value));
    } else if let Some(name) = value.strip_prefix("env://") {
        profile.set(property, Some(format!("env:{name}")));
    } else if let Some(path) = value.strip_prefix("file://") {
        profile.set(property, Some(format!("file:{path}")));
    } else {
        let scheme = value.split(':').next().unwrap_or_default();
        profile.note(format!("{property}: a reference of the kind {scheme}: can't be followed"));
    }
}

/// A file of credentials, or what stands in its place.
fn elsewhere(
    property: &str,
    field: &str,
    value: &str,
    profile: &mut ImportedProfile,
    environment: &impl Fn(&str) -> Option<String>,
) {
    if let Some((kind, content)) = value.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
        match kind.ends_with(";base64") {
            true => profile.file(property, Some(ImportedFile::Base64(content.to_owned()))),
            false => profile.file(property, Some(ImportedFile::Text(content.to_owned()))),
        }
    } else if is_literal(value) || value.starts_with("file://") {
        profile.file(property, Some(path(value, environment)));
    } else {
        let scheme = value.split(':').next().unwrap_or_default();
        profile.note(format!("{field}: a reference of the kind {scheme}: can't be followed"));
    }
}

/// With `~` and variables replaced, as the `nats` program does.
fn path(text: &str, environment: &impl Fn(&str) -> Option<String>) -> ImportedFile {
    let text = text.strip_prefix("file://").unwrap_or(text);
    let mut path = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        path.push_str(before);
        let (name, end) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some((name, end)) => (name, end),
            None => after.split_at(
                after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len()),
            ),
        };
        path.push_str(&environment(name).unwrap_or_default());
        rest = end;
    }
    path.push_str(rest);
    if let (Some(rest), Some(home)) = (path.strip_prefix('~'), environment("HOME")) {
        path = format!("{home}{rest}");
    }
    ImportedFile::Path(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(json: Value) -> Result<ImportedProfile> {
        let fields = json.as_object().expect("an object").clone();
        context(Fields::new("", fields), "prod", |name| (name == "HOME").then(|| "/home/ann".into()))
    }

    fn good(json: Value) -> ImportedProfile {
        of(json).unwrap_or_else(|error| panic!("{error}"))
    }

    fn recognised(content: &str) -> bool {
        read(&ImportFile::new(None, "prod.json", content.as_bytes())).is_ok_and(|import| import.is_some())
    }

    #[test]
    fn a_context_as_nats_writes_it() {
        // All fields are always there.
        let profile = good(json!({
            "description": "Production", "url": "nats://a.example:4222,b.example", "socks_proxy": "", "token": "",
            "user": "ann", "password": "hunter2", "creds": "", "nkey": "", "cert": "~/tls/ann.pem",
            "key": "$HOME/tls/ann.key", "ca": "${HOME}/ca.pem", "nsc": "", "jetstream_domain": "hub",
            "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "_INBOX_ann", "user_jwt": "",
            "color_scheme": "", "tls_first": true
        }));
        assert_eq!(profile.name, "prod");
        assert_eq!(profile.url.as_deref(), Some("nats://a.example:4222,b.example"));
        assert_eq!(Value::Object(profile.connection.clone()), json!({"username": "ann", "tls_first": true}));
        assert_eq!(profile.secrets["password"], "hunter2");
        let path = |name: &str| profile.files[name].clone();
        assert_eq!(path("tls_cert"), ImportedFile::Path("/home/ann/tls/ann.pem".into()));
        assert_eq!(path("tls_key"), ImportedFile::Path("/home/ann/tls/ann.key".into()));
        assert_eq!(path("tls_ca"), ImportedFile::Path("/home/ann/ca.pem".into()));
        let notes = profile.notes.join("\n");
        for part in ["description", "jetstream_domain", "inbox_prefix"] {
            assert!(notes.contains(part), "{part}\n{notes}");
        }
        assert!(!notes.contains("hunter2") && !notes.contains("tls_first"), "{notes}");
    }

    #[test]
    fn the_login_that_nats_would_use_is_kept() {
        let profile =
            good(json!({"url": "demo.nats.io", "token": "hunter1", "user": "foo", "password": "hunter2"}));
        assert_eq!(profile.secrets.keys().collect::<Vec<_>>(), ["password"]);
        assert!(profile.notes[0].ends_with(": token"), "{:?}", profile.notes);
        let profile = good(json!({
            "url": "demo.nats.io", "token": "use-nkeys!", "nkey": "~/.keys/nats/example/prod.nkey",
            "creds": "~/.keys/nats/example/creds"
        }));
        assert_eq!(profile.files.keys().collect::<Vec<_>>(), ["creds_file"]);
        assert!(profile.notes[0].ends_with(": nkey, token"), "{:?}", profile.notes);
        let profile = good(json!({"url": "nats://u:hunter2@h"}));
        assert_eq!(
            (&profile.connection["username"], &profile.secrets["password"]),
            (&"u".into(), &"hunter2".into())
        );
        assert_eq!(good(json!({"url": "nats://hunter2@h"})).secrets["token"], "hunter2");
        let profile = good(json!({"url": "nats://hunter2@h", "user": "u"}));
        assert!(
            profile.secrets.is_empty() && profile.notes[0].contains("that of the url"),
            "{:?}",
            profile.notes
        );
        let profile = good(json!({"user_jwt": "eyJ", "user_seed": "SUA"}));
        assert!(matches!(&profile.files["creds_file"], ImportedFile::Text(text) if text.contains("\nSUA\n")));
        assert_eq!(profile.url.as_deref(), Some(DEFAULT_URL));
    }

    #[test]
    fn references_to_elsewhere() {
        let profile = good(json!({"url": "h", "user": "u", "password": "env://NATS_PW"}));
        assert_eq!(profile.connection["password"], "env:NATS_PW");
        let profile = good(json!({"url": "h", "creds": "file:///c/x.creds"}));
        assert_eq!(profile.files["creds_file"], ImportedFile::Path("/c/x.creds".into()));
        let profile = good(json!({"url": "h", "creds": "data:;base64,eHg="}));
        assert_eq!(profile.files["creds_file"], ImportedFile::Base64("eHg=".into()));
        let profile = good(json!({"url": "h", "token": "op://Vault/hunter2", "nsc": "nsc://o/a/u"}));
        assert!(profile.secrets.is_empty() && profile.connection.is_empty());
        let notes = profile.notes.join("\n");
        assert!(notes.contains("op:") && notes.contains("nsc") && !notes.contains("hunter2"), "{notes}");
    }

    #[test]
    fn servers_of_several_schemes() {
        let profile = good(json!({"url": "tls://a,nats://b:1,wss://u:p@c/nats"}));
        assert_eq!(profile.url.as_deref(), Some("tls://a"));
        assert_eq!(profile.connection["server"], json!(["nats://b:1", "nats+wss://c/nats"]));
        let profile = good(json!({"url": "ws://a:1/x,ws://b:2/y"}));
        assert_eq!(profile.url.as_deref(), Some("nats+ws://a:1/x"));
        assert_eq!(profile.connection["server"], json!(["nats+ws://b:2/y"]));
    }

    #[test]
    fn only_contexts_are_recognised() {
        assert!(recognised("{\"url\": \"nats://h\"}") && recognised("{\"creds\": \"/x\", \"url\": \"\"}"));
        for other in
            ["", "{}", "[]", "{\"url\": \"x\", \"qos\": 1}", "{\"name\": \"x\"}", "-h x", "\"url\"", "{"]
        {
            assert!(!recognised(other), "{other}");
        }
    }

    #[test]
    fn damaged_contexts_are_refused_without_their_content() {
        for json in [
            json!({"url": "http://u:hunter2@h"}),
            json!({"url": "nats://h:hunter2"}),
            json!({"url": ["hunter2"]}),
            json!({"url": ","}),
            json!({"url": "h", "token": {"hunter2": 1}}),
            json!({"url": "h", "tls_first": "hunter2"}),
        ] {
            let error = of(json.clone()).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{json}: {error}");
        }
        for content in [&b"{\"url\": hunter2"[..], b"[]", b"\xff"] {
            let error = read(&ImportFile::new(Some(ID), "x", content)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
