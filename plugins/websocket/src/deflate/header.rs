//! The header `Sec-WebSocket-Extensions`: RFC 6455 section 9.1.

/// The name of the header, in the form the `http` crate wants.
pub const EXTENSIONS: &str = "sec-websocket-extensions";

/// One extension of the list, with its parameters in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) name: String,
    pub(super) parameters: Vec<(String, Option<String>)>,
}

/// All extensions of all headers of that name, in order. The error is what can't be read.
pub(super) fn read<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<Extension>, String> {
    let mut all = Vec::new();
    for text in values {
        for one in split(text, ',').filter(|one| !one.trim().is_empty()) {
            all.push(extension(one).ok_or_else(|| one.trim().to_owned())?);
        }
    }
    Ok(all)
}

fn extension(text: &str) -> Option<Extension> {
    let mut parts = split(text, ';');
    let name = token(parts.next()?)?;
    let parameters = parts.map(parameter).collect::<Option<_>>()?;
    Some(Extension { name, parameters })
}

fn parameter(text: &str) -> Option<(String, Option<String>)> {
    match text.split_once('=') {
        None => Some((token(text)?, None)),
        Some((name, value)) => {
            let value = value.trim();
            // The quoted form must be a token too once it is unquoted.
            let value = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
            Some((token(name)?, Some(token(value)?)))
        }
    }
}

/// RFC 7230 section 3.2.6.
fn token(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\t']);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!text.is_empty() && text.bytes().all(legal)).then(|| text.to_owned())
}

/// Splits outside quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == at && !quoted
    })
}
