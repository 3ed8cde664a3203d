//! The policy: what opening may do because an image says so.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use block_io::{Create, OpenOptions as FileOptions, Storage};
use chain::{Chain, Error, Format, Missing, OpenOptions, Policy, Repair};
use cow_engine::{BackingReference, CreateOptions};
use testkit::{Folder, Pattern, Qemu};

/// An overlay of 1 MiB that names `backing`, whether it is there or not.
fn overlay(folder: &Folder, name: &str, backing: &str, format: Option<&str>) -> PathBuf {
    let path = folder.path(name);
    let mut options = CreateOptions::new(1 << 20);
    let format = format.map(str::to_owned);
    options.backing = Some(BackingReference { name: backing.to_owned(), format });
    let storage = FileOptions::new().write(true).create(Create::New).open(&path).unwrap();
    cow_engine::create(&storage, &options).unwrap();
    path
}

fn qcow2() -> OpenOptions {
    OpenOptions::new().format(Format::Qcow2)
}

/// Why opening fails; the image must stay as it is.
#[track_caller]
fn refusal(path: &Path, options: &OpenOptions) -> Error {
    let before = std::fs::read(path).unwrap();
    let error = Chain::open(path, options).unwrap_err();
    assert!(std::fs::read(path).unwrap() == before, "refusing has changed the image");
    error
}

fn first_sector(path: &Path, options: &OpenOptions) -> [u8; 512] {
    let mut sector = [0xaa; 512];
    Chain::open(path, options).unwrap().read_at(0, &mut sector).unwrap();
    sector
}

/// CH-3, seen from below.
#[test]
fn ch_3_a_backing_file_without_a_format_is_refused() {
    let folder = Folder::new();
    folder.write("base.raw", &Pattern::new(1).bytes(0, 1 << 20));
    let top = overlay(&folder, "top.qcow2", "base.raw", None);
    let error = refusal(&top, &qcow2());
    assert!(
        matches!(&error, Error::Missing { what: Missing::BackingFormat, name: Some(name), .. }
            if name == "base.raw"),
        "{error}"
    );
    let text = format!(
        "'{}': header has no format for backing file 'base.raw' (allowed by OpenOptions::backing_format or Policy::probe)",
        top.display()
    );
    assert_eq!(error.to_string(), text);
    for options in [qcow2().backing_format(Format::Raw), qcow2().policy(Policy::new().probe(true))]
    {
        Pattern::new(1).assert_at(0, &first_sector(&top, &options));
    }
    assert_eq!(first_sector(&top, &qcow2().backing(false)), [0; 512]);
}

/// CH-3, seen from above.
#[test]
fn ch_3_a_top_without_a_format_is_refused() {
    let folder = Folder::new();
    folder.write("base.raw", &[7; 512]);
    let top = overlay(&folder, "top.qcow2", "base.raw", Some("raw"));
    let error = refusal(&top, &OpenOptions::new());
    assert!(matches!(error, Error::Missing { what: Missing::TopFormat, .. }), "{error}");
    let probing = OpenOptions::new().policy(Policy::new().probe(true));
    assert_eq!(first_sector(&top, &probing), [7; 512]);
    let base = Chain::open(&folder.path("base.raw"), &probing).unwrap();
    assert_eq!(base.top().format(), Format::Raw);
}

/// CH-3: a guest that writes a qcow2 header into its raw disk does not get another file read.
#[test]
fn ch_3_raw_content_that_looks_like_qcow2_stays_raw() {
    let folder = Folder::new();
    folder.write("secret", &[0x5e; 4096]);
    let trap = overlay(&folder, "trap.raw", "secret", Some("raw"));
    let bytes = std::fs::read(&trap).unwrap();
    let top = overlay(&folder, "top.qcow2", "trap.raw", Some("raw"));
    let chain = Chain::open(&top, &qcow2()).unwrap();
    assert_eq!(chain.depth(), 2);
    let mut found = vec![0; bytes.len()];
    chain.read_at(0, &mut found).unwrap();
    assert!(found == bytes, "the bytes of the file themselves");
    drop(chain);
    // The same where the caller says the format, and for the top itself.
    let unsaid = overlay(&folder, "unsaid.qcow2", "trap.raw", None);
    let chain = Chain::open(&unsaid, &qcow2().backing_format(Format::Raw)).unwrap();
    assert_eq!(chain.depth(), 2);
    drop(chain);
    let raw = Chain::open(&trap, &OpenOptions::new().format(Format::Raw)).unwrap();
    assert_eq!((raw.depth(), raw.virtual_size()), (1, bytes.len().next_multiple_of(512) as u64));
    drop(raw);
    // Who allows probing is told what the file claims to be.
    assert_eq!(first_sector(&unsaid, &qcow2().policy(Policy::new().probe(true))), [0x5e; 512]);
}

