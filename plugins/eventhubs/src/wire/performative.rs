//! The performatives (part 2, section 2.7) as a peer sends them; of each the fields that the server has use for.

use super::value::{Malformed, Reader, Value};

/// The descriptors of performatives, of the security layer's frames, and of what stands in them.
pub mod code {
    pub const OPEN: u8 = 0x10;
    pub const BEGIN: u8 = 0x11;
    pub const ATTACH: u8 = 0x12;
    pub const FLOW: u8 = 0x13;
    pub const TRANSFER: u8 = 0x14;
    pub const DISPOSITION: u8 = 0x15;
    pub const DETACH: u8 = 0x16;
    pub const END: u8 = 0x17;
    pub const CLOSE: u8 = 0x18;
    pub const ERROR: u8 = 0x1D;
    pub const ACCEPTED: u8 = 0x24;
    pub const REJECTED: u8 = 0x25;
    pub const SOURCE: u8 = 0x28;
    pub const TARGET: u8 = 0x29;
    pub const SASL_MECHANISMS: u8 = 0x40;
    pub const SASL_INIT: u8 = 0x41;
    pub const SASL_OUTCOME: u8 = 0x44;
    pub const HEADER: u8 = 0x70;
    pub const DELIVERY_ANNOTATIONS: u8 = 0x71;
    pub const MESSAGE_ANNOTATIONS: u8 = 0x72;
    pub const PROPERTIES: u8 = 0x73;
    pub const APPLICATION_PROPERTIES: u8 = 0x74;
    pub const DATA: u8 = 0x75;
    pub const SEQUENCE: u8 = 0x76;
    pub const VALUE: u8 = 0x77;
    pub const FOOTER: u8 = 0x78;
}

type Result<T> = std::result::Result<T, Malformed>;

#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    pub container: &'a str,
    /// The longest frame that the peer takes, in bytes.
    pub max_frame: u32,
    /// Milliseconds of silence after which the peer gives us up.
    pub idle_timeout: Option<u32>,
    pub properties: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
pub struct Begin {
    pub remote_channel: Option<u16>,
    pub next_outgoing_id: u32,
    pub incoming_window: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// Raw, to be given back as it came.
    pub name: Value<'a>,
    pub handle: u32,
    /// Whether the peer is the one that receives.
    pub receiver: bool,
    pub snd_settle_mode: Option<u64>,
    pub source: Value<'a>,
    pub target: Value<'a>,
    pub initial_delivery_count: Option<u32>,
    pub desired_capabilities: Value<'a>,
    pub properties: Value<'a>,
}

impl<'a> Attach<'a> {
    /// The address of the node that is ours: a receiver's source, a sender's target.
    pub fn address(&self) -> Option<&'a str> {
        terminus(if self.receiver { self.source } else { self.target })
    }

    /// The address of the node that is the peer's.
    pub fn peer_address(&self) -> Option<&'a str> {
        terminus(if self.receiver { self.target } else { self.source })
    }

    /// The source's filters.
    pub fn filter(&self) -> Value<'a> {
        let fields = self.source.list().and_then(|items| items.fields::<8>().ok());
        fields.map_or(Value::NULL, |fields| fields[7])
    }
}

/// The address in a source or a target, where it is the first field.
fn terminus(value: Value<'_>) -> Option<&str> {
    value.list()?.next()?.ok()?.text()
}

#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub next_incoming_id: Option<u32>,
    pub incoming_window: u32,
    pub next_outgoing_id: u32,
    pub handle: Option<u32>,
    pub delivery_count: Option<u32>,
    pub link_credit: Option<u32>,
    pub drain: bool,
    pub echo: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    pub handle: u32,
    pub delivery_id: Option<u32>,
    pub message_format: Option<u32>,
    pub settled: bool,
    pub more: bool,
    pub aborted: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Detach {
    pub handle: u32,
    pub closed: bool,
}

/// About the deliveries from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub struct Disposition {
    pub first: u32,
    pub last: u32,
}

/// What a frame's body begins with.
#[derive(Clone, Debug)]
pub enum Performative<'a> {
    Open(Open<'a>),
    Begin(Begin),
    Attach(Box<Attach<'a>>),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End,
    Close,
}

/// The fields of a performative that were read, by number.
struct Fields<'a>([Value<'a>; 14]);

impl<'a> Fields<'a> {
    fn number<T: TryFrom<u64>>(&self, at: usize, name: &'static str) -> Result<Option<T>> {
        let field = self.0[at];
        if field.is_null() {
            return Ok(None);
        }
        let number = field.unsigned().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or(Malformed::Field(name))
    }

    fn needed<T: TryFrom<u64>>(&self, at: usize, name: &'static str) -> Result<T> {
        self.number(at, name)?.ok_or(Malformed::Field(name))
    }

    fn flag(&self, at: usize) -> bool {
        self.0[at].bool().unwrap_or(false)
    }
}

