//! PKCS#12 files (RFC 7292): the private key, and the certificates with it.
//!
//! Encodings are DER, integrity is by pass phrase or not protected: what OpenSSL, Java and Windows write.

use ring::{digest, hmac};

use super::certificate::Fields;
use super::der::{Algorithm, Values, tag};
use super::sealed::{self, Closed, Purpose};

/// Safes in a file, and bags in all of them, at most: other bags than keys and certificates may be among them.
const MOST_BAGS: usize = 1000;

mod oid {
    pub const DATA: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x07\x01";
    pub const ENCRYPTED_DATA: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x07\x06";
    pub const KEY_BAG: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x0A\x01\x01";
    pub const SHROUDED_KEY_BAG: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x0A\x01\x02";
    pub const CERT_BAG: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x0A\x01\x03";
    pub const X509: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x09\x16\x01";
    pub const LOCAL_KEY_ID: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x09\x15";
    pub const SHA1: &[u8] = b"\x2B\x0E\x03\x02\x1A";
    pub const SHA256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
    pub const SHA384: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x02";
    pub const SHA512: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x03";
}

const DAMAGED: Closed = Closed::Unreadable("it is damaged, or something else");

/// A key (a PrivateKeyInfo) or a certificate, in DER, and the id that puts the two together.
struct Bag {
    der: Vec<u8>,
    id: Option<Vec<u8>>,
}

/// What a file holds, in its order.
#[derive(Default)]
pub(super) struct Pkcs12 {
    keys: Vec<Bag>,
    certificates: Vec<Bag>,
}

impl Pkcs12 {
    /// Checks the file against the pass phrase, and opens all that is in it.
    pub(super) fn open(file: &[u8], password: &str) -> Result<Self, Closed> {
        let mut pfx = Values::new(file).within(tag::SEQUENCE).ok_or(DAMAGED)?;
        if pfx.number() != Some(3) {
            return Err(DAMAGED);
        }
        let safes = match content_info(&mut pfx).ok_or(DAMAGED)? {
            (oid::DATA, mut content) => content.content(tag::OCTET_STRING).ok_or(DAMAGED)?,
            _ => return Err(Closed::Unreadable("it is signed with a key instead of a pass phrase")),
        };
        if !pfx.is_empty() {
            check_mac(pfx, safes, password)?;
        }
        let mut found = Self::default();
        let mut safes = Values::new(safes).within(tag::SEQUENCE).ok_or(DAMAGED)?;
        let mut left = MOST_BAGS;
        while !safes.is_empty() {
            match content_info(&mut safes).ok_or(DAMAGED)? {
                (oid::DATA, mut content) => {
                    found.take_bags(content.content(tag::OCTET_STRING), password, &mut left)?;
                }
                (oid::ENCRYPTED_DATA, content) => {
                    let (algorithm, sealed) = encrypted_data(content).ok_or(DAMAGED)?;
                    found.take_bags(
                        Some(&sealed::open(algorithm, sealed, password)?),
                        password,
                        &mut left,
                    )?;
                }
                _ => {
                    return Err(Closed::Unreadable(
                        "a part of it is encrypted for a key, not by a pass phrase",
                    ));
                }
            }
        }
        Ok(found)
    }

    fn take_bags(&mut self, bags: Option<&[u8]>, password: &str, left: &mut usize) -> Result<(), Closed> {
        let mut bags = bags.and_then(|bags| Values::new(bags).within(tag::SEQUENCE)).ok_or(DAMAGED)?;
        while !bags.is_empty() {
            *left = left.checked_sub(1).ok_or(Closed::Unreadable("it holds too much"))?;
            let mut bag = bags.within(tag::SEQUENCE).ok_or(DAMAGED)?;
            let kind = bag.content(tag::OID).ok_or(DAMAGED)?;
            let mut value = bag.within(tag::CONTEXT_0).ok_or(DAMAGED)?;
            let id = local_key_id(bag);
            match kind {
                oid::KEY_BAG => {
                    let der = value.whole().ok_or(DAMAGED)?.to_vec();
                    self.keys.push(Bag { der, id });
                }
                oid::SHROUDED_KEY_BAG => {
                    let der = sealed::open_key(value.whole().ok_or(DAMAGED)?, password)?;
                    self.keys.push(Bag { der, id });
                }
                oid::CERT_BAG => {
                    let der =
                        x509(value).ok_or(Closed::Unreadable("a certificate in it is not X.509"))?.to_vec();
                    self.certificates.push(Bag { der, id });
                }
                // Revocation lists and secrets are of no use here.
                _ => {}
            }
        }
        Ok(())
    }

