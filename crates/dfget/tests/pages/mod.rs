//! The commands of the documents: which test types each of them in, and which are left out, with the reason.
//!
//! `documents.rs` looks that no command of a page is in neither list, and nothing in them without its command.

use std::fs;
use std::path::Path;

/// Commands that no test of these types in, by how they begin.
pub(crate) struct LeftOut {
    pages: &'static [&'static str],
    pub(crate) begin: &'static str,
    /// Why not, and what stands for it.
    pub(crate) why: &'static str,
}

/// Pages, each with the file of the test that types it in.
pub(crate) const TYPED: &[(&str, &str)] = &[
    ("README.md", "real_clients/guides/readme.rs"),
    ("README.zh.md", "real_clients/guides/readme.rs"),
    ("docs/cache.md", "cache/documented.rs"),
    ("docs/cluster.md", "real_clients/guides/ways.rs"),
    ("docs/first-pull.md", "real_clients/guides/ways.rs"),
    ("docs/get.md", "real_clients/guides/ways.rs"),
    ("docs/install.md", "real_clients/guides/readme.rs"),
    ("docs/integrations/README.md", "real_clients/guides/tools.rs"),
    ("docs/integrations/apptainer.md", "real_clients/guides/tools.rs"),
    ("docs/integrations/apptainer.zh.md", "real_clients/guides/tools.rs"),
    ("docs/integrations/containerd.md", "real_clients/guides/tools.rs"),
    ("docs/integrations/docker.md", "real_clients/guides/tools.rs"),
    ("docs/integrations/git-lfs.md", "real_clients/guides/tools.rs"),
    ("docs/integrations/podman.md", "real_clients/guides/tools.rs"),
    ("docs/migrating.md", "real_clients/guides/ways.rs"),
    ("docs/private-registries.md", "real_clients/guides/ways.rs"),
    ("docs/reload.md", "real_clients/guides/ways.rs"),
    ("docs/top.md", "real_clients/guides/ways.rs"),
    ("docs/troubleshooting.md", "real_clients/guides/ways.rs"),
    ("docs/workflows.md", "real_clients/guides/ways.rs"),
];

/// All that is not typed in.
pub(crate) const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        pages: &["README.md", "README.zh.md"],
        begin: "make ",
        why: "it builds for minutes, and the tests are part of it; `.ci/run` types them in",
    },
    LeftOut {
        pages: &["docs/install.md"],
        begin: "apt install ",
        why: "it changes the machine; packaging/in-copy installs the package in a copy of one",
    },
    LeftOut {
        pages: &["docs/install.md"],
        begin: "systemctl ",
        why: "no systemd runs in a namespace; packaging/in-copy starts the daemon as its unit says",
    },
    LeftOut {
        pages: &["docs/install.md"],
        begin: "dfget setup sysusers ",
        why: "it makes a user; packaging/in-copy types it in, in a copy of the machine",
    },
    LeftOut {
        pages: &["docs/install.md"],
        begin: "dfget setup tmpfiles ",
        why: "it needs that user; packaging/in-copy types it in, in a copy of the machine",
    },
    LeftOut {
        pages: &["docs/cluster.md", "docs/workflows.md"],
        begin: "dfget preheat --nodes ",
        why: "it fills nodes of a cluster, and this is one; cluster/preheat.rs does it among five",
    },
    LeftOut {
        pages: &["docs/images/README.md"],
        begin: "DFGET_PICTURES=",
        why: "it takes pictures anew; the test that it runs is one of all",
    },
    LeftOut {
        pages: &["docs/images/README.md"],
        begin: "pngquant ",
        why: "it makes these pictures smaller; documents.rs looks how large they are",
    },
    LeftOut {
        pages: &["docs/images/README.md"],
        begin: "rm docs/images/",
        why: "it removes what the first made",
    },
    LeftOut {
        pages: &["docs/top.md"],
        begin: "ssh -L ",
        why: "no other node runs sshd here; it is ssh's own, and leads to the port that is asked in top.rs",
    },
    LeftOut {
        pages: &["docs/integrations/nerdctl.md"],
        begin: "nerdctl pull ",
        why: "Debian has no nerdctl, and the page says that it is not tested; ctr reads the same hosts.toml",
    },
    LeftOut {
        pages: &["docs/integrations/nerdctl.md"],
        begin: "HTTPS_PROXY=http://127.0.0.1:65001 SSL_CERT_FILE=/etc/dragonfly/bundle.crt nerdctl ",
        why: "Debian has no nerdctl, and the page says that it is not tested; podman.md has the same by variables",
    },
];

// === impl LeftOut ===

impl LeftOut {
    /// Whether it is this command of this page.
    pub(crate) fn is(&self, page: &str, command: &str) -> bool {
        self.pages.contains(&page) && command.starts_with(self.begin)
    }
}

/// Whether a test is to leave this command out.
pub(crate) fn is_left_out(page: &str, command: &str) -> bool {
    LEFT_OUT.iter().any(|left| left.is(page, command))
}

/// This clone.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The blocks of a language, each with the number of its first line.
pub(crate) fn blocks<'t>(text: &'t str, language: &str) -> Vec<(usize, Vec<&'t str>)> {
    let (mut blocks, mut open) = (Vec::new(), None::<(usize, usize, bool, Vec<&str>)>);
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim()) {
            (None, fence) if fence.starts_with("```") => {
                open = Some((number + 2, indent, &fence[3..] == language, Vec::new()));
            }
            (Some(_), "```") => {
                if let Some((number, _, true, lines)) = open.take() {
                    blocks.push((number, lines));
                }
            }
            (Some((_, outer, _, lines)), _) => lines.push(line.get(*outer..).unwrap_or_default()),
            (None, _) => {}
        }
    }
    blocks
}

/// The command lines of a block, those in several lines put together.
pub(crate) fn commands(lines: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let part = line.strip_suffix('\\');
        match commands.last_mut() {
            Some(last) if goes_on => last.push_str(part.unwrap_or(line).trim_start()),
            _ => commands.push(part.unwrap_or(line).to_owned()),
        }
        goes_on = part.is_some();
    }
    commands
}

/// What a reader of the page types in, block by block: those for a shell, and in others what stands behind `$ `.
pub(crate) fn typed_blocks(text: &str) -> Vec<Vec<String>> {
    let is_command = |command: &String| !command.trim().is_empty() && !command.starts_with('#');
    let shell = blocks(text, "sh").into_iter().map(|(number, lines)| (number, commands(&lines)));
    let shown = blocks(text, "").into_iter().map(|(number, lines)| {
        let typed = lines.iter().filter_map(|line| line.strip_prefix("$ "));
        (number, typed.map(str::to_owned).collect::<Vec<_>>())
    });
    let mut all: Vec<_> = shell.chain(shown).collect();
    all.sort_by_key(|(number, _)| *number);
    let commands = all.into_iter().map(|(_, commands)| commands.into_iter().filter(is_command).collect());
    commands.filter(|commands: &Vec<_>| !commands.is_empty()).collect()
}

/// The same of a page of this clone, without what is left out.
pub(crate) fn to_type(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("the page is there");
    let mut blocks = typed_blocks(&text);
    blocks.iter_mut().for_each(|block| block.retain(|command| !is_left_out(page, command)));
    blocks.retain(|block| !block.is_empty());
    assert!(!blocks.is_empty(), "{page} has no commands");
    blocks.into_iter().map(|block| block.join("\n")).collect()
}
