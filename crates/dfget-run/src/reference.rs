//! Image references in a command line, and the hosts that they will be pulled from.

use std::fs;
use std::path::Path;

use dfget_core::{Authority, Scheme};
use url::Url;

/// What a command line says about where its images are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct References {
    /// `host` or `host:port` of each registry or server, each once.
    pub hosts: Vec<String>,
    /// URLs that are images themselves.
    pub images: Vec<String>,
    /// Something is asked for in plain text (`http://`, `--no-https`).
    pub plain: bool,
}

/// Definition files larger than this are none.
const LARGEST_DEFINITION: u64 = 1 << 20;

/// Docker Hub, by the names that clients connect to.
const DOCKER_HUB: [&str; 2] = ["registry-1.docker.io", "index.docker.io"];

/// Programs that take references without a scheme.
const BARE: [&str; 8] = ["oras", "crane", "regctl", "podman", "buildah", "nerdctl", "enroot", "umoci"];

// === impl References ===

impl References {
    /// Looks through the arguments of a command, and through definition files among them.
    #[must_use]
    pub fn of_command(command: &[String]) -> Self {
        Self::read(command, &|path| {
            let small =
                fs::metadata(path).ok().filter(|file| file.is_file() && file.len() <= LARGEST_DEFINITION);
            small.and_then(|_| fs::read_to_string(path).ok())
        })
    }

    fn read(command: &[String], file: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut found = Self::default();
        let program =
            command.first().and_then(|name| Path::new(name).file_name()).and_then(|name| name.to_str());
        let bare = program.is_some_and(|program| BARE.contains(&program));
        for (index, argument) in command.iter().enumerate().skip(1) {
            if matches!(argument.as_str(), "--no-https" | "--nohttps" | "--plain-http" | "--insecure") {
                found.plain = true;
            }
            if command[index - 1] == "--library" {
                found.add_url(argument);
            } else if let Some(library) = argument.strip_prefix("--library=") {
                found.add_url(library);
            }
            if found.add_schemes(argument) {
                continue;
            }
            match file(Path::new(argument)) {
                Some(text) => found.add_definition(&text),
                None if bare => found.add_bare(argument),
                None => {}
            }
        }
        found
    }

    /// Whether there is nothing to hijack.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Adds a host that was named as such; returns whether it is one.
    pub fn add_host(&mut self, host: &str) -> bool {
        let Ok(authority) = Authority::parse(Scheme::Https, host) else { return false };
        let name = if authority.port == Scheme::Https.default_port() {
            authority.host
        } else {
            authority.host_port()
        };
        if !self.hosts.contains(&name) {
            self.hosts.push(name);
        }
        true
    }

    /// References with a scheme, wherever they stand in the argument (`--image=docker://…`).
    fn add_schemes(&mut self, argument: &str) -> bool {
        let Some(at) = argument.find("://") else { return false };
        let (before, after) = (&argument[..at], &argument[at + 3..]);
        let scheme =
            before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default();
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';'))
            .unwrap_or(after.len());
        self.add(scheme, &after[..end])
    }

    /// Adds one reference; returns whether it is one that is pulled over the net.
    fn add(&mut self, scheme: &str, rest: &str) -> bool {
        match scheme.to_ascii_lowercase().as_str() {
            "oras" => self.add_first_part(rest),
            "docker" => self.add_docker(rest),
            "library" => self.add_library(rest),
            "https" => self.add_url(&format!("https://{rest}")),
            "http" => {
                self.plain = true;
                self.add_url(&format!("http://{rest}"))
            }
            _ => false,
        }
    }

    fn add_first_part(&mut self, rest: &str) -> bool {
        rest.split(['/', '@']).next().is_some_and(|host| self.add_host(host))
    }

    /// A first part without a dot, a colon and another name than `localhost` is no host: the
    /// image is on Docker Hub.
    fn add_docker(&mut self, rest: &str) -> bool {
        match rest.split_once('/') {
            Some((first, _)) if is_host(first) && !matches!(first, "docker.io" | "index.docker.io") => {
                self.add_host(first)
            }
            _ => DOCKER_HUB.iter().all(|host| self.add_host(host)),
        }
    }

    /// `library://[host/]entity/collection/container`: with a host there are four parts.
    fn add_library(&mut self, rest: &str) -> bool {
        let parts: Vec<_> = rest.split('/').collect();
        match parts.first() {
            Some(first) if is_host(first) => self.add_host(first),
            _ => ["library.sylabs.io", "cloud.sylabs.io"].iter().all(|host| self.add_host(host)),
        }
    }

    fn add_url(&mut self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let Some(authority) = Authority::of_url(&url) else { return false };
        if url.path().len() > 1 {
            self.images.push(url.to_string());
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        self.add_host(&format!("{}{port}", authority.host))
    }

    /// `HOST/PATH` with a dot or a port in the host.
    fn add_bare(&mut self, argument: &str) {
        if let Some((first, rest)) = argument.split_once('/')
            && !argument.starts_with(['-', '.', '/'])
            && is_host(first)
            && !rest.is_empty()
        {
            self.add_host(first);
        }
    }

    /// A definition file of `apptainer build`: its header says where each stage comes from.
    fn add_definition(&mut self, text: &str) {
        let mut agent = "";
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "bootstrap" => agent = value,
                "from" if matches!(agent, "docker" | "oras" | "library") => {
                    self.add(agent, value);
                }
                "registry" if agent == "docker" => {
                    self.add_host(value);
                }
                _ => {}
            }
        }
    }
}

