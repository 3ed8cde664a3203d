//! Chains whose files do not come from paths of this host: handed in by the caller, or by a handler of
//! names with a protocol.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_io::{GivenFiles, MemoryStorage, Storage};
use chain::{Chain, Error, Format, Handled, HandlerError, NameHandler, OpenOptions};
use cow_engine::{BackingReference, CreateOptions, create};

const SIZE: u64 = 1 << 20;

fn overlay(name: &str, format: Option<&str>) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    let format = format.map(str::to_owned);
    let backing = Some(BackingReference { name: name.to_owned(), format });
    create(&storage, &CreateOptions { backing, ..CreateOptions::new(SIZE) }).unwrap();
    Arc::new(storage)
}

fn base() -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    storage.write_at(0, &[7; 4096]).unwrap();
    storage.set_len(SIZE).unwrap();
    Arc::new(storage)
}

#[test]
fn only_files_that_were_handed_in_are_opened() {
    let files = GivenFiles::new()
        .with("disks/top", overlay("base", Some("raw")))
        .with("disks/base", base());
    let options = OpenOptions::new().format(Format::Qcow2);
    let chain = Chain::open(Path::new("disks/top"), &options.clone().files(Arc::new(files)));
    let chain = chain.unwrap();
    let mut first = [0; 2];
    chain.read_at(4095, &mut first).unwrap();
    assert_eq!(first, [7, 0]);

    let files = GivenFiles::new().with("top", overlay("/etc/passwd", Some("raw")));
    let refused = Chain::open(Path::new("top"), &options.files(Arc::new(files))).unwrap_err();
    assert!(matches!(refused, Error::Backing { .. }), "{refused}");
}

/// Knows one name.
#[derive(Debug)]
struct Server(Arc<MemoryStorage>);

impl NameHandler for Server {
    fn open(&self, overlay: &Path, name: &str) -> Option<Result<Handled, HandlerError>> {
        assert_eq!(overlay, Path::new("top"));
        match name {
            "nbd://server/disk" => Some(Ok(Handled {
                path: PathBuf::from(name),
                storage: Arc::clone(&self.0) as Arc<dyn Storage>,
                format: Some(Format::Raw),
            })),
            "nbd://server/gone" => Some(Err(Arc::new(std::io::Error::other("no such export")))),
            _ => None,
        }
    }
}

fn opened(name: &str, handler: bool) -> Result<Chain, Error> {
    let files = GivenFiles::new().with("top", overlay(name, None));
    let mut options = OpenOptions::new().format(Format::Qcow2).files(Arc::new(files));
    if handler {
        options = options.handler(Arc::new(Server(base())));
    }
    Chain::open(Path::new("top"), &options)
}

#[test]
fn a_handler_opens_the_names_it_knows() {
    let chain = opened("nbd://server/disk", true).unwrap();
    assert_eq!(chain.layers().nth(1).unwrap().path(), Path::new("nbd://server/disk"));
    let mut first = [0];
    chain.read_at(0, &mut first).unwrap();
    assert_eq!(first, [7]);

    let text = |name, handler| opened(name, handler).unwrap_err().to_string();
    assert_eq!(
        text("nbd://server/gone", true),
        "'top': backing file 'nbd://server/gone': no such export"
    );
    let refused = "'top': backing file 'json:{}' uses protocol 'json', allowed are local files \
                   (allowed by OpenOptions::handler)";
    assert_eq!(text("json:{}", true), refused);
    assert_eq!(text("json:{}", false), refused);
}

#[test]
fn refusals_name_the_call_that_allows_them_only_where_there_is_one() {
    let refused = opened("nbd://server/disk", false).unwrap_err();
    assert_eq!(refused.allowed_by(), Some("OpenOptions::handler"));
    assert!(format!("{refused}").ends_with("(allowed by OpenOptions::handler)"));
    assert!(format!("{refused:#}").ends_with("allowed are local files"));
    assert_eq!(Error::ReadOnly.allowed_by(), None);
}
