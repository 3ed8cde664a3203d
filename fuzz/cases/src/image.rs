//! A whole image: opened, read, written, flushed. Readers and refused openers change nothing, and
//! an image in which nothing was wrong has nothing wrong afterwards.

use std::sync::Arc;

use qimg::check::{CheckOptions, Finding, FindingKind, Severity, check};
use qimg::engine::{Image, OpenOptions, ResizeOptions, ZeroMode, read_header};
use qimg::format::IncompatibleFeatures;
use qimg::io::{MemoryStorage, Storage};

use crate::patched;

/// Most bytes of one request: more than an L2 table of 512 byte clusters maps.
const REQUEST_BYTES: u64 = 40_000;

/// Takes the bytes for an image, or for changes to a sound one.
///
/// # Panics
/// A promise about opening, reading or writing is broken.
pub fn image(bytes: &[u8]) {
    let storage = Arc::new(patched::image(bytes));
    let before = storage.to_vec();
    read_only(Arc::clone(&storage) as Arc<dyn Storage>);
    assert!(storage.to_vec() == before, "a reader changes nothing");
    let was_sound = is_sound(&storage);
    if !writable(Arc::clone(&storage) as Arc<dyn Storage>) {
        assert!(storage.to_vec() == before, "a refused open changes nothing");
    } else if was_sound {
        assert!(is_sound(&storage), "what was sound stays sound");
    }
}

/// Whether nothing is wrong that could cost data. Leaks cannot; nor can a cluster that several
/// entries shared and one has left, so that the flag of the last one is missing.
fn is_sound(storage: &MemoryStorage) -> bool {
    let Ok(report) = check(storage, CheckOptions::default()) else { return false };
    let is_harmless = |finding: &Finding| {
        let copied_missing = matches!(
            finding.kind,
            FindingKind::CopiedL1 { count: 1, .. } | FindingKind::CopiedL2 { count: 1, .. }
        );
        finding.severity != Severity::Error || copied_missing
    };
    report.findings_omitted == 0 && report.findings.iter().all(is_harmless)
}

/// A data file for images that want one. What lies past its end reads as zeros.
fn options(storage: &dyn Storage) -> OpenOptions {
    let wanted = read_header(storage)
        .is_ok_and(|header| header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE));
    let file = || Arc::new(MemoryStorage::from(&[0x77; 5000][..])) as Arc<dyn Storage>;
    OpenOptions::new().data_file(wanted.then(file))
}

fn read_only(storage: Arc<dyn Storage>) {
    let options = options(&*storage).read_only(true);
    let Ok(image) = Image::open(storage, options) else { return };
    let size = image.virtual_size();
    let mut buf = vec![0; 8192];
    for at in [0, 4096, 65536, size / 2, size.saturating_sub(8192)] {
        let len = size.saturating_sub(at).min(8192) as usize;
        let plan = image.plan_read(at, len as u64);
        let read = image.read_at(at, &mut buf[..len]);
        if let Ok(plan) = &plan {
            let covered: u64 = plan.runs().iter().map(|run| run.len).sum();
            assert_eq!(covered, len as u64, "a plan covers its range");
        } else {
            assert!(read.is_err() || len == 0, "what cannot be planned cannot be read");
        }
        if let Err(error) = read {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?} is one line");
        }
        let _ = image.explain(at);
    }
    assert!(image.write_at(0, &[1]).is_err(), "a reader writes nothing");
}

/// Whether the image can be written; then it was, everywhere and in every way.
fn writable(storage: Arc<dyn Storage>) -> bool {
    let options = options(&*storage);
    let Ok(mut image) = Image::open(storage, options) else { return false };
    let size = image.virtual_size();
    for at in [5000, size / 2 + 512, size.saturating_sub(REQUEST_BYTES)] {
        let len = size.saturating_sub(at).min(REQUEST_BYTES);
        let _ = image.write_at(at, &vec![0x5a; len as usize]);
        let _ = image.write_zeroes_at(at, len / 2, ZeroMode::Unmap);
        let _ = image.write_zeroes_at(at, len, ZeroMode::Keep);
        let _ = image.discard_at(at, len);
        let third = (len / 3) as usize;
        if image.write_at(at, &vec![0xa5; third]).is_ok() {
            let mut buf = vec![0; third];
            if image.read_at(at, &mut buf).is_ok() {
                assert!(buf.iter().all(|&byte| byte == 0xa5), "what was written is read");
            }
        }
    }
    let _ = image.flush();
    if let Ok(mut compressor) = image.compressor() {
        let cluster = image.geometry().cluster_bytes();
        let data = vec![7; cluster.min(size) as usize];
        let last = image.geometry().cluster_start(size.saturating_sub(1));
        let _ = image.write_compressed_at(&mut compressor, 0, &data);
        let tail = (size - last).min(data.len() as u64) as usize;
        let _ = image.write_compressed_at(&mut compressor, last, &data[..tail]);
    }
    let _ = image.flush();
    for size in [size / 2 / 512 * 512, size.min(1 << 40)] {
        let _ = image.resize(size, ResizeOptions::new().shrink(true));
    }
    let _ = image.close();
    true
}
