//! `Lock`: what a handle does with an object and what it lets others do, in QEMU's terms.
//!
//! QEMU keeps both as shared locks on single bytes of the file: byte 100 + i says "I use
//! permission i", byte 200 + i says "nobody else may use permission i". After taking its own
//! bytes an opener tests the opposite bytes of everybody else.

use core::fmt;

/// First of the bytes that say which permissions are used.
const USES_BASE: u64 = 100;
/// First of the bytes that say which permissions are forbidden to others.
const FORBIDS_BASE: u64 = 200;

/// One thing a holder may do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Permission {
    /// Read, and rely on what is read to fit together.
    ConsistentRead = 0,
    /// Write.
    Write = 1,
    /// Write what is already there; never changes what others read.
    WriteUnchanged = 2,
    /// Change the length.
    Resize = 3,
}

impl Permission {
    /// All permissions, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::ConsistentRead, Self::Write, Self::WriteUnchanged, Self::Resize];

    /// Byte whose lock says "I use this".
    #[must_use]
    pub const fn uses_byte(self) -> u64 {
        USES_BASE + self as u64
    }

    /// Byte whose lock says "I forbid this to others".
    #[must_use]
    pub const fn forbids_byte(self) -> u64 {
        FORBIDS_BASE + self as u64
    }
}

impl fmt::Display for Permission {
    /// QEMU's name of the permission.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConsistentRead => "consistent read",
            Self::Write => "write",
            Self::WriteUnchanged => "write unchanged",
            Self::Resize => "resize",
        })
    }
}

/// A set of [`Permission`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// Every permission.
    pub const ALL: Self = Self(0b1111);

    /// This set and `permission`.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u8)
    }

    /// This set without `permission`.
    #[must_use]
    pub const fn without(self, permission: Permission) -> Self {
        Self(self.0 & !(1 << permission as u8))
    }

    /// Whether `permission` is in the set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    /// The members, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |&permission| self.contains(permission))
    }

    /// Everything that is not in the set.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a handle does with an object, and what it lets others do meanwhile.
///
/// The named constructors take exactly the bytes QEMU 10.0 takes in the same role; they are
/// listed with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lock {
    /// What this handle does.
    pub uses: Permissions,
    /// What others may do.
    pub shares: Permissions,
}