/// Whether the first part of a reference is a host rather than a name.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(command: &str) -> References {
        let command: Vec<_> = command.split(' ').map(str::to_owned).collect();
        References::read(&command, &|path| (path == Path::new("x.def")).then(|| DEFINITION.to_owned()))
    }

    const DEFINITION: &str = "Bootstrap: docker\nFrom: registry.example:5000/base:1\nStage: one\n\n%post\n  a: b\n\n\
                              bootstrap:oras\nFROM: oras.example/x:2\n";

    #[test]
    fn each_scheme_names_its_hosts() {
        let cases: [(&str, &[&str]); 12] = [
            ("apptainer pull oras://registry.example/a/b:1", &["registry.example"]),
            ("apptainer pull x.sif oras://r.example:5000/a@sha256:00", &["r.example:5000"]),
            ("apptainer exec docker://Ghcr.io/a/b cat /x", &["ghcr.io"]),
            ("apptainer exec docker://alpine:3 true", &DOCKER_HUB),
            ("apptainer exec docker://library/alpine true", &DOCKER_HUB),
            ("apptainer exec docker://docker.io/library/alpine true", &DOCKER_HUB),
            ("apptainer pull https://files.example/x.sif", &["files.example"]),
            ("apptainer pull https://files.example:8443/x.sif", &["files.example:8443"]),
            ("apptainer pull library://lib.example/e/c/i:t", &["lib.example"]),
            (
                "apptainer pull --library https://l.example library://e/c/i",
                &["l.example", "library.sylabs.io", "cloud.sylabs.io"],
            ),
            ("tool --image=docker://quay.io/a/b,x --other", &["quay.io"]),
            ("apptainer build y.sif x.def", &["registry.example:5000", "oras.example"]),
        ];
        for (command, hosts) in cases {
            assert_eq!(of(command).hosts, hosts, "{command}");
        }
    }

    #[test]
    fn what_is_no_reference_names_none() {
        for command in [
            "apptainer exec x.sif cat registry.example/a",
            "echo docker-daemon://x file://registry.example/x",
            "oras://registry.example/not-an-argument",
            "cat ://",
            "oras pull ./registry.example/x",
        ] {
            assert!(of(command).is_empty(), "{command}: {:?}", of(command));
        }
        assert_eq!(of("/usr/bin/crane pull registry.example/a/b:1 x.tar").hosts, ["registry.example"]);
        assert_eq!(of("oras pull localhost:5000/a").hosts, ["localhost:5000"]);
    }

    #[test]
    fn plain_text_is_noticed() {
        assert!(of("apptainer pull http://files.example/x.sif").plain);
        assert!(of("apptainer pull --no-https oras://r.example/x").plain);
        assert!(!of("apptainer pull oras://r.example/x").plain);
        assert_eq!(of("apptainer pull http://f.example/x.sif").images, ["http://f.example/x.sif"]);
    }

    proptest! {
        #[test]
        fn any_arguments_are_survived(arguments in prop::collection::vec(".{0,40}", 0..6)) {
            let found = References::read(&arguments, &|_| None);
            prop_assert!(found.hosts.iter().all(|host| Authority::parse(Scheme::Https, host).is_ok()));
        }
    }
}