/// The real tool fills short files up with zeros before it guesses, and so takes them for qcow2.
#[test]
fn a_short_file_with_the_magic_is_guessed_as_qcow2() {
    let folder = Folder::new();
    folder.write("short", b"QFI\xfb\0\0\0\x03");
    let probing = OpenOptions::new().policy(Policy::new().probe(true));
    let error = refusal(&folder.path("short"), &probing);
    assert!(matches!(error, Error::Image { .. }), "{error}");
}

/// The header's format wins over what the caller says about formats that are missing.
#[test]
fn a_format_in_the_header_is_not_overridden() {
    let folder = Folder::new();
    folder.write("base.raw", &[7; 512]);
    let top = overlay(&folder, "top.qcow2", "base.raw", Some("raw"));
    assert_eq!(first_sector(&top, &qcow2().backing_format(Format::Qcow2)), [7; 512]);
    let odd = overlay(&folder, "odd.qcow2", "base.raw", Some("vmdk"));
    let error = refusal(&odd, &qcow2().backing_format(Format::Raw));
    assert!(
        error.to_string().ends_with("format 'vmdk' is not supported, supported are raw and qcow2"),
        "{error}"
    );
}

#[test]
fn names_that_are_not_local_files_are_refused() {
    let folder = Folder::new();
    let cases = [
        ("json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "json"),
        ("nbd://localhost/disk", "nbd"),
        ("raw:base.raw", "raw"),
        ("a:b.raw", "a"),
        (":x", ""),
    ];
    for (number, (name, expected)) in cases.into_iter().enumerate() {
        let top = overlay(&folder, &format!("top-{number}"), name, Some("raw"));
        let error = refusal(&top, &qcow2().policy(Policy::new().probe(true)));
        let Error::Protocol { protocol, name: found, .. } = &error else { panic!("{error}") };
        assert_eq!((protocol.as_str(), found.as_str()), (expected, name));
        assert!(error.to_string().contains("allowed are local files"), "{error}");
    }
}

#[test]
fn only_allowed_folders_are_entered() {
    let (folder, outside) = (Folder::new(), Folder::new());
    std::fs::create_dir(folder.path("allowed")).unwrap();
    std::fs::create_dir(folder.path("allowed-not")).unwrap();
    folder.write("allowed/base.raw", &[1; 512]);
    folder.write("allowed-not/base.raw", &[2; 512]);
    let secret = outside.write("secret.raw", &[3; 512]);
    std::os::unix::fs::symlink(&secret, folder.path("allowed/link.raw")).unwrap();
    std::os::unix::fs::symlink(outside.root(), folder.path("allowed/door")).unwrap();
    std::os::unix::fs::symlink("base.raw", folder.path("allowed/inner.raw")).unwrap();
    let gated = qcow2().policy(Policy::new().allow_directory(folder.path("allowed")));
    for (name, fill) in [
        ("allowed/base.raw", Some(1)),
        ("allowed/../allowed/inner.raw", Some(1)),
        ("allowed-not/base.raw", None),
        ("allowed/../allowed-not/base.raw", None),
        ("allowed/link.raw", None),
        ("allowed/door/secret.raw", None),
        (secret.to_str().unwrap(), None),
    ] {
        let top = overlay(&folder, "top.qcow2", name, Some("raw"));
        match fill {
            Some(fill) => assert_eq!(first_sector(&top, &gated), [fill; 512], "{name}"),
            None => {
                let error = refusal(&top, &gated);
                assert!(matches!(error, Error::Forbidden { .. }), "{name}: {error}");
                assert!(error.to_string().contains("lies outside the allowed folders"));
                first_sector(&top, &qcow2());
            }
        }
        std::fs::remove_file(&top).unwrap();
    }
    // Several folders may be allowed.
    let both = Policy::new()
        .allow_directory(folder.path("allowed"))
        .allow_directory(outside.root().to_owned());
    let top = overlay(&folder, "both.qcow2", "allowed/link.raw", Some("raw"));
    assert_eq!(first_sector(&top, &qcow2().policy(both)), [3; 512]);
}

/// What is missing in an allowed folder is missing, not forbidden; elsewhere nothing is told.
#[test]
fn a_missing_file_in_an_allowed_folder_is_called_missing() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("allowed")).unwrap();
    let gated = qcow2().policy(Policy::new().allow_directory(folder.path("allowed")));
    let top = overlay(&folder, "top.qcow2", "allowed/gone.raw", Some("raw"));
    let error = refusal(&top, &gated);
    assert!(matches!(error, Error::Backing { .. }), "{error}");
    let other = overlay(&folder, "other.qcow2", "gone.raw", Some("raw"));
    assert!(matches!(refusal(&other, &gated), Error::Forbidden { .. }));
}

