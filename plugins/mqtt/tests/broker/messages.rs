//! Messages of every version and quality, retained ones, wills, and what the broker shows of them.

use tracemq_mqtt::serve::{BrokerEvent, BrokerOptions, OutgoingMessage, Properties};

use super::house::{House, VERSIONS};

#[test]
fn every_version_sends_and_receives_at_every_qos() {
    let house = House::start(BrokerOptions::default());
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let topic = format!("{version}/{qos}");
            let subscriber = house.subscribe(&["-V", version, "-q", qos, "-t", &topic, "-F", "%q %t %p"]);
            let sent = house.publish(&["-V", version, "-q", qos, "-t", &topic, "-m", "21.5", "-i", "sender"]);
            assert!(sent.status.success(), "{sent:?}");
            assert_eq!(subscriber.line(), format!("{qos} {topic} 21.5"));
            let shown = house.message();
            assert_eq!(
                (&*shown.topic, &shown.payload[..], shown.qos),
                (&*topic, &b"21.5"[..], qos.parse().expect("0 to 2"))
            );
            assert_eq!(
                (&*shown.client, shown.retain, shown.dup, shown.will),
                ("sender", false, false, false)
            );
        }
    }
}

#[test]
fn clients_come_and_go_with_their_version_and_address() {
    let house = House::start(BrokerOptions::default());
    for (version, told) in VERSIONS.into_iter().zip(["3.1", "3.1.1", "5.0"]) {
        house.publish(&["-V", version, "-t", "a", "-m", "b", "-i", "visitor", "-u", "ann", "-P", "any"]);
        house.event(|event| match event {
            BrokerEvent::Connected { client, peer, version, user, .. } => {
                assert_eq!((&**client, *version, user.as_deref()), ("visitor", told, Some("ann")));
                assert!(peer.expect("its address").ip().is_loopback(), "the client's own address: {peer:?}");
                Some(())
            }
            _ => None,
        });
        house.event(|event| match event {
            BrokerEvent::Disconnected { client, peer, reason } => {
                assert_eq!((&**client, reason.as_str()), ("visitor", "the client disconnected"));
                assert!(peer.is_some());
                Some(())
            }
            _ => None,
        });
    }
}

#[test]
fn retained_messages_wait_for_later_subscribers_until_removed() {
    let house = House::start(BrokerOptions::default());
    for version in VERSIONS {
        assert!(house.publish(&["-V", version, "-r", "-q", "1", "-t", "r/a", "-m", "old"]).status.success());
        assert!(house.publish(&["-V", version, "-r", "-q", "1", "-t", "r/a", "-m", "kept"]).status.success());
        let subscriber = house.subscribe(&["-V", version, "-t", "r/#", "-C", "1", "-F", "%r %t %p"]);
        assert_eq!(subscriber.line(), "1 r/a kept");
        assert!(house.publish(&["-V", version, "-r", "-q", "1", "-t", "r/a", "-n"]).status.success());
        let subscriber = house.subscribe(&["-V", version, "-t", "r/#", "-F", "%r %t %p"]);
        assert!(house.publish(&["-V", version, "-t", "r/b", "-m", "live"]).status.success());
        assert_eq!(subscriber.line(), "0 r/b live", "the removed one did not come first");
    }
}

#[test]
fn properties_of_5_0_arrive_and_are_shown() {
    let house = House::start(BrokerOptions::default());
    let subscriber = house.subscribe(&["-V", "mqttv5", "-t", "p", "-F", "%C|%R|%D|%P|%E|%p"]);
    house.publish(&[
        "-V",
        "mqttv5",
        "-t",
        "p",
        "-m",
        "x",
        "-D",
        "publish",
        "user-property",
        "k",
        "v 1",
        "-D",
        "publish",
        "user-property",
        "k",
        "v2",
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "publish",
        "response-topic",
        "answers",
        "-D",
        "publish",
        "correlation-data",
        "c1",
        "-D",
        "publish",
        "message-expiry-interval",
        "100",
    ]);
    let line = subscriber.line();
    let (before, after) = line.split_once("|k:v 1 k:v2|").unwrap_or_else(|| panic!("{line}"));
    assert_eq!(before, "text/plain|answers|c1");
    assert!(["100|x", "99|x"].contains(&after), "{line}");
    let shown = house.message().properties;
    let pairs: Vec<(&str, &str)> = shown.user.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(pairs, [("k", "v 1"), ("k", "v2")]);
    assert_eq!(shown.content_type.as_deref(), Some("text/plain"));
    assert_eq!(shown.response_topic.as_deref(), Some("answers"));
    assert_eq!(shown.correlation_data.as_deref(), Some(&b"c1"[..]));
    assert_eq!(shown.message_expiry, Some(100));
}

