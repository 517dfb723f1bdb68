//! The secret parts of a URL or of a connection string of `Name=value;` parts, whether it is a good one or not: what is masked
//! when it is shown, and what is made known as secret.
//!
//! What a URL's syntax takes for a host and its port is no password: there may be an @ in a path. Where the syntax finds no host,
//! a password may hold what should have been encoded, and all up to the last @ is one.

use super::{mask, register};

/// Whether what bears this name in a query, a header or a connection string is secret.
pub fn secret_name(name: &str) -> bool {
    const WITHIN: [&str; 13] = [
        "passw",
        "passphrase",
        "pwd",
        "secret",
        "token",
        "sig",
        "authorization",
        "authentication",
        "credential",
        "jwt",
        "bearer",
        "cookie",
        "apikey",
    ];
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    WITHIN.iter().any(|word| name.contains(word))
        || ["key", "auth"].iter().any(|end| name.ends_with(end))
        || ["pass", "pw", "sas"].contains(&name.as_str())
}

/// Whether a text is a list of `Name=value` parts with semicolons between them.
pub fn is_connection_string(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    let name = name.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || " _-".contains(c);
    !name.is_empty() && name.chars().all(fits) && (text.contains(';') || secret_name(name))
}

/// Makes the secret parts of a text known.
pub fn register_url(text: &str) {
    secrets(text, &mut |part| {
        register(part);
        if let Ok(decoded) = decoded(part) {
            register(&decoded);
        }
    });
}

/// The text as it may be shown.
pub fn masked_url(text: &str) -> String {
    let mut places = Vec::new();
    secrets(text, &mut |part| {
        let start = part.as_ptr() as usize - text.as_ptr() as usize;
        places.push(start..start + part.len());
    });
    mask(text, places)
}

fn secrets<'a>(text: &'a str, found: &mut impl FnMut(&'a str)) {
    if !is_connection_string(text) {
        return of_url(text, found);
    }
    for (name, value) in text.split(';').filter_map(|part| part.split_once('=')) {
        match secret_name(name) {
            // The name of a key is none.
            true => found(value.trim()),
            false => of_url(value, found),
        }
    }
}

fn of_url<'a>(text: &'a str, found: &mut impl FnMut(&'a str)) {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let at = rest.rfind('@').unwrap_or(0);
    match servers(text) {
        Some(servers) => {
            for login in servers.iter().filter_map(|server| server.login) {
                let Some((_, password)) = login.split_once(':') else { continue };
                found(password);
                // If it should have been encoded, it goes on to the last @.
                let start = password.as_ptr() as usize - rest.as_ptr() as usize;
                if servers.len() == 1 && at > start + password.len() {
                    found(&rest[start..at]);
                }
            }
        }
        None => {
            if let Some((_, password)) = rest[..at].split_once(':') {
                found(password);
                found(password.split(['/', '?', '#']).next().unwrap_or_default());
            }
        }
    }
    let query = rest.find(['?', '#']).map_or("", |start| &rest[start..]);
    for (start, _) in query.match_indices(['?', '&', ';', '#']) {
        let Some((name, value)) = query[start + 1..].split_once('=') else { break };
        if !name.contains(['&', ';', '#']) && secret_name(name) {
            let value = value.split('&').next().unwrap_or_default();
            found(value);
            found(value.split('#').next().unwrap_or_default());
        }
    }
}

/// A server that a URL names.
pub struct Server<'a> {
    /// `USER`, `USER:PASSWORD` or `:PASSWORD`.
    pub login: Option<&'a str>,
    /// `HOST` or `HOST:PORT`.
    pub host: &'a str,
}

/// The servers of a URL: one, or several with commas between them, which may have a scheme each. `None`: a part is none.
pub fn servers(text: &str) -> Option<Vec<Server<'_>>> {
    let (_, mut rest) = text.split_once("://")?;
    let mut servers = Vec::new();
    loop {
        if let Some((scheme, after)) = rest.split_once("://")
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        {
            rest = after;
        }
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#', ',']).unwrap_or(rest.len()));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host.trim()),
            None => (None, authority.trim()),
        };
        let port = host.rsplit_once(']').map_or(host, |(_, port)| port).split_once(':');
        if host.is_empty() || port.is_some_and(|(_, port)| !port.is_empty() && port.parse::<u16>().is_err()) {
            return None;
        }
        servers.push(Server { login, host });
        match after.strip_prefix("/,").or_else(|| after.strip_prefix(',')) {
            Some(more) => rest = more.trim_start(),
            None => return Some(servers),
        }
    }
}

/// Undoes percent-encoding.
///
/// # Errors
/// What is wrong, to follow the name of the part.
pub fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "has a % without two hexadecimal digits after it (a % itself is written %25)";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(match byte {
            b'%' => digit()
                .zip(digit())
                .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
                .ok_or(WRONG)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_a_url() {
        for (text, shown) in [
            ("x://ann:p%40ss@h:1/a?token=abc&x=1#f", "x://ann:***@h:1/a?token=***&x=1#f"),
            ("x://u:a/b@c@h", "x://u:***@h"),
            ("x://u:a@b/c@h", "x://u:***@h"),
            ("x://u:a#b@h:1", "x://u:***@h:1"),
            ("x://u:a,b@h", "x://u:***@h"),
            ("x://h/p", "x://h/p"),
            ("x://h:80/ws/a@b", "x://h:80/ws/a@b"),
            ("x://ann@h:80/ws/a@b", "x://ann@h:80/ws/a@b"),
            ("x://h:80/p?mail=me@b.example&token=abc", "x://h:80/p?mail=me@b.example&token=***"),
            ("x://h:80/p?token=a@b", "x://h:80/p?token=***"),
            ("x://h/?x=1;api-key=abc#y", "x://h/?x=1;api-key=***"),
            ("x://h/#access_token=abc", "x://h/#access_token=***"),
            (
                "x://h/?key=1&Pwd=2&code=3&auth=4&SharedAccessKeyName=n",
                "x://h/?key=***&Pwd=***&code=3&auth=***&SharedAccessKeyName=n",
            ),
            ("x://a:b@h:1,c:d@i/,x://e:f@[::1]:2", "x://a:***@h:1,c:***@i/,x://e:***@[::1]:2"),
            ("x:/u:pw@h", "x:***@h"),
            ("//u:pw@h", "//u:***@h"),
            ("x:///u:pw@h", "x:///u:***@h"),
            (
                "Endpoint=x://u:pw@h/;KeyName=Root;SharedAccessKey=k=;EntityPath=e",
                "Endpoint=x://u:***@h/;KeyName=Root;SharedAccessKey=***;EntityPath=e",
            ),
            ("Endpoint = x://h/; Shared Access Key = a b", "Endpoint = x://h/; Shared Access Key = ***"),
            ("SharedAccessKey=a://b", "SharedAccessKey=***"),
        ] {
            assert_eq!(masked_url(text), shown, "{text}");
        }
    }

    #[test]
    fn undoes_percent_encoding() {
        assert_eq!(decoded("p%40ss%2f").as_deref(), Ok("p@ss/"));
        assert_eq!(decoded("plain").as_deref(), Ok("plain"));
        assert!(
            ["100%", "%+5", "%4", "%g0"]
                .iter()
                .all(|text| decoded(text).unwrap_err().contains("hexadecimal"))
        );
        assert!(decoded("%ff").unwrap_err().contains("UTF-8"));
    }
}
