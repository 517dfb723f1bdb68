//! Publishing and subscribing through mosquitto: versions, QoS, formats, what a message carries.

use serde_json::json as value;
use tracemq_tests::{Cmd, Mosquitto, SHORT, ScriptedBroker, Tracemq, VERSIONS, json};

#[test]
fn every_version_and_qos_goes_both_ways_and_mosquitto_sees_that_version() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let name = format!("{}-{qos}", version.logged);
            let (reader, writer) = (format!("sub-{name}"), format!("pub-{name}"));
            let topic = format!("t/{name}");
            let flags = ["--protocol-version", version.name, "--qos", qos];

            let ours =
                tracemq.sub(&broker.url(), &reader).args([&topic, "-C", "2", "--format", "json"]).args(flags);
            let ours = broker.subscribed(ours, &reader);
            let theirs = format!("their-{name}");
            let watch = broker.subscriber(&topic).args([
                "-i",
                &theirs,
                "-q",
                "2",
                "-C",
                "2",
                "-V",
                version.mosquitto,
            ]);
            let watch = broker.subscribed(watch.args(["-F", "%q %p"]), &theirs);

            tracemq
                .publish(&broker.url())
                .args([&topic, "ours", "--client-id", &writer])
                .args(flags)
                .finish()
                .expect(0);
            let publisher =
                broker.publisher(&topic).args(["-V", version.mosquitto, "-q", qos, "-m", "theirs"]);
            publisher.finish().expect(0);

            let lines: Vec<_> = ours.wait().expect(0).lines().iter().map(|line| json(line)).collect();
            for (line, payload) in lines.iter().zip(["ours", "theirs"]) {
                assert_eq!(line["topic"], value!(topic));
                assert_eq!(line["payload"], value!(payload));
                assert_eq!(line["protocol"], value!("mqtt"));
                assert_eq!(line["meta"]["qos"].to_string(), qos, "{line}");
            }
            assert_eq!(watch.wait().expect(0).lines(), [format!("{qos} ours"), format!("{qos} theirs")]);
            for client in [&reader, &writer] {
                let connected = broker.wait_log(&format!(" as {client} ("));
                assert!(connected.contains(&format!("({},", version.logged)), "{connected}");
            }
        }
    }
}

#[test]
fn a_retained_message_waits_for_subscribers_until_an_empty_one_removes_it() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let publish = || tracemq.publish(&broker.url()).args(["state", "--retain", "--qos", "1"]);
    publish().arg("on").finish().expect(0);
    let late =
        tracemq.sub(&broker.url(), "late").args(["#", "-C", "1", "--format", "json"]).finish().expect(0);
    let message = json(&late.text());
    assert_eq!((&message["payload"], &message["meta"]["retain"]), (&value!("on"), &value!(true)));

    publish().arg("--empty").finish().expect(0);
    let later = tracemq.sub(&broker.url(), "later").args(["#", "-C", "1", "-W", "1"]).finish();
    assert_eq!(later.expect(5).text(), "");
}

#[test]
fn what_mqtt5_sends_with_a_message_arrives_at_mosquitto_and_is_shown_by_sub() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let watch =
        broker.subscriber("t").args(["-i", "watch", "-V", "mqttv5", "-C", "1", "-F", "%C|%R|%D|%E|%F|%P"]);
    let watch = broker.subscribed(watch, "watch");
    let sub = tracemq.sub(&broker.url(), "sub").args([
        "t",
        "-C",
        "1",
        "--format",
        "json",
        "--subscription-id",
        "7",
    ]);
    let sub = broker.subscribed(sub, "sub");
    let publish =
        tracemq.publish(&broker.url()).args(["t", "hello", "-H", "unit=°C", "-H", "b=1", "-H", "b=2"]);
    let properties =
        ["--content-type", "text/plain", "--response-topic", "answers/1", "--correlation-data", "c-1"];
    publish.args(properties).args(["--message-expiry", "60s", "--payload-format"]).finish().expect(0);

    let seen = watch.wait().expect(0).text();
    assert_eq!(seen.trim_end(), "text/plain|answers/1|c-1|60|1|unit:°C b:1 b:2");
    let message = json(&sub.wait().expect(0).text());
    assert_eq!(message["headers"], value!([["unit", "°C"], ["b", "1"], ["b", "2"]]));
    let meta = &message["meta"];
    assert_eq!(meta["content_type"], value!("text/plain"));
    assert_eq!(meta["response_topic"], value!("answers/1"));
    assert_eq!(meta["reply"], value!("answers/1"));
    assert_eq!(meta["correlation_data"], value!("c-1"));
    assert_eq!(meta["subscription_id"], value!(7));
    let expiry = meta["message_expiry"].as_u64().expect("the seconds left");
    assert!((50..=60).contains(&expiry), "{meta}");
}

