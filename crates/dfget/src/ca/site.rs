//! Which authority a command is about: that of the configuration, or of a directory.

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use dfget_config::{
    Environment, HijackAuthority, LoadOptions, Loaded, PemSource, config_directory, load_without_authority,
    own_authority,
};
use dfget_tls::{AuthorityCertificate, PairFiles, Scope};

use super::{Failure, arguments::HostArguments};

/// Where the authority lies, and which hosts the configuration would have it for.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) files: PairFiles,
    /// The hosts that the patterns spell, each once.
    pub(crate) hosts: Vec<String>,
    /// The patterns that spell none.
    pub(crate) patterns: Vec<String>,
    /// Whether the daemon finds the files without being told.
    pub(crate) is_known_to_daemon: bool,
}

// === impl Site ===

impl Site {
    /// That of a configuration; without one, where a configuration would be written.
    pub(crate) fn of_config(config: Option<PathBuf>, environment: &Environment) -> Result<Self, Failure> {
        let options = LoadOptions { config, ..LoadOptions::default() };
        match load_without_authority(&options, environment) {
            Ok(loaded) => Self::of_loaded(&loaded, environment),
            Err(failed) if failed.source.is_none() => {
                let directory = config_directory(environment).ok_or_else(|| {
                    Failure::failed("no place for it: there is no `HOME`; name a directory by `--dir DIR`")
                })?;
                Ok(Self::in_directory(&directory, true))
            }
            Err(failed) => Err(Failure::Config(Box::new(failed))),
        }
    }

    /// `ca.crt` and `ca.key` in the directory that the command line names.
    pub(crate) fn of_directory(directory: &Path, environment: &Environment) -> Self {
        Self::in_directory(&environment.working_directory.join(directory), false)
    }

    fn in_directory(directory: &Path, is_known_to_daemon: bool) -> Self {
        let files = PairFiles::in_directory(directory);
        Self { files, hosts: Vec::new(), patterns: Vec::new(), is_known_to_daemon }
    }

    fn of_loaded(loaded: &Loaded, environment: &Environment) -> Result<Self, Failure> {
        let config = &loaded.config;
        let own = || own_authority(&loaded.source, &config.paths.data_dir, environment);
        let files = match config.proxy.hijack.as_ref().map(|hijack| &hijack.authority) {
            Some(HijackAuthority::Named { cert: PemSource::File(cert), key: PemSource::File(key) }) => {
                PairFiles { cert: cert.clone(), key: key.clone() }
            }
            Some(HijackAuthority::Named { .. }) => {
                return Err(Failure::Refused(format!(
                    "{} holds the authority itself, below hijackHTTPS; save `cert` and `key` to files and \
                     name those, or name a certificate on the command line",
                    loaded.source.display()
                )));
            }
            Some(HijackAuthority::Own(own)) => PairFiles { cert: own.cert.clone(), key: own.key.clone() },
            None => PairFiles { cert: own().cert, key: own().key },
        };
        let (mut hosts, mut patterns) = (Vec::new(), Vec::new());
        for host in config.proxy.hijack.iter().flat_map(|hijack| &hijack.hosts) {
            match host.literal() {
                Some(host) if !hosts.contains(&host) => hosts.push(host),
                Some(_) => {}
                None => patterns.push(host.regx.as_str().to_owned()),
            }
        }
        Ok(Self { files, hosts, patterns, is_known_to_daemon: true })
    }

    /// For which hosts a new one is to be, by the configuration.
    pub(crate) fn scope(&self) -> Result<Scope, Failure> {
        let remedy = "name the hosts by `--host HOST`, or all by `--any-host`";
        if let Some(pattern) = self.patterns.first() {
            return Err(Failure::Refused(format!(
                "hijackHTTPS.hosts: the pattern `{pattern}` spells no host that an authority could be bound to; {remedy}"
            )));
        }
        if self.hosts.is_empty() {
            return Err(Failure::Usage(format!("no configuration names a host that is hijacked; {remedy}")));
        }
        Ok(Scope::of_hosts(&self.hosts)?)
    }

    /// Makes the system's own directory readable for everybody, since its certificate is; others
    /// are made for their owner alone.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let system = Path::new(SYSTEM_DIRECTORY);
        if self.files.cert.parent() == Some(system) && !system.exists() {
            std::fs::DirBuilder::new().mode(0o755).create(system).map_err(|error| {
                Failure::failed(format!(
                    "cannot make {SYSTEM_DIRECTORY}: {error}; name another by `--dir DIR`"
                ))
            })?;
        }
        Ok(())
    }
}

/// The scope that the command line asks for; `None` when it leaves that to others.
pub(crate) fn asked_scope(arguments: &HostArguments) -> Result<Option<Scope>, Failure> {
    if arguments.any_host {
        return Ok(Some(Scope::any_host()));
    }
    if arguments.hosts.is_empty() {
        return Ok(None);
    }
    Ok(Some(Scope::of_hosts(&arguments.hosts)?))
}

/// The certificate that a command is given, or that of the configuration.
pub(crate) fn certificate(
    file: Option<PathBuf>,
    config: Option<PathBuf>,
    environment: &Environment,
) -> Result<(PairFiles, AuthorityCertificate), Failure> {
    let files = match file {
        Some(cert) => PairFiles { key: cert.with_extension("key"), cert },
        None => {
            let site = Site::of_config(config, environment)?;
            if !site.files.cert.exists() {
                return Err(Failure::Failed(format!(
                    "there is no {}; make one by `dfget ca create`, or name a certificate on the command line",
                    site.files.cert.display()
                )));
            }
            site.files
        }
    };
    let certificate = AuthorityCertificate::read(&files.cert)?;
    Ok((files, certificate))
}

const SYSTEM_DIRECTORY: &str = "/etc/dragonfly";
