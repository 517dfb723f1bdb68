//! Groups: `tracemq request` to one and `tracemq serve` in one, on the loopback interface and over a cable between two
//! network namespaces.

use std::net::{Ipv4Addr, UdpSocket};

use tracemq_tests::{
    CABLE, CoapServer, LONG, Namespaces, Run, ScriptedCoap, Tracemq, coap_answer, coap_client, coap_port,
    json,
};

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

/// Answers to a GET of `/hello` in a group, as payloads with who has sent them.
fn answers(command: tracemq_tests::Cmd) -> Vec<(String, String)> {
    let done = command.limit(LONG).finish().expect(0);
    let mut answers: Vec<(String, String)> = done
        .lines()
        .iter()
        .map(|line| {
            let answer = json(line);
            assert_eq!(answer["meta"]["type"], "NON", "{answer}");
            let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
            (text(&answer["payload"]), text(&answer["meta"]["peer"]))
        })
        .collect();
    answers.sort();
    answers
}

fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(payload, peer)| ((*payload).to_owned(), (*peer).to_owned())).collect()
}

/// Two servers for each kind of address, and one with all of them, at the other end of a cable.
#[test]
fn servers_of_a_group_answer_over_a_network_with_both_kinds_of_addresses() {
    let tracemq = Tracemq::new();
    let network = Namespaces::joined(
        &["10.77.0.1/24", "fd77::1/64", "fe80::1/64"],
        &["10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", "fd77::3/64", "fe80::2/64"],
    );
    let serve = |name: &str, bind: &str, groups: &[&str]| -> Run {
        let mut arguments = vec!["serve", "coap", "--bind", bind, "--json", "--leisure", "200ms"];
        groups.iter().for_each(|group| arguments.extend(["--join-group", group]));
        let resource = format!("/hello={name}");
        let server = network.far(tracemq.cmd(arguments).args(["--resource", &resource])).start();
        assert_eq!(coap_port(&server), 5683);
        server
    };
    let one = serve("one", "10.77.0.2:5683", &["224.0.1.187"]);
    let two = serve("two", "10.77.0.3:5683", &["224.0.1.187"]);
    let three = serve("three", "[fd77::2]:5683", &["ff02::fd", "ff05::fd"]);
    let four = serve("four", "[fd77::3]:5683", &["ff05::fd"]);
    let request = |url: &str, rest: &[&str]| {
        network.near(tracemq.cmd(["request", url, "--interface", CABLE, "--format", "json"]).args(rest))
    };
    assert_eq!(
        answers(request("coap://224.0.1.187/hello", &["--replies", "2"])),
        of(&[("one", "10.77.0.2:5683"), ("two", "10.77.0.3:5683")])
    );
    assert_eq!(
        answers(request("coap://[ff05::fd]/hello", &["--replies", "2"])),
        of(&[("four", "[fd77::3]:5683"), ("three", "[fd77::2]:5683")])
    );
    assert_eq!(
        answers(request(&format!("coap://[ff02::fd%{CABLE}]/hello"), &["--replies", "1"])),
        of(&[("three", "[fd77::2]:5683")])
    );
    for (server, name) in [(&one, "one"), (&two, "two"), (&three, "three"), (&four, "four")] {
        let shown = json(&server.wait_stdout("\"/hello\""));
        assert_eq!(
            (&shown["meta"]["group"], &shown["meta"]["type"]),
            (&true.into(), &"NON".into()),
            "{name}"
        );
    }
    // Those who do not have it say nothing, nor do those for whom no filter fits.
    for url in ["coap://224.0.1.187/nothing", "coap://224.0.1.187/.well-known/core?rt=nothing"] {
        request(url, &["-W", "1"]).finish().expect_failure(5, &["no answer"]);
        one.wait_stdout(if url.contains("core") { "well-known" } else { "/nothing" });
    }
    // A confirmable request is for nobody in particular.
    let client = |arguments: &[&str]| {
        network.near(coap_client().args(arguments).args(["-B", "2"]).arg("coap://224.0.1.187/hello"))
    };
    let heard = client(&["-N"]).finish().expect(0).text();
    assert!(heard.contains("one") && heard.contains("two"), "libcoap's client hears both: {heard:?}");
}

