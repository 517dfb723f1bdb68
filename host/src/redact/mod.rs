//! Secrets in memory, and the one place through which everything that is shown passes: `***` stands there for each of them.
//!
//! A text becomes a [`Secret`] where it enters the process (a reference is resolved, an option is read, a pass phrase is
//! typed), and from then on it is known here. What writes to stdout and stderr asks [`text`] or [`json`] first: log lines,
//! events, errors, panics, listings; not the messages themselves, which are the user's data. So nobody has to remember which
//! text a plugin or a library may have put a password into, nor in which form: see [`forms`].
//!
//! Secrets shorter than [`SHORTEST`] are not looked for: there would be stars in every line, and they would tell which
//! letters the secret has. What is known stays in memory, and is wiped nowhere before the process ends; that is why the first
//! secret also forbids core files and other processes' looking in ([`harden`]).

mod forms;
mod parts;

pub use parts::{decoded, is_connection_string, masked_url, register_url, secret_name, servers};

use forms::Form;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use zeroize::{Zeroize, Zeroizing};

/// What stands in the place of a secret wherever something is shown.
pub const MASK: &str = "***";

/// In bytes. Of a text of several lines each line from [`LINE`] bytes on is a secret too.
const SHORTEST: usize = 4;
const LINE: usize = 12;
/// More lines than a key has: a text that is longer is looked for as a whole and by its first lines.
const LINES: usize = 200;

static FORMS: RwLock<Vec<Form>> = RwLock::new(Vec::new());
static ANY: AtomicBool = AtomicBool::new(false);

/// A text that is shown nowhere, and wiped when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret::unregistered(text).registered()
    }

    /// Makes it known as secret.
    pub fn registered(self) -> Secret {
        register(&self);
        self
    }

    /// A text of which perhaps only a part is secret: it is wiped like the others, but not looked for as a whole.
    pub fn unregistered(text: String) -> Secret {
        harden();
        Secret(Zeroizing::new(text))
    }

    /// As [`Secret::unregistered`], of bytes that should be UTF-8; those that are not are wiped.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Secret> {
        match String::from_utf8(bytes) {
            Ok(text) => Some(Secret::unregistered(text)),
            Err(error) => {
                error.into_bytes().zeroize();
                None
            }
        }
    }

    /// The text for an owner that knows that it is secret; this copy is not wiped.
    pub fn reveal(&self) -> String {
        self.0.to_string()
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Makes a text known as secret.
pub fn register(text: &str) {
    harden();
    let mut found = Vec::new();
    let mut add = |part: &str| {
        if part.len() >= SHORTEST {
            forms::all(part, &mut found);
        }
    };
    add(text);
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        add(trimmed);
    }
    if trimmed.contains('\n') {
        // The frame of a PEM file is no secret, and stands in many a message.
        let lines = trimmed.lines().take(LINES).map(str::trim);
        lines.filter(|line| line.len() >= LINE && !line.starts_with("-----")).for_each(add);
    }
    if found.is_empty() {
        return;
    }
    let mut known = FORMS.write().unwrap_or_else(PoisonError::into_inner);
    for form in found {
        if !known.contains(&form) {
            known.push(form);
        }
    }
    ANY.store(true, Ordering::Release);
}

/// The text with every known secret masked. To be asked before anything that escapes or shortens it.
pub fn text(text: &str) -> Cow<'_, str> {
    if !ANY.load(Ordering::Acquire) {
        return Cow::Borrowed(text);
    }
    masked(text, &FORMS.read().unwrap_or_else(PoisonError::into_inner))
}

fn masked<'a>(text: &'a str, forms: &[Form]) -> Cow<'a, str> {
    let mut places = Vec::new();
    forms.iter().for_each(|form| form.find(text.as_bytes(), &mut places));
    match places.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(mask(text, places)),
    }
}

/// The text with these places masked.
fn mask(text: &str, mut places: Vec<Range<usize>>) -> String {
    places.sort_unstable_by_key(|place| (place.start, place.end));
    let mut out = String::with_capacity(text.len());
    let mut shown_to = 0;
    let mut masked_to = 0;
    for place in places {
        // Those that overlap or touch are one, or their borders would tell how long they are.
        if place.start > masked_to || out.is_empty() && masked_to == 0 {
            out.push_str(&text[shown_to..place.start]);
            out.push_str(MASK);
        }
        masked_to = masked_to.max(place.end);
        shown_to = masked_to;
    }
    out.push_str(&text[shown_to..]);
    out
}

/// Masks the texts in a value, so that it stays well-formed. Names and numbers stay: they are the host's or a plugin's own.
pub fn json(value: &mut Value) {
    if !ANY.load(Ordering::Acquire) {
        return;
    }
    match value {
        Value::String(inner) => {
            if let Cow::Owned(masked) = text(inner) {
                *inner = masked;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(json),
        Value::Object(map) => map.values_mut().for_each(json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// As [`json`], of a value in its text form. What is none is masked as a text.
pub fn json_text(json_text: &str) -> Cow<'_, str> {
    if !ANY.load(Ordering::Acquire) {
        return Cow::Borrowed(json_text);
    }
    match serde_json::from_str::<Value>(json_text) {
        Ok(mut value) => {
            json(&mut value);
            Cow::Owned(value.to_string())
        }
        Err(_) => text(json_text),
    }
}

/// Wipes the texts of options that were handed over.
pub fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// No core file of this process, and no other process of the same user that reads its memory. Called with the first secret.
pub fn harden() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::AcqRel) {
        return;
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    #[cfg(target_os = "linux")]
    // SAFETY: this option takes a number.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    };
}

/// Shows the host's own panics as everything else is shown. A plugin's are turned into errors by its sdk.
pub fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // In a place that tells no secret: the message may hold one.
        crate::output::events::line(&format!("tracemq: internal error, please report it: {panic}"));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            trace.to_string().lines().for_each(crate::output::events::line);
        }
    }));
}

#[cfg(test)]
mod tests;
