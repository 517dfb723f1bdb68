//! Any bytes from a peer, cut anywhere, in each role and with any parameters: reading them must not panic or stand still,
//! hands on no more than the limit and what was read at a time, and leaves nothing unread. What is read as good frames comes
//! back when it is sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracemq_websocket::deflate::{Incoming, Outgoing, Params};

const LIMIT: usize = 1 << 16;
/// What one call adds at most: about the chunk it inflates at a time, twice, and headers.
const STEP: usize = 3 << 16;

fuzz_target!(|data: &[u8]| {
    let [settings, client_bits, server_bits, cut, wire @ ..] = data else { return };
    let params = Params {
        client_no_context_takeover: settings & 1 != 0,
        server_no_context_takeover: settings & 2 != 0,
        client_max_window_bits: 8 + client_bits % 8,
        server_max_window_bits: 8 + server_bits % 8,
    };
    let (role, peer) =
        if settings & 4 != 0 { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
    let piece = 1 + usize::from(*cut);

    if let Some(plain) = read(role, &params, wire, piece) {
        // As if the peer's frames were tungstenite's own.
        let mut outgoing = Outgoing::new(peer, &params);
        let mut again = Vec::new();
        for bytes in plain.chunks(piece * 7) {
            outgoing.translate(bytes, &mut again);
        }
        let sent = std::mem::take(outgoing.finished());
        assert!(sent.iter().all(|size| size.compressed.is_none_or(|compressed| compressed > 0)));
    }
    // The translator of what we write gets only tungstenite's frames, but must not panic on others either.
    Outgoing::new(role, &params).translate(wire, &mut Vec::new());
});

fn read(role: Role, params: &Params, wire: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut incoming = Incoming::new(role, params, LIMIT);
    let mut plain = Vec::new();
    let mut message = 0;
    for mut bytes in wire.chunks(piece) {
        loop {
            let before = (bytes.len(), plain.len());
            incoming.translate(&mut bytes, &mut plain).ok()?;
            assert!(plain.len() - before.1 <= STEP, "one call handed on {}", plain.len() - before.1);
            for size in incoming.finished().drain(..) {
                message += 1;
                assert!(
                    size.compressed.is_none() || size.plain <= (2 * LIMIT) as u64,
                    "message {message}: {size:?}"
                );
            }
            if before == (bytes.len(), plain.len()) {
                break;
            }
        }
        assert!(bytes.is_empty(), "nothing is left unread");
    }
    Some(plain)
}