    /// The private key, a PrivateKeyInfo in DER.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.keys.first().map(|key| key.der.as_slice())
    }

    /// The certificate of the key, and those of its issuers as far as they are there. Empty: there is none.
    pub(super) fn chain(&self) -> Vec<&[u8]> {
        // The certificate of the key is marked with the same id; writers that leave ids out put it first.
        let id = self.keys.first().and_then(|key| key.id.as_ref());
        let marked = id.and_then(|id| self.certificates.iter().find(|c| c.id.as_ref() == Some(id)));
        let mut chain: Vec<&[u8]> =
            marked.or(self.certificates.first()).map(|leaf| leaf.der.as_slice()).into_iter().collect();
        // From issuer to issuer; the root itself need not be sent but does no harm.
        while let Some(last) = chain.last().and_then(|last| Fields::read(last))
            && let Some(next) = self.certificates.iter().find(|c| {
                Fields::read(&c.der).is_some_and(|above| above.subject == last.issuer)
                    && !chain.contains(&c.der.as_slice())
            })
        {
            chain.push(&next.der);
        }
        chain
    }
}

/// ContentInfo: its type, and what is in `[0]`.
fn content_info<'a>(values: &mut Values<'a>) -> Option<(&'a [u8], Values<'a>)> {
    let mut info = values.within(tag::SEQUENCE)?;
    Some((info.content(tag::OID)?, info.within(tag::CONTEXT_0)?))
}

/// The cipher of an EncryptedData (RFC 5652, section 8), and what it encrypted.
fn encrypted_data(mut content: Values<'_>) -> Option<(Algorithm<'_>, &[u8])> {
    let mut data = content.within(tag::SEQUENCE)?;
    data.number()?;
    let mut info = data.within(tag::SEQUENCE)?;
    info.content(tag::OID)?;
    Some((info.algorithm()?, info.content(tag::CONTEXT_0_PRIMITIVE)?))
}

/// Holds MacData (RFC 7292, section 4 and appendix B.4) against the bytes that it covers.
fn check_mac(mut pfx: Values<'_>, covered: &[u8], password: &str) -> Result<(), Closed> {
    let mut data = pfx.within(tag::SEQUENCE).ok_or(DAMAGED)?;
    let mut info = data.within(tag::SEQUENCE).ok_or(DAMAGED)?;
    let algorithm = info.algorithm().ok_or(DAMAGED)?;
    let wanted = info.content(tag::OCTET_STRING).ok_or(DAMAGED)?;
    let salt = data.content(tag::OCTET_STRING).ok_or(DAMAGED)?;
    let rounds = if data.is_empty() { 1 } else { data.number().ok_or(DAMAGED)? };
    let (digest, algorithm) = match algorithm.id {
        oid::SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        oid::SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
        oid::SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
        oid::SHA512 => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return Err(Closed::Unreadable("its integrity check is not supported")),
    };
    let key = sealed::pkcs12_derive(digest, Purpose::Mac, password, salt, rounds, digest.output_len())?;
    hmac::verify(&hmac::Key::new(algorithm, &key), covered, wanted).map_err(|_| Closed::WrongPassword)
}

/// The certificate in a CertBag.
fn x509(mut bag: Values<'_>) -> Option<&[u8]> {
    let mut bag = bag.within(tag::SEQUENCE)?;
    bag.content(tag::OID).filter(|kind| *kind == oid::X509)?;
    bag.within(tag::CONTEXT_0)?.content(tag::OCTET_STRING)
}

/// The localKeyId among a bag's attributes, which are all that `bag` has left.
fn local_key_id(mut bag: Values<'_>) -> Option<Vec<u8>> {
    let mut attributes = bag.within(tag::SET)?;
    while let Some(mut attribute) = attributes.within(tag::SEQUENCE) {
        if attribute.content(tag::OID)? == oid::LOCAL_KEY_ID {
            return attribute.within(tag::SET)?.content(tag::OCTET_STRING).map(<[u8]>::to_vec);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that OpenSSL wrote.
    const FILES: [&[u8]; 2] =
        [include_bytes!("../../tests/net/ec.p12"), include_bytes!("../../tests/net/ec-legacy.p12")];

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        for file in FILES {
            let whole = Pkcs12::open(file, "tomato").unwrap();
            assert_eq!(whole.chain().len(), 1);
            for at in 0..file.len() {
                assert!(Pkcs12::open(&file[..at], "tomato").is_err(), "cut at {at}");
                let mut changed = file.to_vec();
                changed[at] ^= 0xFF;
                // The parameters of a digest mean nothing.
                if let Ok(same) = Pkcs12::open(&changed, "tomato") {
                    assert_eq!((same.key(), same.chain()), (whole.key(), whole.chain()), "changed at {at}");
                }
            }
        }
    }
}