impl Lock {
    /// Holds nothing and excludes nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self { uses: Permissions::NONE, shares: Permissions::ALL }
    }

    /// A qcow2 image opened for writing: bytes 100 101 103 201 203.
    #[must_use]
    pub const fn qcow2_writer() -> Self {
        let uses = Permissions::NONE
            .with(Permission::ConsistentRead)
            .with(Permission::Write)
            .with(Permission::Resize);
        Self { uses, shares: NO_CHANGES }
    }

    /// A qcow2 image opened for reading: bytes 100 201 203.
    #[must_use]
    pub const fn qcow2_reader() -> Self {
        Self { uses: READS, shares: NO_CHANGES }
    }

    /// An image whose metadata is looked at, not its data: bytes 201 203.
    #[must_use]
    pub const fn info() -> Self {
        Self { uses: Permissions::NONE, shares: NO_CHANGES }
    }

    /// A raw backing file: byte 100. One that is qcow2 is locked as by any
    /// [`qcow2_reader`](Lock::qcow2_reader): its tables must hold still.
    #[must_use]
    pub const fn backing() -> Self {
        Self { uses: READS, shares: Permissions::ALL }
    }

    /// An image opened for reading while somebody else may write it (force-share): byte 100.
    #[must_use]
    pub const fn shared_reader() -> Self {
        Self { uses: READS, shares: Permissions::ALL }
    }

    /// A raw image opened for writing: bytes 100 101.
    #[must_use]
    pub const fn raw_writer() -> Self {
        Self { uses: READS.with(Permission::Write), shares: Permissions::ALL }
    }

    /// A raw image opened for reading: byte 100.
    #[must_use]
    pub const fn raw_reader() -> Self {
        Self { uses: READS, shares: Permissions::ALL }
    }

    /// A raw image, or a raw backing file, that is copied and must hold still: bytes 100 201 203.
    #[must_use]
    pub const fn still_reader() -> Self {
        Self { uses: READS, shares: NO_CHANGES }
    }

    /// An external data file of an image opened for writing: bytes 100 101 103 203.
    #[must_use]
    pub const fn data_file_writer() -> Self {
        let uses = READS.with(Permission::Write).with(Permission::Resize);
        Self { uses, shares: NO_RESIZE }
    }

    /// An external data file of an image opened for reading: bytes 100 203.
    #[must_use]
    pub const fn data_file_reader() -> Self {
        Self { uses: READS, shares: NO_RESIZE }
    }

    /// A file that is about to be cut to nothing and written anew: bytes 101 103 203.
    #[must_use]
    pub const fn creating() -> Self {
        let uses = Permissions::NONE.with(Permission::Write).with(Permission::Resize);
        Self { uses, shares: NO_RESIZE }
    }

    /// The bytes this lock holds, ascending.
    pub fn bytes(self) -> impl Iterator<Item = u64> {
        self.claims().map(|claim| claim.byte)
    }

    /// The bytes this lock holds, and what it means when one cannot be had.
    pub(crate) fn claims(self) -> impl Iterator<Item = Conflict> {
        let used = self.uses.iter().map(|permission| Conflict {
            permission,
            shared: false,
            byte: permission.uses_byte(),
        });
        used.chain(self.shares.complement().iter().map(|permission| Conflict {
            permission,
            shared: true,
            byte: permission.forbids_byte(),
        }))
    }

    /// The bytes that nobody else may hold, in the order in which QEMU tests them.
    pub(crate) fn conflicts(self) -> impl Iterator<Item = Conflict> {
        let used = self.uses.iter().map(|permission| Conflict {
            permission,
            shared: false,
            byte: permission.forbids_byte(),
        });
        used.chain(self.shares.complement().iter().map(|permission| Conflict {
            permission,
            shared: true,
            byte: permission.uses_byte(),
        }))
    }
}

/// Reads, and relies on what it reads.
const READS: Permissions = Permissions::NONE.with(Permission::ConsistentRead);
/// Others may neither write nor resize.
const NO_CHANGES: Permissions =
    Permissions::ALL.without(Permission::Write).without(Permission::Resize);
/// Others may not resize.
const NO_RESIZE: Permissions = Permissions::ALL.without(Permission::Resize);

/// A byte that must not be held by others, and what it means when it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict {
    pub(crate) permission: Permission,
    pub(crate) shared: bool,
    pub(crate) byte: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(lock: Lock) -> Vec<u64> {
        lock.bytes().collect()
    }

    #[test]
    fn roles_take_the_bytes_that_qemu_takes() {
        assert!(bytes(Lock::none()).is_empty());
        assert_eq!(bytes(Lock::qcow2_writer()), [100, 101, 103, 201, 203]);
        assert_eq!(bytes(Lock::qcow2_reader()), [100, 201, 203]);
        assert_eq!(bytes(Lock::info()), [201, 203]);
        assert_eq!(bytes(Lock::backing()), [100]);
        assert_eq!(bytes(Lock::shared_reader()), [100]);
        assert_eq!(bytes(Lock::raw_writer()), [100, 101]);
        assert_eq!(bytes(Lock::raw_reader()), [100]);
        assert_eq!(bytes(Lock::still_reader()), [100, 201, 203]);
        assert_eq!(bytes(Lock::data_file_writer()), [100, 101, 103, 203]);
        assert_eq!(bytes(Lock::data_file_reader()), [100, 203]);
        assert_eq!(bytes(Lock::creating()), [101, 103, 203]);
    }

    #[test]
    fn a_lock_conflicts_with_the_opposite_bytes() {
        let conflicts: Vec<_> = Lock::qcow2_writer().conflicts().map(|c| c.byte).collect();
        assert_eq!(conflicts, [200, 201, 203, 101, 103]);
        assert_eq!(Lock::none().conflicts().count(), 0);
    }

    #[test]
    fn sets_print_their_members() {
        assert_eq!(format!("{NO_RESIZE:?}"), "{ConsistentRead, Write, WriteUnchanged}");
        assert_eq!(format!("{:?}", Permissions::NONE), "{}");
    }
}
