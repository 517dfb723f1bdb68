//! `tracemq request` to a group: multicast on the loopback interface.

use std::net::{Ipv4Addr, UdpSocket};

use tracemq_tests::{CoapServer, LONG, ScriptedCoap, Tracemq, coap_answer, json};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 187);

#[test]
fn several_servers_answer_each_for_itself() {
    let tracemq = Tracemq::new();
    let members: Vec<UdpSocket> =
        (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    let ports: Vec<String> =
        members.iter().map(|member| member.local_addr().expect("a bound socket").to_string()).collect();
    let group = ScriptedCoap::of_group(
        GROUP,
        Box::new(move |_, from, request, _| {
            // The first one doubled; the last one has no such thing, which is an answer too.
            for (number, member) in members.iter().enumerate() {
                let code = if number == 2 { 0x84 } else { 0x45 };
                let rest = [&[0xff], format!("member {number}").as_bytes()].concat();
                let answer = coap_answer(request, 1, code, Some(40 + number as u16), &rest);
                member.send_to(&answer, from).expect("it can be sent");
                if number == 0 {
                    member.send_to(&answer, from).expect("it can be sent");
                }
            }
        }),
    );
    let request = ["request", &group.url("/a"), "--interface", "lo", "--replies", "3", "--format", "json"];
    let done = tracemq.cmd(request).limit(LONG).finish().expect(0);
    let mut got: Vec<_> = done.lines().iter().map(|line| json(line)).collect();
    got.sort_by_key(|answer| answer["payload"].to_string());
    for (number, answer) in got.iter().enumerate() {
        assert_eq!(answer["payload"], format!("member {number}"));
        assert_eq!(answer["meta"]["peer"], ports[number].as_str());
        assert_eq!(answer["meta"]["type"], "NON");
    }
    assert_eq!(got[2]["meta"]["code"], "4.04");
    let sent = group.next();
    assert_eq!(sent[0] >> 4 & 3, 1, "a request to a group is not confirmable");
    // Three were enough; four do not come.
    let more = ["request", &group.url("/a"), "--interface", "127.0.0.1", "--replies", "4", "-W", "2"];
    let done = tracemq.cmd(more).finish().expect_failure(5, &["3 of 4 answers"]);
    assert_eq!(done.lines().len(), 3);
    // What is published to a group is sent, and that is all that is known.
    let put = tracemq.cmd(["pub", &group.url("/a"), "x", "--interface", "lo", "--json"]).finish();
    assert_eq!(json(&put.expect(0).lines()[0])["status"], "sent");
}

#[test]
fn libcoap_in_a_group_is_found() {
    let tracemq = Tracemq::new();
    let server = CoapServer::libcoap_of_group(GROUP);
    let url = format!("coap://{GROUP}:{}/.well-known/core", server.port());
    let request =
        tracemq.cmd(["request", &url, "--interface", "lo", "--format", "json"]).limit(LONG).finish();
    let answer = json(&request.expect(0).lines()[0]);
    assert_eq!(answer["meta"]["content_format"], "application/link-format");
    assert!(answer["payload"].as_str().is_some_and(|text| text.contains("</time>")), "{answer}");
}

#[test]
fn an_interface_that_is_none_is_told() {
    let tracemq = Tracemq::new();
    let request = ["request", "coap://224.0.1.187/a", "--interface", "nowhere0"];
    tracemq.cmd(request).finish().expect_failure(3, &["no network interface nowhere0"]);
    let request = ["request", "coap://127.0.0.1/a", "--interface", "lo"];
    tracemq.cmd(request).finish().expect_failure(2, &["--interface", "group"]);
}
