//! The image argument of a verb: a file name, `file:NAME`, `json:{...}` or `--image-opts`.

use std::ffi::OsStr;
use std::path::PathBuf;

use qimg::chain::Format;

use super::aio::wants_ring;
use super::size;
use super::tree::{self, Flat};
use crate::failure::Failure;

/// Reads a format name, as `-f` and `driver=` give it. `file` alone means plain bytes.
#[must_use]
pub fn format_named(name: &str) -> Option<Format> {
    if name == "file" { Some(Format::Raw) } else { name.parse().ok() }
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
    /// `l2-cache-size` among the image options, in bytes.
    pub l2_cache_bytes: Option<u64>,
    /// `refcount-cache-size` among the image options, in bytes.
    pub refcount_cache_bytes: Option<u64>,
}

/// Options of an image tree that mean something here.
const KNOWN: &str = "driver, file.driver, file.filename, file.locking, data-file.driver, \
                     data-file.filename, lazy-refcounts, l2-cache-size, refcount-cache-size, \
                     read-only, force-share, cache.direct, file.cache.direct, file.aio";

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
            Some(text) if image_opts => tree::from_list(text).and_then(|flat| from_tree(&flat)),
            Some(text) => from_name(text),
            None => Ok(Self::plain(PathBuf::from(name))),
        };
        let parsed = parsed.map_err(refuse)?;
        Ok(Self { name: shown.clone(), format: format.or(parsed.format), ..parsed })
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
            l2_cache_bytes: None,
            refcount_cache_bytes: None,
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
    format!("Unknown driver '{name}' (known are qcow2, raw and file)")
}

fn from_name(name: &str) -> Result<ImageArg, String> {
    if let Some(json) = name.strip_prefix("json:") {
        return from_tree(&tree::from_json(json)?);
    }
    match protocol(name) {
        None => Ok(ImageArg::plain(name.into())),
        Some("file") => Ok(ImageArg::plain(name["file:".len()..].into())),
        Some(other) => Err(format!(
            "Unknown protocol '{other}' (only local files are opened; write ./{name} if this is one)"
        )),
    }
}

/// The part before a colon that stands before any slash.
#[must_use]
pub fn protocol(name: &str) -> Option<&str> {
    let (before, _) = name.split_once(':')?;
    (!before.contains('/')).then_some(before)
}

fn from_tree(flat: &Flat) -> Result<ImageArg, String> {
    let mut image = ImageArg::plain(PathBuf::new());
    let mut bare = false; // driver=file without a format above it
    for (key, value) in flat {
        match key.as_str() {
            "driver" => {
                image.format = Some(known_format(value)?);
                bare = value == "file";
            }
            "file.driver" if value == "file" => {}
            "data-file.driver" if value == "file" => {}
            "file.driver" | "data-file.driver" => return Err(unknown_driver(value)),
            "data-file.filename" => image.data_file = Some(strip_file_protocol(value).into()),
            "lazy-refcounts" => image.lazy_refcounts = Some(switch(key, value)?),
            "l2-cache-size" => image.l2_cache_bytes = Some(bytes(key, value)?),
            "refcount-cache-size" => image.refcount_cache_bytes = Some(bytes(key, value)?),
            "file.filename" => image.path = strip_file_protocol(value).into(),
            "filename" if bare => image.path = strip_file_protocol(value).into(),
            "read-only" => image.read_only = switch(key, value)?,
            "force-share" => image.force_share = switch(key, value)?,
            "cache.direct" | "file.cache.direct" => image.direct = switch(key, value)?,
            "aio" if bare => image.ring = wants_ring(value)?,
            "file.aio" => image.ring = wants_ring(value)?,
            "file.locking" if value == "auto" => image.no_locks = false,
            "file.locking" => image.no_locks = !switch(key, value)?,
            _ if key == "backing" || key.starts_with("backing.") => {
                return Err(format!(
                    "image option '{key}' is not offered; the backing file is the one the image names"
                ));
            }
            _ => return Err(format!("image option '{key}' is not offered (known are {KNOWN})")),
        }
    }
    if image.path.as_os_str().is_empty() {
        return Err("the image options name no file (file.filename=PATH)".into());
    }
    Ok(image)
}

fn strip_file_protocol(name: &str) -> &str {
    name.strip_prefix("file:").unwrap_or(name)
}

fn bytes(key: &str, value: &str) -> Result<u64, String> {
    size::parse(value).map_err(|_| format!("Parameter '{key}' expects a size, such as 1M"))
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
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
            assert_eq!(ImageArg { name: plain.name.clone(), ..image }, plain);
        }
        assert_eq!(parse("file:a", None, false).unwrap().path.to_str(), Some("a"));
        assert_eq!(parse("./a:b", None, false).unwrap().path.to_str(), Some("./a:b"));
        assert!(parse("driver=file,filename=x", None, true).unwrap().format.is_some());
        assert!(parse("file.locking=off,file.filename=x", None, true).unwrap().no_locks);
        let caches = "file.filename=x,l2-cache-size=1M,refcount-cache-size=65536";
        let image = parse(caches, None, true).unwrap();
        assert_eq!(image.l2_cache_bytes, Some(1 << 20));
        assert_eq!(image.refcount_cache_bytes, Some(1 << 16));
        let refused = parse("file.filename=x,l2-cache-size=much", None, true).unwrap_err();
        assert!(refused.contains("'l2-cache-size' expects a size"), "{refused}");
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
            ("driver=qcow2,foo=bar,file.filename=a", None, true, "image option 'foo'"),
            ("driver=raw,file.driver=nbd,file.host=x", None, true, "Unknown driver 'nbd'"),
            ("driver=qcow2,backing.driver=raw", None, true, "image option 'backing.driver'"),
            ("driver=qcow2", None, true, "name no file"),
            ("foo", None, true, "image option 'foo' has no value"),
            ("json:{", None, false, "Could not parse the JSON options"),
            ("a=b", Some("raw"), true, "mutually exclusive"),
            ("filename=top.qcow2", None, true, "image option 'filename'"),
        ];
        for (name, format, image_opts, part) in table {
            let message = parse(name, format, image_opts).unwrap_err();
            assert!(message.contains(part), "{name}: {message}");
            assert!(!message.contains('\n'));
        }
    }
}