#[test]
fn formats() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    broker.publisher("a/b").args(["-r", "-m", "21.5 °C"]).finish().expect(0);
    let shown = |flags: &[&str]| {
        let sub = tracemq.sub(&broker.url(), "shown").args(["a/b", "-C", "1"]).args(flags);
        sub.finish().expect(0).text()
    };
    assert_eq!(shown(&[]), "a/b 21.5 °C\n");
    assert_eq!(shown(&["--no-topic"]), "21.5 °C\n");
    assert_eq!(shown(&["--format", "raw"]), "21.5 °C\n");
    assert_eq!(shown(&["--format", "raw", "--no-newline"]), "21.5 °C");
    assert_eq!(shown(&["--format", "{{ payload }} from {{ topic }}"]), "21.5 °C from a/b\n");
    let message = json(&shown(&["--format", "json"]));
    assert_eq!((&message["payload"], &message["encoding"]), (&value!("21.5 °C"), &value!("utf-8")));
    let time = message["time"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.len() == "2026-11-21T10:00:00.123456Z".len(), "{time}");
}

#[test]
fn any_bytes_arrive_as_they_were() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let file = tracemq.write("payload.bin", &bytes);
    let sub = tracemq.sub(&broker.url(), "bytes").args(["bin", "-C", "1", "--format", "raw", "--no-newline"]);
    let sub = broker.subscribed(sub, "bytes");
    tracemq.publish(&broker.url()).args(["bin", "--qos", "2", "--file"]).arg(&file).finish().expect(0);
    assert!(sub.wait().expect(0).stdout == bytes, "the payload has changed");

    let sub = tracemq.sub(&broker.url(), "base64").args(["small", "-C", "1", "--format", "json"]);
    let sub = broker.subscribed(sub, "base64");
    tracemq.publish(&broker.url()).args(["small", "--stdin"]).stdin([0xFF, 0x00, 0x7F]).finish().expect(0);
    let message = json(&sub.wait().expect(0).text());
    assert_eq!((&message["payload"], &message["encoding"]), (&value!("/wB/"), &value!("base64")));
}

#[test]
fn payloads_from_lines_repetition_and_nothing() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let watch = broker.subscriber("t").args(["-i", "watch", "-q", "1", "-C", "8", "-F", "[%p]"]);
    let watch = broker.subscribed(watch, "watch");
    let publish = || tracemq.publish(&broker.url()).args(["t", "--qos", "1"]);
    publish().arg("--lines").stdin("one\n\nthree\nlast").finish().expect(0);
    publish().args(["again", "--repeat", "3", "--interval", "20ms"]).finish().expect(0);
    publish().arg("--empty").finish().expect(0);
    let seen = watch.wait().expect(0).lines();
    assert_eq!(seen, ["[one]", "[]", "[three]", "[last]", "[again]", "[again]", "[again]", "[]"]);
}

#[test]
fn count_and_time_out() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let sub = tracemq.sub(&broker.url(), "two").args(["t", "-C", "2"]);
    let sub = broker.subscribed(sub, "two");
    for payload in ["1", "2", "3"] {
        broker.publish("t", payload);
    }
    assert_eq!(sub.wait().expect(0).lines(), ["t 1", "t 2"]);

    let sub = tracemq.sub(&broker.url(), "late").args(["t", "-C", "2", "-W", "2"]);
    let sub = broker.subscribed(sub, "late");
    broker.publish("t", "only");
    let ended = sub.wait().expect_failure(5, &["-W"]);
    assert_eq!(ended.lines(), ["t only"], "what came is shown");
}

#[test]
fn ctrl_c_unsubscribes_and_disconnects() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let sub = broker.subscribed(tracemq.sub(&broker.url(), "quits").arg("t"), "quits");
    sub.interrupt().expect(130);
    broker.wait_log("Received DISCONNECT from quits");
}

