//! The consistency check against `qemu-img check`: the same counts, words and exit codes on
//! images that were damaged at random and on purpose, and repairs that leave nothing to find.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod check_reference {
    pub(crate) mod damage;
    mod differential;
    mod hostile;
    pub(crate) mod images;
    mod mend;
    pub(crate) mod poke;
    mod power_cut;
    pub(crate) mod reference;
    mod repair;
    mod scenarios;
}