#[test]
fn a_lost_client_leaves_its_will_and_a_leaving_one_does_not() {
    let house = House::start(BrokerOptions::default());
    for version in VERSIONS {
        let watcher = house.subscribe(&["-V", version, "-t", "wills", "-F", "%p"]);
        let will =
            ["-V", version, "-t", "x", "--will-topic", "wills", "--will-payload", "gone", "-i", "mortal"];
        let mortal = house.subscribe(&will);
        mortal.kill();
        assert_eq!(watcher.line(), "gone");
        let shown = house.message();
        assert!(shown.will);
        assert_eq!((&*shown.client, &*shown.topic, &shown.payload[..]), ("mortal", "wills", &b"gone"[..]));

        // -E ends with DISCONNECT right after SUBACK.
        let mut leaving = will.to_vec();
        leaving.push("-E");
        assert!(house.subscribe(&leaving).end().status.success());
        assert!(house.publish(&["-V", version, "-t", "wills", "-m", "alive"]).status.success());
        assert_eq!(watcher.line(), "alive", "no will came before");
        house.message();
    }
}

#[test]
fn a_persistent_session_gets_what_it_missed_in_order() {
    let house = House::start(BrokerOptions::default());
    for version in VERSIONS {
        // -c is "not clean"; for 5.0 the tool adds a session expiry of its own.
        let arguments = ["-V", version, "-c", "-i", "sleeper", "-q", "1", "-t", "missed", "-F", "%p"];
        let mut first = arguments.to_vec();
        first.push("-E");
        assert!(house.subscriber(&first).end().status.success());
        for number in 0..20 {
            house.publish(&["-V", version, "-q", "1", "-t", "missed", "-m", &number.to_string()]);
        }
        let again = house.subscriber(&arguments);
        for number in 0..20 {
            assert_eq!(again.line(), number.to_string(), "{version}");
        }
        drop(again);
        house.publish(&["-V", version, "-i", "sleeper", "-t", "end", "-m", "clean"]);
    }
}

#[test]
fn messages_from_inside_reach_subscribers_live_and_retained() {
    let house = House::start(BrokerOptions::default());
    let live = house.subscribe(&["-V", "mqttv5", "-t", "in/#", "-q", "2", "-F", "%q %r %t %p %P"]);
    let message = OutgoingMessage {
        topic: "in/a".to_owned(),
        payload: "hello".into(),
        qos: 2,
        retain: true,
        properties: Properties { user: vec![("k".into(), "v".into())], ..Properties::default() },
    };
    house.wait(house.broker.publish(message)).expect("published");
    assert_eq!(live.line(), "2 0 in/a hello k:v");
    let later = house.subscribe(&["-V", "mqttv311", "-t", "in/a", "-q", "1", "-F", "%q %r %t %p"]);
    assert_eq!(later.line(), "1 1 in/a hello");
    for topic in ["", "a/#", "a/+/b", "nul\0"] {
        let message = OutgoingMessage { topic: topic.to_owned(), ..OutgoingMessage::default() };
        house.wait(house.broker.publish(message)).expect_err("no topic to publish to");
    }
    let message = OutgoingMessage { topic: "a".to_owned(), qos: 3, ..OutgoingMessage::default() };
    house.wait(house.broker.publish(message)).expect_err("there is no QoS 3");
}
