//! Whether a chain is what it was made as: every layer readable and consistent, every backing file the
//! one that its overlay was made on; on demand by the hash of everything it shows.

use std::path::{Path, PathBuf};

use chain::{BaseVerdict, Chain, Format, Layer, OpenOptions};

use crate::check::{CheckOptions, CheckReport, check};

/// What computes the hash that records of backing files hold: that of all a guest sees of a chain.
pub type ContentHash<'h> = dyn Fn(&Chain) -> Result<[u8; 32], String> + 'h;

/// What was found of one layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerReport {
    /// Its file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Whether its backing file is the one it was made on.
    pub base: BaseVerdict,
    /// The same in words, where there is something to say.
    pub base_text: Option<String>,
    /// What a check of its metadata found; raw layers have none.
    pub check: Option<Result<CheckReport, String>>,
    /// What became of comparing all that its backing file shows with the record.
    pub content: Content,
}

/// What became of comparing everything that a backing file shows with what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nobody asked, or there is no backing file.
    NotCompared,
    /// No hash was recorded.
    NotRecorded,
    /// It shows what it showed.
    Same,
    /// It shows something else.
    Different,
    /// It could not be read.
    Failed(String),
}

impl LayerReport {
    /// Whether the metadata of the layer is damaged; leaks are not damage.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        match &self.check {
            None => false,
            Some(Ok(report)) => report.corruptions > 0 || report.check_errors > 0,
            Some(Err(_)) => true,
        }
    }

    /// Whether the backing file is another one than recorded, or cannot be read. A hash of all it
    /// shows outweighs everything that was only looked at.
    #[must_use]
    pub fn is_base_changed(&self) -> bool {
        match self.content {
            Content::Same => false,
            Content::Different | Content::Failed(_) => true,
            Content::NotCompared | Content::NotRecorded => self.base.is_change(),
        }
    }
}

/// Looks at every layer of the chain of `path`, top first. With `content` everything that is recorded
/// by its hash is read and compared.
///
/// # Errors
/// The chain cannot be opened. What is wrong with single layers is in the reports.
pub fn verify(
    path: &Path,
    options: &OpenOptions,
    content: Option<&ContentHash<'_>>,
) -> Result<Vec<LayerReport>, chain::Error> {
    let options = options.clone().read_only(true);
    let chain = Chain::open(path, &options)?;
    let reports = chain.layers().enumerate().map(|(depth, layer)| {
        let finding = chain.base_findings().find(|finding| finding.overlay == layer.path());
        LayerReport {
            path: layer.path().to_owned(),
            format: layer.format(),
            base: chain.base_verdict(depth),
            base_text: finding.map(ToString::to_string),
            check: (layer.format() == Format::Qcow2).then(|| checked(layer)),
            content: compare_content(layer, chain.layer(depth + 1), &options, content),
        }
    });
    Ok(reports.collect())
}

fn checked(layer: &Layer) -> Result<CheckReport, String> {
    check(&**layer.storage(), CheckOptions::default()).map_err(|error| error.to_string())
}

/// Compares what the backing file of a layer shows with the hash that the layer has recorded.
pub(crate) fn compare_content(
    layer: &Layer,
    below: Option<&Layer>,
    options: &OpenOptions,
    content: Option<&ContentHash<'_>>,
) -> Content {
    let (Some(below), Some(hash)) = (below, content) else { return Content::NotCompared };
    let pin = layer.header().and_then(qcow2_format::Header::base_pin);
    let Some(recorded) = pin.and_then(|pin| pin.content_hash) else { return Content::NotRecorded };
    let below = Chain::open(below.path(), &options.clone().format(below.format()));
    let found = below.map_err(|error| error.to_string()).and_then(|below| hash(&below));
    match found {
        Ok(found) if found == recorded => Content::Same,
        Ok(_) => Content::Different,
        Err(text) => Content::Failed(text),
    }
}
