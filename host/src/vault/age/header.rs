//! The header: a version line, a stanza for each recipient, and a MAC over it all.

use super::{Error, random};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What every version begins with.
pub const INTRO: &[u8] = b"age-encryption.org/";
const VERSION: &[u8] = b"age-encryption.org/v1\n";
/// Columns of a stanza's body.
const WIDTH: usize = 64;
/// A header is a few hundred bytes for each recipient; more than this is no header.
const LARGEST: usize = 1024 * 1024;

/// What the payload is encrypted with, and each stanza holds wrapped.
pub struct FileKey(Zeroizing<[u8; 16]>);

impl FileKey {
    pub fn new() -> FileKey {
        FileKey(random())
    }

    /// `None`: not of a file key's length.
    pub fn of(bytes: &[u8]) -> Option<FileKey> {
        let mut key = Zeroizing::new([0; 16]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(FileKey(key))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    fn mac(&self, header: &[u8]) -> Hmac<Sha256> {
        let key = derive(self.bytes(), &[], b"header");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key[..]).expect("HMAC takes keys of any length");
        mac.update(header);
        mac
    }
}

/// HKDF-SHA-256, 32 bytes.
pub fn derive(ikm: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut key[..]).expect("32 bytes are not too many");
    key
}

/// One recipient's part.
#[derive(Debug, PartialEq, Eq)]
pub struct Stanza {
    /// The first is the kind.
    pub arguments: Vec<String>,
    pub body: Vec<u8>,
}

impl Stanza {
    fn is(&self, kind: &str) -> bool {
        self.arguments.first().is_some_and(|argument| argument == kind)
    }

    pub fn is_x25519(&self) -> bool {
        self.is("X25519")
    }

    pub fn is_scrypt(&self) -> bool {
        self.is("scrypt")
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("-> {}\n", self.arguments.join(" ")).as_bytes());
        let body = encoded(&self.body);
        for line in body.as_bytes().chunks(WIDTH) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        // The last line is shorter than the others, if need be empty.
        if body.len().is_multiple_of(WIDTH) {
            out.push(b'\n');
        }
    }
}

/// A header that was read, its MAC not yet checked.
pub struct Header<'a> {
    pub stanzas: Vec<Stanza>,
    /// All of it up to and with `---`.
    signed: &'a [u8],
    mac: [u8; 32],
}

impl Header<'_> {
    pub fn check(&self, key: &FileKey) -> Result<(), Error> {
        key.mac(self.signed).verify_slice(&self.mac).map_err(|_| Error::Damaged("header"))
    }
}

pub fn write(stanzas: &[Stanza], key: &FileKey) -> Vec<u8> {
    let mut out = VERSION.to_vec();
    stanzas.iter().for_each(|stanza| stanza.write(&mut out));
    out.extend_from_slice(b"---");
    let mac = key.mac(&out).finalize().into_bytes();
    out.extend_from_slice(format!(" {}\n", encoded(&mac)).as_bytes());
    out
}

/// The header and what comes after it.
pub fn parse(file: &[u8]) -> Result<(Header<'_>, &[u8]), Error> {
    let mut lines = Lines { file, at: 0 };
    if !file.starts_with(INTRO) {
        return Err(Error::NotAge);
    }
    let version = lines.next()?;
    if version != &VERSION[..VERSION.len() - 1] {
        let version = String::from_utf8_lossy(&version[INTRO.len()..]).chars().take(20).collect();
        return Err(Error::Version(version));
    }
    let mut stanzas = Vec::new();
    loop {
        let start = lines.at;
        let line = lines.next()?;
        if let Some(rest) = line.strip_prefix(b"---") {
            let mac = rest.strip_prefix(b" ").and_then(decoded).and_then(|mac| mac.try_into().ok());
            let mac = mac.ok_or(Error::Damaged("the header's last line"))?;
            if stanzas.is_empty() {
                return Err(Error::Damaged("no recipients"));
            }
            return Ok((Header { stanzas, signed: &file[..start + 3], mac }, &file[lines.at..]));
        }
        let arguments = line.strip_prefix(b"-> ").ok_or(Error::Damaged("a line of the header"))?;
        stanzas.push(Stanza { arguments: split(arguments)?, body: lines.body()? });
    }
}

fn split(line: &[u8]) -> Result<Vec<String>, Error> {
    let arguments = line.split(|byte| *byte == b' ').map(|argument| {
        let good = !argument.is_empty() && argument.iter().all(u8::is_ascii_graphic);
        good.then(|| String::from_utf8_lossy(argument).into_owned())
    });
    arguments.collect::<Option<_>>().ok_or(Error::Damaged("a recipient's line"))
}

/// Lines that end with a line feed.
struct Lines<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Error> {
        let rest = &self.file[self.at..];
        let end = rest.iter().take(LARGEST).position(|byte| *byte == b'\n');
        let end = end.ok_or(Error::Damaged("header"))?;
        self.at += end + 1;
        if self.at > LARGEST {
            return Err(Error::Damaged("header"));
        }
        Ok(&rest[..end])
    }

    /// A stanza's body: full lines, and one that is shorter.
    fn body(&mut self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        loop {
            let line = self.next()?;
            if line.len() > WIDTH {
                return Err(Error::Damaged("a recipient's body"));
            }
            text.extend_from_slice(line);
            if line.len() < WIDTH {
                return decoded(&text).ok_or(Error::Damaged("a recipient's body"));
            }
        }
    }
}

/// Base64 without padding.
pub fn encoded(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Undoes [`encoded`]. There is one text for given bytes: any other is refused.
pub fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}