#[test]
fn a_missing_backing_file_is_named_with_its_overlay() {
    let folder = Folder::new();
    let top = overlay(&folder, "top.qcow2", "gone.raw", Some("raw"));
    let error = refusal(&top, &qcow2());
    let base = folder.path("gone.raw");
    let start = format!("backing file '{}' of '{}': ", base.display(), top.display());
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    assert_eq!(error.raw_os_error(), Some(2));
}

/// Opening a pipe for reading waits for a writer, unless one is careful.
#[test]
fn what_is_not_a_file_is_refused_at_once() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("folder")).unwrap();
    let made = testkit::run(Path::new("mkfifo"), [folder.path("pipe")]);
    made.success();
    for name in ["pipe", "folder", "/dev/zero"] {
        let top = overlay(&folder, "top.qcow2", name, Some("raw"));
        let begun = Instant::now();
        let error = refusal(&top, &qcow2());
        assert!(matches!(error, Error::Backing { .. }), "{name}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{name}");
        std::fs::remove_file(&top).unwrap();
    }
}

/// CH-1: the depth is bounded.
#[test]
fn ch_1_a_chain_deeper_than_allowed_is_refused() {
    let folder = Folder::new();
    folder.write("0", &[7; 512]);
    for layer in 1..5 {
        let format = if layer == 1 { "raw" } else { "qcow2" };
        overlay(&folder, &layer.to_string(), &(layer - 1).to_string(), Some(format));
    }
    let limited = |layers| qcow2().policy(Policy::new().depth_max(layers));
    assert_eq!(first_sector(&folder.path("4"), &limited(5)), [7; 512]);
    let error = refusal(&folder.path("4"), &limited(4));
    assert!(matches!(error, Error::TooDeep { allowed: 4, .. }), "{error}");
    let text = format!(
        "'{}': chain has more than 4 layers (allowed by Policy::depth_max)",
        folder.path("1").display()
    );
    assert_eq!(error.to_string(), text);
    assert!(matches!(refusal(&folder.path("1"), &limited(1)), Error::TooDeep { .. }));
}

/// CH-1: no file occurs twice, by whatever name.
#[test]
fn ch_1_loops_are_found_by_what_the_files_are() {
    let folder = Folder::new();
    let itself = overlay(&folder, "self", "self", Some("qcow2"));
    let error = refusal(&itself, &qcow2());
    let text =
        format!("'{0}': backing file '{0}' is already in the chain above it", itself.display());
    assert_eq!(error.to_string(), text);

    overlay(&folder, "a", "b", Some("qcow2"));
    let b = overlay(&folder, "b", "a", Some("qcow2"));
    assert!(matches!(refusal(&b, &qcow2()), Error::Loop { .. }));

    let c = overlay(&folder, "c", "soft", Some("qcow2"));
    std::os::unix::fs::symlink("c", folder.path("soft")).unwrap();
    assert!(matches!(refusal(&c, &qcow2()), Error::Loop { .. }));

    let d = overlay(&folder, "d", "hard", Some("qcow2"));
    std::fs::hard_link(&d, folder.path("hard")).unwrap();
    assert!(matches!(refusal(&d, &qcow2().read_only(true)), Error::Loop { .. }));

    // Taken as raw, the same file is a loop all the same: it would change under its own overlay.
    let e = overlay(&folder, "e", "e", Some("raw"));
    assert!(matches!(refusal(&e, &qcow2()), Error::Loop { .. }));
}

