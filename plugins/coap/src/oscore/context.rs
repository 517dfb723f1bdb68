//! The security context (RFC 8613 section 3): keys and common IV derived from what both sides know, and what becomes of a
//! nonce.

use std::fmt;

use aes::Aes128;
use ccm::Ccm;
use ccm::aead::generic_array::GenericArray;
use ccm::aead::{Aead, KeyInit, Payload};
use ccm::consts::{U8, U13};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use super::cbor::Cbor;
use super::echo::Challenge;
use super::error::{OscoreError, Refusal};
use super::replay::{Replay, ReplayWindow};
use super::sequence::Counting;

/// AES-CCM-16-64-128: 128 bit keys, tags of 8 bytes, nonces of 13.
type AesCcm = Ccm<Aes128, U8, U13>;

/// The algorithm's number in the COSE registry.
const AES_CCM_16_64_128: u8 = 10;
const KEY_LENGTH: u8 = 16;
const NONCE_LENGTH: usize = 13;
/// The longest id: what the nonce has left beside a length and a partial IV (RFC 8613 section 3.3).
pub(super) const LONGEST_ID: usize = NONCE_LENGTH - 6;

/// What both sides know beforehand.
#[derive(Clone)]
pub struct Parameters {
    /// Left out of Debug, as is the salt.
    pub master_secret: Vec<u8>,
    /// May be empty.
    pub master_salt: Vec<u8>,
    /// At most 7 bytes, and other than the recipient's.
    pub sender_id: Vec<u8>,
    /// At most 7 bytes.
    pub recipient_id: Vec<u8>,
    /// At most 255 bytes.
    pub id_context: Option<Vec<u8>>,
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters")
            .field("sender_id", &self.sender_id)
            .field("recipient_id", &self.recipient_id)
            .field("id_context", &self.id_context)
            .finish_non_exhaustive()
    }
}

/// One side of a security context. What it numbers comes from a [`Counting`]; two contexts with the same keys must never
/// count on their own.
pub struct Context {
    pub(super) sender_id: Vec<u8>,
    pub(super) recipient_id: Vec<u8>,
    pub(super) id_context: Option<Vec<u8>>,
    sender: AesCcm,
    recipient: AesCcm,
    common_iv: [u8; NONCE_LENGTH],
    pub(super) counting: Box<dyn Counting>,
    pub(super) window: Box<dyn Replay>,
    recipient_fingerprint: String,
    /// Notifications taken in: what tells them apart for the layers above (RFC 7641 section 3.4).
    pub(super) notifications: u32,
    /// A server's: what proves that a request is new, where the window can't tell.
    pub(super) challenge: Option<Challenge>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("sender_id", &self.sender_id)
            .field("recipient_id", &self.recipient_id)
            .field("id_context", &self.id_context)
            .finish_non_exhaustive()
    }
}

/// The keys, without anything that counts.
pub(super) struct Derived {
    pub(super) sender_key: [u8; KEY_LENGTH as usize],
    pub(super) recipient_key: [u8; KEY_LENGTH as usize],
    pub(super) common_iv: [u8; NONCE_LENGTH],
}

impl Derived {
    /// RFC 8613 section 3.2.1.
    pub(super) fn new(parameters: &Parameters) -> Derived {
        let hkdf = Hkdf::<Sha256>::new(Some(&parameters.master_salt), &parameters.master_secret);
        let expand = |id: &[u8], kind: &str, out: &mut [u8]| {
            let info = Cbor::array(5)
                .bytes(id)
                .bytes_or_null(parameters.id_context.as_deref())
                .unsigned(AES_CCM_16_64_128)
                .text(kind)
                .unsigned(out.len() as u8);
            hkdf.expand(&info.finish(), out).expect("16 bytes are less than HKDF's limit of 8,160");
        };
        let mut derived =
            Derived { sender_key: [0; 16], recipient_key: [0; 16], common_iv: [0; NONCE_LENGTH] };
        expand(&parameters.sender_id, "Key", &mut derived.sender_key);
        expand(&parameters.recipient_id, "Key", &mut derived.recipient_key);
        expand(&[], "IV", &mut derived.common_iv);
        derived
    }

    /// What a sender's nonces belong to: key and IV, as a digest that gives neither away.
    pub(super) fn sender_fingerprint(&self) -> String {
        self.fingerprint("tracemq oscore sender", &self.sender_key)
    }

    pub(super) fn recipient_fingerprint(&self) -> String {
        self.fingerprint("tracemq oscore recipient", &self.recipient_key)
    }

