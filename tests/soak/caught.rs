//! Panics as values: what a failed attempt has to say, without a word on the terminal.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `attempt`; a panic comes back as its text, with the line it came from.
pub(crate) fn caught(attempt: impl FnOnce()) -> Result<(), String> {
    keep_words();
    IS_QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(attempt));
    IS_QUIET.set(false);
    outcome.map_err(|_| LAST_WORDS.take())
}

/// From now on panics of threads that are quiet are kept instead of printed.
fn keep_words() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if IS_QUIET.get() {
                LAST_WORDS.set(panic.to_string());
            } else {
                before(panic);
            }
        }));
    });
}

#[test]
fn a_panic_comes_back_as_text() {
    assert_eq!(caught(|| ()), Ok(()));
    let words = caught(|| panic!("because of {}", 7)).unwrap_err();
    assert!(words.contains("caught.rs") && words.contains("because of 7"), "{words}");
}
