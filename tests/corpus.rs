//! The corpus of the fuzz targets on a stable compiler: what the fuzzer found worth keeping, and
//! every input that once broke a promise. Each file of `fuzz/corpus/TARGET` goes to its target.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod corpus {
    mod replay;
    mod shape;
}
