//! Check and repair of arbitrary images: no panic; checking changes nothing; after a repair that
//! claims to have left nothing, a second check finds nothing.

#![no_main]

use block_io::{MemoryStorage, Storage};
use libfuzzer_sys::fuzz_target;
use qimg::check::{CheckOptions, Repair, check};

mod patched;

fuzz_target!(|input: &[u8]| {
    let storage = patched::image(input);
    let before = storage.to_vec();
    let options = |repair| CheckOptions { repair, progress: None };
    let _ = check(&storage, options(Repair::None));
    assert!(storage.to_vec() == before, "a check changes nothing");
    for repair in [Repair::Leaks, Repair::All] {
        let copy = MemoryStorage::new();
        copy.write_at(0, &before).expect("memory takes everything");
        let Ok(report) = check(&copy, options(repair)) else { continue };
        if report.corruptions == 0 && report.leaks == 0 && report.check_errors == 0 {
            let again = check(&copy, options(Repair::None)).expect("a repaired image opens");
            assert_eq!((again.corruptions, again.leaks, again.check_errors), (0, 0, 0));
        }
    }
});
