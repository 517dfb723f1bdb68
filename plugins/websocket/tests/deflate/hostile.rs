//! What a peer may get wrong, and what the RFC allows that few do.

use flate2::{Compress, Compression, FlushCompress};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracemq_websocket::deflate::{DeflateError, Incoming, Params};

use crate::frames::{Frame, read_all};

const PARAMS: Params = Params {
    client_no_context_takeover: false,
    server_no_context_takeover: false,
    client_max_window_bits: 15,
    server_max_window_bits: 15,
};
/// "Hello" as section 7.2.3.1 gives it.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn client(limit: usize, frames: &[Frame]) -> Result<Vec<Frame>, DeflateError> {
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::write).collect();
    let mut incoming = Incoming::new(Role::Client, &PARAMS, limit);
    let (mut input, mut output) = (bytes.as_slice(), Vec::new());
    loop {
        let before = (input.len(), output.len());
        incoming.translate(&mut input, &mut output)?;
        if before == (input.len(), output.len()) {
            return Ok(read_all(&output));
        }
    }
}

fn texts(frames: &[Frame]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for frame in frames {
        let part = String::from_utf8(frame.payload.clone()).expect("text");
        match texts.last_mut() {
            Some(text) if frame.first & 0x0f == 0 => text.push_str(&part),
            _ => texts.push(part),
        }
    }
    texts
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let cases: &[&[Frame]] = &[
        // 7.2.3.1: one frame, and two fragments.
        &[Frame::new(0xc1, HELLO)],
        &[Frame::new(0x41, [0xf2, 0x48, 0xcd]), Frame::new(0x80, [0xc9, 0xc9, 0x07, 0x00])],
        // 7.2.3.3: a block without compression.
        &[Frame::new(0xc1, [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00])],
        // 7.2.3.4: a final block.
        &[Frame::new(0xc1, [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])],
        // 7.2.3.5: two blocks.
        &[Frame::new(0xc1, [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00])],
    ];
    for frames in cases {
        assert_eq!(texts(&client(100, frames).expect("good data")), ["Hello"], "{frames:?}");
    }
    // 7.2.3.2: the second message refers to the first.
    let twice = [Frame::new(0xc1, HELLO), Frame::new(0xc1, [0xf2, 0x00, 0x11, 0x00, 0x00])];
    assert_eq!(texts(&client(100, &twice).expect("good data")), ["Hello", "Hello"]);
}

#[test]
fn after_a_final_block_messages_go_on() {
    let last = Frame::new(0xc1, [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]);
    // Without the empty block that belongs behind it, too.
    let bare = Frame::new(0xc1, [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let empty = Frame::new(0xc1, []);
    let frames = [last.clone(), last, bare, empty, Frame::new(0xc1, HELLO)];
    let read = client(100, &frames).expect("good data");
    assert_eq!(texts(&read), ["Hello", "Hello", "Hello", "", "Hello"]);
}

#[test]
fn messages_with_and_without_compression_mix() {
    let frames = [
        Frame::new(0xc1, HELLO),
        Frame::new(0x01, "pla"),
        Frame::new(0x8a, ""),
        Frame::new(0x80, "in"),
        Frame::new(0xc1, HELLO),
    ];
    let read = client(100, &frames).expect("good data");
    let seen: Vec<(u8, usize)> = read.iter().map(|frame| (frame.first, frame.payload.len())).collect();
    assert_eq!(seen, [(0x81, 5), (0x01, 3), (0x8a, 0), (0x80, 2), (0x81, 5)]);
}

#[test]
fn bad_data_is_told() {
    // Block type 3 does not exist; a distance beyond what there is; a stored block whose lengths disagree.
    for payload in
        [&[0x06_u8, 0x00][..], &[0xf2, 0x00, 0x11, 0x00, 0x00], &[0x00, 0x05, 0x00, 0x00, 0x00, 0x41]]
    {
        let error = client(100, &[Frame::new(0xc1, payload)]).expect_err("bad data");
        assert_eq!(error, DeflateError::Invalid, "{payload:?}");
        assert_eq!(error.close_code(), CloseCode::Invalid);
    }
}

#[test]
fn a_bomb_is_stopped_soon_after_the_limit() {
    let plain = vec![0; 64 << 20];
    let mut payload = Vec::with_capacity(1 << 20);
    Compress::new(Compression::best(), false)
        .compress_vec(&plain, &mut payload, FlushCompress::Sync)
        .expect("compresses");
    payload.truncate(payload.len() - 4);
    assert!(payload.len() < 100_000);
    let bytes = Frame::new(0xc2, payload).write();
    let limit = 1 << 20;
    let mut incoming = Incoming::new(Role::Client, &PARAMS, limit);
    let (mut input, mut output) = (bytes.as_slice(), Vec::new());
    let error = loop {
        if let Err(error) = incoming.translate(&mut input, &mut output) {
            break error;
        }
        assert!(output.len() < 2 * limit, "it goes on and on");
    };
    assert_eq!(error, DeflateError::TooLarge(limit));
    assert_eq!(error.close_code(), CloseCode::Size);
    // What was handed on is over the limit, so that tungstenite finds it before anybody asks on.
    assert!(output.len() > limit && output.len() < limit + (128 << 10), "{}", output.len());
    assert_eq!(incoming.translate(&mut input, &mut output), Err(error), "it stays so");
}

#[test]
fn wrong_frames_reach_tungstenite_as_they_are() {
    let cases: &[&[Frame]] = &[
        // RSV1 on a continuation, on a ping, with RSV2; a second message within the first; a continuation of nothing.
        &[Frame::new(0x41, &HELLO[..3]), Frame::new(0xc0, &HELLO[3..])],
        &[Frame::new(0xc9, "ping")],
        &[Frame::new(0xe1, HELLO)],
        &[Frame::new(0x41, &HELLO[..3]), Frame::new(0xc1, HELLO)],
        &[Frame::new(0x80, "x")],
    ];
    for frames in cases {
        let read = client(100, frames).expect("tungstenite's error");
        assert_eq!(read.last(), frames.last(), "{frames:?}");
    }
    // Of a masked frame from a server the mask is what is wrong: the compression is no second fault.
    let read = client(100, &[Frame::new(0xc1, HELLO).masked()]).expect("tungstenite's error");
    assert_eq!(read, [Frame::new(0x81, HELLO).masked()]);
}
