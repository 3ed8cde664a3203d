//! Everybody who takes part, bare calls first.

mod bare;
mod imago;
mod ours;
mod qcow2_rs;
pub(crate) mod qemu;

use crate::contender::Contender;

pub(crate) const CONTENDERS: [Contender; 4] = [
    Contender { name: "bare", open: bare::open, understands_extended_l2: true, bare: true },
    Contender { name: "qimg", open: ours::open, understands_extended_l2: true, bare: false },
    Contender { name: "imago", open: imago::open, understands_extended_l2: false, bare: false },
    Contender { name: "qcow2-rs", open: qcow2_rs::open, understands_extended_l2: false, bare: false },
];
