//! Which loader a program asks for: one without any is static.

/// Bytes of the head of a 64-bit file, and of one entry of its table of segments.
const HEAD_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
/// The segment that names the loader.
const INTERPRETER: u32 = 3;

/// The loader that a 64-bit little-endian ELF file names, if it names one.
pub(super) fn interpreter(file: &[u8]) -> Result<Option<String>, &'static str> {
    let head = file.get(..HEAD_BYTES).ok_or("shorter than its head")?;
    if head[..6] != *b"\x7fELF\x02\x01" {
        return Err("not a 64-bit little-endian ELF file");
    }
    let table = number(file, 32, 8).ok_or("no table of segments")?;
    let (size, count) = (number(file, 54, 2), number(file, 56, 2));
    if size != Some(SEGMENT_BYTES) {
        return Err("segments of another size");
    }
    for index in 0..count.unwrap_or(0) {
        let at = table + index * SEGMENT_BYTES;
        if number(file, at, 4) == Some(INTERPRETER as usize) {
            let (start, len) = (number(file, at + 8, 8), number(file, at + 32, 8));
            let name = start.zip(len).and_then(|(start, len)| file.get(start..start + len));
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            return Ok(Some(name.trim_end_matches('\0').to_owned()));
        }
    }
    Ok(None)
}

/// The unsigned number in `len` bytes at `at`.
fn number(file: &[u8], at: usize, len: usize) -> Option<usize> {
    let bytes = file.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_this_very_program_is_found() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let loader = interpreter(&program).unwrap().unwrap();
        assert!(loader.contains("ld"), "{loader}");
        assert!(std::path::Path::new(&loader).exists(), "{loader}");
    }

    #[test]
    fn files_that_are_no_programs_are_refused() {
        assert_eq!(interpreter(b"#!/bin/sh"), Err("shorter than its head"));
        assert_eq!(interpreter(&[0; 64]), Err("not a 64-bit little-endian ELF file"));
    }
}
