//! Any bytes from a server, in each version: reading them must not panic, and what is read must lie in its packet.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tracemq_mqtt::wire::control::Control;
use tracemq_mqtt::wire::frame::complete;
use tracemq_mqtt::wire::publish::{Layout, Naming};
use tracemq_mqtt::wire::{Frames, Properties, PublishView, Version};

fuzz_target!(|data: &[u8]| {
    for version in [Version::V31, Version::V311, Version::V5] {
        let Ok(found) = complete(data, 1 << 20, 256) else { continue };
        let buffer = Bytes::copy_from_slice(&data[..found.end]);
        let mut count = 0;
        for frame in Frames::new(&buffer) {
            count += 1;
            if frame.kind() != 3 {
                let _ = Control::read(&frame, version);
                continue;
            }
            let Ok(view) = PublishView::read(&frame, version) else { continue };
            for range in [&view.topic, &view.properties, &view.payload] {
                assert!(
                    frame.body.start <= range.start
                        && range.start <= range.end
                        && range.end <= frame.body.end
                );
            }
            let list = Properties::new(&buffer[view.properties.clone()]);
            let read: usize = list.count();
            assert!(read > 0 || view.properties.is_empty(), "a checked list is read to its end");
        }
        assert_eq!(count, found.count);
    }
    // What a journal gives back is written again, with an alias too.
    if let Ok(layout) = Layout::of(data) {
        let mut out = BytesMut::new();
        layout.write(data, 7, true, Naming::Topic, &mut out);
        assert_eq!(out.len(), data.len());
        let _ = layout.topic(data);
    }
});
