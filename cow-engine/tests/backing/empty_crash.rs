//! Power cuts while an overlay is emptied: every sector shows the overlay's own bytes or those below.

use std::sync::Arc;

use cow_engine::{Backing, Error, Image};
use qcow2_format::Version;
use testkit::{Folder, Pattern, Qemu, census};

use crate::images::{self, bytes, read_all};
use crate::kinds::{Data, Kind};
use crate::power::{Left, Power, assert_closed, complaint, none_lost};
use crate::test_backing::TestBacking;

const SECTOR: usize = 512;

fn below(size: u64) -> (Vec<u8>, Option<Arc<dyn Backing>>) {
    let bytes = Pattern::new(1).bytes(0, size as usize);
    (bytes.clone(), Some(Arc::new(TestBacking::new(bytes))))
}

fn fill(image: &Image) {
    let (size, cluster) = (image.virtual_size(), image.geometry().cluster_bytes());
    let bytes = Pattern::new(2).bytes(0, (size / 2) as usize);
    image.write_at(0, &bytes).unwrap();
    image.write_zeroes_at(cluster, cluster, cow_engine::ZeroMode::Unmap).unwrap();
    image.write_at(size - 1000, &[4; 1000]).unwrap();
    if image.data_storage().len().unwrap() == image.storage().len().unwrap() {
        let mut compressor = image.compressor().unwrap();
        let at = (size / 2).next_multiple_of(cluster);
        image.write_compressed_at(&mut compressor, at, &vec![6; cluster as usize]).unwrap();
    }
    image.flush().unwrap();
}

/// Fills an overlay, empties it, and looks at every state on the way; returns how many there were.
fn survive(kind: Kind) -> usize {
    let power = Power::on(&kind.memory(), none_lost);
    let (base, backing) = below(kind.size);
    let mut image = kind.open(power.media(), backing.clone());
    fill(&image);
    let (full, own) = (power.position(), read_all(&image));
    image.empty().unwrap();
    let empty = power.position();
    assert!(read_all(&image) == base);
    image.close().unwrap();
    assert_closed(&images::bytes(&*power.media().image));
    let folder = Folder::new();
    let mut number = 0;
    let (count, found) = power.log().check(120, |left| {
        number += 1;
        if number % 40 == 0 {
            ask_qemu(&folder, left);
        }
        let own = if left.position >= empty { &base } else { &own };
        if left.position < full { Ok(()) } else { judge(kind, left, &backing, [own, &base]) }
    });
    assert_eq!(found, None, "{kind:?}");
    count
}

fn judge(
    kind: Kind,
    left: &Left,
    backing: &Option<Arc<dyn Backing>>,
    allowed: [&Vec<u8>; 2],
) -> Result<(), String> {
    complaint(&census::take(&bytes(&*left.media.image))).map_or(Ok(()), Err)?;
    let words = |error: Error| error.to_string();
    let found = read_all(&left.media.open_read_only(backing.clone()).map_err(words)?);
    let wrong = (0..found.len()).step_by(SECTOR).find(|&at| {
        let sector = at..(at + SECTOR).min(found.len());
        allowed.iter().all(|bytes| bytes[sector.clone()] != found[sector.clone()])
    });
    if let Some(at) = wrong {
        return Err(format!("sector at {at:#x} shows neither"));
    }
    let mut image = match kind.try_open(&left.media, backing.clone()) {
        // With counts that are not there nobody writes before a repair.
        Err(Error::MarkedDirty) => return Ok(()),
        opened => opened.map_err(words)?,
    };
    // Done again, it comes to its end.
    image.empty().map_err(words)?;
    if read_all(&image) != *allowed[1] {
        return Err("something is left".to_owned());
    }
    image.close().map_err(words)?;
    complaint(&census::take(&bytes(&*left.media.image))).map_or(Ok(()), Err)
}

/// The real tool finds nothing worse than leaks, unless the image says that counts are missing.
fn ask_qemu(folder: &Folder, left: &Left) {
    let bytes = bytes(&*left.media.image);
    if left.media.data.is_some() || census::take(&bytes).dirty {
        return;
    }
    let path = folder.write("image.qcow2", &bytes);
    let output = Qemu::img(["check", "-f", "qcow2", path.to_str().unwrap()]);
    assert!(matches!(output.code, Some(0 | 3)), "{}\n{}", output.stdout, output.stderr);
}

#[test]
fn small_clusters_with_many_tables() {
    let count = survive(Kind::standard(256 << 10, 9));
    assert!(count > 200, "{count}");
}

#[test]
fn version_2_and_large_clusters() {
    survive(Kind { version: Version::V2, ..Kind::standard(100 << 10, 12) });
    survive(Kind::standard((300 << 10) + 512, 16));
}

#[test]
fn subclusters_and_lazy_counts() {
    survive(Kind::extended(200 << 10, 14));
    survive(Kind::standard(100 << 10, 9).lazy());
}

#[test]
fn a_data_file() {
    survive(Kind::standard(100 << 10, 12).with_data(Data::Outside));
}
