//! Everybody who takes part, bare calls first.

pub(crate) mod bare;
mod imago;
mod ours;
mod qcow2_rs;
pub(crate) mod qemu;

use crate::contender::Contender;

const OTHER: Contender = Contender {
    name: "",
    open: bare::open,
    understands_extended_l2: false,
    bare: false,
    is_other: true,
};

const OURS: Contender = Contender { understands_extended_l2: true, is_other: false, ..OTHER };

pub(crate) const CONTENDERS: [Contender; 4] = [
    Contender { name: "bare", open: bare::open, bare: true, ..OURS },
    Contender { name: "qimg", open: ours::open, ..OURS },
    Contender { name: "imago", open: imago::open, ..OTHER },
    Contender { name: "qcow2-rs", open: qcow2_rs::open, ..OTHER },
];
