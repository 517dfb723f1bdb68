//! What can be said of a file before it is opened as a library: whether it is one, whole, and for this machine.
//!
//! The dynamic linker would refuse the same files, but in words that help nobody ("invalid ELF header"), and only after
//! the file was trusted: these checks run no code of the file's.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a 64-bit ELF header; a 32-bit one is shorter.
const ELF_HEADER: usize = 64;

const MACHINES: &[(u16, &str)] = &[
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv"),
    (258, "loongarch64"),
];

/// Checks a file of `size` bytes; the error says what is wrong with it, after its name: "is not a library: …".
pub fn inspect(file: &File, size: u64) -> Result<(), String> {
    let mut head = [0; ELF_HEADER];
    let read = read_at(file, &mut head, 0).map_err(|error| format!("can't be read: {error}"))?;
    let head = &head[..read];
    if cfg!(target_os = "macos") {
        return inspect_mach(head);
    }
    match head {
        [] => Err("is not a library: it is empty; copy it again".into()),
        [0x7f, b'E', b'L', b'F', ..] => inspect_elf(file, head, size),
        _ => Err(format!("is not a library: {}; remove it from the plugin folder", kind(head))),
    }
}

fn inspect_mach(head: &[u8]) -> Result<(), String> {
    match head {
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => Ok(()),
        [] => Err("is not a library: it is empty; copy it again".into()),
        _ => Err(format!("is not a library: {}; remove it from the plugin folder", kind(head))),
    }
}

/// What a file that is no library of this system looks like.
fn kind(head: &[u8]) -> &'static str {
    match head {
        [0x7f, b'E', b'L', b'F', ..] => "it is made for Linux",
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "it is made for macOS",
        [b'M', b'Z', ..] => "it is made for Windows",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "it is a static library",
        _ if std::str::from_utf8(head).is_ok_and(|text| !text.contains('\0')) => "it is a text file",
        _ => "it has no ELF header",
    }
}

fn inspect_elf(file: &File, head: &[u8], size: u64) -> Result<(), String> {
    let cut = |needed: u64| {
        Err(format!("is not a whole library: it has {size} of at least {needed} bytes; copy it again"))
    };
    let elf = match Elf::parse(head) {
        Some(elf) => elf,
        None => return cut(ELF_HEADER as u64),
    };
    let (found, here) = (elf.name(), Elf::here().name());
    if found != here {
        return Err(format!("is built for {found}, this machine is {here}; get the plugin's {here} build"));
    }
    match elf.kind {
        3 => {}
        1 => return Err("is not a library: it is an object file, not yet linked".into()),
        2 => return Err("is not a library: it is a program".into()),
        4 => return Err("is not a library: it is a core dump".into()),
        _ => return Err("is not a library: its ELF type is unknown".into()),
    }
    if usize::from(elf.segment_size) > ELF_HEADER {
        return Err("is not a library: its ELF header is broken; copy it again".into());
    }
    let table = u64::from(elf.segment_size) * u64::from(elf.segments);
    let end = elf.segments_at.saturating_add(table);
    if end > size {
        return cut(end);
    }
    let mut segments = vec![0; usize::try_from(table).unwrap_or_default()];
    read_at(file, &mut segments, elf.segments_at).map_err(|error| format!("can't be read: {error}"))?;
    let needed = segments
        .chunks_exact(usize::from(elf.segment_size).max(1))
        .filter_map(|segment| elf.segment_end(segment))
        .max()
        .unwrap_or(0)
        .max(elf.sections_end);
    if needed > size { cut(needed) } else { Ok(()) }
}

/// The fields of an ELF header that decide.
struct Elf {
    wide: bool,
    little: bool,
    kind: u16,
    machine: u16,
    segments_at: u64,
    segment_size: u16,
    segments: u16,
    /// Where the table of sections ends, which is last in most files.
    sections_end: u64,
}

impl Elf {
    /// `None` when the header is cut short.
    fn parse(head: &[u8]) -> Option<Elf> {
        let (wide, little) = (*head.get(4)? != 1, *head.get(5)? != 2);
        let half = |at: usize| half(head, at, little);
        let sections_at = word(head, if wide { 40 } else { 32 }, wide, little)?;
        let sections =
            u64::from(half(if wide { 58 } else { 46 })?) * u64::from(half(if wide { 60 } else { 48 })?);
        Some(Elf {
            wide,
            little,
            kind: half(16)?,
            machine: half(18)?,
            segments_at: word(head, if wide { 32 } else { 28 }, wide, little)?,
            segment_size: half(if wide { 54 } else { 42 })?,
            segments: half(if wide { 56 } else { 44 })?,
            sections_end: sections_at.saturating_add(sections),
        })
    }

