//! Raw bytes from a pipe fill a target that grows with them.

use std::io::Read;

use proptest::prelude::*;
use qimg::chain::{Chain, Format, OpenOptions};
use qimg::convert::{ConvertError, StreamError, StreamInOptions, stream_in_raw};
use qimg::create::{CreateOptions, Qcow2Options, create};
use testkit::{Folder, Qemu};

use crate::world::shapes;

/// A pipe that gives so many bytes at a time, and fails at the end if it is told to.
struct Dripping<'a> {
    bytes: &'a [u8],
    most: usize,
    fails: bool,
}

impl Read for Dripping<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        }
        let now = self.most.min(into.len()).min(self.bytes.len());
        let (given, left) = self.bytes.split_at(now);
        into[..now].copy_from_slice(given);
        self.bytes = left;
        Ok(now)
    }
}

fn open(path: &std::path::Path, format: Format) -> Chain {
    Chain::open(path, &OpenOptions::new().format(format)).unwrap()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let run = (1_usize..400_000, prop::sample::select(vec![0_u8, 0, 1, 200]));
    prop::collection::vec(run, 0..12).prop_map(|runs| {
        runs.into_iter().flat_map(|(len, byte)| std::iter::repeat_n(byte, len)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn images_grow_to_what_comes(
        bytes in bytes(),
        qcow2 in shapes(),
        most in prop::sample::select(vec![4096_usize, 65536, 1 << 20]),
        sparse in prop::sample::select(vec![0_u64, 4096, 65536]),
        compress in any::<bool>(),
    ) {
        let folder = Folder::new();
        let source = folder.write("source.raw", &bytes);
        let path = folder.path("target.qcow2");
        create(&path, &CreateOptions { qcow2, ..CreateOptions::new(Format::Qcow2, 0) }).unwrap();
        let mut target = open(&path, Format::Qcow2);
        let options = StreamInOptions { sparse, compress, ..StreamInOptions::new() };
        let mut input = Dripping { bytes: &bytes, most, fails: false };
        let report = stream_in_raw(&mut input, &mut target, &options, &mut |_| {}).unwrap();
        prop_assert_eq!(report.read, bytes.len() as u64);
        prop_assert_eq!(target.virtual_size(), (bytes.len() as u64).next_multiple_of(512));
        target.close().unwrap();
        Qemu::check(&path);
        Qemu::assert_same(("raw", &source), ("qcow2", &path));
    }
}

#[test]
fn a_small_cluster_size_ends_where_the_format_does() {
    // 512-byte clusters reach 128 GiB: growing by half is not enough of a reason to fail earlier.
    let folder = Folder::new();
    let path = folder.path("target.qcow2");
    let qcow2 = Qcow2Options { cluster_size: 512, ..Qcow2Options::default() };
    create(&path, &CreateOptions { qcow2, ..CreateOptions::new(Format::Qcow2, 0) }).unwrap();
    let mut target = open(&path, Format::Qcow2);
    let bytes = vec![7; (5 << 20) + 100];
    let mut input = Dripping { bytes: &bytes, most: 1 << 20, fails: false };
    stream_in_raw(&mut input, &mut target, &StreamInOptions::new(), &mut |_| {}).unwrap();
    target.close().unwrap();
    Qemu::check(&path);
    Qemu::assert_same(("raw", &folder.write("source.raw", &bytes)), ("qcow2", &path));
}

#[test]
fn a_target_of_fixed_size_has_to_be_large_enough() {
    let folder = Folder::new();
    let path = folder.write("target.raw", &[9; 4096]);
    let options = StreamInOptions { grow: false, target_is_zero: false, ..StreamInOptions::new() };
    let fill = |bytes: &[u8]| {
        let mut target = open(&path, Format::Raw);
        let mut input = Dripping { bytes, most: 100, fails: false };
        stream_in_raw(&mut input, &mut target, &options, &mut |_| {})
    };
    fill(&[&[1; 1000][..], &[0; 1000]].concat()).unwrap();
    let expected = [&[1; 1000][..], &[0; 1000], &[9; 2096]].concat();
    assert!(folder.read("target.raw") == expected);
    let refused = fill(&[1; 5000]).unwrap_err();
    let StreamError::Copy(ConvertError::TargetTooSmall { needed, found }) = refused else {
        unreachable!("{refused}")
    };
    assert_eq!((needed, found), (5000, 4096));
}

#[test]
fn an_input_that_fails_says_where() {
    let folder = Folder::new();
    let path = folder.path("target.raw");
    create(&path, &CreateOptions::new(Format::Raw, 0)).unwrap();
    let mut target = open(&path, Format::Raw);
    let bytes = vec![1; (1 << 20) + 77];
    let mut input = Dripping { bytes: &bytes, most: 4096, fails: true };
    let stopped = stream_in_raw(&mut input, &mut target, &StreamInOptions::new(), &mut |_| {});
    let words = stopped.unwrap_err().to_string();
    assert!(words.starts_with("error while reading at byte 1048653 of the input: "), "{words}");
}
