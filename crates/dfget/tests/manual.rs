//! The pages of the manual and the completions of shells, by the real binary: they say what the help says.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

fn dfget(arguments: &[&str]) -> Output {
    Command::new(DFGET).args(arguments).env_clear().output().expect("the binary is there")
}

fn printed(arguments: &[&str]) -> String {
    let output = dfget(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Commands below this one, as its help has them.
fn commands(path: &[&str]) -> Vec<String> {
    let help = printed(&[path, &["--help"]].concat());
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    list.lines()
        .take_while(|line| !line.starts_with("Options:"))
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.trim().to_owned())
        .filter(|name| name != "help")
        .collect()
}

/// Every command with the flags of its help, all levels.
fn all_commands() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut paths = vec![Vec::<String>::new()];
    while let Some(path) = paths.pop() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let help = printed(&[&words[..], &["--help"]].concat());
        let flags = help
            .lines()
            .filter(|line| line.starts_with("  -") || line.starts_with("      --"))
            .filter_map(|line| line.split("--").nth(1)?.split([' ', '<']).next())
            .map(|name| format!("--{name}"))
            .collect();
        found.insert([&["dfget"], &words[..]].concat().join("-"), flags);
        paths.extend(commands(&words).into_iter().map(|name| [&path[..], &[name]].concat()));
    }
    found
}

/// All pages by the names of their files.
fn pages() -> BTreeMap<String, String> {
    let home = tempfile::tempdir().expect("a directory");
    printed(&["man", home.path().to_str().expect("UTF-8")]);
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("a file");
        (entry.file_name().into_string().expect("UTF-8"), fs::read_to_string(entry.path()).expect("text"))
    };
    fs::read_dir(home.path()).expect("a directory").map(read).collect()
}

#[test]
fn every_command_that_the_help_shows_has_a_page_with_all_its_flags() {
    let (pages, commands) = (pages(), all_commands());
    let names = |map: &BTreeMap<String, Vec<String>>| -> Vec<String> {
        map.keys().map(|name| format!("{name}.1")).collect()
    };
    assert!(commands.len() > 15 && commands.contains_key("dfget-cluster-key"), "{:?}", commands.keys());
    let mut expected = names(&commands);
    expected.sort();
    assert_eq!(pages.keys().cloned().collect::<Vec<_>>(), expected);
    for (name, flags) in &commands {
        let page = &pages[&format!("{name}.1")];
        assert!(!flags.is_empty(), "{name}");
        for flag in flags {
            let escaped = flag.replace('-', "\\-");
            assert!(page.contains(&escaped), "{name}: {flag}\n{page}");
        }
        assert!(!page.contains("leased"), "{name}");
    }
}

#[test]
fn a_page_shows_examples_line_by_line_and_has_a_section_for_the_exit_status() {
    let pages = pages();
    let key = &pages["dfget-cluster-key.1"];
    let expected = ".SH EXAMPLES\n.RS 4\n.nf\n(umask 077; dfget cluster key > /etc/dragonfly/cluster.key)\n";
    assert!(key.contains(expected), "{key}");
    assert!(key.contains(".fi\n.RE\n.PP\nOnly its owner may read the file"), "{key}");
    assert!(key.ends_with(".SH \"SEE ALSO\"\n\\fBdfget\\fR(1), \\fBdfget\\-cluster\\fR(1)\n"), "{key}");
    let run = &pages["dfget-run.1"];
    assert!(run.contains(".SH \"EXIT STATUS\"\nthat of the command; 127 it was not found"), "{run}");
    // `\` at the end of a line of a shell's command is shown, and does not join lines.
    assert!(run.contains("$SLURM_JOB_NODELIST\" \\-\\- \\\\\n"), "{run}");
    let first = pages["dfget.1"].lines().find(|line| line.starts_with(".TH")).expect("a title").to_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(first, format!(".TH DFGET 1 \"dfget {version}\" dfget \"Manual of dfget\""));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let output = dfget(&["man", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: /nowhere/at/all/dfget.1 cannot be written: "), "{said}");
}

/// What bash would offer for the last of these words.
fn offered(words: &[&str]) -> Vec<String> {
    let home = tempfile::tempdir().expect("a directory");
    let script = home.path().join("dfget.bash");
    fs::write(&script, printed(&["completions", "bash"])).expect("it can be written");
    let ask = r#"source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _dfget dfget "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", ask, "bash"]).arg(&script).args(words).current_dir(home.path());
    let output = bash.output().expect("bash is there");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_values_and_files() {
    assert_eq!(offered(&["dfget", "cl"]), ["cluster"]);
    assert_eq!(offered(&["dfget", "cluster", "s"]), ["status"]);
    assert_eq!(offered(&["dfget", "run", "--cluster-l"]), ["--cluster-linger"]);
    assert_eq!(offered(&["dfget", "config", "show", "--output", "j"]), ["json"]);
    assert_eq!(offered(&["dfget", "config", "show", "--config", "dfget.b"]), ["dfget.bash"]);
    let all = offered(&["dfget", ""]);
    for hidden in ["leased-daemon", "man"] {
        assert!(!all.iter().any(|name| name == hidden), "{all:?}");
    }
    for command in commands(&[]) {
        assert!(all.contains(&command), "{command}: {all:?}");
    }
}

#[test]
fn zsh_and_fish_get_what_they_load_by_themselves() {
    let zsh = printed(&["completions", "zsh"]);
    assert!(
        zsh.starts_with("#compdef dfget\n") && zsh.contains("'cluster:Nodes that feed each other'"),
        "{zsh}"
    );
    let fish = printed(&["completions", "fish"]);
    let flag = "complete -c dfget -n \"__fish_dfget_using_subcommand run\" -l cluster-linger";
    assert!(fish.contains(flag), "{fish}");
    for script in [zsh, fish] {
        assert!(!script.contains("leased-daemon"));
    }
    let wrong = dfget(&["completions", "tcsh"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("[possible values: bash, zsh, fish]"));
}
