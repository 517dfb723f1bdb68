//! A ref-counted byte buffer that either side can read, clone and drop without knowing who allocated it.
//!
//! The owner's `bytes::Bytes` lives inline, beside the table of functions that know what it is: crossing the boundary
//! neither copies nor allocates.

use abi_stable::StableAbi;
use bytes::Bytes;
use std::mem::MaybeUninit;

type Storage = MaybeUninit<[usize; 4]>;

#[repr(C)]
#[derive(StableAbi)]
struct BufferTable {
    clone: unsafe extern "C" fn(*const Storage, *mut Storage),
    drop: unsafe extern "C" fn(*mut Storage),
}

/// Bytes shared by reference count across the boundary.
#[repr(C)]
#[derive(StableAbi)]
pub struct Buffer {
    start: *const u8,
    length: usize,
    storage: Storage,
    table: &'static BufferTable,
}

// SAFETY: the storage is a `Bytes` (`Send + Sync`) and the bytes it points to are immutable.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

const _: () =
    assert!(size_of::<Bytes>() <= size_of::<Storage>() && align_of::<Bytes>() <= align_of::<Storage>());

static TABLE: BufferTable = BufferTable { clone: clone_bytes, drop: drop_bytes };

unsafe extern "C" fn clone_bytes(from: *const Storage, to: *mut Storage) {
    // SAFETY: `from` holds a `Bytes` written by `Buffer::from`, `to` is uninitialised space of the same size.
    unsafe { to.cast::<Bytes>().write((*from.cast::<Bytes>()).clone()) }
}

unsafe extern "C" fn drop_bytes(storage: *mut Storage) {
    // SAFETY: `storage` holds a `Bytes` and is not used again.
    unsafe { storage.cast::<Bytes>().drop_in_place() }
}

impl Buffer {
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` and `length` come from the slice that the storage keeps alive.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    fn is_ours(&self) -> bool {
        std::ptr::eq(self.table, &TABLE)
    }

    /// A foreign buffer becomes one of ours, which wraps it.
    pub(super) fn adopt(&mut self) {
        if !self.is_ours() {
            *self = Buffer::from(self.to_bytes());
        }
    }

    /// The buffer as this side's `Bytes`: without an allocation when it was made here, with one when it is foreign.
    pub fn to_bytes(&self) -> Bytes {
        if self.is_ours() {
            // SAFETY: our own table means that the storage is our own `Bytes`.
            unsafe { (*self.storage.as_ptr().cast::<Bytes>()).clone() }
        } else {
            Bytes::from_owner(self.clone())
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Buffer {
        let (start, length) = (bytes.as_ptr(), bytes.len());
        let mut storage = Storage::uninit();
        // SAFETY: the assertion above proves that a `Bytes` fits.
        unsafe { storage.as_mut_ptr().cast::<Bytes>().write(bytes) };
        Buffer { start, length, storage, table: &TABLE }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut storage = Storage::uninit();
        // SAFETY: the table belongs to the side that wrote the storage.
        unsafe { (self.table.clone)(&self.storage, &mut storage) };
        Buffer { start: self.start, length: self.length, storage, table: self.table }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: as for `clone`; the storage is not used afterwards.
        unsafe { (self.table.drop)(&mut self.storage) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}
