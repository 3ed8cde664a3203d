//! Check and repair of arbitrary images: checking changes nothing; after a repair that claims to
//! have left nothing, a second check finds nothing, and the image opens.

use qimg::check::{CheckOptions, Repair};
use qimg::io::MemoryStorage;

use crate::patched;

/// Takes the bytes for an image, or for changes to a sound one.
///
/// # Panics
/// A check writes, or a repair does not hold.
pub fn check(bytes: &[u8]) {
    let storage = patched::image(bytes);
    let before = storage.to_vec();
    let options = |repair| CheckOptions { repair, progress: None };
    match qimg::check::check(&storage, options(Repair::None)) {
        Ok(report) => {
            for finding in &report.findings {
                assert!(!finding.to_string().is_empty());
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?} is one line");
        }
    }
    assert!(storage.to_vec() == before, "a check changes nothing");
    for repair in [Repair::Leaks, Repair::All] {
        let copy = MemoryStorage::from(&before[..]);
        let Ok(report) = qimg::check::check(&copy, options(repair)) else { continue };
        if (report.corruptions, report.leaks, report.check_errors) == (0, 0, 0) {
            let again = qimg::check::check(&copy, options(Repair::None));
            let again = again.expect("a repaired image can be checked");
            assert_eq!((again.corruptions, again.leaks, again.check_errors), (0, 0, 0));
        }
    }
}
