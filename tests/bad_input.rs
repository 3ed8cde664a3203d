//! Bad input: truncated, oversized, overlapping, self-referencing and looping images, missing
//! backing files and formats. The programs say in one line what is wrong where, exit 1, and leave
//! the file alone; nothing panics, hangs, or takes memory out of proportion.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bad_input {
    mod chains;
    mod headers;
    mod image;
    mod program;
    mod random;
    mod tables;
    mod truncated;
}
