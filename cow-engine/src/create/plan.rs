//! `CreatePlan`: a new image as a value, before anything is written.

use core::fmt;

use qcow2_format::{Geometry, Header, HeaderBuilder, HostOffset, L2Layout, TablePointer, Version};

use super::layout::{Layout, Needs};
use crate::error::{Area, Error, Result};
use crate::options::CreateOptions;
use crate::preallocation::Preallocation;

/// A new image: its header, and where everything else will lie. Nothing is written yet.
///
/// ```
/// use cow_engine::{CreateOptions, CreatePlan};
///
/// let plan = CreatePlan::new(&CreateOptions::new(1 << 30))?;
/// assert_eq!(plan.file_bytes(), 3 * 65536 + 2 * 8); // two L1 entries of 512 MiB each
/// println!("{plan}");
/// # Ok::<(), cow_engine::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePlan {
    pub(super) header: Header,
    pub(super) layout: Layout,
    pub(super) preallocation: Preallocation,
    /// Whether guest data lies in a file of its own.
    pub(super) external: bool,
}

/// A stretch of the new image file that belongs to structures of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedArea {
    /// Whose it is.
    pub area: Area,
    /// First byte.
    pub offset: HostOffset,
    /// Length in bytes; ends with the file where that ends inside a cluster.
    pub bytes: u64,
    /// How many of the structures lie there.
    pub count: u64,
}

impl CreatePlan {
    /// Decides where everything will lie. The cost does not depend on what is preallocated.
    ///
    /// # Errors
    /// An option the format does not allow, options that contradict each other, or names that do
    /// not fit into the header.
    pub fn new(options: &CreateOptions) -> Result<Self> {
        let l2_layout = if options.extended_l2 { L2Layout::Extended } else { L2Layout::Standard };
        let geometry = Geometry::new(options.cluster_bits, options.refcount_order, l2_layout)?;
        let preallocation = effective_preallocation(options)?;
        if options.virtual_size > geometry.virtual_size_max() {
            return Err(Error::Option {
                name: "size",
                found: options.virtual_size.to_string(),
                allowed: "what an L1 table of 32 MiB can map, use a larger cluster size",
            });
        }
        let external = options.data_file.is_some();
        let layout = Layout::new(geometry, needs(geometry, options, preallocation))?;
        let header = header(options, &layout)?;
        Ok(Self { header, layout, preallocation, external })
    }

    /// The header of the new image.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The header of the new image.
    #[must_use]
    pub fn into_header(self) -> Header {
        self.header
    }

    /// How much is prepared in advance: at least metadata if the data file must stay a raw image.
    #[must_use]
    pub const fn preallocation(&self) -> Preallocation {
        self.preallocation
    }

    /// Length of the new image file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let layout = &self.layout;
        let start = layout.offset(layout.data).get();
        if layout.needs.data_clusters > 0 {
            return start + self.data_bytes();
        }
        let l1_is_last = layout.l1 + layout.l1_clusters() == layout.used();
        if l1_is_last && layout.needs.l1_entries > 0 {
            // The reference implementation leaves the rest of the cluster out as well.
            return layout.offset(layout.l1).get() + layout.needs.l1_entries * 8;
        }
        start
    }

    /// Bytes of the image file that are prepared for guest data.
    pub(super) fn data_bytes(&self) -> u64 {
        if self.layout.needs.data_clusters == 0 {
            return 0;
        }
        self.header.virtual_size().next_multiple_of(self.layout.geometry.subcluster_bytes())
    }

    /// What the new file consists of, in the order of offsets, without a gap. Neighbours of one
    /// kind are one area.
    #[must_use]
    pub fn areas(&self) -> Vec<PlannedArea> {
        let layout = &self.layout;
        let blocks_behind_l1 = layout.block(layout.block_count() - 1) > layout.l1;
        let first_blocks = if blocks_behind_l1 { 1 } else { layout.block_count() };
        let spans = [
            (Area::Header, 0, 1),
            (Area::RefcountTable, layout.table(), 1),
            (Area::RefcountBlock, layout.block(0), first_blocks),
            (Area::L1Table, layout.l1, u64::from(layout.needs.l1_entries > 0)),
            (
                Area::RefcountBlock,
                layout.l1 + layout.l1_clusters(),
                layout.block_count() - first_blocks,
            ),
            (Area::L2Table, layout.l2(), layout.needs.l2_tables),
            (Area::Data, layout.data, layout.needs.data_clusters),
        ];
        let spans: Vec<_> = spans.into_iter().filter(|(_, _, count)| *count > 0).collect();
        let starts = spans.iter().skip(1).map(|(_, start, _)| layout.offset(*start).get());
        let ends = starts.chain([self.file_bytes()]);
        let area = |((area, start, count), end): (&(Area, u64, u64), u64)| {
            let offset = layout.offset(*start);
            PlannedArea { area: *area, offset, bytes: end - offset.get(), count: *count }
        };
        spans.iter().zip(ends).map(area).collect()
    }
}

