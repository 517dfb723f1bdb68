//! The file of an export: TOML, with the version of its format and a checksum over what it says.
//!
//! ```toml
//! format = 1
//! sha256 = "…"
//!
//! [[profile]]
//! name = "plant"
//!
//! [profile.settings]            # as in a profile's own file
//! protocol = "…"
//! url = "…"
//!
//! [[profile.certificate]]
//! option = "tls_ca"
//! pem = '''…'''
//!
//! [[profile.left_out]]
//! option = "password"
//! kind = "secret"
//! reference = "env"
//! ```
//!
//! In an encrypted one there are `[[profile.secret]]` with a `text` and `[[profile.file]]` in base64 as well. The checksum is
//! over the values and not over their spelling, so that a comment does no harm; it is no signature.

use super::place::{Kind, LeftOut, Place, Section};
use super::{LARGEST, LARGEST_FILE, MOST_PROFILES};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use toml::{Table, Value};

/// The format that is written, and the latest that is read.
const FORMAT: i64 = 1;

const HEAD: &str =
    "# Profiles of tracemq: `tracemq profile import FILE` shows what is in it and takes it over.\n";

/// Profiles as they travel.
#[derive(Clone, Default, PartialEq)]
pub struct Document {
    pub profiles: Vec<Shared>,
}

/// A profile as it travels. No `Debug`: there may be secrets in it.
#[derive(Clone, Default, PartialEq)]
pub struct Shared {
    pub name: String,
    /// What stands in a profile's file, without what is in the other fields.
    pub settings: Table,
    pub certificates: Vec<Blob>,
    pub left_out: Vec<LeftOut>,
    /// Only in an encrypted export.
    pub secrets: Vec<Secret>,
    pub files: Vec<Blob>,
}

/// The content of a file that an option names.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    pub place: Place,
    pub content: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    pub place: Place,
    pub text: String,
}

impl Shared {
    pub fn named(name: &str) -> Shared {
        Shared { name: name.to_owned(), ..Shared::default() }
    }
}

/// Whether a text says that it is an export, damaged or not.
pub fn is_one(text: &str) -> bool {
    text.starts_with(HEAD) || text.parse::<Table>().is_ok_and(|table| is_export(&table))
}

fn is_export(table: &Table) -> bool {
    table.get("format").is_some_and(Value::is_integer) && (table.contains_key("sha256"))
}

impl Document {
    pub fn to_text(&self) -> String {
        let profiles = self.profiles.iter().map(|shared| Value::Table(shared.to_table())).collect();
        let mut table = Table::new();
        table.insert("format".into(), FORMAT.into());
        table.insert("profile".into(), Value::Array(profiles));
        let sum = checksum(&table);
        let mut whole = Table::new();
        whole.insert("format".into(), FORMAT.into());
        whole.insert("sha256".into(), sum.into());
        whole.extend(table);
        let text = toml::to_string_pretty(&whole).expect("tables with text keys can be written");
        format!("{HEAD}{text}")
    }

    /// # Errors
    /// Another format, a wrong checksum, what does not belong there. No value is repeated.
    pub fn parse(text: &str) -> Result<Document, String> {
        if text.len() as u64 > LARGEST {
            return Err("larger than 8 MiB, which no export is".into());
        }
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("it is damaged: line {line} is not TOML")
        })?;
        if !is_export(&table) {
            return Err("it is no export of profiles, or its first lines are damaged".into());
        }
        match table.get("format").and_then(Value::as_integer) {
            Some(FORMAT) => {}
            Some(format) if format > FORMAT => {
                return Err(format!(
                    "it has format {format}, this tracemq reads up to {FORMAT}: a newer tracemq wrote it, or it is damaged"
                ));
            }
            _ => return Err("its format is none that there ever was: it is damaged".into()),
        }
        let sum = table.remove("sha256");
        if sum.as_ref().and_then(Value::as_str) != Some(checksum(&table).as_str()) {
            return Err("its checksum is wrong: it was damaged, or changed by hand".into());
        }
        let mut fields = Taken::new("the file", table);
        fields.value("format");
        let profiles = fields.tables("profile")?;
        fields.end()?;
        if profiles.is_empty() {
            return Err("there is no profile in it".into());
        }
        if profiles.len() > MOST_PROFILES {
            return Err(format!("it has more than {MOST_PROFILES} profiles"));
        }
        let profiles = profiles.into_iter().map(Shared::of_table).collect::<Result<_, String>>()?;
        Ok(Document { profiles })
    }
}

