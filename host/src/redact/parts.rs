//! The secret parts of a URL or of a connection string of `Name=value;` parts. What is shown of them is `cli::url`'s matter.

use super::register;

/// Whether what bears this name in a query or a connection string is secret.
pub fn secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "signature", "sig", "apikey", "api_key"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether a part of a connection string is secret, by its name.
pub fn secret_part(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("key") || secret_name(name)
}

/// Whether a text is a list of `Name=value` parts with semicolons between them.
pub fn is_connection_string(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    text.contains(';') && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Makes the secret parts of a text known, whether it is a good URL or not.
pub fn register_url(text: &str) {
    parts(text, &mut |part| {
        register(part);
        if let Some(decoded) = decoded(part) {
            register(&decoded);
        }
    });
}

fn parts(text: &str, found: &mut impl FnMut(&str)) {
    if is_connection_string(text) {
        for (name, value) in text.split(';').filter_map(|part| part.split_once('=')) {
            if value.contains("://") {
                of_url(value, found);
            } else if secret_part(name) {
                found(value);
            }
        }
        return;
    }
    of_url(text, found);
}

fn of_url(text: &str, found: &mut impl FnMut(&str)) {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    // Up to the last @: a password may hold an @, / or ? that should have been encoded.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((_, password)) => {
                found(password);
                host
            }
            None => rest,
        },
        None => rest,
    };
    let rest = rest.split('#').next().unwrap_or_default();
    if let Some((_, query)) = rest.split_once('?') {
        let pairs = query.split('&').filter_map(|part| part.split_once('='));
        pairs.filter(|(name, _)| secret_name(name)).for_each(|(_, value)| found(value));
    }
}

/// Undoes percent-encoding; `None` when there is none, or not a whole one.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &after[2..];
    }
    text.contains('%').then(|| String::from_utf8(bytes).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_a_url() {
        let found = |text: &str| {
            let mut all = Vec::new();
            parts(text, &mut |part| all.push(part.to_owned()));
            all
        };
        assert_eq!(found("x://ann:p%40ss@h:1/a?token=abc&x=1#f"), ["p%40ss", "abc"]);
        assert_eq!(found("x://u:a/b@c@h"), ["a/b@c"]);
        assert_eq!(found("x://h/p"), Vec::<String>::new());
        assert_eq!(found("Endpoint=x://u:pw@h/;KeyName=Root;SharedAccessKey=k=;EntityPath=e"), ["pw", "k="]);
        assert_eq!(decoded("p%40ss").as_deref(), Some("p@ss"));
        assert_eq!(decoded("plain"), None);
        assert_eq!(decoded("100%"), None);
    }
}