/// What has not been read when the socket is closed must not take the goodbye with it, or the will would be published.
#[test]
fn ctrl_c_in_the_middle_of_a_flood_disconnects_as_well() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    for round in 0..5 {
        let name = format!("quits-{round}");
        let sub = broker.subscribed(tracemq.sub(&broker.url(), &name).arg("t"), &name);
        let lines = "some text of some length\n".repeat(20_000);
        let flood = broker.publisher("t").args(["-l"]).stdin(lines).start();
        sub.wait_stdout_lines(100, SHORT);
        sub.interrupt().expect(130);
        broker.wait_log(&format!("Received DISCONNECT from {name}"));
        flood.wait().expect(0);
    }
}

#[test]
fn a_reader_that_closes_the_pipe_ends_it_quietly() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let sub = tracemq.sub(&broker.url(), "piped").args(["t", "--format", "raw"]).leave_stdout();
    let mut sub = broker.subscribed(sub, "piped");
    sub.close_stdout();
    broker.publish("t", "nobody reads this");
    let ended = sub.wait().expect(0);
    assert!(!ended.stderr.to_lowercase().contains("pipe"), "{ended:?}");
}

#[test]
fn the_will_arrives_when_the_client_is_killed_and_not_when_it_ends() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let watch = broker.subscriber("gone/#").args(["-i", "watch", "-q", "2", "-F", "%t %q %r %p"]);
    let watch = broker.subscribed(watch, "watch");
    for version in VERSIONS {
        let client = format!("mortal-{}", version.logged);
        let topic = format!("gone/{}", version.logged);
        let start = || {
            let will = ["--will-topic", &topic, "--will-payload", "bye", "--will-qos", "2", "--will-retain"];
            let sub = tracemq
                .sub(&broker.url(), &client)
                .args(["t", "--protocol-version", version.name])
                .args(will);
            broker.subscribed(sub, &client)
        };
        let mut killed = start();
        killed.signal(libc::SIGKILL);
        assert!(tracemq_tests::until(tracemq_tests::SHORT, || (!killed.alive()).then_some(())).is_some());
        watch.wait_stdout(&format!("{topic} 2 0 bye"));
        let kept = broker.subscriber(&topic).args(["-C", "1", "-F", "%r %p"]).finish().expect(0);
        assert_eq!(kept.text(), "1 bye\n", "the will is retained");

        let lines = watch.stdout_lines();
        // Its own client, so that the broker's log is not read for the first one's SUBSCRIBE.
        let quiet = format!("quiet-{}", version.logged);
        let sub = tracemq.sub(&broker.url(), &quiet).args(["t", "--protocol-version", version.name]);
        let sub = sub.args(["--will-topic", &topic, "--will-payload", "never"]);
        broker.subscribed(sub, &quiet).interrupt().expect(130);
        broker.publish("gone/marker", version.name);
        watch.wait_stdout(&format!("gone/marker 1 0 {}", version.name));
        assert_eq!(watch.stdout_lines(), lines + 1, "a clean exit sends no will\n{watch:?}");
    }
}

#[test]
fn mqtt5_delays_a_will_and_sends_what_belongs_to_it() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let watch =
        broker.subscriber("gone").args(["-i", "watch", "-V", "mqttv5", "-C", "1", "-F", "%C|%E|%P|%p"]);
    let watch = broker.subscribed(watch, "watch");
    let will =
        ["--will-topic", "gone", "--will-payload", "bye", "--will-delay", "1s", "--session-expiry", "1m"];
    let properties =
        ["--will-content-type", "text/x", "--will-message-expiry", "30s", "--will-user-property", "k=v"];
    let sub = tracemq.sub(&broker.url(), "mortal").arg("t").args(will).args(properties);
    let sub = broker.subscribed(sub, "mortal");
    sub.signal(libc::SIGKILL);
    assert_eq!(watch.wait().expect(0).text().trim_end(), "text/x|30|k:v|bye");
}

#[test]
fn a_persistent_session_gets_what_it_missed() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    for version in VERSIONS {
        let client = format!("keeper-{}", version.logged);
        let sub = || {
            let flags = ["t", "--qos", "1", "--format", "raw"];
            tracemq.sub(&broker.url(), &client).args(flags).persistent(version)
        };
        broker.subscribed(sub(), &client).interrupt().expect(130);
        for payload in ["one", "two", "three"] {
            broker.publish("t", payload);
        }
        assert_eq!(
            sub().args(["-C", "3"]).finish().expect(0).lines(),
            ["one", "two", "three"],
            "{version:?}"
        );
        let rest = sub().args(["-C", "1", "-W", "1"]).finish().expect(5);
        assert_eq!(rest.text(), "", "they were acknowledged, so they do not come again");
    }
}

