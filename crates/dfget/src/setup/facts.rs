//! What is so on this machine, and the examples with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use dfget_config::{Config, HijackAuthority, Listen, PemSource};

use super::examples::Example;

/// What examples are filled in with. The default is what they say as they are.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// This program.
    pub(super) program: PathBuf,
    /// The configuration, if it is not where the daemon looks by itself.
    pub(super) config: Option<PathBuf>,
    /// Where the proxy listens.
    pub(super) proxy: SocketAddr,
    /// Where health and metrics are.
    pub(super) admin: SocketAddr,
    /// What clients must trust.
    pub(super) certificate: PathBuf,
    /// Registries whose images are cached, with their ports.
    pub(super) registries: Vec<String>,
}

// === impl Facts ===

impl Facts {
    /// Those of a machine where nothing is set otherwise.
    pub(super) fn new(program: PathBuf) -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            program,
            config: None,
            proxy: at(PROXY),
            admin: at(ADMIN),
            certificate: CERTIFICATE.into(),
            registries: Vec::new(),
        }
    }

    /// With what a configuration says that was read from `source`.
    pub(super) fn with(mut self, config: &Config, source: &Path) -> Self {
        let at = |listen: &Listen| SocketAddr::new(listen.ip, listen.ports.start);
        // A service starts in another directory.
        let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
        self.config = (source != Path::new(CONFIG)).then_some(source);
        self.proxy = at(&config.proxy.listen);
        self.admin = at(&config.health.listen);
        if let Some(hijack) = &config.proxy.hijack {
            match &hijack.authority {
                HijackAuthority::Named { cert: PemSource::File(path), .. } => {
                    path.clone_into(&mut self.certificate)
                }
                HijackAuthority::Named { .. } => {}
                HijackAuthority::Own(own) => own.cert.clone_into(&mut self.certificate),
            }
            let spelt = hijack.hosts.iter().filter(|host| host.literal().is_some());
            self.registries = spelt.map(|host| spelled(host.regx.as_str())).collect();
        }
        self
    }

    /// The example as it is for this machine.
    pub(super) fn fill(&self, example: &Example) -> String {
        let mut text = example.text.to_owned();
        let mut replace = |from: &str, to: &str| text = text.replace(from, to);
        let config = self.config.as_ref().map(|config| format!(" --config {}", config.display()));
        let daemon = format!("{} daemon{}", self.program.display(), config.unwrap_or_default());
        replace("ExecStart=/usr/bin/dfget daemon", &format!("ExecStart={daemon}"));
        replace("/usr/bin/dfget", &self.program.display().to_string());
        if example.name == "systemd-socket" {
            replace(&format!("127.0.0.1:{PROXY}"), &self.proxy.to_string());
        }
        replace(&format!("127.0.0.1:{PROXY}"), &reachable(self.proxy).to_string());
        let admin = reachable(self.admin);
        replace(&format!("/dev/tcp/127.0.0.1/{ADMIN}"), &format!("/dev/tcp/{}/{}", admin.ip(), admin.port()));
        replace(&format!("127.0.0.1:{ADMIN}"), &admin.to_string());
        replace(&format!(":{ADMIN}"), &format!(":{}", admin.port()));
        replace(BUNDLE, &self.certificate.with_file_name("bundle.crt").display().to_string());
        replace(CERTIFICATE, &self.certificate.display().to_string());
        if let [first, ..] = &self.registries[..] {
            let items: Vec<_> = self.registries.iter().map(|name| format!("        - {name}\n")).collect();
            replace("        - registry.example.com:443\n", &items.concat());
            // Of an image the port is left out where it is the usual one.
            let host = first.strip_suffix(":443").unwrap_or(first);
            replace("oras://registry.example.com/", &format!("oras://{host}/"));
        }
        text
    }
}

/// The host and port that a literal pattern spells; the usual port where it leaves it to others.
fn spelled(pattern: &str) -> String {
    let plain = pattern.trim_start_matches('^').trim_end_matches('$').replace('\\', "");
    if plain.contains(':') { plain } else { format!("{plain}:443") }
}

/// How this machine reaches what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

const CONFIG: &str = "/etc/dragonfly/dfget.yaml";
const CERTIFICATE: &str = "/etc/dragonfly/ca.crt";
const BUNDLE: &str = "/etc/dragonfly/bundle.crt";
const PROXY: u16 = 65001;
const ADMIN: u16 = 40901;

#[cfg(test)]
mod tests {
    use super::super::examples::EXAMPLES;
    use super::*;

    #[test]
    fn where_nothing_is_set_otherwise_examples_are_as_they_lie_in_the_tree() {
        let facts = Facts::new("/usr/bin/dfget".into());
        for example in EXAMPLES {
            assert_eq!(facts.fill(example), example.text, "{}", example.name);
        }
    }

    #[test]
    fn a_pattern_spells_a_host_and_its_port() {
        let spelt = [r"^registry\.example\.com:443$", "ghcr.io", r"^r\.test:5000$"].map(spelled);
        assert_eq!(spelt, ["registry.example.com:443", "ghcr.io:443", "r.test:5000"]);
    }
}
