//! The server's handshake of MQTT over WebSocket (MQTT 5.0 section 6).

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracemq_plugin_api::net::WsStream;

/// The two names of MQTT as a sub-protocol: of 3.1.1 and 5.0, and of 3.1.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Answers the handshake; what follows are the bytes of MQTT. The error is the text for the user.
pub(super) async fn accept<S>(stream: S, max_packet_size: usize) -> Result<WsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A message may hold several packets or a part of one, so the bound leaves room beside the largest.
    let max = max_packet_size.saturating_mul(2);
    let config = WebSocketConfig::default().max_message_size(Some(max)).max_frame_size(Some(max));
    accept_hdr_async_with_config(stream, choose_protocol, Some(config))
        .await
        .map(WsStream::new)
        .map_err(|error| error.to_string())
}

/// Section 6.0-4: the client offers "mqtt", and the server answers with it.
#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn choose_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    for name in offered {
        if let Some(protocol) = PROTOCOLS.into_iter().find(|protocol| *protocol == name) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            return Ok(response);
        }
    }
    let mut refusal =
        ErrorResponse::new(Some("the WebSocket sub-protocol \"mqtt\" is required\n".to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}