/// What the options ask for, and what a raw data file needs all the same.
fn effective_preallocation(options: &CreateOptions) -> Result<Preallocation> {
    let mode = options.preallocation;
    if options.backing.is_some() && mode != Preallocation::Off && !options.extended_l2 {
        return Err(Error::Option {
            name: "preallocation",
            found: mode.to_string(),
            allowed: "off with a backing file, unless L2 entries are extended",
        });
    }
    let raw = options.data_file.as_ref().is_some_and(|file| file.raw);
    if raw && options.backing.is_some() {
        return Err(Error::Option {
            name: "data_file_raw",
            found: "on".into(),
            allowed: "off with a backing file",
        });
    }
    // A reader of the raw file alone must see what a reader of the image sees: every byte.
    Ok(if raw && mode == Preallocation::Off { Preallocation::Metadata } else { mode })
}

fn needs(geometry: Geometry, options: &CreateOptions, preallocation: Preallocation) -> Needs {
    let l1_entries = geometry.l1_entries_for(options.virtual_size);
    let (mut l2_tables, mut data_clusters) = (0, 0);
    if preallocation != Preallocation::Off {
        l2_tables = l1_entries;
        if options.data_file.is_none() {
            data_clusters = geometry.clusters_for(options.virtual_size);
        }
    }
    Needs { l1_entries, l2_tables, data_clusters }
}

fn header(options: &CreateOptions, layout: &Layout) -> Result<Header> {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let has_l1 = layout.needs.l1_entries > 0;
    let l1_offset = if has_l1 { layout.offset(layout.l1) } else { HostOffset::ZERO };
    let table = layout.offset(layout.table());
    let mut builder = HeaderBuilder::new(layout.geometry, options.virtual_size)
        .version(options.version)
        .compression_type(options.compression_type)
        .lazy_refcounts(options.lazy_refcounts)
        .refcount_table(TablePointer { offset: table, count: count(layout.table_clusters) })
        .l1_table(TablePointer { offset: l1_offset, count: count(layout.needs.l1_entries) });
    if let Some(file) = &options.data_file {
        builder = builder.data_file(Some(file.name.as_bytes()), file.raw);
    }
    if let Some(backing) = &options.backing {
        let format = backing.format.as_deref().map(str::as_bytes);
        builder = builder.backing(backing.name.as_bytes(), format);
        if let Some(pin) = options.base_pin {
            builder = builder.base_pin(pin);
        }
    }
    Ok(builder.build()?)
}

impl fmt::Display for CreatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.header.version() {
            Version::V2 => 2,
            Version::V3 => 3,
        };
        let size = self.header.virtual_size();
        write!(f, "image of version {version} for a disk of {size} bytes")?;
        for PlannedArea { area, offset, bytes, count } in self.areas() {
            let what = match area {
                Area::RefcountBlock => "refcount blocks",
                Area::L2Table => "L2 tables",
                Area::Data => "clusters of guest data",
                _ => {
                    write!(f, "\n{offset}+{bytes:#x} {area}")?;
                    continue;
                }
            };
            write!(f, "\n{offset}+{bytes:#x} {count} {what}")?;
        }
        Ok(())
    }
}
