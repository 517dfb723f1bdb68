//! `--tls-self-signed`: a CA of this user's own, made once and kept, and a certificate by it for each start of a server.
//!
//! Two certificates and not one that signs itself: clients trust the CA once, and go on doing so whatever the server listens
//! on tomorrow. The server's key lives in memory alone. The CA's lies in the plugin's folder for what outlives the process,
//! mode 0600, under a lock, so that two servers that start at once have the same. It is made anew while a certificate by it
//! still lasts longer than a certificate does; its name holds a part of its key's digest, so that nobody takes the new one
//! for the old.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use serde_json::json;

use super::authority::split_host_port;
use super::calendar;
use super::certificate::Fields;
use super::error::NetError;
use super::keys::Identity;
use crate::abi::{Event, EventKind};

const FOLDER: &str = "tls";
const CA: &str = "ca.pem";
const KEY: &str = "ca.key";
const LOCK: &str = "lock";
const OPTION: &str = "--tls-self-signed";

const DAY: Duration = Duration::from_secs(86_400);
/// How long the CA is good: as long as one may want to forget about it.
const CA_DAYS: u32 = 3650;
/// How long a certificate is good: browsers take none that lasts for more than 398 days.
const DAYS: u32 = 397;
/// Certificates are good from a while ago, for clients whose clock is behind.
const CLOCK_DAYS: u32 = 1;
/// The largest file read. One of these has less than 1 KiB.
const LARGEST_FILE: u64 = 64 << 10;

/// A certificate that was made.
pub(super) struct Made {
    /// The file with the CA's certificate.
    ca: PathBuf,
    ca_until: u64,
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
    key: KeyPair,
    pem: String,
}

impl Made {
    pub(super) fn identity(&self) -> Identity {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Identity { certified: self.certified.clone(), key: PrivateKeyDer::from(key) }
    }

    /// Certificate and key.
    pub(super) fn pem(&self) -> (String, String) {
        (self.pem.clone(), self.key.serialize_pem())
    }

    /// Tells how clients come to trust it.
    pub(super) fn event(&self) -> Event {
        let (ca, names) = (self.ca.display().to_string(), self.names.join(", "));
        let until = calendar::date(UnixTime::since_unix_epoch(Duration::from_secs(self.ca_until)));
        // A shell takes anything between single quotes; a path that needs them is rare.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
        let pasted = match ca.chars().all(plain) {
            true => ca.clone(),
            false => format!("'{}'", ca.replace('\'', r"'\''")),
        };
        let text = format!(
            "the certificate is for {names}, signed by a CA of this machine; clients trust it with --tls-ca {pasted} (good until \
             {until})"
        );
        Event::new(EventKind::NOTICE, text).details(json!({ "ca": ca, "names": self.names, "until": until }))
    }
}

/// A certificate for this machine and for the host of `bind`.
pub(super) fn certificate(
    provider: &CryptoProvider,
    state_dir: Option<&Path>,
    bind: &str,
) -> Result<Made, NetError> {
    let folder = state_dir
        .ok_or_else(|| {
            NetError::config(format!("{OPTION}: there is no folder to keep the CA in"))
                .hint("set HOME, or give a certificate with --tls-cert and --tls-key")
        })?
        .join(FOLDER);
    let authority = Authority::open(&folder).map_err(|error| {
        NetError::config(format!("{OPTION}: the CA in {} cannot be used: {error}", folder.display()))
            .hint("see to the folder's permissions and its disk; a folder that is removed is made anew, with another CA")
    })?;
    let names = names(bind);
    let cannot = |error: rcgen::Error| {
        NetError::config(format!("{OPTION}: no certificate for {}: {error}", names.join(", ")))
    };
    let key = KeyPair::generate().map_err(cannot)?;
    let mut params = CertificateParams::new(names.clone()).map_err(cannot)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names[0].as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, DAYS);
    let certificate = params.signed_by(&key, &authority.issuer).map_err(cannot)?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certified = CertifiedKey::from_der(vec![certificate.der().clone()], der, provider)
        .map_err(|error| NetError::config(format!("{OPTION}: {error}")).source(error))?;
    Ok(Made {
        ca: folder.join(CA),
        ca_until: authority.until,
        names,
        certified: Arc::new(certified),
        pem: certificate.pem(),
        key,
    })
}

/// What the certificate is for, this machine first.
fn names(bind: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = split_host_port(bind).map_or("", |(host, _)| host);
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => names.extend(machine_names()),
        Ok(address) => names.push(address.to_string()),
        Err(_) => names.push(host.to_ascii_lowercase()),
    }
    let mut known = Vec::new();
    names.retain(|name| {
        let fresh = !name.is_empty() && name.is_ascii() && !known.contains(name);
        known.push(name.clone());
        fresh
    });
    names
}

/// How others reach this machine, as far as it can be told: its name, and the address it would talk to the world from.
fn machine_names() -> Vec<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Nothing is sent: the system only chooses a way to an address that is nobody's (RFC 5737, RFC 3849).
    let outward = |from: &str, to: &str| {
        let socket = UdpSocket::bind((from, 0)).and_then(|socket| {
            socket.connect((to, 9))?;
            socket.local_addr()
        });
        socket.map(|address| address.ip().to_string()).unwrap_or_default()
    };
    vec![name.trim().to_ascii_lowercase(), outward("0.0.0.0", "192.0.2.1"), outward("::", "2001:db8::1")]
}

fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    params.not_before = now - DAY * CLOCK_DAYS;
    params.not_after = now + DAY * days;
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Seconds since 1970.
    until: u64,
}

