//! The target `compressed`; `fuzz-cases` says what it promises.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_cases::compressed(bytes));
