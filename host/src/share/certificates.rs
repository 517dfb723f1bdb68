//! Whether a file holds certificates and nothing else. Decided by its content alone: what is not surely public stays here.
//!
//! Of a PEM file only the blocks of certificates are taken, and each must have a certificate's outer shape (RFC 5280 section 4.1);
//! text beside the blocks is dropped, since nobody knows what somebody wrote there. One private key in the file, and none of it
//! is taken.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Characters on a line of PEM (RFC 7468 section 2).
const WIDTH: usize = 64;

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// As PEM, with nothing else in it.
    Certificates(String),
    PrivateKey,
    Other,
}

pub fn look(content: &[u8]) -> Content {
    match std::str::from_utf8(content) {
        Ok(text) if text.contains(BEGIN) => look_at_pem(text),
        _ if is_certificate(content) => Content::Certificates(pem(content)),
        _ => Content::Other,
    }
}

fn look_at_pem(text: &str) -> Content {
    // As people search for it, also where the block is damaged.
    if text.contains("PRIVATE KEY") || text.contains("SEED") {
        return Content::PrivateKey;
    }
    let mut certificates = String::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((label, after)) = after.split_once(DASHES) else { return Content::Other };
        if !matches!(label, "CERTIFICATE" | "X509 CERTIFICATE") {
            return Content::Other;
        }
        let Some((body, after)) = after.split_once(END) else { return Content::Other };
        let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        match STANDARD.decode(digits) {
            Ok(der) if is_certificate(&der) => certificates.push_str(&pem(&der)),
            _ => return Content::Other,
        }
        rest = after;
    }
    if certificates.is_empty() { Content::Other } else { Content::Certificates(certificates) }
}

fn pem(der: &[u8]) -> String {
    let digits = STANDARD.encode(der);
    let mut text = format!("{BEGIN}CERTIFICATE{DASHES}\n");
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(WIDTH.min(rest.len()));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("{END}CERTIFICATE{DASHES}\n"));
    text
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;
const EXPLICIT_0: u8 = 0xa0;

/// `SEQUENCE { SEQUENCE { [0] version OPTIONAL, INTEGER serial, SEQUENCE algorithm, … }, SEQUENCE, BIT STRING }`, and nothing
/// behind it. Keys and PKCS#12 files begin with a number, encrypted keys have no bit string.
fn is_certificate(der: &[u8]) -> bool {
    let shape = || {
        let (outer, rest) = element(der, SEQUENCE)?;
        let (signed, after) = element(outer, SEQUENCE)?;
        let (_, after) = element(after, SEQUENCE)?;
        let (_, after) = element(after, BIT_STRING)?;
        let inner = element(signed, EXPLICIT_0).map_or(signed, |(_, inner)| inner);
        let (_, inner) = element(inner, INTEGER)?;
        element(inner, SEQUENCE)?;
        Some(rest.is_empty() && after.is_empty())
    };
    shape().unwrap_or(false)
}

/// The content of an element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Self-signed, with an EC key (`openssl req -x509`).
    const CERTIFICATE: &str = include_str!("testdata/certificate.pem");

    /// The outer shape of PKCS#8: a version, an algorithm, an octet string.
    const KEY: &[u8] = b"\x30\x0b\x02\x01\x00\x30\x03\x06\x01\x00\x04\x01\x00";

    #[test]
    fn certificates_are_taken_without_what_stands_beside_them() {
        let Content::Certificates(one) = look(CERTIFICATE.as_bytes()) else { panic!("not a certificate") };
        assert_eq!(one, CERTIFICATE);
        let noted = format!("Bag Attributes\n  password: hunter2\n{CERTIFICATE}hunter2\n{CERTIFICATE}");
        assert_eq!(look(noted.as_bytes()), Content::Certificates(format!("{one}{one}")));
        let der =
            STANDARD.decode(CERTIFICATE.lines().filter(|line| !line.starts_with('-')).collect::<String>());
        assert_eq!(look(&der.expect("it is PEM")), Content::Certificates(one.clone()));
        assert_eq!(look(CERTIFICATE.replace('\n', "\r\n").as_bytes()), Content::Certificates(one));
    }

    #[test]
    fn keys_are_not_whatever_they_are_called() {
        let key = pem(KEY).replace("CERTIFICATE", "PRIVATE KEY");
        assert_eq!(look(key.as_bytes()), Content::PrivateKey);
        assert_eq!(look(format!("{CERTIFICATE}{key}").as_bytes()), Content::PrivateKey);
        assert_eq!(look(pem(KEY).as_bytes()), Content::Other, "called a certificate");
        assert_eq!(look(KEY), Content::Other);
        for content in [
            &b""[..],
            b"SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
            b"-----BEGIN USER JWT-----\neyJ\n------END USER JWT------\n",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n",
            b"-----BEGIN ",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x80",
        ] {
            assert_eq!(look(content), Content::Other);
        }
    }

    #[test]
    fn no_damage_makes_it_panic() {
        let der: Vec<u8> = STANDARD
            .decode(CERTIFICATE.lines().filter(|line| !line.starts_with('-')).collect::<String>())
            .expect("it is PEM");
        for at in 0..der.len() {
            let mut damaged = der.clone();
            damaged[at] ^= 0x41;
            drop(look(&damaged));
            drop(look(&der[..at]));
        }
    }
}
