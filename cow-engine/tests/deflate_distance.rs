//! The window of our own deflate streams: no match reaches further back than 4 KiB, because a
//! strict reader inflates with a 12-bit window. A small inflater measures it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use cow_engine::Compressor;
use qcow2_format::CompressionType;

const LENGTH_BASE: [usize; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
const LENGTH_EXTRA: [u32; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE: [usize; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA: [u32; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const CODE_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// An inflater that remembers the largest distance.
struct Inflater<'b> {
    bytes: &'b [u8],
    bit: usize,
    out: Vec<u8>,
    distance_max: usize,
}

/// A canonical Huffman code, by length.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|&length| counts[length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&s| lengths[s] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }
}

impl Inflater<'_> {
    fn bits(&mut self, count: u32) -> usize {
        (0..count).fold(0, |value, place| {
            let bit = self.bytes[self.bit / 8] >> (self.bit % 8) & 1;
            self.bit += 1;
            value | usize::from(bit) << place
        })
    }

    fn symbol(&mut self, code: &Code) -> usize {
        let (mut value, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            value |= self.bits(1);
            if value < first + count {
                return code.symbols[index + value - first];
            }
            index += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        unreachable!("a code that no length has")
    }

    fn run(mut self) -> (Vec<u8>, usize) {
        loop {
            let last = self.bits(1) == 1;
            match self.bits(2) {
                0 => self.stored(),
                1 => {
                    let lengths: Vec<usize> = (0..288)
                        .map(|symbol| match symbol {
                            0..144 => 8,
                            144..256 => 9,
                            256..280 => 7,
                            _ => 8,
                        })
                        .collect();
                    self.block(&Code::new(&lengths), &Code::new(&[5; 30]));
                }
                2 => self.dynamic(),
                kind => unreachable!("block type {kind}"),
            }
            if last {
                return (self.out, self.distance_max);
            }
        }
    }

    fn stored(&mut self) {
        let start = self.bit.div_ceil(8);
        let len = usize::from(u16::from_le_bytes([self.bytes[start], self.bytes[start + 1]]));
        self.out.extend_from_slice(&self.bytes[start + 4..start + 4 + len]);
        self.bit = (start + 4 + len) * 8;
    }

    fn dynamic(&mut self) {
        let (literals, distances) = (self.bits(5) + 257, self.bits(5) + 1);
        let codes = self.bits(4) + 4;
        let mut lengths = [0; 19];
        for &place in &CODE_ORDER[..codes] {
            lengths[place] = self.bits(3);
        }
        let code = Code::new(&lengths);
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            match self.symbol(&code) {
                16 => {
                    let previous = *lengths.last().unwrap();
                    let count = 3 + self.bits(2);
                    lengths.extend(std::iter::repeat_n(previous, count));
                }
                17 => {
                    let count = 3 + self.bits(3);
                    lengths.extend(std::iter::repeat_n(0, count));
                }
                18 => {
                    let count = 11 + self.bits(7);
                    lengths.extend(std::iter::repeat_n(0, count));
                }
                length => lengths.push(length),
            }
        }
        let (literals, distances) = lengths.split_at(literals);
        self.block(&Code::new(literals), &Code::new(distances));
    }

    fn block(&mut self, literals: &Code, distances: &Code) {
        loop {
            match self.symbol(literals) {
                256 => return,
                byte @ 0..256 => self.out.push(u8::try_from(byte).unwrap()),
                symbol => {
                    let length = LENGTH_BASE[symbol - 257] + self.bits(LENGTH_EXTRA[symbol - 257]);
                    let symbol = self.symbol(distances);
                    let distance = DISTANCE_BASE[symbol] + self.bits(DISTANCE_EXTRA[symbol]);
                    self.distance_max = self.distance_max.max(distance);
                    for _ in 0..length {
                        self.out.push(self.out[self.out.len() - distance]);
                    }
                }
            }
        }
    }
}

fn measure(cluster: &[u8], level: i32) -> Option<usize> {
    let deflate = CompressionType::Deflate;
    let bytes = cluster.len() as u64;
    let mut compressor = Compressor::with_level(deflate, bytes, Some(level)).unwrap();
    let blob = compressor.compress(cluster)?;
    let inflater = Inflater { bytes: blob, bit: 0, out: Vec::new(), distance_max: 0 };
    let (out, distance_max) = inflater.run();
    assert!(out == cluster, "the inflater of this test is right");
    Some(distance_max)
}

/// Bytes that repeat at a distance, so that a larger window would be used if there were one.
fn repeating(len: usize, period: usize, seed: u64) -> Vec<u8> {
    let mut block = vec![0; period];
    testkit::Rng::new(seed).fill(&mut block);
    block.iter().copied().cycle().take(len).collect()
}

#[test]
fn trap_35_no_match_reaches_further_back_than_4_kib() {
    let mut farthest = 0;
    for len in [4096, 65536, 2 << 20] {
        for period in [100, 1000, 3000, 3800, 4090, 4096, 5000, 9000, 30000] {
            let mut cluster = repeating(len, period, period as u64);
            // Some text-like parts, so that short matches at all distances exist.
            for (index, byte) in cluster.iter_mut().enumerate() {
                if index / 700 % 3 == 0 {
                    *byte = b"qcow2 cluster table "[index * 7 % 20];
                }
            }
            // The largest cluster at the default level only: this inflater is slow.
            for level in if len > 65536 { 6..=6 } else { 2..=9 } {
                if let Some(distance) = measure(&cluster, level) {
                    assert!(distance <= 4096, "{distance} in {len} bytes of period {period}");
                    farthest = farthest.max(distance);
                }
            }
        }
    }
    assert!(farthest > 2048, "the window is used: {farthest}");
}