    fn fingerprint(&self, whose: &str, key: &[u8]) -> String {
        let digest =
            Sha256::new().chain_update(whose).chain_update(key).chain_update(self.common_iv).finalize();
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Context {
    /// A context that numbers with `counting`, which is made for its fingerprint. The parameters have been checked.
    ///
    /// # Errors
    /// Those of `counting`.
    pub fn new<E>(
        parameters: Parameters,
        counting: impl FnOnce(&str) -> Result<Box<dyn Counting>, E>,
    ) -> Result<Context, E> {
        let derived = Derived::new(&parameters);
        let counting = counting(&derived.sender_fingerprint())?;
        Ok(Context {
            sender: AesCcm::new(&derived.sender_key.into()),
            recipient: AesCcm::new(&derived.recipient_key.into()),
            common_iv: derived.common_iv,
            sender_id: parameters.sender_id,
            recipient_id: parameters.recipient_id,
            id_context: parameters.id_context,
            counting,
            window: Box::new(ReplayWindow::default()),
            recipient_fingerprint: derived.recipient_fingerprint(),
            notifications: 0,
            challenge: None,
        })
    }

    /// Lets the numbers of requests be remembered by what `open` makes for the recipient key's fingerprint.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn remember_in<E>(&mut self, open: impl FnOnce(&str) -> Result<Box<dyn Replay>, E>) -> Result<(), E> {
        self.window = open(&self.recipient_fingerprint)?;
        Ok(())
    }

    /// The nonce of a number that the owner of this id has given out (RFC 8613 section 5.2). `id` has at most 7 bytes and
    /// `partial_iv` at most 5, which parsing has seen to.
    pub(super) fn nonce(&self, id: &[u8], partial_iv: &[u8]) -> [u8; NONCE_LENGTH] {
        let mut nonce = [0; NONCE_LENGTH];
        nonce[0] = id.len() as u8;
        nonce[1 + LONGEST_ID - id.len()..1 + LONGEST_ID].copy_from_slice(id);
        nonce[NONCE_LENGTH - partial_iv.len()..].copy_from_slice(partial_iv);
        for (byte, common) in nonce.iter_mut().zip(&self.common_iv) {
            *byte ^= common;
        }
        nonce
    }

    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_LENGTH],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, OscoreError> {
        self.sender
            .encrypt(&GenericArray::from(nonce), Payload { msg: plaintext, aad })
            .map_err(|_| OscoreError::TooLarge)
    }

    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_LENGTH],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        self.recipient
            .decrypt(&GenericArray::from(nonce), Payload { msg: ciphertext, aad })
            .map_err(|_| Refusal::NotAuthentic)
    }
}

/// What is authenticated beside the plaintext (RFC 8613 section 5.4): whose request it is, and which one.
pub(super) fn aad(request_kid: &[u8], request_partial_iv: &[u8]) -> Vec<u8> {
    let algorithms = Cbor::array(1).unsigned(AES_CCM_16_64_128);
    // Version 1; no option is of class I.
    let external =
        Cbor::array(5).unsigned(1).item(algorithms).bytes(request_kid).bytes(request_partial_iv).bytes(&[]);
    Cbor::array(3).text("Encrypt0").bytes(&[]).bytes(&external.finish()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 8613 appendix C.1 to C.3, for client and server: keys, common IV, and the nonces of partial IV 0.
    #[test]
    fn keys_and_nonces_are_those_of_the_rfc() {
        let salt = "9e7ca92223786340";
        let context = "37cbf3210017a2d3";
        // Salt, sender, recipient, id context; sender key, recipient key, common IV, sender nonce, recipient nonce.
        let vectors = [
            (
                [salt, "", "01"],
                None,
                ["f0910ed7295e6ad4b54fc793154302ff", "ffb14e093c94c9cac9471648b4f98710"],
                ["4622d4dd6d944168eefb54987c", "4622d4dd6d944168eefb54987c", "4722d4dd6d944169eefb54987c"],
            ),
            (
                ["", "00", "01"],
                None,
                ["321b26943253c7ffb6003b0b64d74041", "e57b5635815177cd679ab4bcec9d7dda"],
                ["be35ae297d2dace910c52e99f9", "bf35ae297d2dace910c52e99f9", "bf35ae297d2dace810c52e99f9"],
            ),
            (
                [salt, "", "01"],
                Some(context),
                ["af2a1300a5e95788b356336eeecd2b92", "e39a0c7c77b43f03b4b39ab9a268699f"],
                ["2ca58fb85ff1b81c0b7181b85e", "2ca58fb85ff1b81c0b7181b85e", "2da58fb85ff1b81d0b7181b85e"],
            ),
        ];
        for ([salt, sender, recipient], id_context, keys, [iv, sender_nonce, recipient_nonce]) in vectors {
            let client = Parameters {
                master_secret: hex("0102030405060708090a0b0c0d0e0f10"),
                master_salt: hex(salt),
                sender_id: hex(sender),
                recipient_id: hex(recipient),
                id_context: id_context.map(hex),
            };
            let server = Parameters {
                sender_id: client.recipient_id.clone(),
                recipient_id: client.sender_id.clone(),
                ..client.clone()
            };
            let derived = [Derived::new(&client), Derived::new(&server)];
            for (derived, [own, other]) in derived.iter().zip([keys, [keys[1], keys[0]]]) {
                assert_eq!(derived.sender_key[..], hex(own));
                assert_eq!(derived.recipient_key[..], hex(other));
                assert_eq!(derived.common_iv[..], hex(iv));
            }
            let context = Context::new(client, |_| Ok::<_, OscoreError>(Box::new(0..))).unwrap();
            assert_eq!(context.nonce(&hex(sender), &[0])[..], hex(sender_nonce));
            assert_eq!(context.nonce(&hex(recipient), &[0])[..], hex(recipient_nonce));
        }
    }

    /// RFC 8613 section 5.4's example, and the additional data of appendix C.4 to C.6.
    #[test]
    fn the_additional_data_is_that_of_the_rfc() {
        for (kid, partial_iv, expected) in [
            ("00", "25", "8368456e63727970743040498501810a4100412540"),
            ("", "14", "8368456e63727970743040488501810a40411440"),
            ("00", "14", "8368456e63727970743040498501810a4100411440"),
        ] {
            assert_eq!(aad(&hex(kid), &hex(partial_iv)), hex(expected));
        }
    }
}
