//! The files that are worked on: a raw file and a full image of the same bytes, and new overlays.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use qimg::engine::{BackingReference, CreateOptions};
use qimg::io::{Create, OpenOptions};
use rustix::fs::Advice;

use crate::failure::{Failure, Outcome};

/// What a case works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Every cluster allocated.
    Full,
    /// The same with subclusters.
    FullExtended,
    /// Nothing in it, made anew for each round.
    Empty,
    EmptyExtended,
    /// Nothing in it over a raw file that is full, made anew for each round.
    OverFull,
    OverFullExtended,
}

pub(crate) const SIZE: u64 = 1 << 30;

pub(crate) struct Media {
    folder: PathBuf,
    pub(crate) raw: PathBuf,
    full: PathBuf,
    full_extended: PathBuf,
}

impl Medium {
    pub(crate) fn is_extended(self) -> bool {
        matches!(self, Self::FullExtended | Self::EmptyExtended | Self::OverFullExtended)
    }

    pub(crate) fn is_full(self) -> bool {
        matches!(self, Self::Full | Self::FullExtended)
    }
}

impl Media {
    /// Makes what is only made once, unless an earlier run has left it here.
    pub(crate) fn make(folder: &Path) -> Outcome<Self> {
        let media = Self {
            folder: folder.to_path_buf(),
            raw: folder.join("full.raw"),
            full: folder.join("full.qcow2"),
            full_extended: folder.join("full-extended.qcow2"),
        };
        let made = folder.join("made");
        if made.exists() {
            return media.settled();
        }
        eprintln!("making the files in {}", folder.display());
        media.fill_raw()?;
        media.fill_image(&media.full, false)?;
        media.fill_image(&media.full_extended, true)?;
        File::create(&made).map_err(Failure::file(&made))?;
        media.settled()
    }

    fn settled(self) -> Outcome<Self> {
        [&self.raw, &self.full, &self.full_extended]
            .into_iter()
            .try_for_each(|path| settle(path))?;
        Ok(self)
    }

    /// Sees to it that what a case reads is in the page cache, in single pages where it was not.
    pub(crate) fn warm(&self, medium: Medium) -> Outcome {
        let image = match medium {
            Medium::Full => Some(&self.full),
            Medium::FullExtended => Some(&self.full_extended),
            _ => None,
        };
        for path in std::iter::once(&self.raw).chain(image) {
            let mut file = File::open(path).map_err(Failure::file(path))?;
            let advised = rustix::fs::fadvise(&file, 0, None, Advice::Random);
            advised.map_err(|errno| Failure::file(path)(errno.into()))?;
            read_all(&mut file, path)?;
        }
        Ok(())
    }

    /// The bytes at an offset of a full disk: each block of 4 KiB says where it is.
    pub(crate) fn fill(offset: u64, buf: &mut [u8]) {
        for (number, block) in buf.chunks_mut(4096).enumerate() {
            let stamp = (offset / 4096 + number as u64 + 1).to_le_bytes();
            block.chunks_mut(8).for_each(|word| word.copy_from_slice(&stamp[..word.len()]));
        }
    }

    fn fill_raw(&self) -> Outcome {
        let mut file = File::create(&self.raw).map_err(Failure::file(&self.raw))?;
        let mut buf = vec![0; 1 << 20];
        for offset in (0..SIZE).step_by(buf.len()) {
            Self::fill(offset, &mut buf);
            file.write_all(&buf).map_err(Failure::file(&self.raw))?;
        }
        file.sync_all().map_err(Failure::file(&self.raw))
    }

    fn fill_image(&self, path: &Path, extended: bool) -> Outcome {
        self.create(path, extended, false)?;
        let image = (crate::contenders::CONTENDERS[1].open)(path, true)?;
        let mut buf = vec![0; 1 << 20];
        for offset in (0..SIZE).step_by(buf.len()) {
            Self::fill(offset, &mut buf);
            image.disk().write(offset, &buf)?;
        }
        image.close()
    }

    fn create(&self, path: &Path, extended: bool, over_full: bool) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Failure::of("qimg")(error);
        let mut options = CreateOptions::new(SIZE);
        options.extended_l2 = extended;
        options.backing = over_full.then(|| BackingReference {
            name: self.raw.to_string_lossy().into_owned(),
            format: Some("raw".to_owned()),
        });
        let file = OpenOptions::new().write(true).create(Create::Truncate).open(path);
        let file = file.map_err(|error| failed(&error))?;
        qimg::engine::create(&file, &options).map(drop).map_err(|error| failed(&error))
    }

    /// The file for one round of one contender. What is not full is made anew.
    pub(crate) fn file(&self, medium: Medium, bare: bool) -> Outcome<PathBuf> {
        if bare {
            return match medium.is_full() {
                true => Ok(self.raw.clone()),
                false => {
                    let path = self.folder.join("new.raw");
                    let file = File::create(&path).map_err(Failure::file(&path))?;
                    file.set_len(SIZE).map_err(Failure::file(&path))?;
                    Ok(path)
                }
            };
        }
        let path = self.folder.join("new.qcow2");
        match medium {
            Medium::Full => return Ok(self.full.clone()),
            Medium::FullExtended => return Ok(self.full_extended.clone()),
            Medium::Empty => self.create(&path, false, false)?,
            Medium::EmptyExtended => self.create(&path, true, false)?,

            Medium::OverFull => self.create(&path, false, true)?,
            Medium::OverFullExtended => self.create(&path, true, true)?,
        }
        Ok(path)
    }
}

/// Writes a file out, forgets it and reads it again in single pages. How a file came into the page
/// cache decides how large the pieces are that it lies there in, and that is worth a quarter of the
/// time of a small read, and much more of a small write: files that are compared must have come
/// the same way.
pub(crate) fn settle(path: &Path) -> Outcome {
    let mut file = File::open(path).map_err(Failure::file(path))?;
    file.sync_all().map_err(Failure::file(path))?;
    for advice in [Advice::DontNeed, Advice::Random] {
        let advised = rustix::fs::fadvise(&file, 0, None, advice);
        advised.map_err(|errno| Failure::file(path)(errno.into()))?;
    }
    read_all(&mut file, path)
}

fn read_all(file: &mut File, path: &Path) -> Outcome {
    let mut buf = vec![0; 1 << 20];
    while file.read(&mut buf).map_err(Failure::file(path))? > 0 {}
    Ok(())
}