    /// What this program was built for.
    fn here() -> Elf {
        let name = match std::env::consts::ARCH {
            "riscv64" | "riscv32" => "riscv",
            "mips64" => "mips",
            name => name,
        };
        let machine = MACHINES.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number);
        Elf {
            wide: cfg!(target_pointer_width = "64"),
            little: cfg!(target_endian = "little"),
            kind: 3,
            machine,
            segments_at: 0,
            segment_size: 0,
            segments: 0,
            sections_end: 0,
        }
    }

    /// The machine as people call it. The width and byte order are named where the machine leaves them open.
    fn name(&self) -> String {
        let known = MACHINES.iter().find(|(number, _)| *number == self.machine);
        let Some((_, name)) = known else { return format!("an unknown machine (ELF {})", self.machine) };
        let usual_wide =
            matches!(*name, "x86_64" | "aarch64" | "powerpc64" | "s390x" | "loongarch64" | "riscv");
        let mut text = (*name).to_owned();
        if self.wide != usual_wide {
            text.push_str(if self.wide { ", 64 bit" } else { ", 32 bit" });
        }
        let usual_little = !matches!(*name, "s390x" | "powerpc" | "mips");
        if self.little != usual_little {
            text.push_str(if self.little { ", little-endian" } else { ", big-endian" });
        }
        text
    }

    /// Where in the file a loadable segment ends.
    fn segment_end(&self, segment: &[u8]) -> Option<u64> {
        const LOAD: u64 = 1;
        if word(segment, 0, false, self.little)? != LOAD {
            return None;
        }
        let (offset, length) = if self.wide { (8, 32) } else { (4, 16) };
        let offset = word(segment, offset, self.wide, self.little)?;
        Some(offset.saturating_add(word(segment, length, self.wide, self.little)?))
    }
}

fn half(bytes: &[u8], at: usize, little: bool) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
}

fn word(bytes: &[u8], at: usize, wide: bool, little: bool) -> Option<u64> {
    if wide {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        return Some(if little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) });
    }
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u64::from(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }))
}

/// Fills as much of the buffer as the file has.
fn read_at(file: &File, buffer: &mut [u8], from: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;

    fn inspected(content: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        inspect(&file, content.len() as u64)
    }

    /// This test program: position-independent, so its ELF type is that of a library.
    fn library() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_library_of_this_machine_passes() {
        assert_eq!(inspected(&library()), Ok(()));
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        for (content, want) in [
            (&b""[..], "is not a library: it is empty; copy it again"),
            (b"hello", "is not a library: it is a text file; remove it from the plugin folder"),
            (b"MZ\x90\0", "is not a library: it is made for Windows; remove it from the plugin folder"),
            (b"!<arch>\n", "is not a library: it is a static library; remove it from the plugin folder"),
            (b"\xff\x00\x12", "is not a library: it has no ELF header; remove it from the plugin folder"),
        ] {
            assert_eq!(inspected(content).unwrap_err(), want);
        }
    }

    #[test]
    fn a_cut_library_is_told_from_a_whole_one() {
        let whole = library();
        for length in [5, 40, 63, 64, 200, whole.len() / 2] {
            let error = inspected(&whole[..length]).unwrap_err();
            assert!(
                error.starts_with(&format!("is not a whole library: it has {length} of at least")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_machine_is_named() {
        let mut foreign = library();
        let here = std::env::consts::ARCH;
        let (number, name) = if here == "aarch64" { (62, "x86_64") } else { (183, "aarch64") };
        foreign[18..20].copy_from_slice(&u16::to_ne_bytes(number));
        assert_eq!(
            inspected(&foreign).unwrap_err(),
            format!("is built for {name}, this machine is {here}; get the plugin's {here} build")
        );
        foreign[18..20].copy_from_slice(&u16::to_ne_bytes(4711));
        assert!(inspected(&foreign).unwrap_err().contains("an unknown machine (ELF 4711)"));
    }

    #[test]
    fn a_narrow_library_for_the_same_machine_is_another_machine() {
        let mut narrow = library();
        narrow[4] = 1;
        assert!(inspected(&narrow).unwrap_err().contains(", 32 bit, this machine is"));
    }

    #[test]
    fn no_header_makes_it_panic() {
        let whole = library();
        for at in 4..64 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = whole[..4096].to_vec();
                broken[at] = value;
                let _ = inspected(&broken);
            }
        }
    }
}
