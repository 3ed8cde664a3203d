//! The image argument of a verb: a file name, `file:NAME`, `json:{...}` or `--image-opts`.

use std::ffi::OsStr;
use std::path::PathBuf;

use qimg::chain::Format;

use super::aio::wants_ring;
use super::runtime::Runtime;
use super::tree::{self, Flat};
use crate::called::advice;
use crate::failure::Failure;

/// Reads a format name, as `-f` and `driver=` give it. `file` alone means plain bytes.
#[must_use]
pub fn format_named(name: &str) -> Option<Format> {
    if name == "file" { Some(Format::Raw) } else { name.parse().ok() }
}

/// Formats of QEMU that are not opened here.
const FOREIGN: [&str; 13] = [
    "blkdebug",
    "bochs",
    "cloop",
    "dmg",
    "luks",
    "nbd",
    "parallels",
    "qcow",
    "qed",
    "vdi",
    "vhdx",
    "vmdk",
    "vpc",
];

/// Reads the format of a new image or of one that is to change.
///
/// # Errors
/// A name nobody knows, or, in the words of `foreign`, one that only QEMU can handle.
pub fn format_known(name: &str, foreign: impl Fn(&str) -> String) -> Result<Format, Failure> {
    format_named(name).ok_or_else(|| {
        Failure::new(match FOREIGN.contains(&name) {
            true => foreign(name),
            false => format!("Unknown file format '{name}'"),
        })
    })
}

/// An image the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArg {
    /// The argument as given, for messages.
    pub name: String,
    /// The local file.
    pub path: PathBuf,
    /// The format, if the user gave one.
    pub format: Option<Format>,
    /// `read-only=on` among the image options.
    pub read_only: bool,
    /// `file.locking=off` among the image options.
    pub no_locks: bool,
    /// `force-share=on` among the image options.
    pub force_share: bool,
    /// `data-file.filename` among the image options: the external data file.
    pub data_file: Option<PathBuf>,
    /// `lazy-refcounts` among the image options.
    pub lazy_refcounts: Option<bool>,
    /// `cache.direct=on` among the image options.
    pub direct: bool,
    /// `file.aio=io_uring` among the image options.
    pub ring: bool,
    /// How it is worked with while it is open.
    pub runtime: Runtime,
    /// The image options as given.
    pub given: Flat,
}

/// Options of the host file that change nothing here.
const HARMLESS_OF_FILE: [&str; 5] =
    ["drop-cache", "x-check-cache-dropped", "aio-max-batch", "node-name", "auto-read-only"];

impl ImageArg {
    /// Reads an image argument. `format` is the value of `-f`, `image_opts` says that the
    /// argument is a list of options.
    ///
    /// # Errors
    /// An unknown format, a protocol or option that is not offered, options without a file.
    pub fn parse(name: &OsStr, format: Option<&str>, image_opts: bool) -> Result<Self, Failure> {
        let shown = name.to_string_lossy().into_owned();
        let refuse = |reason: String| Failure::new(format!("Could not open '{shown}': {reason}"));
        if image_opts && format.is_some() {
            return Err(Failure::new("--image-opts and --format are mutually exclusive"));
        }
        let format = format.map(known_format).transpose().map_err(refuse)?;
        let parsed = match name.to_str() {
            Some(text) if image_opts => {
                tree::from_list(text).and_then(|flat| from_tree(None, format, flat))
            }
            Some(text) => from_name(text, format),
            None => Ok(Self::plain(PathBuf::from(name))),
        };
        let parsed = parsed.map_err(refuse)?;
        Ok(Self { name: shown.clone(), format: format.or(parsed.format), ..parsed })
    }

