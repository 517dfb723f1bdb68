//! Names, addresses and closed ports.

use tracemq_plugin_api::net::{NetErrorKind, TlsOptions};

use crate::support::{closed_port, dialer, echo, listen, round_trip, says, soon};

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_until_one_answers() {
    let port = listen(echo).await;
    // On most machines "localhost" is ::1 first, where nothing listens.
    let dialer = dialer(&TlsOptions::default(), None);
    for host in ["localhost", "127.0.0.1", "[127.0.0.1]"] {
        let stream = soon(dialer.tcp(host, port)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        soon(round_trip(stream)).await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let port = closed_port().await;
    let error = soon(dialer(&TlsOptions::default(), None).tcp("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Connect);
    assert!(!error.permanent, "the server may come up");
    says(&error, &[&format!("cannot connect to 127.0.0.1:{port}: connection refused"), "nothing listens"]);
    let error = soon(dialer(&TlsOptions::default(), None).tcp("::1", port)).await.unwrap_err();
    says(&error, &[&format!("cannot connect to [::1]:{port}: ")]);
}

#[tokio::test]
async fn an_unknown_name_is_named() {
    let dialer = dialer(&TlsOptions::default(), None);
    let error = soon(dialer.tcp("no-such-host.invalid", 1)).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Name, "{error}");
    assert!(!error.permanent);
    says(&error, &["cannot find the host \"no-such-host.invalid\": "]);
    assert_eq!(soon(dialer.tcp("", 1)).await.unwrap_err().kind, NetErrorKind::Config);
}
