//! The first pull of somebody who has a bare home, the binary, and no right of root: the commands of
//! `docs/first-pull.md`, up to the first pull that costs the registry nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pages::to_type;
use super::support::{Finished, Image, Registries, clients_dir, dfget_binary, in_namespace, run};

/// What may be asked of somebody who is new.
const MOST_COMMANDS: usize = 3;

/// The commands of the page up to its second pull.
fn commands() -> Vec<String> {
    let lines: Vec<_> =
        to_type("docs/first-pull.md").iter().flat_map(|block| block.lines().map(str::to_owned)).collect();
    let mut pulls = lines.iter().enumerate().filter(|(_, line)| line.contains("apptainer pull"));
    let (second, _) = pulls.nth(1).expect("the page has a second pull");
    lines[..=second].to_vec()
}

/// A home with nothing in it but the binary, as it was copied there.
struct Bare(PathBuf);

impl Bare {
    fn new() -> Self {
        let home = PathBuf::from("/tmp/bare");
        fs::create_dir(&home).unwrap();
        fs::copy(dfget_binary(), home.join("dfget")).unwrap();
        Self(home)
    }

    /// What a shell of this home's owner says, who is uid 65534 and has no capability. It knows the registry's authority
    /// as a machine knows public ones.
    fn type_in(&self, command: &str) -> Finished {
        let Self(home) = self;
        let mut shell = Command::new("unshare");
        shell.args([
            "--user",
            "--map-user=65534",
            "--map-group=65534",
            "bash",
            "-euo",
            "pipefail",
            "-c",
            command,
        ]);
        let programs = [home.join(".local/bin"), clients_dir().join("bin"), "/usr/bin".into(), "/bin".into()];
        let path = std::env::join_paths(programs).unwrap();
        shell.env_clear().env("PATH", path).env("HOME", home).current_dir(home);
        run(shell.env("SSL_CERT_FILE", clients_dir().join("ca/origins.crt"))).ok()
    }
}

/// Bytes of bodies that the registry sent so far: of manifests, of blobs, of everything.
fn sent(registries: &Registries) -> u64 {
    registries.requests("open").iter().map(|request| request.body_bytes).sum()
}

#[test]
fn three_commands_lead_from_a_bare_home_to_a_pull_that_costs_the_registry_no_byte() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let home = Bare::new();
        let who = home.type_in("id -u; grep CapEff /proc/self/status").stdout;
        assert_eq!(who.split_whitespace().collect::<Vec<_>>(), ["65534", "CapEff:", "0000000000000000"]);
        assert!(!Path::new("/etc/dragonfly").exists(), "nothing is configured");

        let commands = commands();
        assert!(commands.len() <= MOST_COMMANDS, "{commands:#?}");
        let (last, before) = commands.split_last().unwrap();
        let reference = format!("registry.test/public/sif:{}", image.tag);
        let type_in = |command: &str| {
            home.type_in(&command.replace("registry.example.com/project/image:tag", &reference))
        };
        for command in before {
            type_in(command);
        }
        let pulled = home.0.join(format!("sif_{}.sif", image.tag));
        image.assert_same(&pulled);
        registries.assert_downloaded_once("open", &image);

        fs::remove_file(&pulled).unwrap();
        let cold = sent(&registries);
        let said = type_in(last).stderr;
        image.assert_same(&pulled);
        registries.assert_downloaded_once("open", &image);
        assert_eq!(sent(&registries) - cold, 0, "{:#?}", registries.requests("open"));
        assert!(said.contains("came from this node"), "{said}");
    });
}