/// From all addresses at once, an answer leaves from the one that was asked.
#[test]
fn a_server_of_all_addresses_is_in_groups_of_both_kinds() {
    let tracemq = Tracemq::new();
    let network = Namespaces::joined(
        &["10.78.0.1/24", "fd78::1/64"],
        &["10.78.0.2/24", "10.78.0.3/24", "fd78::2/64", "fd78::3/64"],
    );
    let groups = ["--join-group", "224.0.1.187", "--join-group", "ff05::fd", "--leisure", "0"];
    let serve = tracemq.cmd(["serve", "coap", "--bind", "[::]:5683", "--json", "--resource", "/hello=all"]);
    let server = network.far(serve.args(groups)).start();
    coap_port(&server);
    let request = |url: &str, rest: &[&str]| {
        answers(
            network.near(tracemq.cmd(["request", url, "--interface", CABLE, "--format", "json"]).args(rest)),
        )
    };
    assert_eq!(request("coap://[ff05::fd]/hello", &["--replies", "1"]).len(), 1);
    let v4 = request("coap://224.0.1.187/hello", &["--replies", "1"]);
    assert!(v4[0].1.starts_with("10.78.0."), "{v4:?}");
    for address in ["10.78.0.2", "10.78.0.3", "[fd78::2]", "[fd78::3]"] {
        let url = format!("coap://{address}");
        let ask = tracemq.cmd(["request", &url, "/hello", "--max-retransmit", "0"]);
        assert_eq!(network.near(ask).finish().expect(0).text().trim(), "/hello all", "{address}");
        let observer = network.near(tracemq.cmd(["sub", &url, "/hello", "-C", "2"])).start();
        observer.wait_stdout("all");
        let put = tracemq.cmd(["pub", "coap://10.78.0.2", "/hello", "all and more"]);
        network.near(put).finish().expect(0);
        observer.wait_stdout("all and more");
        observer.wait().expect(0);
        network.near(tracemq.cmd(["pub", &url, "/hello", "all"])).finish().expect(0);
    }
}

/// Not every network is one of our making: on the loopback interface alone there are groups as well.
#[test]
fn servers_of_one_machine_share_a_group() {
    let tracemq = Tracemq::new();
    let port = tracemq_tests::free_port();
    let serve = |address: &str, name: &str| {
        let bind = format!("{address}:{port}");
        let resource = format!("/hello={name}");
        let arguments =
            ["serve", "coap", "--bind", &bind, "--join-group", "224.0.1.187%lo", "--leisure", "50ms"];
        let server = tracemq.cmd(arguments).args(["--resource", &resource, "--json"]).start();
        coap_port(&server);
        server
    };
    let (one, _two) = (serve("127.0.0.11", "one"), serve("127.0.0.12", "two"));
    let url = format!("coap://224.0.1.187:{port}/hello");
    let request = tracemq.cmd(["request", &url, "--interface", "lo", "--replies", "2", "--format", "json"]);
    let expected = [("one", format!("127.0.0.11:{port}")), ("two", format!("127.0.0.12:{port}"))];
    assert_eq!(answers(request), expected.map(|(name, peer)| (name.to_owned(), peer)));
    assert!(one.stdout().contains(&format!("coap://224.0.1.187%lo:{port}")), "{one:?}");
    for (arguments, part) in [
        (["--join-group", "127.0.0.1"], "is no group"),
        (["--join-group", "ff05::fd"], "of the other kind"),
        (["--join-group", "224.0.1.187%nowhere0"], "no network interface nowhere0"),
    ] {
        let done = tracemq.cmd(["serve", "coap", "--bind", "127.0.0.1:0"]).args(arguments).finish();
        assert!(done.stderr.contains(part), "{done:?}");
        assert!([2, 3].contains(&done.code()), "{done:?}");
    }
}