impl Shared {
    fn to_table(&self) -> Table {
        let mut table = Table::new();
        table.insert("name".into(), self.name.clone().into());
        table.insert("settings".into(), Value::Table(self.settings.clone()));
        let mut put = |key: &str, items: Vec<Table>| {
            if !items.is_empty() {
                table.insert(key.into(), Value::Array(items.into_iter().map(Value::Table).collect()));
            }
        };
        let with = |place: &Place, fields: &[(&str, String)]| {
            let mut item = Table::new();
            if !matches!(place.section, Section::Top | Section::Connection) {
                item.insert("table".into(), place.section.name().into());
            }
            item.insert("option".into(), place.property.clone().into());
            item.extend(place.item.clone().map(|text| ("item".to_owned(), text.into())));
            item.extend(fields.iter().map(|(name, text)| ((*name).to_owned(), text.clone().into())));
            item
        };
        let pem =
            |blob: &Blob| with(&blob.place, &[("pem", String::from_utf8_lossy(&blob.content).into_owned())]);
        put("certificate", self.certificates.iter().map(pem).collect());
        let secret = |secret: &Secret| with(&secret.place, &[("text", secret.text.clone())]);
        put("secret", self.secrets.iter().map(secret).collect());
        let file = |blob: &Blob| with(&blob.place, &[("base64", STANDARD.encode(&blob.content))]);
        put("file", self.files.iter().map(file).collect());
        let left = |left: &LeftOut| {
            let mut item = with(&left.place, &[("kind", left.kind.name().to_owned())]);
            if !left.reference.is_empty() {
                item.insert("reference".into(), left.reference.clone().into());
            }
            item
        };
        put("left_out", self.left_out.iter().map(left).collect());
        table
    }

    fn of_table(table: Table) -> Result<Shared, String> {
        let mut fields = Taken::new("a profile", table);
        let mut shared = Shared::named(&fields.text("name")?);
        shared.settings = match fields.value("settings") {
            Some(Value::Table(settings)) => settings,
            _ => return Err("a profile has no settings".into()),
        };
        for item in fields.tables("certificate")? {
            let mut item = Taken::new("a certificate", item);
            let place = item.place()?;
            shared.certificates.push(Blob { place, content: item.text("pem")?.into_bytes() });
            item.end()?;
        }
        for item in fields.tables("secret")? {
            let mut item = Taken::new("a secret", item);
            let place = item.place()?;
            shared.secrets.push(Secret { place, text: item.text("text")? });
            item.end()?;
        }
        for item in fields.tables("file")? {
            let mut item = Taken::new("a file", item);
            let place = item.place()?;
            let content = STANDARD.decode(item.text("base64")?).map_err(|_| "a file is not base64")?;
            shared.files.push(Blob { place, content });
            item.end()?;
        }
        for item in fields.tables("left_out")? {
            let mut item = Taken::new("what is left out", item);
            let place = item.place()?;
            let kind = Kind::by_name(&item.text("kind")?).ok_or("what is left out is of no known kind")?;
            let reference = match item.has("reference") {
                true => item.text("reference")?,
                false => String::new(),
            };
            if reference.len() > 16 || !reference.bytes().all(|letter| letter.is_ascii_lowercase()) {
                return Err("what is left out has a reference of no known kind".into());
            }
            item.end()?;
            shared.left_out.push(LeftOut { place, kind, reference });
        }
        fields.end()?;
        let blobs = shared.certificates.iter().chain(&shared.files);
        if blobs.into_iter().any(|blob| blob.content.len() as u64 > LARGEST_FILE) {
            return Err("a file in it is larger than 1 MiB, which no certificate or key is".into());
        }
        Ok(shared)
    }
}

/// A table whose keys are taken one after the other; what is left does not belong there.
struct Taken {
    what: &'static str,
    table: Table,
}

impl Taken {
    fn new(what: &'static str, table: Table) -> Taken {
        Taken { what, table }
    }

    fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn value(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    fn text(&mut self, key: &str) -> Result<String, String> {
        match self.value(key) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(format!("{}: {key} is missing or not a text", self.what)),
        }
    }

    fn tables(&mut self, key: &str) -> Result<Vec<Table>, String> {
        let wrong = || format!("{}: {key} is not a list of tables", self.what);
        match self.table.remove(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| if let Value::Table(table) = item { Ok(table) } else { Err(wrong()) })
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn place(&mut self) -> Result<Place, String> {
        let property = self.text("option")?;
        let section = match self.has("table") {
            true => Section::by_name(&self.text("table")?).filter(|section| *section != Section::Top),
            false if property == super::place::URL => Some(Section::Top),
            false => Some(Section::Connection),
        };
        let section = section.ok_or_else(|| format!("{}: there is no such table", self.what))?;
        let item = if self.has("item") { Some(self.text("item")?) } else { None };
        Ok(Place { section, property, item })
    }

    fn end(self) -> Result<(), String> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(_) => Err(format!("{} has more in it than belongs there", self.what)),
        }
    }
}

