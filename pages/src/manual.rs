//! Manual pages: one for each program and each verb, from their own help, with the exit codes.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use tools::io::command::COMMANDS;

/// What the codes mean where a verb does not say otherwise.
const CODES: &[(&str, &str)] =
    &[("0", "done"), ("1", "not possible, or the command line was wrong; one line says why")];
/// What the codes mean to a page, by its name.
const OTHER_CODES: [(&str, &[(&str, &str)]); 2] = [
    (
        "qimg-check",
        &[
            ("0", "the image is consistent, or is after a repair"),
            ("1", "the check could not be carried out"),
            ("2", "the image is corrupt"),
            ("3", "clusters leak, and nothing worse"),
            ("63", "images of this format have nothing to check"),
        ],
    ),
    (
        "qimg-compare",
        &[
            ("0", "both images show the same"),
            ("1", "they differ"),
            ("2", "an image could not be opened, or the answer not printed"),
            ("3", "what is allocated could not be learned"),
            ("4", "an image could not be read"),
        ],
    ),
];

/// Writes the pages of a program and of its verbs.
pub(crate) fn write(folder: &Path, program: &Command) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut program = program.clone().disable_help_subcommand(true);
    program.build();
    write_tree(folder, &program, program.get_name())
}

/// Verbs can have verbs of their own, two levels deep.
fn write_tree(folder: &Path, command: &Command, name: &str) -> io::Result<()> {
    let version = format!("qimg {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name.to_uppercase()).source(version);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    let verbs: Vec<&Command> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    if !verbs.is_empty() {
        man.render_subcommands_section(&mut page)?;
    }
    if name == "qimg-io" {
        commands().to_writer(&mut page)?;
    }
    ending(name).to_writer(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    for verb in verbs {
        write_tree(folder, verb, &format!("{name}-{}", verb.get_name()))?;
    }
    Ok(())
}

/// The command language of `qimg-io`, from its own table.
fn commands() -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["COMMANDS"]);
    for command in COMMANDS {
        roff.control("TP", []);
        let arguments = format!(" {}", command.arguments);
        roff.text([bold(command.name), roman(arguments.trim_end())]);
        roff.text([roman(command.summary)]);
        let details = command.details.trim_end().trim_start_matches('\n');
        if !details.is_empty() {
            roff.control("RS", []);
            roff.control("nf", []);
            details.lines().for_each(|line| _ = roff.text([roman(line)]));
            roff.control("fi", []);
            roff.control("RE", []);
        }
    }
    roff
}

fn ending(name: &str) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    let own = OTHER_CODES.iter().find(|(page, _)| *page == name);
    for (code, meaning) in own.map_or(CODES, |(_, codes)| codes) {
        roff.control("TP", []);
        roff.text([bold(*code)]);
        roff.text([roman(*meaning)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("qimg(1), qimg-io(1), qemu-img(1), qemu-io(1)")]);
    roff
}

#[cfg(test)]
mod tests {
    use clap::Command;
    use testkit::Folder;

    fn names(command: &Command, name: &str, all: &mut Vec<String>) {
        all.push(name.to_owned());
        for verb in command.get_subcommands() {
            names(verb, &format!("{name}-{}", verb.get_name()), all);
        }
    }

    #[test]
    fn every_program_and_verb_has_a_page() {
        let folder = Folder::new();
        crate::write_all(folder.root()).unwrap();
        let mut expected = Vec::new();
        for program in crate::programs() {
            names(&program, program.get_name(), &mut expected);
        }
        assert!(expected.contains(&"qimg-chain-show".to_owned()), "{expected:?}");
        for name in expected {
            let page = String::from_utf8(folder.read(format!("man/{name}.1"))).unwrap();
            for section in ["NAME", "SYNOPSIS", "EXIT STATUS", "SEE ALSO"] {
                let heading = format!(".SH {section}");
                let quoted = format!(".SH \"{section}\"");
                assert!(page.contains(&heading) || page.contains(&quoted), "{name}: {section}");
            }
            assert!(page.starts_with(".ie") || page.contains(".TH"), "{name} has no title");
        }
    }

    #[test]
    fn pages_say_what_the_programs_say() {
        let folder = Folder::new();
        crate::write_all(folder.root()).unwrap();
        let page = |name: &str| String::from_utf8(folder.read(format!("man/{name}.1"))).unwrap();
        assert!(page("qimg-check").contains("clusters leak"));
        assert!(page("qimg-io").contains("writev"));
        assert!(page("qimg-convert").contains("compression"));
    }
}
