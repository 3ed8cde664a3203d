//! Choosing options at random, and saying them to the real tool.

use std::path::Path;

use cow_engine::{BackingReference, CreateOptions, DataFileReference, Preallocation};
use qcow2_format::{ClusterBits, CompressionType, RefcountOrder, Version};
use testkit::{Qemu, Rng};

/// Options of any kind that go together, without preallocation, for a disk of any size.
pub(crate) fn any_options(rng: &mut Rng) -> CreateOptions {
    let mut options = CreateOptions::new(0);
    options.cluster_bits = ClusterBits::new(rng.within(9..22) as u32).unwrap();
    if rng.one_in(5) {
        options.version = Version::V2;
    } else {
        options.refcount_order = RefcountOrder::new(rng.below(7) as u32).unwrap();
        options.lazy_refcounts = rng.one_in(2);
        options.extended_l2 = options.cluster_bits.get() >= 14 && rng.one_in(2);
        if rng.one_in(3) {
            options.compression_type = CompressionType::Zstd;
        }
        if rng.one_in(3) {
            options.data_file = Some(DataFileReference { name: "data".into(), raw: false });
        }
    }
    if rng.one_in(4) {
        let format = rng.pick(&["raw", "qcow2"]).to_string();
        options.backing = Some(BackingReference { name: "base".into(), format: Some(format) });
    }
    let bits = options.cluster_bits.get() * 2 + 15; // an L1 table of up to 1 MiB
    // File systems have a limit for the length of a data file.
    let most = if options.data_file.is_some() { 42 } else { 52 };
    options.virtual_size = size_below(rng, bits.min(most));
    options
}

/// Options of any kind for a disk of few clusters, of which all or none are prepared.
pub(crate) fn any_preallocated(rng: &mut Rng) -> CreateOptions {
    let mut options = any_options(rng);
    let modes = [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];
    options.preallocation = *rng.pick(&modes);
    if !options.extended_l2 {
        options.backing = None;
    }
    if let Some(file) = &mut options.data_file
        && options.backing.is_none()
        && rng.one_in(2)
    {
        file.raw = true;
        options.preallocation = *rng.pick(&[Preallocation::Off, options.preallocation]);
    }
    let bits = options.cluster_bits.get();
    let clusters = if bits > 16 { 30 } else { 1500 };
    let unit = *rng.pick(&[512, 4096, 1 << bits]);
    options.virtual_size = rng.within(0..(clusters << bits) / unit) * unit;
    options
}

/// Small sizes as often as large ones; a multiple of 512.
fn size_below(rng: &mut Rng, bits: u32) -> u64 {
    let bits = rng.within(9..u64::from(bits) + 1);
    let size = rng.below(1 << bits);
    if rng.one_in(3) { 1 << bits } else { size / 512 * 512 }
}

/// The value of `-o` that asks the real tool for the same image.
pub(crate) fn words(options: &CreateOptions) -> String {
    let mut words = vec![
        format!("size={}", options.virtual_size),
        format!("cluster_size={}", 1 << options.cluster_bits.get()),
        format!("refcount_bits={}", options.refcount_order.bits()),
        format!("compat={}", if options.version == Version::V2 { "0.10" } else { "1.1" }),
        format!("preallocation={}", options.preallocation),
    ];
    let switches = [
        ("extended_l2", options.extended_l2),
        ("lazy_refcounts", options.lazy_refcounts),
        ("data_file_raw", options.data_file.as_ref().is_some_and(|file| file.raw)),
    ];
    words.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| format!("{name}=on")));
    if options.compression_type == CompressionType::Zstd {
        words.push("compression_type=zstd".into());
    }
    words.extend(options.data_file.as_ref().map(|file| format!("data_file={}", file.name)));
    if let Some(backing) = &options.backing {
        words.push(format!("backing_file={}", backing.name));
        words.extend(backing.format.as_ref().map(|format| format!("backing_fmt={format}")));
    }
    words.join(",")
}

/// Has the real tool make the image. It does not look at the backing file.
#[track_caller]
pub(crate) fn make_theirs(path: &Path, options: &CreateOptions) {
    let words = words(options);
    let path = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-u", "-f", "qcow2", "-o", &words, path]).success();
}