#[test]
fn a_message_that_was_not_counted_is_not_acknowledged() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let version = VERSIONS[2];
    let sub = || {
        tracemq.sub(&broker.url(), "picky").args(["t", "--qos", "1", "--format", "raw"]).persistent(version)
    };
    broker.subscribed(sub(), "picky").interrupt().expect(130);
    for number in 0..10 {
        broker.publish("t", &number.to_string());
    }
    let mut all = sub().args(["-C", "4"]).finish().expect(0).lines();
    all.extend(sub().args(["-C", "6"]).finish().expect(0).lines());
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn a_shared_subscription_divides_the_messages() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let sub = |client: &str| {
        let sub =
            tracemq.sub(&broker.url(), client).args(["$share/group/work", "--qos", "1", "--format", "raw"]);
        broker.subscribed(sub, client)
    };
    let (first, second) = (sub("worker-1"), sub("worker-2"));
    for number in 0..20 {
        broker.publish("work", &number.to_string());
    }
    let both = || first.stdout_lines() + second.stdout_lines();
    assert!(tracemq_tests::until(tracemq_tests::SHORT, || (both() >= 20).then_some(())).is_some());
    assert!(first.stdout_lines() > 0 && second.stdout_lines() > 0, "{first:?}{second:?}");
    let mut all: Vec<u32> =
        (first.stdout() + &second.stdout()).lines().map(|line| line.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>(), "each message once");
}

#[test]
fn each_topic_may_have_its_own_qos() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let flags = ["a/#", "b/+", "c", "--qos", "1", "--qos", "2", "--qos", "0"];
    let sub = broker.subscribed(tracemq.sub(&broker.url(), "each").args(flags), "each");
    for expected in ["a/# (QoS 1)", "b/+ (QoS 2)", "c (QoS 0)"] {
        broker.wait_log(expected);
    }
    sub.interrupt().expect(130);
    let failed = tracemq.sub(&broker.url(), "odd").args(["a", "b", "c", "--qos", "1", "--qos", "2"]).finish();
    failed.expect_failure(2, &["--qos", "2 times", "3 topics"]);
}

#[test]
fn retained_messages_by_the_subscription_options_of_mqtt5() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    broker.publisher("state").args(["-r", "-m", "kept"]).finish().expect(0);
    let sub = |client: &str, flags: &[&str]| {
        let sub =
            tracemq.sub(&broker.url(), client).args(["state", "-C", "1", "--format", "json"]).args(flags);
        broker.subscribed(sub, client)
    };
    let live = |run: tracemq_tests::Run| json(&run.wait().expect(0).text());
    let never = sub("never", &["--retain-handling", "never"]);
    broker.publisher("state").args(["-r", "-m", "live"]).finish().expect(0);
    let message = live(never);
    assert_eq!((&message["payload"], &message["meta"]["retain"]), (&value!("live"), &value!(false)));

    let published = sub("published", &["--retain-handling", "never", "--retain-as-published"]);
    broker.publisher("state").args(["-r", "-m", "again"]).finish().expect(0);
    let message = live(published);
    assert_eq!((&message["payload"], &message["meta"]["retain"]), (&value!("again"), &value!(true)));
}

#[test]
fn request_and_response_by_mqtt5_properties() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let answering =
        broker.subscriber("ask/time").args(["-i", "server", "-V", "mqttv5", "-C", "1", "-F", "%R %D %p"]);
    let answering = broker.subscribed(answering, "server");
    let request =
        tracemq.cmd(["request", &broker.url(), "ask/time", "now", "-W", "15", "--no-topic"]).start();
    let asked = answering.wait().expect(0).text();
    let [reply, correlation, payload] = asked.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("no response topic or correlation data: {asked:?}");
    };
    assert_eq!(payload, "now");
    let answer = |data: &str, text: &str| {
        let answer = broker.publisher(reply).args(["-V", "mqttv5", "-q", "1", "-m", text]);
        answer.args(["-D", "publish", "correlation-data", data]).finish().expect(0);
    };
    answer("not-the-one", "an answer to somebody else");
    answer(correlation, "12:00");
    assert_eq!(request.wait().expect(0).lines(), ["12:00"]);
}

