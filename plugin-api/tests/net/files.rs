//! The options themselves: their schema, and the files they name.

use std::path::PathBuf;
use std::time::Duration;

use schemars::schema_for;
use tracemq_plugin_api::net::{
    ClientAuth, Dialer, NetErrorKind, NetOptions, ProxyOptions, ServerTlsOptions, TlsOptions, tls_acceptor,
};
use tracemq_plugin_api::schemars;

use crate::support::{Pki, fixture, says, showing};

fn build(options: &TlsOptions) -> Result<Dialer, tracemq_plugin_api::net::NetError> {
    Dialer::new(options, &ProxyOptions::default(), Duration::from_secs(1))
}

fn pem(cert: &str, key: &str, password: Option<&str>) -> TlsOptions {
    TlsOptions {
        tls_cert: Some(fixture(cert)),
        tls_key: Some(fixture(key)),
        tls_key_password: password.map(Into::into),
        ..Default::default()
    }
}

fn p12(file: &str, password: Option<&str>) -> TlsOptions {
    TlsOptions {
        tls_pkcs12: Some(fixture(file)),
        tls_key_password: password.map(Into::into),
        ..Default::default()
    }
}

/// Each message names an option and the path of the file it is about.
#[track_caller]
fn refused(options: &TlsOptions, parts: &[&str]) {
    let error = build(options).expect_err("a wrong option was accepted");
    assert_eq!(error.kind, NetErrorKind::Config, "{error}");
    assert!(error.permanent);
    says(&error, parts);
}

#[test]
fn every_form_that_openssl_writes_keys_in_is_read() {
    let tomato = Some("tomato");
    for options in [
        pem("ec.crt", "ec-sec1.pem", None),
        pem("ec.crt", "ec-pkcs8.pem", None),
        pem("ec.crt", "ec-aes.pem", tomato),
        pem("ec.crt", "ec-aes128.pem", tomato),
        pem("ec.crt", "ec-aes192.pem", tomato),
        pem("ec.crt", "ec-v1.pem", tomato),
        pem("ec.crt", "ec-3des.pem", tomato),
        pem("ec.crt", "ec-scrypt.pem", tomato),
        pem("ec.crt", "ec-old.pem", tomato),
        pem("ec.crt", "ec-old-aes128.pem", tomato),
        pem("ec.crt", "ec-old-3des.pem", tomato),
        pem("ec.crt", "ec-old-des.pem", tomato),
        pem("rsa.crt", "rsa-old.pem", tomato),
        // A pass phrase that isn't wanted does no harm.
        pem("ec.crt", "ec-sec1.pem", tomato),
        pem("rsa.crt", "rsa-pkcs1.pem", None),
        pem("rsa.der", "rsa-pkcs1.pem", None),
        p12("ec.p12", tomato),
        p12("ec-legacy.p12", tomato),
        p12("ec-rc2.p12", tomato),
        p12("ec-nomac.p12", Some("tomäte€")),
        p12("ec-unicode.p12", Some("tomäte€")),
        p12("ec-open.p12", None),
    ] {
        build(&options).unwrap_or_else(|e| panic!("{options:?}: {e}"));
    }
}

