//! Header and extensions from arbitrary bytes: no panic, and what decodes encodes to itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qcow2_format::Header;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::decode(bytes) else { return };
    let encoded = header.encode();
    let known = bytes.len().min(encoded.len());
    assert_eq!(encoded[..known], bytes[..known], "decode then encode gives the same bits");
    assert!(encoded[known..].iter().all(|&byte| byte == 0), "what was not there is zeros");
    if let Ok(rewritten) = header.rewritten() {
        let again = Header::decode(&rewritten.encode()).expect("a rewritten header decodes");
        assert_eq!(again.rewritten().ok(), Some(rewritten), "rewriting twice changes nothing");
    }
});
