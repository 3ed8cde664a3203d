//! Power cuts while overlays are made: whichever names a cut leaves, behind each is a whole overlay,
//! and no name that was there before leads anywhere else.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use qimg::chain::{Chain, Format, OpenOptions, Overlays};
use qimg::io::{Error, Files, GivenFiles, MemoryStorage, Result, Storage};
use testkit::{CrashStorage, Fate};

type Names = BTreeMap<PathBuf, Arc<CrashStorage>>;
/// Names, each with its file and how many events that had then.
type Moment = Vec<(PathBuf, Arc<CrashStorage>, usize)>;

/// A folder in memory that remembers every change of its names, and how far each file was then.
#[derive(Debug, Default)]
struct CrashFolder {
    names: Mutex<Names>,
    /// The names after each change.
    moments: Mutex<Vec<Moment>>,
    /// Names that nobody else may have by the time they are wanted.
    taken: Option<PathBuf>,
}

impl CrashFolder {
    fn with(name: &str, content: MemoryStorage) -> Self {
        let folder = Self::default();
        let file = Arc::new(CrashStorage::on(content));
        folder.names.lock().unwrap().insert(name.into(), file);
        folder
    }

    fn note(&self, names: &Names) {
        let moment =
            names.iter().map(|(path, file)| (path.clone(), Arc::clone(file), file.position()));
        self.moments.lock().unwrap().push(moment.collect());
    }

    /// What a power cut right after each change of names leaves: only what was made durable.
    fn cuts(&self) -> Vec<BTreeMap<PathBuf, MemoryStorage>> {
        let durable = |(path, file, position): &(PathBuf, Arc<CrashStorage>, usize)| {
            let log = file.log();
            let epoch = log.at(*position);
            let nothing = epoch.state(vec![Fate::Dropped; epoch.pending().len()]);
            (path.clone(), epoch.materialise(&nothing))
        };
        let moments = self.moments.lock().unwrap();
        moments.iter().map(|moment| moment.iter().map(durable).collect()).collect()
    }
}

fn refuse<T>(path: &Path, kind: io::ErrorKind) -> Result<T> {
    Err(Error::open(path, kind.into()))
}

impl Files for CrashFolder {
    fn open(&self, path: &Path, options: &qimg::io::OpenOptions) -> Result<Arc<dyn Storage>> {
        let mut names = self.names.lock().unwrap();
        match names.get(path) {
            Some(_) if options.wants_new() => refuse(path, io::ErrorKind::AlreadyExists),
            Some(file) => Ok(Arc::clone(file) as Arc<dyn Storage>),
            None if options.may_create() => {
                let file = Arc::new(CrashStorage::new());
                names.insert(path.to_owned(), Arc::clone(&file));
                self.note(&names);
                Ok(file)
            }
            None => refuse(path, io::ErrorKind::NotFound),
        }
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        let mut names = self.names.lock().unwrap();
        if names.contains_key(to) || self.taken.as_deref() == Some(to) {
            return refuse(to, io::ErrorKind::AlreadyExists);
        }
        let Some(file) = names.remove(from) else { return refuse(from, io::ErrorKind::NotFound) };
        names.insert(to.to_owned(), file);
        self.note(&names);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut names = self.names.lock().unwrap();
        match names.remove(path) {
            Some(_) => {
                self.note(&names);
                Ok(())
            }
            None => refuse(path, io::ErrorKind::NotFound),
        }
    }

    fn sync_folder(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn neighbours(&self, _path: &Path) -> Result<Vec<PathBuf>> {
        Ok(self.names.lock().unwrap().keys().cloned().collect())
    }
}

fn base() -> MemoryStorage {
    let base = MemoryStorage::new();
    base.write_at(0, &[7; 8192]).unwrap();
    base.set_len(1 << 20).unwrap();
    base
}

/// The overlay with this name shows what its base shows.
#[track_caller]
fn is_whole(name: &Path, files: &BTreeMap<PathBuf, MemoryStorage>) {
    let given = files.iter().fold(GivenFiles::new(), |given, (path, file)| {
        given.with(path.clone(), Arc::new(file.clone()))
    });
    let options = OpenOptions::new().format(Format::Qcow2).read_only(true).files(Arc::new(given));
    let chain = Chain::open(name, &options);
    let chain = chain.unwrap_or_else(|error| panic!("{}: {error}", name.display()));
    let mut bytes = [0; 8192];
    chain.read_at(0, &mut bytes).unwrap();
    assert!(bytes == [7; 8192] && chain.virtual_size() == 1 << 20, "{}", name.display());
}

fn overlays(folder: &Arc<CrashFolder>, names: &[String]) -> Overlays {
    let options =
        OpenOptions::new().format(Format::Raw).files(Arc::clone(folder) as Arc<dyn Files>);
    Overlays::new().on("base", options, names)
}

#[test]
fn a_name_leads_to_a_whole_overlay_whenever_the_power_goes() {
    let folder = Arc::new(CrashFolder::with("base", base()));
    // More than are made durable at once.
    let names: Vec<String> = (0..150).map(|number| format!("clone-{number}")).collect();
    overlays(&folder, &names).create().unwrap();
    let mut seen = 0;
    for cut in folder.cuts() {
        // Looking at all of them after each change would be the same over and over.
        let newest = names.iter().map(Path::new).rfind(|name| cut.contains_key(*name));
        if let Some(name) = newest {
            is_whole(name, &cut);
            seen += 1;
        }
        assert_eq!(cut[Path::new("base")].to_vec(), base().to_vec());
    }
    assert_eq!(seen, names.len());
}

#[test]
fn if_one_name_is_taken_none_is_given() {
    let mut folder = CrashFolder::with("base", base());
    folder.taken = Some("clone-3".into());
    let folder = Arc::new(folder);
    let names: Vec<String> = (0..5).map(|number| format!("clone-{number}")).collect();
    let refused = overlays(&folder, &names).create().unwrap_err();
    assert_eq!(refused.to_string(), "'clone-3' exists already");
    let left: Vec<_> = folder.names.lock().unwrap().keys().cloned().collect();
    assert_eq!(left, [PathBuf::from("base")]);
}
