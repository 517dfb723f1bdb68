//! Starting, stopping, and why a start fails.

use std::net::TcpListener;

use tracemq_mqtt::serve::{Broker, BrokerError, BrokerOptions};

use super::house::House;
use super::raw::{Raw, connect};

fn at(bind: &str) -> Result<Broker, BrokerError> {
    Broker::start(BrokerOptions { bind: Some(bind.to_owned()), ..BrokerOptions::default() })
}

#[test]
fn a_stopped_broker_frees_its_port_at_once_with_clients_connected() {
    let mut house = House::start(BrokerOptions::default());
    let address = house.address("mqtt");
    for round in 0..5 {
        let mut client = Raw::accepted(&address, &connect(4, "c", round % 2 == 0, 60, &[]));
        drop(house);
        assert_eq!(client.packet(), None, "the client's connection is closed");
        house = House::start(BrokerOptions { bind: Some(address.clone()), ..BrokerOptions::default() });
        assert_eq!(house.address("mqtt"), address);
    }
}

#[test]
fn several_brokers_live_side_by_side() {
    let houses: Vec<House> = (0..3).map(|_| House::start(BrokerOptions::default())).collect();
    for (number, house) in houses.iter().enumerate() {
        house.publish(&["-t", "who", "-m", &number.to_string()]);
        assert_eq!(house.message().payload, number.to_string());
    }
}

#[test]
fn what_cannot_be_listened_on_is_said_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let error = at(&address).expect_err("in use").to_string();
    assert!(error.contains(&address) && error.contains("already in use"), "{error}");
    let error = at("127.0.0.1").expect_err("no port").to_string();
    assert!(error.contains("ADDR:PORT"), "{error}");
    let users = vec!["ann=1".parse().expect("a user"), "ann=2".parse().expect("a user")];
    let options = BrokerOptions { bind: Some("127.0.0.1:0".to_owned()), users, ..BrokerOptions::default() };
    let error = Broker::start(options).expect_err("a name given twice").to_string();
    assert!(error.contains("twice"), "{error}");
}

#[test]
fn the_feeds_end_with_the_broker() {
    let house = House::start(BrokerOptions::default());
    house.publish(&["-t", "a", "-m", "last"]);
    house.message();
    let messages = house.broker.messages();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    drop(house);
    assert_eq!(runtime.block_on(messages.next(1)).map(|batch| batch.items.len()), None);
}