impl Authority {
    /// The one in this folder, or a new one.
    fn open(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = private(&mut options).open(folder.join(LOCK))?;
        lock.lock()?;
        match Self::load(folder)? {
            Some(authority) => Ok(authority),
            None => Self::make(folder),
        }
    }

    /// `None`: there is none, or it would not outlive the certificates that it signs, or it is damaged.
    fn load(folder: &Path) -> io::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (read(&folder.join(CA))?, read(&folder.join(KEY))?) else {
            return Ok(None);
        };
        let loaded = || {
            let key = KeyPair::from_pem(&key).ok()?;
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
            let fields = Fields::read(&certificate)?;
            let params = params(&key);
            // The name has the key in it: a certificate of another key has another name.
            let own = Fields::read(params.self_signed(&key).ok()?.der())?.subject == fields.subject;
            let until = fields.not_after().filter(|_| own)?;
            let needed = UnixTime::now().as_secs() + DAY.as_secs() * u64::from(DAYS);
            (until >= needed).then(|| Self { issuer: Issuer::new(params, key), until })
        };
        let loaded = loaded();
        if loaded.is_none() {
            log::warn!(
                "{OPTION}: the CA in {} is about to expire or damaged; a new one is made",
                folder.display()
            );
        }
        Ok(loaded)
    }

    fn make(folder: &Path) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = params(&key);
        valid_for(&mut params, CA_DAYS);
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        // The key first: a certificate without its key would be trusted for nothing.
        write(&folder.join(KEY), &key.serialize_pem())?;
        write(&folder.join(CA), &certificate.pem())?;
        let until = Fields::read(certificate.der()).and_then(Fields::not_after);
        let until = until.ok_or_else(|| io::Error::other("its own certificate cannot be read"))?;
        Ok(Self { issuer: Issuer::new(params, key), until })
    }
}

fn params(key: &KeyPair) -> CertificateParams {
    let part = digest(&SHA256, key.public_key_raw());
    let part: String = part.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("TraceMQ local CA {part}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// For files that are the user's alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// `None`: there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    // What is no text is damaged, as what is no PEM.
    match io::Read::read_to_string(&mut io::Read::take(file, LARGEST_FILE), &mut text) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        _ => Ok(Some(text)),
    }
}

/// Whole or not at all, whatever happens meanwhile. The lock sees to it that nobody else writes.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = private(options.write(true).create_new(true)).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;
    use tempfile::TempDir;

    use super::*;

    fn make(state: &TempDir, bind: &str) -> Made {
        certificate(&ring::default_provider(), Some(state.path()), bind).unwrap()
    }

    fn ca(state: &TempDir) -> String {
        fs::read_to_string(state.path().join("tls/ca.pem")).unwrap()
    }

    #[test]
    fn it_names_this_machine_and_what_is_listened_on() {
        let local = ["localhost", "127.0.0.1", "::1"];
        assert_eq!(names("127.0.0.1:0"), local);
        assert_eq!(names("[::1]:0"), local);
        assert_eq!(names(""), local);
        assert_eq!(names("192.0.2.7:1883"), [&local[..], &["192.0.2.7"]].concat());
        assert_eq!(names("Broker.Example:1"), [&local[..], &["broker.example"]].concat());
        let everywhere = names("0.0.0.0:1");
        assert_eq!(everywhere[..3], local);
        assert!(everywhere.iter().all(|name| !name.is_empty() && name != "0.0.0.0"), "{everywhere:?}");
    }

    #[test]
    fn the_ca_is_kept_and_is_the_users_alone() {
        let state = tempfile::tempdir().unwrap();
        let first = make(&state, "127.0.0.1:0");
        let kept = ca(&state);
        let second = make(&state, "127.0.0.1:0");
        assert_eq!(ca(&state), kept);
        assert_ne!(first.pem, second.pem);
        assert!(second.event().text().contains("--tls-ca /"), "{}", second.event().text());
        #[cfg(unix)]
        for name in ["ca.pem", "ca.key", "lock", "."] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(state.path().join("tls").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }

    #[test]
    fn two_that_start_at_once_have_the_same() {
        let state = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let run = || {
            start.wait();
            make(&state, "127.0.0.1:0").ca_until
        };
        let untils: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(untils.iter().all(|until| *until == untils[0]), "{untils:?}");
    }

    #[test]
    fn one_that_expires_or_is_damaged_is_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("tls");
        make(&state, "");
        let kept = ca(&state);

        let key = KeyPair::from_pem(&fs::read_to_string(folder.join(KEY)).unwrap()).unwrap();
        let mut old = params(&key);
        valid_for(&mut old, DAYS - 1);
        fs::write(folder.join(CA), old.self_signed(&key).unwrap().pem()).unwrap();
        make(&state, "");
        let renewed = ca(&state);
        assert_ne!(renewed, kept);

        // The certificate of before, with the key of now.
        fs::write(folder.join(CA), &kept).unwrap();
        make(&state, "");
        assert!(ca(&state) != kept && ca(&state) != renewed);

        for (file, content) in
            [(CA, ""), (KEY, ""), (CA, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
        {
            let before = ca(&state);
            fs::write(folder.join(file), content).unwrap();
            make(&state, "");
            assert_ne!(ca(&state), before, "{file} {content:?}");
        }
        fs::write(folder.join(KEY), [0xFF, 0xFE]).unwrap();
        make(&state, "");
    }

    #[test]
    fn without_a_folder_it_is_told() {
        let refused = |state: Option<&Path>| {
            let error = certificate(&ring::default_provider(), state, "").map(drop).unwrap_err();
            assert!(error.message.starts_with("--tls-self-signed: ") && error.hint.is_some(), "{error}");
        };
        refused(None);
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("tls"), "").unwrap();
        refused(Some(state.path()));
    }
}
