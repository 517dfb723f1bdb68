//! The sources of messages for scripts/bench.
//!
//! `feeder raw COUNT SIZE` serves each client COUNT messages of QoS 0; its port is the first line of its output; it ends with
//! its standard input. `feeder acknowledged PORT TOPIC COUNT SIZE` publishes COUNT messages of QoS 1 to a broker.

use std::io::{Read, Write};
use tracemq_tests::{Feeder, feed_acknowledged};

/// Unacknowledged messages at a time: enough to keep any broker busy.
const WINDOW: u16 = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["raw", count, size] => {
            let feeder = Feeder::start(count.parse()?, size.parse()?);
            writeln!(std::io::stdout(), "{}", feeder.port())?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        ["acknowledged", port, topic, count, size] => {
            feed_acknowledged(port.parse()?, topic, count.parse()?, size.parse()?, WINDOW)?;
        }
        _ => return Err("usage: feeder raw COUNT SIZE | feeder acknowledged PORT TOPIC COUNT SIZE".into()),
    }
    Ok(())
}
