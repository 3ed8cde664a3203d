//! Everybody who takes part, bare calls first.

pub(crate) mod bare;
#[cfg(feature = "others")]
mod imago;
mod ours;
#[cfg(feature = "others")]
mod qcow2_rs;
pub(crate) mod qemu;

use crate::contender::Contender;

/// Bare calls are the first, we are the second.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender { name: "bare", open: bare::open, bare: true, is_other: false, ..ANYBODY },
    Contender { name: "qimg", open: ours::open, is_other: false, ..ANYBODY },
    #[cfg(feature = "others")]
    Contender { name: "imago", open: imago::open, understands_extended_l2: false, ..ANYBODY },
    #[cfg(feature = "others")]
    Contender { name: "qcow2-rs", open: qcow2_rs::open, understands_extended_l2: false, ..ANYBODY },
];

const ANYBODY: Contender = Contender {
    name: "",
    open: bare::open,
    understands_extended_l2: true,
    bare: false,
    is_other: true,
};