#[test]
fn a_request_that_nobody_answers() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let silent = broker.subscriber("ask").args(["-i", "silent"]);
    let silent = broker.subscribed(silent, "silent");
    let request = tracemq.cmd(["request", &broker.url(), "ask", "now", "-W", "1"]).finish();
    assert!(matches!(request.code(), 5 | 6), "{request:?}");
    assert!(request.reason().contains("ask"), "{request:?}");
    drop(silent);
}

#[test]
fn pings_keep_an_idle_connection() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let sub = tracemq.sub(&broker.url(), "idle").args(["t", "--keep-alive", "1s", "-C", "1"]);
    let sub = broker.subscribed(sub, "idle");
    let pings = || broker.log().matches("Received PINGREQ from idle").count();
    assert!(
        tracemq_tests::until(tracemq_tests::SHORT, || (pings() >= 3).then_some(())).is_some(),
        "{}",
        broker.log()
    );
    broker.publish("t", "still there");
    assert_eq!(sub.wait().expect(0).text(), "t still there\n");
    assert_eq!(broker.log().matches(" as idle (").count(), 1, "one connection only");
}

#[test]
fn a_user_and_a_password_by_reference() {
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().user("ann", "s3cret").start();
    let file = tracemq.write("password", "s3cret\n");
    let publish = || tracemq.publish(&broker.url()).args(["t", "x", "--qos", "1", "--username", "ann"]);
    publish().args(["--password", "env:ANNS_PASSWORD"]).env("ANNS_PASSWORD", "s3cret").finish().expect(0);
    publish().args(["--password", &format!("file:{}", file.display())]).finish().expect(0);
    let url = broker.url().replace("mqtt://", "mqtt://ann:s3cret@");
    let done = tracemq.publish(&url).args(["t", "x", "--qos", "1", "-v", "-v"]).finish().expect(0);
    assert!(!done.stderr.contains("s3cret"), "{done:?}");
}

#[test]
fn flags_may_stand_before_the_target() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    tracemq.cmd(["pub", "--qos", "1", "--retain", &broker.url(), "t", "x"]).finish().expect(0);
    let sub = tracemq.cmd(["sub", "-C", "1", "--qos=1", "--format", "raw", &broker.url(), "t"]).finish();
    assert_eq!(sub.expect(0).text(), "x\n");
}

#[test]
fn another_language_reads_what_we_write() {
    let broker = Mosquitto::plain();
    let tracemq = Tracemq::new();
    // mosquitto_rr waits for its answer with a response topic and correlation data of its own making.
    let asking =
        Cmd::peer("mosquitto_rr").args(["-p", &broker.port().to_string(), "-V", "mqttv5", "-i", "asking"]);
    let sub = tracemq.sub(&broker.url(), "serving").args(["ask", "-C", "1", "--format", "json"]);
    let sub = broker.subscribed(sub, "serving");
    let asking =
        broker.subscribed(asking.args(["-t", "ask", "-e", "answers/7", "-m", "how much?"]), "asking");
    let question = json(&sub.wait().expect(0).text());
    let reply = question["meta"]["reply"].as_str().expect("a response topic");
    assert_eq!((reply, &question["payload"]), ("answers/7", &value!("how much?")));
    tracemq.publish(&broker.url()).args([reply, "42"]).finish().expect(0);
    assert_eq!(asking.wait().expect(0).text(), "42\n");
}

#[test]
fn a_long_topic_is_sent_once_and_then_its_alias() {
    let (tracemq, broker) = (Tracemq::new(), ScriptedBroker::new());
    let flags = ["plant/line-7/oven", "--lines", "--use-topic-aliases"];
    let writing = tracemq.publish(&broker.url()).args(flags).stdin("one\ntwo\n").start();
    // Topic alias maximum: 1.
    let mut client = broker.accept_with(false, &[0x22, 0, 1]);
    assert_eq!(client.expect(3).body, b"\0\x11plant/line-7/oven\x03\x23\0\x01one");
    assert_eq!(client.expect(3).body, b"\0\0\x03\x23\0\x01two");
    client.expect(14);
    drop(client);
    writing.wait().expect(0);
}
