//! The allow-tables: one row per crate of the house, one per budget.

/// What one crate may depend on at run time or build time.
#[derive(Debug)]
pub(super) struct Crate {
    /// Package name, as `cargo metadata` says it.
    pub(super) package: &'static str,
    /// Whether it goes to the registry. Development crates do not, and nothing needs them.
    pub(super) published: bool,
    /// Crates of the house, by package name: the arrows.
    pub(super) house: &'static [&'static str],
    /// Crates from outside, optional ones included.
    pub(super) outside: &'static [&'static str],
}

pub(super) const CRATES: &[Crate] = &[
    Crate {
        package: "qcow2-format",
        published: true,
        house: &[],
        outside: &["static_assertions", "zerocopy"],
    },
    Crate {
        package: "block-io",
        published: true,
        house: &[],
        outside: &["io-uring", "libc", "rustix"],
    },
    Crate {
        package: "cluster-map",
        published: true,
        house: &["qcow2-format"],
        outside: &["smallvec", "static_assertions"],
    },
    Crate {
        package: "refcount",
        published: true,
        house: &["qcow2-format"],
        outside: &["static_assertions"],
    },
    Crate {
        package: "cow-engine",
        published: true,
        house: &["qcow2-format", "cluster-map", "refcount", "block-io"],
        outside: &["crossbeam-utils", "flate2", "smallvec", "static_assertions", "zstd"],
    },
    Crate {
        package: "qcow2-chain",
        published: true,
        // Geometry and header fields only: entries and plans stay inside the engine.
        house: &["qcow2-format", "cow-engine", "block-io"],
        outside: &["crossbeam-channel", "xxhash-rust"],
    },
    Crate {
        package: "qimg",
        published: true,
        // The facade re-exports the house and runs whole-image operations over all of it.
        house: &[
            "qcow2-format",
            "block-io",
            "cluster-map",
            "refcount",
            "cow-engine",
            "qcow2-chain",
        ],
        outside: &["blake3", "crossbeam-channel", "rayon"],
    },
    Crate {
        package: "qimg-tools",
        published: true,
        house: &["qimg"],
        outside: &["clap", "indicatif", "serde", "serde_json", "signal-hook", "tempfile", "toml"],
    },
    // What is written about the programs, from their own help: nothing of it goes into them.
    Crate {
        package: "qimg-pages",
        published: false,
        house: &["qimg-tools", "testkit"],
        outside: &["clap", "clap_complete", "clap_mangen"],
    },
    Crate {
        package: "testkit",
        published: false,
        house: &["block-io", "qcow2-format"],
        outside: &["serde_json", "tempfile"],
    },
    // What fuzz targets do, for them and for a stable replay: through the facade, as users do.
    Crate { package: "fuzz-cases", published: false, house: &["qimg"], outside: &[] },
    Crate { package: "xtask", published: false, house: &[], outside: &["serde_json"] },
];

/// How many crates a user of one package may have to build, the package itself, build
/// scripts and macros included, default features.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) package: &'static str,
    pub(super) crates: usize,
}

pub(super) const BUDGETS: &[Budget] =
    &[Budget { package: "qcow2-format", crates: 8 }, Budget { package: "qimg", crates: 40 }];
