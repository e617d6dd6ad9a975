//! What would make a first pull fail on this node, each with its remedy: the findings of `dfget doctor`.
//!
//! One module looks at one area. In each, what is found out about the machine comes first, and what it means is a
//! function of that. Nothing is changed, nothing is printed, and nothing but `registry` and `cluster` uses the network.

mod authority;
mod cluster;
mod configuration;
mod daemon;
mod disk;
mod finding;
mod limits;
mod port;
mod quota;
mod registry;
mod trust;
mod variables;
mod version;

pub use finding::{Area, Finding, Verdict};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use dfget_config::{Environment, LoadOptions, Loaded, load_without_authority};
use dfget_core::{Authority, Scheme};

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct Examination {
    /// The file; `None` = the one that the daemon would read.
    pub config: Option<PathBuf>,
    /// Registries besides those of the file, `host` or `host:port`.
    pub registries: Vec<String>,
    /// Ask no registry and no other node.
    pub offline: bool,
    /// The variables of the shell that clients start from.
    pub variables: BTreeMap<String, String>,
    /// The time, as this node has it.
    pub now: SystemTime,
}

// === impl Examination ===

impl Examination {
    /// Looks at everything. Takes as long as the slowest registry, some seconds at most.
    ///
    /// # Errors
    /// What of `registries` names no host.
    pub fn run(&self, environment: &Environment) -> Result<Vec<Finding>, String> {
        let mut asked = Vec::new();
        for name in &self.registries {
            let registry = Authority::parse(Scheme::Https, name)
                .map_err(|error| format!("{name} names no registry: {error}; write HOST or HOST:PORT"))?;
            asked.push(registry);
        }
        let options = LoadOptions { config: self.config.clone(), ..LoadOptions::default() };
        let loaded = load_without_authority(&options, environment);
        let mut findings = configuration::findings(&loaded);
        findings.extend(daemon::findings());
        let loaded = loaded.ok();
        let registries = registry::meant(loaded.as_ref(), asked);
        let mut ours = None;
        if let Some(loaded) = &loaded {
            ours = self.configured(loaded, environment, &registries, &mut findings);
        }
        findings.extend(disk::findings(loaded.as_ref(), &self.variables));
        findings.extend(limits::findings());
        if !self.offline {
            let roots = registry::roots(&self.variables, ours.as_ref(), &mut findings);
            let asked = registry::Asked { loaded: loaded.as_ref(), variables: &self.variables, roots };
            findings.extend(asked.findings(&registries, self.now));
        }
        Ok(findings)
    }

    /// What only a configuration tells; and the authority, if there is one.
    fn configured(
        &self,
        loaded: &Loaded,
        environment: &Environment,
        registries: &[Authority],
        findings: &mut Vec<Finding>,
    ) -> Option<authority::Ours> {
        findings.extend(port::findings(&loaded.config));
        findings.extend(variables::findings(&self.variables, &loaded.config.proxy.listen, registries));
        let (about, ours) = authority::findings(loaded, environment, self.now);
        findings.extend(about);
        findings.extend(ours.iter().flat_map(|ours| trust::findings(&self.variables, ours)));
        if !self.offline {
            findings.extend(cluster::findings(&loaded.config));
        }
        ours
    }
}
