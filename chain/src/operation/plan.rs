//! `Plan`: an operation on a chain as a value, before anything happens.

use core::fmt;
use std::path::PathBuf;

/// What an operation is going to do, step by step, in this order. A power cut between or within
/// steps leaves a chain that shows what it showed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) operation: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// A step of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A new overlay is made.
    Create {
        /// Its file.
        file: PathBuf,
        /// What it rests on.
        backing: Option<String>,
        /// Size of its disk in bytes.
        size: u64,
    },
    /// A disk gets larger.
    Grow {
        /// The file of the layer.
        file: PathBuf,
        /// Size of its disk before, in bytes.
        from: u64,
        /// Size of its disk afterwards, in bytes.
        to: u64,
    },
    /// Data is read to be compared.
    Compare {
        /// The files of the layers, top first.
        files: Vec<PathBuf>,
        /// At most so many bytes of each side.
        bytes: u64,
    },
    /// Data moves from layers into another one.
    Copy {
        /// The files it is read from, each with how many bytes.
        from: Vec<(PathBuf, u64)>,
        /// The file of the layer it is written to.
        into: PathBuf,
        /// Bytes that are read and written; at most so many where they are compared first.
        data: u64,
        /// Bytes that are made to read as zeros.
        zeros: u64,
    },
    /// The header of a layer names another backing file.
    SwitchBacking {
        /// The file of the layer.
        file: PathBuf,
        /// The name before.
        from: Option<String>,
        /// The name afterwards.
        to: Option<String>,
    },
    /// A layer gives up all it holds: the layers below show the same.
    Empty {
        /// The file of the layer.
        file: PathBuf,
    },
    /// The chain no longer needs the file. It is left where it is.
    Release {
        /// The file.
        file: PathBuf,
    },
}

impl Plan {
    /// The name of the operation.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// What happens, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Bytes that will be read and written, at most.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let of = |step: &Step| if let Step::Copy { data, .. } = step { *data } else { 0 };
        self.steps.iter().map(of).sum()
    }
}

impl Step {
    /// Comparing these files, each named once.
    pub(crate) fn compare(files: impl IntoIterator<Item = PathBuf>, bytes: u64) -> Self {
        let mut named: Vec<PathBuf> = Vec::new();
        for file in files {
            if !named.contains(&file) {
                named.push(file);
            }
        }
        Self::Compare { files: named, bytes }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.operation)?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        Ok(())
    }
}

/// A name of a backing file, in quotes.
fn named(name: Option<&String>) -> String {
    name.map_or_else(|| "none".to_owned(), |name| format!("'{name}'"))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { file, backing, size } => write!(
                f,
                "create  '{}', {size} bytes, backing file {}",
                file.display(),
                named(backing.as_ref())
            ),
            Self::Grow { file, from, to } => {
                write!(f, "grow    '{}' from {from} to {to} bytes", file.display())
            }
            Self::Compare { files, bytes } => {
                write!(f, "compare up to {bytes} bytes of")?;
                files.iter().try_for_each(|file| write!(f, " '{}'", file.display()))
            }
            Self::Copy { from, into, data, zeros } => {
                for (file, bytes) in from {
                    write!(f, "read    '{}', {bytes} bytes\n  ", file.display())?;
                }
                write!(f, "write   '{}', {data} bytes of data", into.display())?;
                if *zeros > 0 { write!(f, ", {zeros} bytes of zeros") } else { Ok(()) }
            }
            Self::SwitchBacking { file, from, to } => write!(
                f,
                "switch  '{}' from backing file {} to {}",
                file.display(),
                named(from.as_ref()),
                named(to.as_ref())
            ),
            Self::Empty { file } => write!(f, "empty   '{}'", file.display()),
            Self::Release { file } => {
                write!(f, "release '{}', no longer needed and left alone", file.display())
            }
        }
    }
}
