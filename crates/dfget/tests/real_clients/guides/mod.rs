//! The guides of `docs/`, typed in: each block of commands of a page, in its order, in a shell, against the real
//! registries. What a guide calls `registry.example.com/project/image:tag` is an image of theirs, and programs that are
//! not here have stand-ins, which pull as those would. What is not typed in stands in `pages`.

mod readme;
mod tools;
mod ways;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::pages::{TYPED, to_type};
use super::support::{Client, clients_dir, dfget_binary, run};

/// Where programs lie before all others.
const BIN: &str = "/tmp/bin";

/// Who reads a page and types in what it says.
struct Reader<'a> {
    client: &'a Client,
    words: Vec<(String, String)>,
    variables: Vec<(&'static str, String)>,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// One with this client's home and environment.
    fn new(client: &'a Client) -> Self {
        fs::create_dir_all(BIN).unwrap();
        if !Path::new(BIN).join("dfget").exists() {
            symlink(dfget_binary(), Path::new(BIN).join("dfget")).unwrap();
        }
        // It replaces no image that an earlier block has pulled, and runs containers only in a user namespace.
        let apptainer = clients_dir().join("bin/apptainer").display().to_string();
        let lines = [
            "[ \"$1\" != pull ] || rm -f ./*_*.sif".to_owned(),
            format!("[ \"$1\" != exec ] || exec unshare --user --map-root-user {apptainer} \"$@\""),
            format!("exec {apptainer} \"$@\""),
        ];
        stand_in("apptainer", &lines.join("\n"));
        Self { client, words: Vec::new(), variables: Vec::new() }
    }

    /// Types `ours` for `theirs`; earlier ones come first.
    fn read(mut self, theirs: &str, ours: &str) -> Self {
        self.words.push((theirs.to_owned(), ours.to_owned()));
        self
    }

    /// Has a variable in its environment.
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Types in all of a page, which must end well, and returns what each block printed.
    #[track_caller]
    fn follow(&self, page: &str) -> Vec<String> {
        assert!(
            TYPED.iter().any(|(typed, _)| *typed == page),
            "{page} is not among the pages that are typed in"
        );
        to_type(page).into_iter().map(|block| self.type_in(block)).collect()
    }

    fn type_in(&self, block: String) -> String {
        let block = self.words.iter().fold(block, |block, (theirs, ours)| block.replace(theirs, ours));
        let mut shell = self.client.command("bash");
        shell.args(["-euo", "pipefail", "-c", &block]);
        shell.env("PATH", format!("{BIN}:{}", std::env::var("PATH").unwrap()));
        let ended = run(shell.envs(self.variables.iter().map(|(name, value)| (name, value)))).ok();
        ended.stdout + &ended.stderr
    }
}

/// Puts a program of this name before all others: these lines of a shell.
fn stand_in(name: &str, lines: &str) {
    fs::create_dir_all(BIN).unwrap();
    let file = Path::new(BIN).join(name);
    fs::write(&file, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A stand-in of srun: its flags are left out, and the command is run once, on this node.
fn stand_in_for_srun() {
    stand_in("srun", "while [ \"${1#-}\" != \"$1\" ]; do shift; done\nexec \"$@\"");
}

/// Stand-ins of workflow engines, whose workflow pulls this image.
fn stand_in_for_engines(reference: &str) {
    for name in ["nextflow", "snakemake"] {
        stand_in(name, &format!("exec apptainer --silent pull --force workflow.sif oras://{reference}"));
    }
}

/// The key of a cluster of this node alone. In these namespaces every process is root, whose key is made by hand.
fn make_cluster_key() {
    fs::create_dir_all("/etc/dragonfly").unwrap();
    let key = run(Command::new(dfget_binary()).args(["cluster", "key"])).ok().stdout;
    fs::write("/etc/dragonfly/cluster.key", key).unwrap();
    fs::set_permissions("/etc/dragonfly/cluster.key", fs::Permissions::from_mode(0o600)).unwrap();
}

/// What the page's yaml is, the block that contains these words, with ours for theirs.
fn yaml_of(page: &str, containing: &str, words: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(super::support::root_dir().join(page)).unwrap();
    let blocks = super::pages::blocks(&text, "yaml");
    let found = blocks.into_iter().map(|(_, lines)| lines.join("\n") + "\n");
    let block = found.into_iter().find(|block| block.contains(containing)).expect("the page has it");
    words.iter().fold(block, |block, (theirs, ours)| block.replace(theirs, ours))
}

/// Addresses and names that several pages have.
const THEIRS: &str = "registry.example.com/project/image:tag";
/// The node itself, as a cluster.
const THIS_NODE: &str = "198.51.100.1";