    /// An image by options alone.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn from_options(given: Flat) -> Result<Self, String> {
        from_tree(None, None, given)
    }

    /// A file by its name, with image options beside it.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn with_options(name: &OsStr, format: Option<Format>, given: Flat) -> Result<Self, String> {
        let shown = name.to_string_lossy().into_owned();
        let file = match name.to_str() {
            Some(text) => from_name(text, format)?,
            None => Self::plain(PathBuf::from(name)),
        };
        let all = file.given.into_iter().chain(given).collect();
        Ok(Self { name: shown, ..from_tree(Some(file.path), format, all)? })
    }

    /// The same image with other options. Those of before that say what it is still hold; those
    /// that say how it is worked with are back at their defaults where nothing else is said.
    ///
    /// # Errors
    /// An option that cannot change while the image is open, or a value that is none of its values.
    pub fn changed(&self, options: Flat) -> Result<Self, String> {
        let changeable = |key: &str| {
            let runtime = Runtime::default().take(key, "on") != Ok(false);
            runtime || ["lazy-refcounts", "cache.direct", "read-only"].contains(&key)
        };
        if let Some((key, _)) = options.iter().find(|(key, _)| !changeable(key)) {
            let key = key.strip_prefix("file.").unwrap_or(key);
            return Err(format!("Cannot change the option '{key}'"));
        }
        let stays = |(key, _): &&(String, String)| {
            key != "lazy-refcounts" && Runtime::default().take(key, "on") == Ok(false)
        };
        let all = self.given.iter().filter(stays).cloned().chain(options).collect();
        let changed = from_tree(Some(self.path.clone()), self.format, all)?;
        Ok(Self { name: self.name.clone(), ..changed })
    }

    /// A local file, whatever its name looks like.
    #[must_use]
    pub fn local(path: PathBuf, format: Option<Format>) -> Self {
        let name = path.to_string_lossy().into_owned();
        Self {
            name,
            path,
            format,
            read_only: false,
            no_locks: false,
            force_share: false,
            data_file: None,
            lazy_refcounts: None,
            direct: false,
            ring: false,
            runtime: Runtime::default(),
            given: Flat::new(),
        }
    }

    fn plain(path: PathBuf) -> Self {
        Self::local(path, None)
    }
}

fn known_format(name: &str) -> Result<Format, String> {
    format_named(name).ok_or_else(|| unknown_driver(name))
}

fn unknown_driver(name: &str) -> String {
    format!("Unknown driver '{name}'{}", advice(" (known are qcow2, raw and file)"))
}

fn from_name(name: &str, format: Option<Format>) -> Result<ImageArg, String> {
    if let Some(json) = name.strip_prefix("json:") {
        return from_tree(None, format, tree::from_json(json)?);
    }
    match protocol(name) {
        None => Ok(ImageArg::plain(name.into())),
        Some("file") => Ok(ImageArg::plain(name["file:".len()..].into())),
        Some(other) => Err(format!(
            "Unknown protocol '{other}'{}",
            advice(&format!(" (only local files are opened; write ./{name} if this is one)"))
        )),
    }
}

/// The part before a colon that stands before any slash.
#[must_use]
pub fn protocol(name: &str) -> Option<&str> {
    let (before, _) = name.split_once(':')?;
    (!before.contains('/')).then_some(before)
}

/// Reads options. `path` is the file where a name stands beside them, `format` what is known of it.
fn from_tree(
    path: Option<PathBuf>,
    format: Option<Format>,
    given: Flat,
) -> Result<ImageArg, String> {
    let mut image = ImageArg::plain(path.unwrap_or_default());
    image.format = format;
    let flat = tree::without_passthrough(given.clone())?;
    // driver=file without a format above it
    let bare = flat.iter().any(|(key, value)| key == "driver" && value == "file");
    for (key, value) in &flat {
        match key.as_str() {
            "driver" => image.format = Some(known_format(value)?),
            "file.driver" | "data-file.driver" if value == "file" => {}
            "file.driver" | "data-file.driver" => return Err(unknown_driver(value)),
            "data-file.filename" => image.data_file = Some(strip_file_protocol(value).into()),
            "file.filename" => image.path = strip_file_protocol(value).into(),
            "filename" if bare => image.path = strip_file_protocol(value).into(),
            "lazy-refcounts" => image.lazy_refcounts = Some(switch(key, value)?),
            "read-only" => image.read_only = switch(key, value)?,
            "force-share" => image.force_share = switch(key, value)?,
            "cache.direct" => image.direct = switch(key, value)?,
            "node-name" => {}
            "auto-read-only" => {
                switch(key, value)?;
            }
            _ if image.runtime.take(key, value)? => {}
            _ if take_of_file(&mut image, key, value, bare)? => {}
            _ => return Err(unknown_option(&image, key)),
        }
    }
    image.runtime.check()?;
    if image.path.as_os_str().is_empty() {
        return Err("the image options name no file (file.filename=PATH)".into());
    }
    image.given = given;
    Ok(image)
}

