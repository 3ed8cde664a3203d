//! Stretches: which clusters of the new image hold data, and which say that they are zeros.

use super::StreamError;

/// Neighbouring guest clusters of one kind. What lies between stretches is unallocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first guest cluster.
    pub(super) first: u64,
    /// How many clusters, never 0.
    pub(super) count: u64,
    /// Whether they have no data and hide what lies below.
    pub(super) zero: bool,
}

/// Most stretches that are kept: 384 MiB. A disk with so many is scattered over terabytes, or was
/// made to cost memory.
const STRETCHES_MAX: usize = 1 << 24;

/// Stretches in guest order, gathered.
#[derive(Debug)]
pub(super) struct Stretches {
    cluster: u64,
    found: Vec<Stretch>,
}

impl Stretches {
    /// None yet; clusters have so many bytes.
    pub(super) fn new(cluster: u64) -> Self {
        Self { cluster, found: Vec::new() }
    }

    /// Adds the clusters of a range behind all earlier ones. It begins with a cluster, and ends
    /// with one or with the disk.
    pub(super) fn add(&mut self, offset: u64, len: u64, zero: bool) -> Result<(), StreamError> {
        let (first, count) = (offset / self.cluster, len.div_ceil(self.cluster));
        let is_full = self.found.len() == STRETCHES_MAX;
        match self.found.last_mut() {
            Some(last) if last.first + last.count == first && last.zero == zero => {
                last.count += count;
            }
            _ if is_full => {
                return Err(StreamError::TooScattered { allowed: STRETCHES_MAX });
            }
            _ => self.found.push(Stretch { first, count, zero }),
        }
        Ok(())
    }

    pub(super) fn into_vec(self) -> Vec<Stretch> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_are_one_stretch() {
        let mut stretches = Stretches::new(512);
        for (offset, len, zero) in
            [(0, 1024, false), (1024, 512, false), (1536, 512, true), (4096, 700, true)]
        {
            stretches.add(offset, len, zero).unwrap();
        }
        let stretch = |first, count, zero| Stretch { first, count, zero };
        let expected = [stretch(0, 3, false), stretch(3, 1, true), stretch(8, 2, true)];
        assert_eq!(stretches.into_vec(), expected);
    }
}
