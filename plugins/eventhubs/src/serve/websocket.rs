//! AMQP over WebSocket: the handshake. What follows are the bytes of AMQP; where frames begin means nothing.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracemq_plugin_api::net::WsStream;

/// Where the SDKs look for it. Python adds a slash.
const PATH: &str = "/$servicebus/websocket";
/// What the SDKs call the bytes of AMQP, and what the standard calls them. The server has to repeat what was offered.
const PROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];
/// The longest WebSocket message taken, in bytes. It may hold several frames of AMQP, or a part of one.
const MAX_MESSAGE: usize = 4 << 20;

/// Answers the handshake. The error is the text for whoever runs the server; the client got its own.
pub(super) async fn accept<S>(stream: S) -> Result<WsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    accept_hdr_async_with_config(stream, admit, Some(config)).await.map(WsStream::new).map_err(|error| {
        match error {
            WsError::Http(response) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                format!("WebSocket: {} ({})", body.trim(), response.status())
            }
            error => format!("WebSocket: {error}"),
        }
    })
}

#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn admit(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let path = request.uri().path();
    if !path.trim_end_matches('/').eq_ignore_ascii_case(PATH) {
        return Err(refusal(StatusCode::NOT_FOUND, format!("there is nothing here, only at {PATH}")));
    }
    let lists = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered =
        lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim);
    let chosen =
        offered.find_map(|name| PROTOCOLS.into_iter().find(|known| known.eq_ignore_ascii_case(name)));
    match chosen {
        Some(name) => {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
            Ok(response)
        }
        None => Err(refusal(
            StatusCode::BAD_REQUEST,
            format!("the WebSocket sub-protocol must be one of: {}", PROTOCOLS.join(", ")),
        )),
    }
}

fn refusal(status: StatusCode, why: String) -> ErrorResponse {
    let body = format!("{why}\n");
    let length = body.len();
    let mut response = ErrorResponse::new(Some(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
