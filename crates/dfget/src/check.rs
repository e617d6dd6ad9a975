//! `dfget config check`.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use dfget_config::{
    ConfigErrors, Diagnostic, Environment, HijackAuthority, LoadOptions, Loaded, OwnAuthority, Proxy,
    Severity, load,
};
use serde_json::{Value, json};

use crate::{
    arguments::{CheckArguments, Output},
    message,
};

/// What was found out about a configuration.
struct Findings {
    /// Errors first.
    diagnostics: Vec<Diagnostic>,
    source: Option<PathBuf>,
    /// What would be served; `None` when there are errors.
    proxy: Option<Proxy>,
}

/// Looks at the configuration and says what is found.
pub(crate) fn run(arguments: &CheckArguments, environment: &Environment) -> ExitCode {
    let options = LoadOptions {
        config: arguments.file.clone().or_else(|| arguments.config.clone()),
        ..LoadOptions::default()
    };
    let findings = Findings::of(load(&options, environment));
    let can_be_used = findings.proxy.is_some();
    let status = if can_be_used { ExitCode::SUCCESS } else { ExitCode::from(ConfigErrors::EXIT_CODE) };
    message::printed_or(findings.print(arguments.output), status)
}

// === impl Findings ===

impl Findings {
    fn of(result: Result<Loaded, ConfigErrors>) -> Self {
        match result {
            Ok(Loaded { config, warnings, source, .. }) => {
                Self { diagnostics: warnings, source: Some(source), proxy: Some(config.proxy) }
            }
            Err(failed) => {
                let diagnostics = failed.errors.into_iter().chain(failed.warnings).collect();
                Self { diagnostics, source: failed.source, proxy: None }
            }
        }
    }

    fn print(&self, output: Output) -> io::Result<()> {
        match output {
            Output::Text => {
                message::diagnostics(&self.diagnostics);
                message::output(self.summary())
            }
            Output::Json => message::output(self.json()),
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    fn file(&self) -> String {
        self.source.as_deref().map_or_else(|| "no file".to_owned(), |path: &Path| path.display().to_string())
    }

    /// The last line: how many, and what the daemon would do.
    fn summary(&self) -> String {
        let errors = counted(self.count(Severity::Error), "error");
        let warnings = counted(self.count(Severity::Warning), "warning");
        let outcome = match &self.proxy {
            None => "the daemon would not start".to_owned(),
            Some(proxy) => {
                let hosts: Vec<_> = patterns(proxy).map(|pattern| format!("`{pattern}`")).collect();
                let hijack = match hosts.as_slice() {
                    [] => "hijack nothing".to_owned(),
                    [first, second, third, rest @ ..] if !rest.is_empty() => {
                        format!("hijack {first}, {second}, {third} and {} more", rest.len())
                    }
                    few => format!("hijack {}", few.join(", ")),
                };
                let mirrors: Vec<_> = mirrors(proxy).collect();
                let mirror = match mirrors.as_slice() {
                    [] => String::new(),
                    urls => format!("serve as a mirror of {}, ", urls.join(", ")),
                };
                let and = if mirror.is_empty() { " " } else { ", " };
                let (listen, authority) = (proxy.listen, authority(proxy));
                format!("the proxy would listen on {listen}{and}{mirror}and {hijack}{authority}")
            }
        };
        format!("{}: {errors}, {warnings}; {outcome}", self.file())
    }

    /// The same for programs. `version` grows when a field changes its meaning or goes.
    fn json(&self) -> Value {
        json!({
            "version": 1,
            "file": self.source.as_deref().map(|path| path.display().to_string()),
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "diagnostics": self.diagnostics.iter().map(diagnostic).collect::<Vec<_>>(),
            "proxy": self.proxy.as_ref().map(|proxy| json!({
                "listen": proxy.listen.to_string(),
                "hijack": patterns(proxy).collect::<Vec<_>>(),
                "mirrors": mirrors(proxy).collect::<Vec<_>>(),
                "authority": own(proxy).map(|own| json!({
                    "cert": own.cert.display().to_string(),
                    "exists": own.exists,
                })),
            })),
        })
    }
}

fn patterns(proxy: &Proxy) -> impl Iterator<Item = &str> {
    proxy.hijack.iter().flat_map(|hijack| &hijack.hosts).map(|host| host.regx.as_str())
}

fn mirrors(proxy: &Proxy) -> impl Iterator<Item = String> {
    proxy.mirrors.configured().map(|mirror| mirror.url.to_string())
}

/// The authority that the configuration does not name, where there is something to sign for.
fn own(proxy: &Proxy) -> Option<&OwnAuthority> {
    match proxy.hijack.as_ref().filter(|hijack| !hijack.hosts.is_empty()).map(|hijack| &hijack.authority) {
        Some(HijackAuthority::Own(own)) => Some(own),
        Some(HijackAuthority::Named { .. }) | None => None,
    }
}

/// What would become of it.
fn authority(proxy: &Proxy) -> String {
    match own(proxy) {
        Some(own) if own.exists => format!(", with the authority {}", own.cert.display()),
        Some(own) => {
            format!(", with an authority it would make, {} for {}", own.cert.display(), own.hosts.join(", "))
        }
        None => String::new(),
    }
}

fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let location = diagnostic.location.as_ref();
    json!({
        "severity": diagnostic.severity.as_str(),
        "code": diagnostic.code.as_str(),
        "file": location.map(|location| location.file.display().to_string()),
        "line": location.and_then(|location| location.line),
        "column": location.and_then(|location| location.column),
        "key": diagnostic.key,
        "problem": diagnostic.problem,
        "remedy": diagnostic.remedy,
    })
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