impl<'a> Performative<'a> {
    /// The performative at the beginning of a frame's body, and the payload behind it.
    ///
    /// # Errors
    /// It is none, or one whose mandatory fields are missing.
    pub fn read(body: &'a [u8]) -> Result<(Performative<'a>, &'a [u8])> {
        let mut reader = Reader::new(body);
        let value = reader.value()?;
        let unknown = Malformed::Unexpected("a frame without a known performative");
        let code = value.descriptor().and_then(|code| u8::try_from(code).ok()).ok_or(unknown)?;
        let fields = Fields(value.list().ok_or(unknown)?.fields()?);
        let performative = match code {
            code::OPEN => Performative::Open(Open {
                container: fields.0[0].text().ok_or(Malformed::Field("container-id"))?,
                max_frame: fields.number(2, "max-frame-size")?.unwrap_or(u32::MAX),
                idle_timeout: fields.number(4, "idle-time-out")?,
                properties: fields.0[9],
            }),
            code::BEGIN => Performative::Begin(Begin {
                remote_channel: fields.number(0, "remote-channel")?,
                next_outgoing_id: fields.needed(1, "next-outgoing-id")?,
                incoming_window: fields.needed(2, "incoming-window")?,
            }),
            code::ATTACH => Performative::Attach(Box::new(Attach {
                name: fields.0[0].text().map(|_| fields.0[0]).ok_or(Malformed::Field("name"))?,
                handle: fields.needed(1, "handle")?,
                receiver: fields.0[2].bool().ok_or(Malformed::Field("role"))?,
                snd_settle_mode: fields.0[3].unsigned(),
                source: fields.0[5],
                target: fields.0[6],
                initial_delivery_count: fields.number(9, "initial-delivery-count")?,
                desired_capabilities: fields.0[12],
                properties: fields.0[13],
            })),
            code::FLOW => Performative::Flow(Flow {
                next_incoming_id: fields.number(0, "next-incoming-id")?,
                incoming_window: fields.needed(1, "incoming-window")?,
                next_outgoing_id: fields.needed(2, "next-outgoing-id")?,
                handle: fields.number(4, "handle")?,
                delivery_count: fields.number(5, "delivery-count")?,
                link_credit: fields.number(6, "link-credit")?,
                drain: fields.flag(8),
                echo: fields.flag(9),
            }),
            code::TRANSFER => Performative::Transfer(Transfer {
                handle: fields.needed(0, "handle")?,
                delivery_id: fields.number(1, "delivery-id")?,
                message_format: fields.number(3, "message-format")?,
                settled: fields.flag(4),
                more: fields.flag(5),
                aborted: fields.flag(9),
            }),
            code::DISPOSITION => {
                let first = fields.needed(1, "first")?;
                let last = fields.number(2, "last")?.unwrap_or(first);
                Performative::Disposition(Disposition { first, last })
            }
            code::DETACH => {
                Performative::Detach(Detach { handle: fields.needed(0, "handle")?, closed: fields.flag(1) })
            }
            code::END => Performative::End,
            code::CLOSE => Performative::Close,
            _ => return Err(unknown),
        };
        Ok((performative, reader.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outbox;
    use super::*;
    use proptest::prelude::*;

    fn body(code: u8, fill: impl FnOnce(&mut super::super::Writer<'_>)) -> Vec<u8> {
        let mut out = Outbox::default();
        out.performative(0, code, fill);
        out.unsent()[8..].to_vec()
    }

    #[test]
    fn trailing_fields_may_be_missing_and_needed_ones_not() {
        let bytes = body(code::ATTACH, |w| {
            w.string("link");
            w.uint(4);
            w.bool(true);
            w.null();
            w.null();
            w.describe(code::SOURCE).list(|w| w.string("hub/ConsumerGroups/g/Partitions/0"));
            w.describe(code::TARGET).list(|w| w.string("me"));
        });
        let (Performative::Attach(attach), payload) = Performative::read(&bytes).expect("an attach") else {
            panic!("no attach")
        };
        assert!(payload.is_empty() && attach.receiver && attach.handle == 4);
        assert_eq!(attach.address(), Some("hub/ConsumerGroups/g/Partitions/0"));
        assert_eq!((attach.peer_address(), attach.filter().is_null()), (Some("me"), true));
        for (bytes, why) in [
            (body(code::ATTACH, |w| w.string("link")), Malformed::Field("handle")),
            (body(code::BEGIN, |w| w.null()), Malformed::Field("next-outgoing-id")),
            (body(code::OPEN, |w| w.uint(1)), Malformed::Field("container-id")),
            (body(code::TRANSFER, |w| w.ulong(u64::MAX)), Malformed::Field("handle")),
        ] {
            assert_eq!(Performative::read(&bytes).map(|_| ()), Err(why));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(code in 0x10u8..0x19, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Performative::read(&bytes).map(|_| ());
            let mut framed = vec![0, 0x53, code, 0xC0, bytes.len() as u8 + 1, 14];
            framed.extend_from_slice(&bytes);
            if let Ok((Performative::Attach(attach), _)) = Performative::read(&framed) {
                let _ = (attach.address(), attach.peer_address(), attach.filter().get("x"));
            }
        }
    }
}
