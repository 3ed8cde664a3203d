//! Unit types: what an integer counts is part of its type.
//!
//! They have no operators on purpose: an offset calculation that may leave the 64-bit range says
//! so by returning an `Option`.

use core::fmt;

use static_assertions::assert_not_impl_any;

/// Byte offset into the virtual disk that the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestOffset(u64);

/// Byte offset into the image file (or into the external data file).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostOffset(u64);

/// Index of a cluster of the image file: host offset divided by the cluster size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostCluster(u64);

macro_rules! unit {
    ($name:ident) => {
        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain integer.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain integer.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The value `count` further on, or `None` beyond 64 bits.
            #[must_use]
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// How far this lies behind `earlier`, or `None` if it lies before it.
            #[must_use]
            pub const fn checked_since(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }
        }
        assert_not_impl_any!($name: From<u64>, Into<u64>);
    };
}

unit!(GuestOffset);
unit!(HostOffset);
unit!(HostCluster);

impl fmt::Display for GuestOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for HostOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for HostCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
