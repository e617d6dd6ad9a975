//! Whether there is a configuration, and whether it can be used.

use dfget_config::{ConfigErrors, Loaded};

use crate::finding::{Area, Finding, Verdict};

/// So many of one kind are told; `dfget config check` tells all.
const MOST: usize = 5;
const CHECK: &str = "`dfget config check` tells all about it";

pub(crate) fn findings(loaded: &Result<Loaded, ConfigErrors>) -> Vec<Finding> {
    let (verdict, diagnostics) = match loaded {
        Ok(loaded) => {
            let mut findings = vec![Finding::good(Area::Configuration, loaded.source.display().to_string())];
            findings.extend(told(Verdict::Warning, &loaded.warnings));
            if loaded.config.proxy.hijack.is_none() && !loaded.config.proxy.mirrors.is_enabled() {
                findings.push(Finding::new(
                    Area::Configuration,
                    Verdict::Warning,
                    format!("{} opens no HTTPS: nothing of it is cached", loaded.source.display()),
                    "name the registries below hijackHTTPS.hosts",
                ));
            }
            return findings;
        }
        Err(failed) if failed.source.is_none() => {
            return vec![Finding::new(
                Area::Configuration,
                Verdict::Note,
                "there is no dfget.yaml; `dfget run` needs none, `dfget daemon` does",
                "`dfget run -- apptainer pull …`, or write one as the README says",
            )];
        }
        Err(failed) => (Verdict::Bad, &failed.errors),
    };
    told(verdict, diagnostics)
}

fn told(verdict: Verdict, diagnostics: &[dfget_config::Diagnostic]) -> Vec<Finding> {
    let first = diagnostics.iter().take(MOST);
    let mut findings: Vec<_> =
        first.map(|one| Finding::new(Area::Configuration, verdict, one.to_string(), CHECK)).collect();
    if diagnostics.len() > MOST {
        let text = format!("and {} more", diagnostics.len() - MOST);
        findings.push(Finding::new(Area::Configuration, verdict, text, CHECK));
    }
    findings
}
