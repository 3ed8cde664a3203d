//! One verdict about an image file from strangers: whether it may be used at all.
//!
//! The file alone is looked at, never written, and no file that it names is ever opened. What is
//! acceptable is said by a [`Policy`]; what the file is, what it names, what it demands, how large it
//! says it is and whether its metadata hold together is compared with it, and everything that is not
//! acceptable is a [`Finding`] with its place in the file. Time and memory are bounded by the policy
//! too: bytes read, seconds, clusters counted.
//!
//! The header is read twice: once leniently, so that the names in a broken header are told, and once
//! as strictly as by everybody who uses the image. What the lenient way finds and the strict one would
//! not is told as well: programs disagree about broken headers, and that is what polyglots live from.

mod bounded;
mod consistency;
mod content;
mod error;
mod features;
mod finding;
mod outline;
mod policy;
mod reference;
mod tables;

use std::path::{Path, PathBuf};

use block_io::{Lock, Locking, OpenOptions, Storage, StorageExt};
use chain::Format;

use crate::check::CheckReport;

use bounded::Bounded;
use outline::Outline;

pub use content::{Kind, Signature};
pub use error::AuditError;
pub use finding::{Amount, Danger, Finding, FindingKind, Place, Role, Severity};
pub use policy::{Key, Policy, Reach, Value};

/// What an audit comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing speaks against the image.
    Acceptable,
    /// The policy does not allow it.
    Refused,
    /// The policy would allow it, but it is broken.
    Damaged,
}

/// How to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditOptions {
    /// The format that the image is going to be used as. `None`: what its content says.
    pub format: Option<Format>,
    /// Take no locks: the image may change while it is read.
    pub force_share: bool,
}

/// What was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Audit {
    /// The file, as it was passed.
    pub path: PathBuf,
    /// The format it was judged as.
    pub format: Format,
    /// Whether that was read off the content.
    pub guessed: bool,
    /// What the content looks like, whatever the format; several for polyglots.
    pub content: Vec<Signature>,
    /// Length of the file in bytes.
    pub file_length: u64,
    /// Size of the virtual disk in bytes, as far as it is known.
    pub virtual_size: Option<u64>,
    /// The consistency check, if it came to an end.
    pub check: Option<CheckReport>,
    /// What there is to say, in the order in which it was found.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// What it comes down to. What the policy forbids counts more than damage.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let any = |severity| self.findings.iter().any(|finding| finding.severity == severity);
        match (any(Severity::Refused), any(Severity::Damaged)) {
            (true, _) => Verdict::Refused,
            (false, true) => Verdict::Damaged,
            (false, false) => Verdict::Acceptable,
        }
    }

    fn add(&mut self, severity: Severity, at: Option<Place>, kind: FindingKind) {
        self.findings.push(Finding { severity, at, kind });
    }

    /// Refused unless allowed; what is allowed is told all the same.
    fn allow(&mut self, allowed: bool, at: Option<Place>, kind: FindingKind) {
        let severity = if allowed { Severity::Notice } else { Severity::Refused };
        self.add(severity, at, kind);
    }

    /// Refused above a limit.
    fn limit(&mut self, amount: Amount, at: Option<Place>, found: u64, allowed: u64) {
        if found > allowed {
            self.add(Severity::Refused, at, FindingKind::Limit { amount, found, allowed });
        }
    }
}

/// Looks at one image file.
///
/// ```
/// use qimg::audit::{AuditOptions, Policy, Verdict, audit};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("upload");
/// std::fs::write(&path, "# Disk DescriptorFile\nversion=1\nRW 8 FLAT \"/etc/passwd\" 0\n")?;
/// let audit = audit(&path, AuditOptions::default(), &Policy::default())?;
/// assert_eq!(audit.verdict(), Verdict::Refused);
/// let told = |text| audit.findings.iter().any(|finding| finding.to_string().starts_with(text));
/// assert!(told("raw content starts like a VMDK descriptor"));
/// assert!(told("extent '/etc/passwd' is an absolute path"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The file could not be looked at: it is not there, in use, or the host fails.
pub fn audit(path: &Path, options: AuditOptions, policy: &Policy) -> Result<Audit, AuditError> {
    let locking = if options.force_share { Locking::Off } else { Locking::Auto };
    let file = OpenOptions::new().locking(locking).open(path)?;
    let mut head = [0; 8];
    file.read_zero_filled(0, &mut head)?;
    let storage = Bounded::new(file, policy.read_bytes, policy.seconds);
    let format = options.format.unwrap_or_else(|| Format::probe(&head));
    if format == Format::Qcow2 {
        // Somebody who writes would make findings out of nothing.
        storage.lock(Lock::qcow2_reader())?;
    }
    let mut audit = Audit {
        path: path.to_owned(),
        format,
        guessed: options.format.is_none(),
        content: Vec::new(),
        file_length: storage.len()?,
        virtual_size: None,
        check: None,
        findings: Vec::new(),
    };
    let looked = look(&mut audit, &storage, policy);
    match (looked, storage.exhausted()) {
        // What stopped the reading is the finding, whatever the reader made of it.
        (_, Some(amount)) => {
            let allowed =
                if amount == Amount::ReadBytes { policy.read_bytes } else { policy.seconds };
            audit.add(Severity::Refused, None, FindingKind::Exhausted { amount, allowed });
        }
        (Err(error), None) => return Err(error),
        (Ok(()), None) => {}
    }
    Ok(audit)
}

fn look(audit: &mut Audit, storage: &Bounded, policy: &Policy) -> Result<(), AuditError> {
    content::look(audit, storage, policy)?;
    audit.limit(Amount::FileLength, None, audit.file_length, policy.file_length);
    if audit.format == Format::Raw {
        audit.virtual_size = Some(audit.file_length.next_multiple_of(512));
        audit.limit(Amount::VirtualSize, None, audit.file_length, policy.virtual_size);
        return Ok(());
    }
    let Some(outline) = Outline::read(storage)? else {
        let kind = FindingKind::NotThisFormat { format: audit.format };
        audit.add(Severity::Damaged, Some(Place::new(0, 8)), kind);
        return Ok(());
    };
    reference::look(audit, &outline, policy);
    features::look(audit, &outline, policy);
    tables::look(audit, &outline, storage, policy)?;
    consistency::look(audit, &outline, storage, policy)
}