/// Takes an option of the host file below the format, or, if there is no format, of the image.
fn take_of_file(image: &mut ImageArg, key: &str, value: &str, bare: bool) -> Result<bool, String> {
    let Some(name) = key.strip_prefix("file.").or_else(|| bare.then_some(key)) else {
        return Ok(false);
    };
    match name {
        "aio" => image.ring = wants_ring(value)?,
        "cache.direct" => image.direct = switch(key, value)?,
        "cache.no-flush" => image.runtime.no_flush = switch(key, value)?,
        "locking" if value == "auto" => image.no_locks = false,
        "locking" => image.no_locks = !switch(key, value)?,
        "read-only" => image.read_only = switch(key, value)?,
        "discard" => {} // what the format gives up is always given back
        _ => return Ok(HARMLESS_OF_FILE.contains(&name)),
    }
    Ok(true)
}

fn unknown_option(image: &ImageArg, key: &str) -> String {
    if key == "backing" || key.starts_with("backing.") {
        return format!(
            "image option '{key}' is not offered; the backing file is the one the image names"
        );
    }
    if key.starts_with("encrypt.") {
        return format!("image option '{key}' is not offered: encrypted images are not opened");
    }
    match key.strip_prefix("file.") {
        Some(name) => format!("Block protocol 'file' doesn't support the option '{name}'"),
        None => {
            let format = image.format.unwrap_or(Format::Qcow2);
            format!("Block format '{format}' does not support the option '{key}'")
        }
    }
}

fn strip_file_protocol(name: &str) -> &str {
    name.strip_prefix("file:").unwrap_or(name)
}

/// Reads `on` or `off`.
///
/// # Errors
/// Anything else, with the option named.
pub(super) fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("Parameter '{key}' expects 'on' or 'off'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, format: Option<&str>, image_opts: bool) -> Result<ImageArg, String> {
        ImageArg::parse(OsStr::new(name), format, image_opts).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_trees_meet_in_one_shape() {
        let plain = parse("a.qcow2", Some("qcow2"), false).unwrap();
        assert_eq!((plain.path.to_str(), plain.format), (Some("a.qcow2"), Some(Format::Qcow2)));
        for (name, image_opts) in [
            ("driver=qcow2,file.driver=file,file.filename=a.qcow2", true),
            (r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}"#, false),
        ] {
            let image = parse(name, None, image_opts).unwrap();
            let same = ImageArg { name: plain.name.clone(), given: Flat::new(), ..image };
            assert_eq!(same, plain);
        }
        assert_eq!(parse("file:a", None, false).unwrap().path.to_str(), Some("a"));
        assert_eq!(parse("./a:b", None, false).unwrap().path.to_str(), Some("./a:b"));
        assert!(parse("driver=file,filename=x", None, true).unwrap().format.is_some());
        assert!(parse("file.locking=off,file.filename=x", None, true).unwrap().no_locks);
        let caches = "file.filename=x,l2-cache-size=1M,refcount-cache-size=65536";
        let image = parse(caches, None, true).unwrap();
        assert_eq!(image.runtime.l2_cache_bytes(), Some(1 << 20));
        assert_eq!(image.runtime.refcount_cache_bytes(), Some(1 << 16));
        let refused = parse("file.filename=x,l2-cache-size=much", None, true).unwrap_err();
        assert!(refused.contains("'l2-cache-size' expects"), "{refused}");
        let data = "file.filename=x,data-file.driver=file,data-file.filename=y,lazy-refcounts=on";
        let image = parse(data, None, true).unwrap();
        assert_eq!(image.data_file, Some(PathBuf::from("y")));
        assert_eq!(image.lazy_refcounts, Some(true));
        for key in ["cache.direct", "file.cache.direct"] {
            let named = format!("file.filename=x,file.aio=threads,{key}=on");
            let image = parse(&named, None, true).unwrap();
            assert!(image.direct && !image.ring, "{key}");
        }
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let table = [
            ("nbd://h/x", None, false, "Unknown protocol 'nbd'"),
            ("a", Some("vmdk"), false, "Unknown driver 'vmdk'"),
            ("driver=qcow2,foo=bar,file.filename=a", None, true, "support the option 'foo'"),
            ("driver=raw,file.driver=nbd,file.host=x", None, true, "Unknown driver 'nbd'"),
            ("driver=qcow2,backing.driver=raw", None, true, "image option 'backing.driver'"),
            ("driver=qcow2", None, true, "name no file"),
            ("foo", None, true, "image option 'foo' has no value"),
            ("json:{", None, false, "Could not parse the JSON options"),
            ("a=b", Some("raw"), true, "mutually exclusive"),
            ("filename=top.qcow2", None, true, "support the option 'filename'"),
        ];
        for (name, format, image_opts, part) in table {
            let message = parse(name, format, image_opts).unwrap_err();
            assert!(message.contains(part), "{name}: {message}");
            assert!(!message.contains('\n'));
        }
    }
}