/// Autoclear bits are cleared by writers, but only once everything else has succeeded.
#[test]
fn a_failed_open_clears_no_autoclear_bit() {
    let folder = Folder::new();
    let top = overlay(&folder, "top.qcow2", "base.raw", Some("raw"));
    let mut bytes = std::fs::read(&top).unwrap();
    bytes[94] = 2; // autoclear bit 9, unknown
    std::fs::write(&top, &bytes).unwrap();
    refusal(&top, &qcow2());
    folder.write("base.raw", &[7; 512]);
    Chain::open(&top, &qcow2().read_only(true)).unwrap();
    assert_eq!(std::fs::read(&top).unwrap()[94], 2);
    Chain::open(&top, &qcow2()).unwrap().close().unwrap();
    assert_eq!(std::fs::read(&top).unwrap()[94], 0);
    Qemu::check(&top);
}

/// A file that cannot be opened at all names itself.
#[test]
fn a_missing_top_is_named() {
    let error = Chain::open(Path::new("no-such-image"), &qcow2()).unwrap_err();
    assert!(error.to_string().contains("no-such-image"), "{error}");
    assert_eq!(error.raw_os_error(), Some(2));
}

/// Layers below a healthy top may be damaged; the message names the damaged one.
#[test]
fn a_damaged_layer_is_named() {
    let folder = Folder::new();
    let base = folder.write("base.qcow2", &[0; 1024]);
    let top = overlay(&folder, "top.qcow2", "base.qcow2", Some("qcow2"));
    let error = refusal(&top, &qcow2());
    assert!(matches!(&error, Error::Image { layer, .. } if *layer == base), "{error}");
    let storage = FileOptions::new().open(&base).unwrap();
    assert_eq!(storage.len().unwrap(), 1024);
}

#[test]
fn an_image_that_was_not_closed_is_only_repaired_when_nothing_else_is_missing() {
    let folder = Folder::new();
    let top = overlay(&folder, "top.qcow2", "base.raw", Some("raw"));
    let mut bytes = std::fs::read(&top).unwrap();
    bytes[79] |= 1;
    folder.write("top.qcow2", &bytes);
    let repair = Repair::new(|storage| Ok(storage.write_at(72, &[0; 8])?));
    let options = qcow2().repair_dirty(repair);
    let error = refusal(&top, &options);
    assert!(matches!(error, Error::Backing { .. }), "{error}");
    folder.write("base.raw", &Pattern::new(1).bytes(0, 1 << 20));
    Pattern::new(1).assert_at(0, &first_sector(&top, &options));
    assert_eq!(std::fs::read(&top).unwrap()[79] & 1, 0);
}

#[test]
fn an_image_that_is_refused_for_another_reason_is_not_repaired() {
    let folder = Folder::new();
    let path = folder.path("top.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", image, "1M"]).success();
    Qemu::img(["bitmap", "--add", image, "kept"]).success();
    let with_bitmap = std::fs::read(&path).unwrap();
    let mut corrupt = with_bitmap.clone();
    corrupt[79] |= 2;
    for (number, mut bytes) in [with_bitmap, corrupt].into_iter().enumerate() {
        bytes[79] |= 1;
        folder.write("top.qcow2", &bytes);
        let repair = Repair::new(|_| panic!("nobody asked for this"));
        let error = refusal(&path, &qcow2().repair_dirty(repair));
        let Error::Image { source, .. } = &error else { panic!("{error}") };
        let expected = match source {
            cow_engine::Error::Unsupported { .. } => number == 0,
            cow_engine::Error::MarkedCorrupt => number == 1,
            _ => false,
        };
        assert!(expected, "{error}");
        assert!(std::fs::read(&path).unwrap() == bytes, "the file has changed");
    }
}
