//! The drawing of a chain.

use std::fmt::Write;
use std::path::Path;

use qimg::chain::{Chain, Layer};
use qimg::map::map;
use serde::Serialize;

use crate::failure::Failure;
use crate::report::bytes;

/// Width of the bar that shows a layer's share.
const BAR: u64 = 24;

/// A chain, measured.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Survey {
    virtual_size: u64,
    /// Bytes that read as zeros, whoever says so.
    zero: u64,
    /// Top first.
    layers: Vec<Measured>,
}

/// A layer, measured. Sizes are in bytes.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    depth: usize,
    filename: String,
    format: String,
    virtual_size: u64,
    /// Length of the file.
    file_length: u64,
    /// Host space it takes.
    actual_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_size: Option<u64>,
    /// Guest data that is read from this layer.
    owns_data: u64,
    /// Guest bytes that read as zeros because this layer says so.
    owns_zero: u64,
}

impl Survey {
    /// Measures every layer and walks over the whole disk once.
    ///
    /// # Errors
    /// A table cannot be read, or the host does not tell a size.
    pub(crate) fn of(chain: &Chain) -> Result<Self, Failure> {
        let mut layers = chain
            .layers()
            .enumerate()
            .map(|(depth, layer)| Measured::new(depth, layer))
            .collect::<Result<Vec<_>, Failure>>()?;
        let mut zero = 0;
        for extent in map(chain, 0..chain.virtual_size()) {
            let status = extent.map_err(|error| Failure::new(error.to_string()))?.status;
            zero += if status.zero { status.len } else { 0 };
            let Some(layer) = layers.get_mut(status.depth).filter(|_| status.present) else {
                continue;
            };
            match status.zero {
                true => layer.owns_zero += status.len,
                false => layer.owns_data += status.len,
            }
        }
        Ok(Self { virtual_size: chain.virtual_size(), zero, layers })
    }

    /// Draws the chain, top first.
    pub(crate) fn draw(&self) -> String {
        let folder = self.folder();
        let names: Vec<&str> = self.layers.iter().map(|layer| layer.name(folder)).collect();
        let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
        let place = folder.map_or_else(String::new, |folder| format!(" in {}", folder.display()));
        let mut text = format!(
            "disk of {}, {} {}{place}, the one a guest sees first\n\n",
            bytes::human(self.virtual_size),
            self.layers.len(),
            if self.layers.len() == 1 { "layer" } else { "layers" }
        );
        let _ = writeln!(
            text,
            "      {:<name_width$}  {:<6} {:>9} {:>9} {:>9}",
            "layer", "format", "size", "on host", "owns"
        );
        for (index, (layer, name)) in self.layers.iter().zip(names).enumerate() {
            let name = format!("{name:<name_width$}");
            let _ = writeln!(text, "{}", layer.line(&name, self.virtual_size));
            if index + 1 < self.layers.len() {
                text.push_str("   |\n");
            }
        }
        let _ = writeln!(text, "\n{} of the disk read as zeros", bytes::human(self.zero));
        text
    }
}

impl Survey {
    /// The folder that all layers lie in, if it has a name and is the same for all.
    fn folder(&self) -> Option<&Path> {
        let mut folders = self.layers.iter().map(|layer| Path::new(&layer.filename).parent());
        let first = folders.next()??;
        let same = folders.all(|folder| folder == Some(first));
        Some(first).filter(|folder| same && !folder.as_os_str().is_empty())
    }
}

impl Measured {
    /// The name, without the folder that the heading tells.
    fn name(&self, folder: Option<&Path>) -> &str {
        let name = folder.and_then(|_| Path::new(&self.filename).file_name()?.to_str());
        name.unwrap_or(&self.filename)
    }

    fn new(depth: usize, layer: &Layer) -> Result<Self, Failure> {
        let failed =
            |error: qimg::io::Error| Failure::new(format!("'{}': {error}", layer.path().display()));
        let header = layer.header();
        Ok(Self {
            depth,
            filename: layer.path().to_string_lossy().into_owned(),
            format: layer.format().to_string(),
            virtual_size: layer.virtual_size(),
            file_length: layer.storage().len().map_err(failed)?,
            actual_size: layer.storage().allocated_bytes().map_err(failed)?,
            cluster_size: header.map(|header| header.geometry().cluster_bytes()),
            owns_data: 0,
            owns_zero: 0,
        })
    }

    fn line(&self, name: &str, disk: u64) -> String {
        let share = |whole: u64| match disk {
            0 => 0,
            disk => (u128::from(self.owns_data) * u128::from(whole)).div_ceil(disk.into()),
        };
        let filled = usize::try_from(share(BAR)).unwrap_or(0).min(BAR as usize);
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR as usize - filled));
        format!(
            "  [{}] {name}  {:<6} {:>9} {:>9} {:>9}  {bar} {:>3}%",
            self.depth,
            self.format,
            bytes::human(self.virtual_size),
            bytes::human(self.actual_size),
            bytes::human(self.owns_data),
            share(100),
        )
    }
}
