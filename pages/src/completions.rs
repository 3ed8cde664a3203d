//! Completions for bash, zsh and fish, under the names by which the shells look for them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};

/// A shell, and what it calls the file for a program: prefix and suffix of its name.
const SHELLS: [(Shell, &str, &str, &str); 3] = [
    (Shell::Bash, "bash", "", ""),
    (Shell::Zsh, "zsh", "_", ""),
    (Shell::Fish, "fish", "", ".fish"),
];

/// Writes the completions of a program.
pub(crate) fn write(folder: &Path, program: &Command) -> io::Result<()> {
    let name = program.get_name();
    for (shell, shell_name, prefix, suffix) in SHELLS {
        let folder = folder.join(shell_name);
        fs::create_dir_all(&folder)?;
        let mut file = File::create(folder.join(format!("{prefix}{name}{suffix}")))?;
        generate(shell, &mut program.clone(), name, &mut file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use testkit::Folder;

    #[test]
    fn every_shell_learns_every_verb() {
        let folder = Folder::new();
        crate::write_all(folder.root()).unwrap();
        for name in ["bash/qimg", "zsh/_qimg", "fish/qimg.fish"] {
            let text = String::from_utf8(folder.read(name)).unwrap();
            for word in ["convert", "check", "explain", "image-opts"] {
                assert!(text.contains(word), "{name} does not know {word}");
            }
        }
        for name in ["bash/qimg-io", "zsh/_qimg-io", "fish/qimg-io.fish"] {
            let text = String::from_utf8(folder.read(name)).unwrap();
            assert!(text.contains("force-share"), "{name}");
        }
        let bash = folder.path("bash/qimg");
        let parsed = testkit::run("bash".as_ref(), ["-n".as_ref(), bash.as_os_str()]);
        assert_eq!(parsed.success().stderr, "");
    }
}
