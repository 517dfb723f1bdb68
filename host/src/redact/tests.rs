use super::*;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

fn forms_of(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    forms::all(secret, &mut forms);
    forms
}

fn shown(secret: &str, text: &str) -> String {
    masked(text, &forms_of(secret)).into_owned()
}

#[test]
fn a_secret_is_masked_wherever_it_stands() {
    assert_eq!(shown("hunter2", "no such thing"), "no such thing");
    assert_eq!(shown("hunter2", "hunter2 at x://u:hunter2@h, hunter2"), "*** at x://u:***@h, ***");
    assert_eq!(shown("hunter2", "hunter2hunter2!"), "***!");
    assert_eq!(shown("p@ss wörd", "p%40ss%20w%C3%B6rd p%40ss+w%c3%b6rd p@ss%2520wörd"), "*** *** ***");
    assert_eq!(
        shown("a\"b\\c\nd", r#"{"x": "a\"b\\c\nd"} {:?} \"a\\\"b\\\\c\\nd\""#),
        r#"{"x": "***"} {:?} \"***\""#
    );
    assert_eq!(shown("schlüssel😀", r"schl\u00fcssel\ud83d\ude00 schl\u{fc}ssel\u{1f600}"), "*** ***");
    assert_eq!(shown("schlüssel", r#"b"schl\xc3\xbcssel""#), "b\"***\"");
    assert_eq!(
        shown("key1", "[107, 101, 121, 49] 6b657931 6B657931 [1, 107, 101, 121, 49, 2]"),
        "[***] *** *** [1, ***, 2]"
    );
}

#[test]
fn basic_auth_hides_its_password() {
    for user in ["", "a", "bo", "ann", "someone"] {
        let header = format!("Authorization: Basic {}, next", STANDARD.encode(format!("{user}:s3cret!")));
        assert_eq!(shown("s3cret!", &header), "Authorization: Basic ***, next", "{user}");
    }
}

#[test]
fn values_stay_well_formed() {
    register("7391846250");
    register("s3cret-in-json");
    let mut value = json!({"s3cret-in-json": ["s3cret-in-json", 7391846250_u64, {"a": "pw 7391846250"}]});
    json(&mut value);
    assert_eq!(value, json!({"s3cret-in-json": ["***", 7391846250_u64, {"a": "pw ***"}]}));
    assert_eq!(json_text("[\"x s3cret-in-json\", 1]"), "[\"x ***\",1]");
    assert_eq!(json_text("not json s3cret-in-json"), "not json ***");
}

#[test]
fn lines_of_a_key_are_secrets_too_and_what_is_short_is_none() {
    register("-----BEGIN KEY-----\nMIIBVQIBADANBgkqhkiG9w0\nabc\n-----END KEY-----\n");
    assert_eq!(
        text("read MIIBVQIBADANBgkqhkiG9w0 of abc -----END KEY-----"),
        "read *** of abc -----END KEY-----"
    );
    register("abc");
    assert_eq!(text("abc"), "abc");
    assert_eq!(format!("{:?}", Secret::new("hunter2-debug".into())), "***");
}

/// Text as some encoder might write it.
fn written(secret: &str, how: usize) -> String {
    let bytes = secret.as_bytes();
    match how {
        0 => secret.to_owned(),
        1 => bytes.iter().map(|byte| format!("%{byte:02X}")).collect(),
        2 => url::form_urlencoded::byte_serialize(bytes).collect(),
        3 => serde_json::to_string(secret).unwrap(),
        4 => format!("{secret:?}"),
        5 => format!("{:?}", format!("{secret:?}")),
        6 => bytes.escape_ascii().to_string(),
        7 => secret.escape_unicode().to_string(),
        8 => crate::output::escape::line(secret).into_owned(),
        9 => STANDARD.encode(bytes),
        10 => STANDARD.encode(format!("user:{secret}")),
        11 => URL_SAFE_NO_PAD.encode(format!("u:{secret}\n")),
        12 => format!("{bytes:?}"),
        13 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        14 => url::Url::parse("x://h")
            .map(|mut url| {
                let _ = url.set_password(Some(secret));
                let _ = url.set_username("u");
                url.to_string()
            })
            .unwrap(),
        _ => serde_json::to_string(&json!({"inner": serde_json::to_string(&json!([secret])).unwrap()}))
            .unwrap(),
    }
}

/// Long enough to be looked for, and not like a mask.
fn secrets() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("too short, or stars", |text| text.len() >= SHORTEST && !text.contains('*'))
}

proptest! {
    // A failure is told with the values that lead to it; no file of earlier ones is kept.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever writes it and whatever stands around it: the secret, in that form, is not in what is shown.
    #[test]
    fn no_form_of_a_secret_is_shown(
        secret in secrets(),
        before in "[ -~]{0,12}",
        after in "[ -~]{0,12}",
        how in 0_usize..16,
    ) {
        let form = written(&secret, how);
        let line = format!("{before}{form}{after}");
        let out = shown(&secret, &line);
        prop_assert!(out.contains(MASK), "{line:?} became {out:?}");
        // The marks at its ends are not part of it.
        let core = form.trim_matches(|c| "\"[]=\\".contains(c));
        prop_assert!(core.len() < SHORTEST || !out.contains(core), "{line:?} became {out:?}");
    }

    #[test]
    fn a_text_without_secrets_stays_as_it_is(text in any::<String>()) {
        prop_assert_eq!(shown("kQ7-never-there", &text), text);
    }

    #[test]
    fn masking_never_panics(
        secret in secrets(),
        line in "(%[0-9a-f]{0,2}|\\\\[xu{n\"]{0,3}|[a-c%\\\\+]){0,40}",
    ) {
        let _ = shown(&secret, &line);
        if let Some(part) = line.get(..SHORTEST) {
            prop_assert!(shown(part, &line).starts_with(MASK));
        }
    }
}
