//! Microsoft's SDKs on the local Event Hubs, beyond what `eventhubs_serve` asks of them: the asynchronous clients of Python, and
//! processors that share the partitions of a hub by checkpoints.

use serde_json::{Value, json};
use tracemq_tests::{Cmd, Done, KEY, LONG, LocalHubs, Tracemq, json as parsed, peer_script};

fn aio(connection: &str, command: &[&str]) -> Cmd {
    Cmd::python().arg(peer_script("eventhubs_aio.py")).arg(connection).args(command).limit(LONG)
}

fn node(connection: &str, command: &str) -> Cmd {
    Cmd::node().arg(peer_script("eventhubs_client.js")).args([connection, "h", command]).limit(LONG)
}

/// What a peer told, which ended well: one object of all that it named.
#[track_caller]
fn told(done: Done) -> Value {
    let mut all = serde_json::Map::new();
    for line in done.expect(0).lines() {
        all.extend(parsed(&line).as_object().expect("an object").clone());
    }
    Value::Object(all)
}

#[test]
fn the_asynchronous_clients_ask_send_and_read_from_anywhere() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:2"]);
    let told = told(aio(&hubs.connection, &["tour"]).finish());
    for (name, expected) in [
        ("limit", json!(1 << 20)),
        ("all", json!(["a", "any", "b", "c", "k1", "k2"])),
        ("earliest", json!("a")),
        ("offset", json!("c")),
        ("offsetInclusive", json!("b")),
        ("sequence", json!("c")),
        ("sequenceInclusive", json!("b")),
        ("time", json!("a")),
        ("latest", json!("new")),
        ("owner", json!("a")),
        ("accepted", json!(100)),
        ("failed", json!([])),
    ] {
        assert_eq!(told[name], expected, "{name}: {told}");
    }
    let number = |name: &str| told[name].as_u64().expect("a number");
    assert!(number("bytes") > 1_030_000 && number("bytes") <= 1 << 20, "{told}");
    assert_eq!(number("kept"), 6 + number("filled"), "{told}");
    assert!(number("newest") >= 2, "{told}");
    assert_eq!(told["keyed"].as_array().map(Vec::len), Some(1), "one partition for one key: {told}");
    assert!(told["stolen"].as_str().is_some_and(|text| text.contains("amqp:link:stolen")), "{told}");
}

#[test]
fn the_asynchronous_clients_are_refused_what_they_have_no_right_to() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    for (connection, parts) in [
        (hubs.with(KEY, "aHVudGVyMg=="), ["AuthenticationError", "401"]),
        (hubs.with("EntityPath=h", "EntityPath=nowhere"), ["NotFound", "404"]),
    ] {
        let refused = aio(&connection, &["round", "x", "--partition", "0"]).finish().expect(1);
        for part in parts {
            assert!(refused.text().contains(part), "{part}: {refused:?}");
        }
    }
    let wrong_key = told(node(&hubs.with(KEY, "aHVudGVyMg=="), "wrong").finish());
    assert_eq!(wrong_key, json!({"send": "UnauthorizedError", "properties": "UnauthorizedError"}));
}

#[test]
fn processors_share_the_partitions_and_go_on_behind_their_checkpoints() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:4"]);
    let python = told(aio(&hubs.connection, &["share", "--patience", "120"]).finish());
    let owned = |name: &str| python["shared"][name].as_array().map_or(0, Vec::len);
    assert!(owned("one") > 0 && owned("two") > 0 && owned("one") + owned("two") == 4, "{python}");
    assert_eq!(python["events"], 80, "{python}");

    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:4"]);
    let javascript = told(node(&hubs.connection, "share").finish());
    let owned = |name: &str| javascript[name].as_u64().unwrap_or(0);
    assert!(owned("one") > 0 && owned("two") > 0 && owned("one") + owned("two") == 4, "{javascript}");
    assert_eq!(javascript["events"], 80, "{javascript}");
}
