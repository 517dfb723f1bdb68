//! What a certificate says of itself (X.509, RFC 5280 section 4.1), for errors and for the making of new ones: whose it is,
//! who signed it, until when it is good. Nothing is verified here, and what is read may be hostile.

use rustls::pki_types::CertificateDer;

use super::calendar;
use super::der::{Values, tag};
use super::error::quote;

mod oid {
    pub const COMMON_NAME: &[u8] = b"\x55\x04\x03";
    pub const ORGANISATION: &[u8] = b"\x55\x04\x0A";
    pub const UNIT: &[u8] = b"\x55\x04\x0B";
}

/// Kinds of text in a name.
mod text {
    pub const UTF8: u8 = 0x0C;
    pub const PRINTABLE: u8 = 0x13;
    pub const TELETEX: u8 = 0x14;
    pub const IA5: u8 = 0x16;
    pub const BMP: u8 = 0x1E;
}

/// Those of its fields that are of use here.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    /// The names as they are encoded, with tag and length: they are compared byte by byte, as rustls compares them.
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    validity: Values<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut signed = Values::new(certificate).within(tag::SEQUENCE)?.within(tag::SEQUENCE)?;
        // The version, unless it is 1; serial number and signature algorithm.
        if signed.next_is(tag::CONTEXT_0) {
            signed.whole()?;
        }
        signed.whole()?;
        signed.whole()?;
        let issuer = signed.whole()?;
        let validity = signed.within(tag::SEQUENCE)?;
        Some(Self { issuer, subject: signed.whole()?, validity })
    }

    /// The second, since 1970, with which it ends to be good.
    pub(super) fn not_after(mut self) -> Option<u64> {
        self.validity.whole()?;
        let end =
            self.validity.content(tag::UTC_TIME).or_else(|| self.validity.content(tag::GENERALIZED_TIME))?;
        calendar::seconds(end)
    }
}

/// Who signed a certificate that nobody here trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// The certificate's own key did.
    Itself,
    /// The authority of this name, the uppermost that the certificates lead to.
    Authority(String),
}

impl Signer {
    /// Of a certificate, which came with these others. `None` when it can't be read, or names nobody.
    pub(super) fn of(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = Fields::read(leaf)?;
        if leaf.issuer == leaf.subject {
            return Some(Self::Itself);
        }
        let mut top = leaf.issuer;
        // Each step goes up one certificate, so that there are no more than there are certificates.
        for _ in others {
            let above =
                others.iter().filter_map(|other| Fields::read(other)).find(|other| other.subject == top);
            match above {
                Some(above) if above.issuer != top => top = above.issuer,
                _ => break,
            }
        }
        name(top).map(Self::Authority)
    }
}

/// What a name has for people: the common name, else the organisation, else its unit.
pub(super) fn name(encoded: &[u8]) -> Option<String> {
    [oid::COMMON_NAME, oid::ORGANISATION, oid::UNIT].into_iter().find_map(|wanted| {
        let mut parts = Values::new(encoded).within(tag::SEQUENCE)?;
        while let Some(mut part) = parts.within(tag::SET) {
            while let Some(mut attribute) = part.within(tag::SEQUENCE) {
                if attribute.content(tag::OID)? == wanted {
                    return string(attribute).filter(|text| !text.is_empty());
                }
            }
        }
        None
    })
}

/// A text of a name, fit to be shown.
fn string(mut value: Values<'_>) -> Option<String> {
    for kind in [text::UTF8, text::PRINTABLE, text::IA5] {
        if let Some(bytes) = value.content(kind) {
            return Some(quote(bytes));
        }
    }
    if let Some(bytes) = value.content(text::TELETEX) {
        // Latin-1, whatever the standard says.
        return Some(quote(bytes.iter().copied().map(char::from).collect::<String>().as_bytes()));
    }
    let units: Vec<u16> = value
        .content(text::BMP)?
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    Some(quote(String::from_utf16_lossy(&units).as_bytes()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    #[test]
    fn the_uppermost_signer_is_told() {
        let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root = params("Root \u{1b}[31m\nCA").self_signed(&keys[0]).unwrap();
        let issuer = Issuer::new(params("Root \u{1b}[31m\nCA"), &keys[0]);
        let middle = params("Middle").signed_by(&keys[1], &issuer).unwrap();
        let leaf = params("leaf").signed_by(&keys[2], &Issuer::new(params("Middle"), &keys[1])).unwrap();
        let der = |certificate: &rcgen::Certificate| certificate.der().clone();
        let authority = |name: &str| Some(Signer::Authority(name.to_owned()));
        assert_eq!(Signer::of(&der(&leaf), &[]), authority("Middle"));
        assert_eq!(Signer::of(&der(&leaf), &[der(&middle)]), authority("Root [31m CA"));
        assert_eq!(Signer::of(&der(&leaf), &[der(&root), der(&middle)]), authority("Root [31m CA"));
        assert_eq!(Signer::of(&der(&root), &[]), Some(Signer::Itself));
    }

    #[test]
    fn damage_is_no_panic() {
        let key = KeyPair::generate().unwrap();
        let whole = params("someone").self_signed(&key).unwrap().der().to_vec();
        for at in 0..whole.len() {
            let _ = Signer::of(&CertificateDer::from(&whole[..at]), &[]);
            let mut changed = whole.clone();
            changed[at] ^= 0xFF;
            let changed = CertificateDer::from(changed);
            let _ = Signer::of(&changed, std::slice::from_ref(&changed));
        }
    }

    #[test]
    fn names_of_every_alphabet_are_shown() {
        let of = |kind: u8, text: &[u8]| {
            let attribute = [&[0x06, 3, 0x55, 4, 3, kind, text.len() as u8][..], text].concat();
            let sequence = [&[0x30, attribute.len() as u8][..], &attribute].concat();
            let set = [&[0x31, sequence.len() as u8][..], &sequence].concat();
            name(&[&[0x30, set.len() as u8][..], &set].concat())
        };
        assert_eq!(of(text::UTF8, "Größe".as_bytes()).as_deref(), Some("Größe"));
        assert_eq!(of(text::TELETEX, b"Gr\xF6\xDFe").as_deref(), Some("Größe"));
        assert_eq!(of(text::BMP, b"\0G\0r\0\xF6").as_deref(), Some("Grö"));
        assert_eq!(of(text::PRINTABLE, b""), None);
        assert_eq!(of(0x05, b""), None);
    }
}
