//! RFC 7692 section 7.1, with the examples it gives.

use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tracemq_websocket::deflate::{EXTENSIONS, Options, Params};

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(EXTENSIONS, HeaderValue::from_str(value).expect("a header"));
    }
    headers
}

fn params(client: (bool, u8), server: (bool, u8)) -> Params {
    Params {
        client_no_context_takeover: client.0,
        server_no_context_takeover: server.0,
        client_max_window_bits: client.1,
        server_max_window_bits: server.1,
    }
}

fn accepted(options: &Options, values: &[&str]) -> Option<(Params, String)> {
    let (params, answer) = options.accept(&headers(values))?;
    Some((params, answer.to_str().expect("ASCII").to_owned()))
}

#[test]
fn the_offer_says_what_is_wanted() {
    assert_eq!(Options::default().offer(), "permessage-deflate; client_max_window_bits");
    let all = Options {
        client_no_context_takeover: true,
        server_no_context_takeover: true,
        client_max_window_bits: Some(10),
        server_max_window_bits: Some(11),
    };
    assert_eq!(
        all.offer(),
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover; \
         client_max_window_bits=10; server_max_window_bits=11"
    );
}

#[test]
fn a_server_takes_the_first_offer_it_understands() {
    let plain = Options::default();
    type Case<'a> = (&'a [&'a str], Option<(Params, &'a str)>);
    let cases: &[Case<'_>] = &[
        (&[], None),
        (&["permessage-bzip2"], None),
        (&["permessage-deflate"], Some((params((false, 15), (false, 15)), "permessage-deflate"))),
        (&["x-other, Permessage-Deflate"], Some((params((false, 15), (false, 15)), "permessage-deflate"))),
        (
            &["x-other", "permessage-deflate; client_max_window_bits"],
            Some((params((false, 15), (false, 15)), "permessage-deflate")),
        ),
        (
            &["permessage-deflate; client_max_window_bits; server_max_window_bits=10"],
            Some((params((false, 15), (false, 10)), "permessage-deflate; server_max_window_bits=10")),
        ),
        (
            &["permessage-deflate; server_max_window_bits=\"15\""],
            Some((params((false, 15), (false, 15)), "permessage-deflate; server_max_window_bits=15")),
        ),
        (
            &["permessage-deflate; server_max_window_bits=8; client_max_window_bits=8"],
            Some((
                params((false, 8), (false, 8)),
                "permessage-deflate; client_max_window_bits=8; server_max_window_bits=8",
            )),
        ),
        (
            &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
            Some((
                params((true, 15), (true, 15)),
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            )),
        ),
        // Offers that can't be met are passed over.
        (
            &["permessage-deflate; server_max_window_bits=7, permessage-deflate"],
            Some((params((false, 15), (false, 15)), "permessage-deflate")),
        ),
        (&["permessage-deflate; server_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; server_max_window_bits=010"], None),
        (&["permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"], None),
        (&["permessage-deflate; client_no_context_takeover=1"], None),
        (&["permessage-deflate; no_such_parameter"], None),
        (&["permessage-deflate; =9"], None),
        (&["permessage-deflate; server_max_window_bits=\"9"], None),
    ];
    for (offered, wanted) in cases {
        let wanted = wanted.map(|(params, answer)| (params, answer.to_owned()));
        assert_eq!(accepted(&plain, offered), wanted, "{offered:?}");
    }
}

#[test]
fn a_server_limits_what_it_may() {
    let strict = Options {
        client_no_context_takeover: true,
        server_no_context_takeover: true,
        client_max_window_bits: Some(9),
        server_max_window_bits: Some(10),
    };
    assert_eq!(
        accepted(&strict, &["permessage-deflate; client_max_window_bits=12; server_max_window_bits=11"]),
        Some((
            params((true, 9), (true, 10)),
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; \
             client_max_window_bits=9; server_max_window_bits=10"
                .to_owned()
        ))
    );
    // A client that does not name client_max_window_bits must not be told one (section 7.1.2.2).
    assert_eq!(
        accepted(&strict, &["permessage-deflate"]),
        Some((
            params((true, 15), (true, 10)),
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; \
             server_max_window_bits=10"
                .to_owned()
        ))
    );
}

#[test]
fn a_client_takes_answers_that_fit_its_offer() {
    let plain = Options::default();
    let check = |answer| plain.check(answer).expect("an answer that fits");
    assert_eq!(check(None), None);
    assert_eq!(check(Some("permessage-deflate")), Some(params((false, 15), (false, 15))));
    assert_eq!(
        check(Some("permessage-deflate; client_max_window_bits=9; server_max_window_bits=8")),
        Some(params((false, 9), (false, 8)))
    );
    assert_eq!(
        check(Some("permessage-deflate; client_no_context_takeover; server_no_context_takeover")),
        Some(params((true, 15), (true, 15)))
    );
    let strict = Options {
        client_no_context_takeover: true,
        server_no_context_takeover: true,
        client_max_window_bits: Some(10),
        server_max_window_bits: Some(11),
    };
    assert_eq!(
        strict
            .check(Some("permessage-deflate; server_no_context_takeover; server_max_window_bits=10"))
            .expect("an answer that fits"),
        Some(params((true, 10), (true, 10)))
    );
}

#[test]
fn a_client_fails_on_answers_that_do_not_fit() {
    let plain = Options::default();
    let asking =
        Options { server_no_context_takeover: true, server_max_window_bits: Some(11), ..Options::default() };
    let cases = [
        (&plain, "permessage-bzip2", "permessage-bzip2 was not offered"),
        (&plain, "permessage-deflate, permessage-deflate", "2 extensions"),
        (&plain, "permessage-deflate; client_max_window_bits", "client_max_window_bits without a value"),
        (&plain, "permessage-deflate; client_max_window_bits=16", "client_max_window_bits=16 is not between"),
        (&plain, "permessage-deflate; server_max_window_bits=a", "server_max_window_bits=a is not between"),
        (&plain, "permessage-deflate; unknown", "unknown without a value"),
        (&plain, "permessage-deflate;", "can't read"),
        (
            &asking,
            "permessage-deflate; server_max_window_bits=11",
            "server_no_context_takeover was asked for",
        ),
        (
            &asking,
            "permessage-deflate; server_no_context_takeover",
            "server_max_window_bits=11 was asked for",
        ),
        (
            &asking,
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
            "server_max_window_bits=11 was asked for",
        ),
    ];
    for (options, answer, told) in cases {
        let error = options.check(Some(answer)).expect_err(answer).to_string();
        assert!(error.contains(told), "{answer}: {error}");
    }
}
