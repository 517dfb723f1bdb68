//! Frames, written and read for these tests alone.

use std::iter;

/// One frame as it stands on the wire, its payload unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) masked: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(first: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first, masked: false, payload: payload.into() }
    }

    pub(crate) fn masked(self) -> Self {
        Self { masked: true, ..self }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mask = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length @ 0..126 => bytes.push(mask | length as u8),
            length @ 126..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if self.masked {
            let key = [0x5a, 0x13, 0xc4, 0x9f];
            bytes.extend(key);
            bytes.extend(self.payload.iter().zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

pub(crate) fn read_all(mut bytes: &[u8]) -> Vec<Frame> {
    iter::from_fn(|| (!bytes.is_empty()).then(|| read(&mut bytes))).collect()
}

fn read(bytes: &mut &[u8]) -> Frame {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    let head = take(bytes, 2);
    let length = match head[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes(take(bytes, 2).try_into().expect("2 bytes"))),
        127 => u64::from_be_bytes(take(bytes, 8).try_into().expect("8 bytes")) as usize,
        short => usize::from(short),
    };
    let masked = head[1] & 0x80 != 0;
    let key = if masked { take(bytes, 4) } else { &[0; 4] };
    let payload = take(bytes, length).iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Frame { first: head[0], masked, payload }
}
