//! Certificates are judged by the product's own code, once in each handshake, in the middle of OpenSSL's look at them.
//!
//! OpenSSL gets no trusted certificates. So its verification finds no issuer and asks: by then it has put together what the
//! other side sent. What is decided then holds for all questions that follow.

use std::sync::{Arc, Mutex, PoisonError};

use openssl::pkey::Id;
use openssl::x509::{X509StoreContextRef, X509VerifyResult};
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};

/// RSA keys below this are as good as open.
const SMALLEST_RSA: u32 = 2048;

/// The decision on a peer's certificate, shared with OpenSSL's callback.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Result<()>>>>);

impl Verdict {
    /// What OpenSSL's callback answers. `check` gets the certificates in DER, the peer's own first; `whose` names the peer.
    pub(super) fn answer(
        &self,
        context: &mut X509StoreContextRef,
        whose: &str,
        check: impl FnOnce(&[Vec<u8>]) -> Result<()>,
    ) -> bool {
        let mut verdict = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = verdict.get_or_insert_with(|| {
            if let Some(bits) = small_key(context) {
                let message = format!("the certificate of {whose} has an RSA key of only {bits} bits");
                return Err(
                    Error::new(ErrorKind::CONNECT, message).hint("2048 bits are the least that is accepted")
                );
            }
            let chain =
                context.chain().into_iter().flatten().filter_map(|certificate| certificate.to_der().ok());
            check(&chain.collect::<Vec<_>>())
        });
        let accepted = accepted.is_ok();
        if accepted {
            context.set_error(X509VerifyResult::OK);
        } else if context.error() == X509VerifyResult::OK {
            context.set_error(X509VerifyResult::APPLICATION_VERIFICATION);
        }
        accepted
    }

    /// Why the certificate was not accepted, once.
    pub(super) fn refusal(&self) -> Option<Error> {
        let mut verdict = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict.take() {
            Some(Err(refusal)) => Some(refusal),
            other => {
                *verdict = other;
                None
            }
        }
    }
}

/// The bits of an RSA key that is too small: the security level that would see to it has to be 0, as CoAP's mandatory cipher
/// suites have tags of 8 bytes.
fn small_key(context: &X509StoreContextRef) -> Option<u32> {
    let key = context.chain()?.get(0)?.public_key().ok()?;
    (key.id() == Id::RSA && key.bits() < SMALLEST_RSA).then(|| key.bits())
}