#[test]
fn a_certificate_file_may_hold_the_key_too() {
    let dir = tempfile::tempdir().unwrap();
    let both = dir.path().join("both.pem");
    let text = ["ec.crt", "ec-aes.pem"].map(|f| std::fs::read_to_string(fixture(f)).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    let mut options = TlsOptions { tls_cert: Some(both), ..Default::default() };
    refused(&options, &["both.pem", "no pass phrase", "--tls-key-password"]);
    options.tls_key_password = Some("tomato".into());
    build(&options).unwrap();
}

#[test]
fn wrong_keys_are_told_apart() {
    let tomato = Some("tomato");
    refused(
        &pem("ec.crt", "ec-aes.pem", None),
        &["--tls-key ", "ec-aes.pem", "no pass phrase", "--tls-key-password"],
    );
    refused(&pem("ec.crt", "ec-old.pem", None), &["ec-old.pem", "no pass phrase", "--tls-key-password"]);
    for file in ["ec-camellia.pem", "ec-old-camellia.pem"] {
        refused(&pem("ec.crt", file, tomato), &["--tls-key ", file, "cipher that is not supported"]);
    }
    for file in [
        "ec-aes.pem",
        "ec-aes128.pem",
        "ec-v1.pem",
        "ec-3des.pem",
        "ec-scrypt.pem",
        "ec-old.pem",
        "ec-old-3des.pem",
        "rsa-old.pem",
    ] {
        refused(
            &pem("ec.crt", file, Some("potato")),
            &["--tls-key ", file, "pass phrase does not open the key"],
        );
    }
    refused(&pem("ec.crt", "rsa-pkcs1.pem", None), &["rsa-pkcs1.pem", "does not belong to the certificate"]);
    refused(&pem("ec.crt", "ec.crt", None), &["--tls-key ", "no private key in it"]);
    refused(&pem("ec.crt", "none.pem", None), &["--tls-key ", "none.pem", "no such file"]);
    refused(&pem("none.crt", "ec-sec1.pem", None), &["--tls-cert ", "none.crt", "no such file"]);
    refused(&pem("ec-sec1.pem", "ec-sec1.pem", None), &["--tls-cert ", "no certificate in it"]);
    refused(&pem("make.sh", "ec-sec1.pem", None), &["--tls-cert ", "make.sh", "no certificate in it"]);
    refused(&pem("", "ec-sec1.pem", None), &["--tls-cert ", "cannot be read"]);
}

#[test]
fn wrong_pkcs12_files_are_told_apart() {
    for file in ["ec.p12", "ec-legacy.p12", "ec-rc2.p12", "ec-nomac.p12"] {
        refused(&p12(file, Some("potato")), &["--tls-pkcs12 ", file, "pass phrase does not open"]);
        refused(&p12(file, None), &["--tls-pkcs12 ", file, "no pass phrase", "--tls-key-password"]);
    }
    refused(&p12("keyless.p12", Some("tomato")), &["--tls-pkcs12 ", "no private key in it"]);
    refused(&p12("ec.crt", None), &["--tls-pkcs12 ", "not a PKCS#12 file"]);
    refused(&p12("none.p12", None), &["--tls-pkcs12 ", "no such file"]);
}

#[test]
fn options_that_exclude_or_need_each_other() {
    let mut options = pem("ec.crt", "ec-sec1.pem", None);
    options.tls_pkcs12 = Some(fixture("ec.p12"));
    refused(&options, &["--tls-pkcs12", "excludes"]);
    options = pem("ec.crt", "ec-sec1.pem", None);
    options.tls_cert = None;
    refused(&options, &["--tls-key", "without --tls-cert"]);
    options = pem("ec.crt", "ec-sec1.pem", None);
    options.tls_key = None;
    refused(&options, &["ec.crt", "no private key", "--tls-key"]);
    options = TlsOptions { tls_server_name: Some("not a name".into()), ..Default::default() };
    refused(&options, &["--tls-server-name", "not a name"]);
    for alpn in [vec!["x".repeat(256)], vec!["a".into(), String::new()]] {
        refused(&TlsOptions { tls_alpn: alpn, ..Default::default() }, &["--tls-alpn", "from 1 to 255"]);
    }
    let error = Dialer::new(&TlsOptions::default(), &ProxyOptions::default(), Duration::ZERO)
        .expect_err("no time at all");
    says(&error, &["--connect-timeout"]);
}

#[test]
fn wrong_ca_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        TlsOptions { tls_ca: Some(path), ..Default::default() }
    };
    let ca = std::fs::read_to_string(fixture("ec.crt")).unwrap();
    build(&write("two.pem", (ca.clone() + &ca).as_bytes())).unwrap();
    refused(&write("empty.pem", b""), &["--tls-ca ", "empty.pem", "no certificate in it"]);
    refused(
        &write("cut.pem", &ca.as_bytes()[..100]),
        &["--tls-ca ", "cut.pem", "damaged PEM: an END line is missing"],
    );
    let noise = b"-----BEGIN CERTIFICATE-----\n\xff!\n-----END CERTIFICATE-----\n";
    refused(&write("noise.pem", noise), &["--tls-ca ", "noise.pem", "not base64"]);
    refused(
        &write("noise.der", &[0x30, 0x82, 1, 2, 3]),
        &["--tls-ca ", "noise.der", "certificate 1 in it cannot be understood"],
    );
    refused(&write("huge.pem", &vec![b' '; (4 << 20) + 1]), &["--tls-ca ", "huge.pem", "larger than 4 MiB"]);
    let missing = TlsOptions { tls_ca: Some(PathBuf::from("/none/ca.pem")), ..Default::default() };
    refused(&missing, &["--tls-ca /none/ca.pem: no such file"]);
}

