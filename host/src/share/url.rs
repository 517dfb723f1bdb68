//! What in a URL is a secret, and where else in a profile it can stand.

use super::place::{Schemas, Section};
use crate::cli::url::{Address, is_connection_string, masked, user_is_token};
use crate::redact::servers;
use tracemq_plugin_api::sdk::Descriptor;

/// The secret of a URL.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// It can stand in an option of the connection just as well.
    Option {
        property: &'static str,
        secret: String,
        /// The user, who has to become an option as well: alone in the URL, they would be taken for a token.
        username: Option<String>,
    },
    /// It can't be taken out: the URL as a whole is one.
    Whole,
}

/// Whether a text that is meant as a URL has no user, password or key in it.
pub fn is_public(text: &str) -> bool {
    !text.contains('@') && masked(text) == text
}

/// The URL without its secret, and the secret. The first is `None` when nothing can be shown of it.
pub fn take_apart(text: &str, descriptor: &Descriptor, schemas: &Schemas) -> (Option<String>, Option<Login>) {
    let has = |property: &str| {
        schemas.spec(Section::Connection, property).is_some_and(|spec| spec.secret && !spec.repeats())
    };
    let whole = (None, Some(Login::Whole));
    let Ok(address) = Address::parse(text) else {
        return if is_public(text) { (Some(text.to_owned()), None) } else { whole };
    };
    let credentials = address.credentials;
    let token = user_is_token(descriptor);
    let (property, secret, username) = match (credentials.password, credentials.user) {
        (Some(password), user) => ("password", password, user.filter(|_| token)),
        (None, Some(user)) if token => ("token", user, None),
        _ if address.shown == text => return (Some(text.to_owned()), None),
        _ => return whole,
    };
    match without_login(text, token) {
        Some(rest) if has(property) && masked(&rest) == rest => {
            (Some(rest), Some(Login::Option { property, secret, username }))
        }
        _ => whole,
    }
}

/// Takes out `:PASSWORD`, or with `user` all before the `@`, of all servers. `None` where they are not the same.
fn without_login(text: &str, user: bool) -> Option<String> {
    if is_connection_string(text) {
        return None;
    }
    let servers = servers(text)?;
    let logins: Vec<&str> = servers.iter().filter_map(|server| server.login).collect();
    let login = *logins.first()?;
    if logins.iter().any(|other| *other != login) {
        return None;
    }
    let name = login.split_once(':').map_or(login, |(name, _)| name);
    let kept = if user || name.is_empty() { String::new() } else { format!("{name}@") };
    // They come before all else that looks like them.
    Some(text.replacen(&format!("{login}@"), &kept, logins.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts(text: &str, capabilities: &[&str]) -> (Option<String>, Option<(String, String)>) {
        let none = json!({"type": "object"});
        let descriptor: Descriptor = serde_json::from_value(json!({
            "id": "demo", "name": "Demo", "version": "1", "api": "1.1.0", "schemes": [{"name": "demo"}],
            "verbs": ["publish"], "capabilities": capabilities,
            "schemas": {"connection": {"type": "object", "properties": {
                "username": {"type": "string"},
                "password": {"type": "string", "x-secret": true},
                "token": {"type": "string", "x-secret": true}}},
                "publish": none, "subscribe": none, "request": none, "serve": none}}))
        .unwrap();
        let schemas = Schemas::of(&descriptor).unwrap_or_else(|failure| panic!("{failure}"));
        let (url, login) = take_apart(text, &descriptor, &schemas);
        let login = login.map(|login| match login {
            Login::Option { property, secret, username } => (
                format!("{property}{}", username.map_or_else(String::new, |name| format!(" of {name}"))),
                secret,
            ),
            Login::Whole => ("url".to_owned(), String::new()),
        });
        (url, login)
    }

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        let (url, login) = parts("demo://ann:p%40w@h:1,b/x?y=1", &[]);
        assert_eq!(url.as_deref(), Some("demo://ann@h:1,b/x?y=1"));
        assert_eq!(login, Some(("password".into(), "p@w".into())));
        assert_eq!(parts("demo://:pw@h", &[]).0.as_deref(), Some("demo://h"));
        assert_eq!(parts("demo://ann@h", &[]), (Some("demo://ann@h".into()), None));
        let token = (Some("demo://h".into()), Some(("token".into(), "s3cret".into())));
        assert_eq!(parts("demo://s3cret@h", &["user-is-token"]), token);
        let user = (Some("demo://h".into()), Some(("password of ann".into(), "pw".into())));
        assert_eq!(parts("demo://ann:pw@h", &["user-is-token"]), user);
        let several = parts("demo://ann:pw@h:1,demo://ann:pw@i/", &[]);
        assert_eq!(
            several,
            (Some("demo://ann@h:1,demo://ann@i/".into()), Some(("password".into(), "pw".into())))
        );
        assert_eq!(parts("demo://s3cret@h,s3cret@i", &["user-is-token"]).0.as_deref(), Some("demo://h,i"));
        assert_eq!(parts("demo://ann:pw@h:80/x@y", &[]).0.as_deref(), Some("demo://ann@h:80/x@y"));
        assert_eq!(parts("demo://h/a@b", &["user-is-token"]), (Some("demo://h/a@b".into()), None));
    }

    #[test]
    fn what_cannot_be_taken_out_makes_all_of_it_a_secret() {
        for text in [
            "Endpoint=demo://h/;SharedAccessKeyName=n;SharedAccessKey=hunter2",
            "demo://h/?token=hunter2",
            "demo://ann:pw@h/?sig=hunter2",
            "demo://ann:hunter2/x@h",
            "demo://ann:hunter2 @h",
            "demo://ann:hunter2@h,bob:hunter2@i",
            "demo://h/?api-key=hunter2",
            "demo://h:80/?mail=a@b&token=hunter2",
        ] {
            let (url, login) = parts(text, &[]);
            assert_eq!((url, login.map(|(property, _)| property)), (None, Some("url".into())), "{text}");
        }
        assert!(!is_public("u:p@h:1") && is_public("socks5://h:1") && !is_public("http://h/?token=x"));
    }
}
