//! Which partition a key belongs to: Bob Jenkins' lookup3, folded to 16 bits. The SDKs' buffering producers reckon the same, and
//! send to the partition themselves: so an event with a key is in the same partition, whoever chose it.

/// The partition of a key among so many.
pub(super) fn partition(key: &str, count: usize) -> usize {
    let hash = i64::from(hash(key.as_bytes()));
    // As Python's modulo, which is never negative.
    hash.rem_euclid(count as i64) as usize
}

fn hash(key: &[u8]) -> i16 {
    if key.is_empty() {
        return 0;
    }
    let (c, b) = lookup3(key);
    (c ^ b) as i16
}

fn lookup3(key: &[u8]) -> (u32, u32) {
    let start = 0xDEAD_BEEF_u32.wrapping_add(key.len() as u32);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    loop {
        let (block, tail) = rest.split_at(rest.len().min(12));
        let mut words = [0u8; 12];
        words[..block.len()].copy_from_slice(block);
        let word = |at: usize| u32::from_le_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
        a = a.wrapping_add(word(0));
        b = b.wrapping_add(word(4));
        c = c.wrapping_add(word(8));
        if tail.is_empty() {
            break;
        }
        for (left, right, turn) in [(0, 2, 4), (1, 0, 6), (2, 1, 8), (0, 2, 16), (1, 0, 19), (2, 1, 4)] {
            let mut all = [a, b, c];
            all[left] = all[left].wrapping_sub(all[right]) ^ all[right].rotate_left(turn);
            let third = 3 - left - right;
            all[right] = all[right].wrapping_add(all[third]);
            [a, b, c] = all;
        }
        rest = tail;
    }
    for (left, right, turn) in
        [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)]
    {
        let mut all = [a, b, c];
        all[left] = (all[left] ^ all[right]).wrapping_sub(all[right].rotate_left(turn));
        [a, b, c] = all;
    }
    (c, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What azure-eventhub 5.15.1 reckons.
    #[test]
    fn as_the_sdks_reckon() {
        for (key, expected) in [
            ("", 0),
            ("a", -16220),
            ("7", -15263),
            ("key", 11419),
            ("partition-key", -15301),
            ("0123456789ab", -17054),
            ("0123456789abc", -4167),
            ("e1d0f4e5-4a1e-4f9d-9f1a-0d7b6a0a2b11", 18234),
        ] {
            assert_eq!(hash(key.as_bytes()), expected, "{key}");
        }
    }
}