#[test]
fn a_server_without_certificate_or_with_a_wrong_one_is_refused() {
    let refused = |options: &ServerTlsOptions, parts: &[&str]| {
        let Err(error) = tls_acceptor(options, &[]) else { panic!("accepted: {options:?}") };
        assert_eq!(error.kind, NetErrorKind::Config);
        says(&error, parts);
    };
    let pki = Pki::new();
    let (one, other) = (pki.issue("one", |_| {}), pki.issue("other", |_| {}));
    let mut options = ServerTlsOptions::default();
    assert!(!options.is_set());
    refused(&options, &["--tls-cert and --tls-key"]);
    let pkcs12 = ServerTlsOptions { tls_pkcs12: Some(fixture("ec.p12")), ..Default::default() };
    refused(&pkcs12, &["--tls-pkcs12 ", "no pass phrase", "--tls-key-password"]);
    assert!(
        tls_acceptor(&ServerTlsOptions { tls_key_password: Some("tomato".into()), ..pkcs12 }, &[]).is_ok()
    );
    let auth = ServerTlsOptions { tls_client_auth: Some(ClientAuth::Optional), ..showing(&one) };
    refused(&auth, &["--tls-client-auth needs --tls-ca"]);
    options.tls_key = Some(one.key);
    assert!(options.is_set());
    refused(&options, &["--tls-key", "without --tls-cert"]);
    options.tls_cert = Some(other.cert);
    refused(&options, &["one.key", "does not belong to the certificate"]);
    options.tls_key = Some(other.key);
    options.tls_ca = Some("/none".into());
    refused(&options, &["--tls-ca /none: no such file"]);
    options.tls_ca = Some(pki.ca());
    assert!(tls_acceptor(&options, &[]).is_ok());
}

#[test]
fn debug_output_holds_no_secret() {
    let options: NetOptions = serde_json::from_value(
        serde_json::json!({ "tls_key_password": "tomato", "proxy": "http://u:tomato@h" }),
    )
    .unwrap();
    let server = ServerTlsOptions { tls_key_password: Some("tomato".into()), ..Default::default() };
    let dialer = Dialer::from_options(&options).unwrap();
    let text = format!("{options:?} {server:?} {dialer:?}");
    assert!(!text.contains("tomato"), "{text}");
    assert!(text.contains("***"), "{text}");
}

#[test]
fn options_are_read_flat_and_have_their_defaults() {
    #[derive(serde::Deserialize)]
    struct Connect {
        client_id: String,
        #[serde(flatten)]
        net: NetOptions,
    }
    let read = |json| serde_json::from_value::<Connect>(json).unwrap();
    let empty = read(serde_json::json!({ "client_id": "a" }));
    assert_eq!(empty.client_id, "a");
    assert_eq!(empty.net.timeout.connect_timeout.to_string(), "10s");
    assert!(!empty.net.tls.insecure_skip_verify);
    let full = read(serde_json::json!({
        "client_id": "a", "tls_ca": "/ca", "insecure_skip_verify": true, "proxy": "socks5://h", "connect_timeout": "2m"
    }));
    assert_eq!(full.net.tls.tls_ca, Some("/ca".into()));
    assert!(full.net.tls.insecure_skip_verify);
    assert_eq!(full.net.proxy.proxy.as_deref(), Some("socks5://h"));
    assert_eq!(full.net.timeout.connect_timeout.duration(), Duration::from_secs(120));
}

#[test]
fn schemas_are_complete_in_both_languages() {
    let client = serde_json::to_value(schema_for!(NetOptions)).unwrap();
    let server = serde_json::to_value(schema_for!(ServerTlsOptions)).unwrap();
    let names = |schema: &serde_json::Value| -> Vec<String> {
        let properties = schema["properties"].as_object().unwrap();
        let mut names: Vec<_> =
            properties.iter().map(|(n, p)| (p["x-order"].as_u64().unwrap(), n.clone())).collect();
        names.sort();
        for (name, property) in properties {
            for key in ["title", "description", "x-title-fr", "x-help-fr", "x-group"] {
                assert!(property[key].is_string(), "{name} has no {key}: {property}");
            }
            assert_eq!(property["description"].as_str().unwrap().lines().count(), 1, "{name}");
        }
        names.into_iter().map(|(_, n)| n).collect()
    };
    let wanted = "tls_ca tls_cert tls_key tls_key_password tls_pkcs12 tls_server_name tls_alpn tls_min_version \
                  insecure_skip_verify proxy connect_timeout";
    assert_eq!(names(&client).join(" "), wanted);
    let made = if cfg!(feature = "self-signed") { "tls_self_signed " } else { "" };
    let wanted = format!(
        "tls_cert tls_key tls_key_password tls_pkcs12 {made}tls_ca tls_client_auth tls_alpn tls_min_version"
    );
    assert_eq!(names(&server).join(" "), wanted);
    let with = |schema: &serde_json::Value, key: &str, value: serde_json::Value| -> Vec<String> {
        let properties = schema["properties"].as_object().unwrap();
        properties.iter().filter(|(_, p)| p[key] == value).map(|(n, _)| n.clone()).collect()
    };
    assert_eq!(with(&client, "x-secret", true.into()), ["tls_key_password", "proxy"]);
    assert_eq!(with(&client, "x-insecure", true.into()), ["insecure_skip_verify"]);
    assert_eq!(with(&client, "x-file", "read".into()), ["tls_ca", "tls_cert", "tls_key", "tls_pkcs12"]);
    assert_eq!(client["properties"]["connect_timeout"]["x-type"], "duration");
    assert_eq!(client["properties"]["connect_timeout"]["default"], "10s");
    assert!(client["required"].is_null() && server["required"].is_null());
}
