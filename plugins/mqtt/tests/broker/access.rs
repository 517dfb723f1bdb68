//! Users, and the deny lists.

use tracemq_mqtt::serve::BrokerOptions;

use super::house::{House, VERSIONS, text};
use super::raw::{Raw, connect, publish, subscribe};

#[test]
fn only_users_with_their_own_secret_come_in() {
    let users = vec!["ann=secret".parse().expect("a user"), "bob=other=1".parse().expect("a user")];
    let house = House::start(BrokerOptions { users, ..BrokerOptions::default() });
    for version in VERSIONS {
        let publish = |user: &[&str]| {
            let mut arguments = vec!["-V", version, "-t", "a", "-m", "b"];
            arguments.extend_from_slice(user);
            house.publish(&arguments)
        };
        assert!(publish(&["-u", "ann", "-P", "secret"]).status.success());
        assert!(publish(&["-u", "bob", "-P", "other=1"]).status.success());
        for wrong in [
            &["-u", "ann", "-P", "wrong"][..],
            &["-u", "ann", "-P", "other=1"],
            &["-u", "carl", "-P", "secret"],
            &["-u", "ann"],
            &[],
        ] {
            let refused = publish(wrong);
            assert!(!refused.status.success(), "{version} {wrong:?}");
            let reason = house.refusal("connection");
            assert!(!reason.contains("secret") && !reason.contains("wrong\""), "no secret is told: {reason}");
        }
    }
    // The codes: 4 is "bad user name or password" up to 3.1.1, 0x86 from 5.0 on.
    assert_eq!(Raw::connect(&house.address("mqtt"), &connect(4, "c", true, 60, &[])).1[1], 4);
    assert_eq!(Raw::connect(&house.address("mqtt"), &connect(5, "c", true, 60, &[])).1[1], 0x86);
}

fn strict() -> House {
    House::start(BrokerOptions {
        deny_subscribe: vec!["secret/#".parse().expect("a rule"), "odd=0x80".parse().expect("a rule")],
        deny_publish: vec!["closed/+".parse().expect("a rule"), "full=0x97".parse().expect("a rule")],
        ..BrokerOptions::default()
    })
}

#[test]
fn a_denied_subscription_is_refused_and_the_others_are_not() {
    let house = strict();
    for version in VERSIONS {
        let denied = house.subscriber(&["-V", version, "-t", "secret/a"]).end();
        assert!(text(&denied).contains("denied"), "{}", text(&denied));
        assert_eq!(house.refusal("subscribe"), "denied by \"secret/#\"");
        house.subscribe(&["-V", version, "-t", "public/#"]);
    }
    for (level, filter, code) in [
        (4, "secret/a", 0x80),
        (4, "odd", 0x80),
        (4, "secret", 0x80),
        (4, "#", 0),
        (5, "secret/+/x", 0x87),
        (5, "$share/g/secret/a", 0x87),
        (5, "odd", 0x80),
        (5, "odd/one", 0),
    ] {
        let mut client = Raw::accepted(&house.address("mqtt"), &connect(level, "c", true, 60, &[]));
        client.send(&subscribe(level, filter, 0));
        assert_eq!(*client.expect(9).last().expect("a code"), code, "level {level} {filter}");
    }
}

#[test]
fn a_denied_message_is_answered_dropped_and_not_shown() {
    let house = strict();
    let subscriber = house.subscribe(&["-t", "#", "-q", "1", "-F", "%t"]);
    for (level, topic, answer) in
        [(4, "closed/a", None), (5, "closed/a", Some(0x87)), (5, "full", Some(0x97)), (5, "open", Some(0))]
    {
        let properties: Option<&[u8]> = (level == 5).then_some(&[]);
        let mut client = Raw::accepted(&house.address("mqtt"), &connect(level, "c", true, 60, &[]));
        client.send(&publish(topic, b"x", 1, 7, properties));
        let ack = client.expect(4);
        assert_eq!(ack[..2], [0, 7]);
        // A PUBACK without a code means success; 3.1.1 has nothing else to say.
        let code = ack.get(2).copied().unwrap_or(0);
        assert_eq!(code, answer.unwrap_or(0), "level {level} {topic}");
        // The client stays connected.
        client.send(&[0xC0, 0]);
        client.expect(13);
        if answer != Some(0) {
            assert!(house.refusal("publish").starts_with("denied by"));
        }
    }
    assert_eq!(subscriber.line(), "open");
    assert_eq!(&*house.message().topic, "open");
}

#[test]
fn a_last_will_to_a_denied_topic_is_refused_at_connect() {
    let house = strict();
    let refused = house.publish(&["-t", "a", "-m", "b", "--will-topic", "closed/x", "--will-payload", "w"]);
    assert!(!refused.status.success());
    assert!(house.refusal("connection").contains("last will"));
    assert!(
        house
            .publish(&["-t", "a", "-m", "b", "--will-topic", "closed/x/y", "--will-payload", "w"])
            .status
            .success()
    );
}