/// The SHA-256 of what a table says, in hex.
fn checksum(table: &Table) -> String {
    let mut hash = Sha256::new();
    feed_table(table, &mut hash);
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Each value with a letter for its type and, where it has one, its length: two that differ are never spelt the same.
fn feed(value: &Value, hash: &mut Sha256) {
    let mut text = |letter: u8, text: &str| {
        hash.update([letter]);
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    match value {
        Value::String(string) => text(b's', string),
        Value::Datetime(time) => text(b'd', &time.to_string()),
        Value::Boolean(flag) => hash.update([b'b', u8::from(*flag)]),
        Value::Integer(number) => {
            hash.update(b"i");
            hash.update(number.to_be_bytes());
        }
        Value::Float(number) => {
            hash.update(b"f");
            hash.update(number.to_bits().to_be_bytes());
        }
        Value::Array(items) => {
            hash.update(b"a");
            hash.update((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| feed(item, hash));
        }
        Value::Table(table) => feed_table(table, hash),
    }
}

fn feed_table(table: &Table, hash: &mut Sha256) {
    let mut keys: Vec<&String> = table.keys().collect();
    keys.sort();
    hash.update(b"t");
    hash.update((keys.len() as u64).to_be_bytes());
    for key in keys {
        feed(&Value::String(key.clone()), hash);
        feed(&table[key], hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let place = |property: &str| Place::of(Section::Connection, property);
        let settings =
            "protocol = \"demo\"\nurl = \"demo://h\"\n[connection]\nusername = \"ann\"\nkeep = 1.5\n";
        let shared = Shared {
            name: "plant.eu".into(),
            settings: settings.parse().unwrap(),
            certificates: vec![Blob { place: place("tls_ca"), content: b"-----BEGIN\nx\n".to_vec() }],
            left_out: vec![
                LeftOut { place: Place::url(), kind: Kind::Secret, reference: "vault".into() },
                LeftOut {
                    place: Place { item: Some("bob".into()), ..Place::of(Section::Serve, "user") },
                    kind: Kind::Secret,
                    reference: String::new(),
                },
            ],
            secrets: vec![Secret { place: place("password"), text: "hunter2\n".into() }],
            files: vec![Blob { place: place("tls_key"), content: vec![0, 255] }],
        };
        Document {
            profiles: vec![shared, Shared { settings: settings.parse().unwrap(), ..Shared::named("b") }],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = document().to_text();
        assert!(is_one(&text) && text.starts_with(HEAD));
        assert!(Document::parse(&text) == Ok(document()), "{text}");
        let commented = format!("{text}\n# a comment\n").replace("\n\n", "\n\n\n");
        assert!(Document::parse(&commented) == Ok(document()));
    }

    #[test]
    fn a_changed_byte_is_an_error_or_changes_nothing() {
        let text = document().to_text();
        for at in 0..text.len() {
            for flip in [0x01, 0x04, 0x20, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                match Document::parse(&changed) {
                    Ok(read) => assert!(read == document(), "byte {at} changed what is read\n{changed}"),
                    Err(why) => assert!(!why.contains("hunter2"), "{why}"),
                }
            }
        }
    }

    #[test]
    fn newer_formats_and_strangers_are_told_apart() {
        let error = |text: &str| Document::parse(text).err().unwrap();
        let newer = document().to_text().replace("format = 1\n", "format = 2\n");
        assert!(error(&newer).contains("newer"), "{}", error(&newer));
        assert!(error(&newer.replace("format = 2", "format = 0")).contains("damaged"));
        assert!(error("format = 1\nsha256 = \"\"\n").contains("checksum"));
        assert!(error("url = \"x\"").contains("no export"));
        assert!(!is_one("url = \"x://h\"") && !is_one("{}") && !is_one(""));
    }

    #[test]
    fn what_does_not_belong_there_is_refused_even_with_a_right_checksum() {
        let sealed = |text: &str| {
            let mut table: Table = text.parse().unwrap();
            table.insert("sha256".into(), checksum(&table).into());
            Document::parse(&table.to_string()).err().unwrap_or_default()
        };
        let profile = "format = 1\n[[profile]]\nname = \"a\"\nsettings = {}\n";
        assert_eq!(sealed(profile), "");
        for (more, part) in [
            ("colour = 1\n", "more in it"),
            ("left_out = 1\n", "not a list"),
            ("[[profile.left_out]]\noption = \"x\"\nkind = \"hunter2\"\n", "no known kind"),
            (
                "[[profile.left_out]]\noption = \"x\"\nkind = \"secret\"\nreference = \"hunter2\"\n",
                "no known kind",
            ),
            ("[[profile.file]]\noption = \"x\"\nbase64 = \"hunter2!\"\n", "not base64"),
            ("[[profile.file]]\ntable = \"hunter2\"\noption = \"x\"\nbase64 = \"\"\n", "no such table"),
            ("[[profile.secret]]\noption = \"x\"\n", "text is missing"),
        ] {
            let error = sealed(&format!("{profile}{more}"));
            assert!(error.contains(part) && !error.contains("hunter2"), "{more}: {error}");
        }
        assert!(sealed("format = 1\nprofile = []\n").contains("no profile"));
        assert!(
            sealed("format = 1\nextra = 1\n[[profile]]\nname = \"a\"\nsettings = {}\n")
                .contains("more in it")
        );
        let large = "A".repeat(2 << 20);
        let large = format!("{profile}[[profile.file]]\noption = \"x\"\nbase64 = \"{large}\"\n");
        assert!(sealed(&large).contains("1 MiB"));
    }
}
