//! The format's own vectors, and files that are damaged at every byte.

use super::*;
use sha2::{Digest, Sha256};
use std::io::Read;

/// A vector: header lines, and the file.
struct Vector {
    name: String,
    facts: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Vector {
    fn of(name: &str, bytes: &[u8]) -> Vector {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
        let facts = std::str::from_utf8(&bytes[..end]).unwrap().lines();
        let facts = facts.map(|line| line.split_once(": ").unwrap_or((line, "")));
        let facts: Vec<_> = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut file = bytes[end + 2..].to_vec();
        let mut vector = Vector { name: name.to_owned(), facts, file: Vec::new() };
        if vector.all("compressed").any(|how| how == "zlib") {
            let mut plain = Vec::new();
            flate2::read::ZlibDecoder::new(&file[..]).read_to_end(&mut plain).unwrap();
            file = plain;
        }
        vector.file = file;
        vector
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        let facts = self.facts.iter().filter(move |(name, _)| name == key);
        facts.map(|(_, value)| value.as_str())
    }

    fn outcome(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        if let Some(phrase) = self.all("passphrase").next() {
            return decrypt(&self.file, &Key::PassPhrase(&Secret::unregistered(phrase.to_owned())));
        }
        let identities = self.all("identity").map(|text| Identity::parse(text).expect("an identity"));
        decrypt(&self.file, &Key::Identities(&identities.collect::<Vec<_>>()))
    }
}

#[test]
fn the_vectors_of_the_format() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vault/age/testdata");
    let mut tried = 0;
    for entry in folder.read_dir().expect("the vectors") {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let vector = Vector::of(&name, &std::fs::read(&path).unwrap());
        let expected = vector.all("expect").next().expect("what to expect").to_owned();
        let outcome = vector.outcome();
        match (expected.as_str(), outcome) {
            ("success", Ok(plain)) => {
                let digest: String =
                    Sha256::digest(&plain[..]).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(vector.all("payload").next(), Some(digest.as_str()), "{}", vector.name);
            }
            // A vector without one wants nobody to open it, or to find out that it can't be.
            ("no match", Err(Error::NoMatch | Error::OtherKind)) => {}
            (
                "header failure",
                Err(Error::NotAge | Error::Version(_) | Error::Damaged(_) | Error::TooMuchWork(_)),
            ) => {}
            (
                "HMAC failure" | "payload failure" | "armor failure",
                Err(Error::Damaged(_) | Error::NotAge),
            ) => {}
            (expected, outcome) => {
                panic!(
                    "{}: {expected} was expected, not {:?}",
                    vector.name,
                    outcome.map(|plain| plain.len())
                );
            }
        }
        tried += 1;
    }
    assert!(tried >= 120, "{tried} vectors");
}

#[test]
fn what_is_encrypted_is_decrypted_whatever_its_length() {
    let (one, other) = (Identity::new(), Identity::new());
    let recipients = [one.recipient(), other.recipient()];
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain: Vec<u8> = (0..length).map(|number: usize| number as u8).collect();
        let file = encrypt(&plain, &Audience::Recipients(&recipients));
        for identity in [&one, &other] {
            let opened = decrypt(&file, &Key::Identities(std::slice::from_ref(identity))).unwrap();
            assert!(*opened == plain, "{length} bytes");
        }
        let text = armored(&file);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert!(*decrypt(text.as_bytes(), &Key::Identities(std::slice::from_ref(&one))).unwrap() == plain);
    }
}

#[test]
fn a_file_for_others_is_told_from_a_damaged_one() {
    let file = encrypt(b"secret", &Audience::Recipients(&[Identity::new().recipient()]));
    assert_eq!(decrypt(&file, &Key::Identities(&[Identity::new()])).err(), Some(Error::NoMatch));
    let phrase = Secret::unregistered("correct horse".into());
    assert_eq!(decrypt(&file, &Key::PassPhrase(&phrase)).err(), Some(Error::OtherKind));
    assert_eq!((wants_pass_phrase(&file), is_age(&file), is_age(b"age")), (Ok(false), true, false));
}

#[test]
fn a_pass_phrase() {
    let phrase = Secret::unregistered("correct horse".into());
    let file_key = FileKey::new();
    // A small work factor: the time is what it is about.
    let mut file = header::write(&[keys::wrap_with_phrase(&file_key, &phrase, 4)], &file_key);
    stream::encrypt(b"secret", &file_key, &mut file);
    assert_eq!(wants_pass_phrase(&file), Ok(true));
    assert_eq!(decrypt(&file, &Key::PassPhrase(&phrase)).unwrap().to_vec(), b"secret");
    let wrong = Secret::unregistered("correct house".into());
    assert_eq!(decrypt(&file, &Key::PassPhrase(&wrong)).err(), Some(Error::NoMatch));
    assert_eq!(decrypt(&file, &Key::Identities(&[Identity::new()])).err(), Some(Error::OtherKind));
}

#[test]
fn damage_at_any_byte_is_an_error_and_so_is_every_shorter_file() {
    let identity = [Identity::new()];
    let file = encrypt(b"name = \"s3cret\"\n", &Audience::Recipients(&[identity[0].recipient()]));
    for at in 0..file.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut changed = file.clone();
            changed[at] ^= change;
            assert!(decrypt(&changed, &Key::Identities(&identity)).is_err(), "byte {at} ^ {change:#x}");
        }
        assert!(decrypt(&file[..at], &Key::Identities(&identity)).is_err(), "{at} bytes");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(decrypt(&longer, &Key::Identities(&identity)).is_err());
}

#[test]
fn keys_are_read_back_and_slips_in_them_are_noticed() {
    let identity = Identity::new();
    let (secret, public) = (identity.text(), identity.recipient().to_string());
    assert!(secret.starts_with("AGE-SECRET-KEY-1") && public.starts_with("age1"));
    assert_eq!(Identity::parse(&secret).unwrap().recipient(), identity.recipient());
    assert_eq!(Recipient::parse(&public).unwrap(), identity.recipient());
    assert!(!format!("{identity:?}").contains("SECRET"));
    // Of the format's specification.
    let known = Identity::parse("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
        .unwrap();
    let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    assert_eq!(known.recipient().to_string(), recipient);
    for slip in [&public[1..], &public[..20], &public.replace('e', "x"), "", "age1", &secret] {
        assert!(Recipient::parse(slip).is_err(), "{slip}");
    }
}
