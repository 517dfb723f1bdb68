//! Who may come in: path, origin, user, subprotocol, and what compression is agreed on.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::Role;
use tracemq_plugin_api::net::Users;

use crate::deflate;
use crate::link::{BoxSocket, WsLink, limits};

/// How long a client may take for TLS and the WebSocket handshake.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What the server wants of its clients.
pub(super) struct Rules {
    pub(super) path: Option<String>,
    pub(super) origins: Vec<String>,
    pub(super) users: Users,
    pub(super) subprotocols: Vec<String>,
    pub(super) deflate: Option<deflate::Options>,
    pub(super) max_message: usize,
}

/// What is known of a client after its handshake.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// Path and query.
    pub(super) path: String,
    pub(super) user: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) subprotocol: Option<String>,
    pub(super) compression: bool,
}

impl Rules {
    /// Does the handshake. The error is for whoever runs the server; the client got its own.
    pub(super) async fn accept(&self, socket: BoxSocket) -> Result<(WsLink, Guest), String> {
        let (mut guest, mut params) = (Guest::default(), None);
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let decide = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            guest = self.admit(request).map_err(Refusal::response)?;
            let headers = response.headers_mut();
            if let Some(name) = guest.subprotocol.as_ref().and_then(|name| HeaderValue::from_str(name).ok()) {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
            }
            if let Some((agreed, answer)) =
                self.deflate.as_ref().and_then(|options| options.accept(request.headers()))
            {
                headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
                params = Some(agreed);
            }
            Ok(response)
        };
        let ws = accept_hdr_async_with_config(socket, decide, None).await.map_err(|error| match error {
            WsError::Http(response) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                format!("{} ({})", body.trim(), response.status())
            }
            error => format!("no WebSocket handshake: {error}"),
        })?;
        guest.compression = params.is_some();
        let limits = limits(self.max_message);
        let ws = deflate::open(ws.into_inner(), Vec::new(), Role::Server, params.as_ref(), limits).await;
        Ok((WsLink::new(ws), guest))
    }

    fn admit(&self, request: &Request) -> Result<Guest, Refusal> {
        let path = request.uri().path();
        if let Some(only) = self.path.as_deref().filter(|only| *only != path) {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is nothing at {path}, only at {only}"),
            ));
        }
        let headers = request.headers();
        let origin = text(headers, &header::ORIGIN);
        if let Some(origin) = &origin
            && !self.origins.is_empty()
            && !self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
        {
            return Err(Refusal::new(StatusCode::FORBIDDEN, format!("pages of {origin} may not connect")));
        }
        let path = request.uri().path_and_query().map_or(path, |path| path.as_str()).to_owned();
        Ok(Guest {
            path,
            user: self.user(headers)?,
            origin,
            subprotocol: self.subprotocol(headers)?,
            compression: false,
        })
    }

    fn user(&self, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        if self.users.is_empty() {
            return Ok(None);
        }
        let refusal = |why: &str| Err(Refusal::new(StatusCode::UNAUTHORIZED, why.to_owned()));
        let Some(given) = text(headers, &header::AUTHORIZATION) else {
            return refusal("a user name and a password are required");
        };
        let basic = given
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, encoded)| String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok());
        let Some((name, secret)) = basic.as_deref().and_then(|text| text.split_once(':')) else {
            return refusal("basic authentication is required");
        };
        match self.users.allow(Some(name), Some(secret.as_bytes())) {
            true => Ok(Some(name.to_owned())),
            false => refusal("the user name or the password is wrong"),
        }
    }

    fn subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let lists =
            headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
        let offered: Vec<&str> =
            lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
        if self.subprotocols.is_empty() {
            // A browser that offers some fails without one.
            return Ok(offered.first().map(|name| (*name).to_owned()));
        }
        match self.subprotocols.iter().find(|name| offered.contains(&name.as_str())) {
            Some(name) => Ok(Some(name.clone())),
            None => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("the WebSocket subprotocol must be one of: {}", self.subprotocols.join(", ")),
            )),
        }
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    fn new(status: StatusCode, why: String) -> Refusal {
        Refusal { status, why }
    }

    fn response(self) -> ErrorResponse {
        let body = format!("{}\n", self.why);
        let length = body.len();
        let mut response = ErrorResponse::new(Some(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tracemq\""));
        }
        response
    }
}
