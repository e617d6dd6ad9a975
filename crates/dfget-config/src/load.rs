//! From a file to a [`Config`], or to everything that is wrong with it.
//!
//! Owns the order: find the file, read it, sort its keys, say what is unknown, read what has an
//! effect, then doubt what is legal but odd. All errors are collected; only a file that cannot be
//! read as YAML at all ends the work early.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{
    Code, Config, Diagnostic, Environment,
    build::{self, Context},
    check::check,
    layout, lint,
    options::{PROXY, TOP},
    places::{self, LIMIT_BYTES, Named},
    report::{Report, Subject},
    settings::{self, Origins, Settings},
    yaml::{self, Node},
};

/// What the command line says about the configuration; it overrides the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoadOptions {
    /// The file to read (`--config`); `None` = look for one.
    pub config: Option<PathBuf>,
    /// Log to standard output, whatever the file says (`--console`).
    pub console: bool,
    /// Log at debug level, whatever the file says (`--verbose`).
    pub verbose: bool,
    /// The members of the cluster, instead of those of the file (`--cluster`).
    pub cluster: Option<String>,
    /// The port for the members, whatever the file says (`--cluster-port`).
    pub cluster_port: Option<u16>,
    /// A scheduler of a Dragonfly cluster, instead of those of the file, and of its members (`--scheduler`).
    pub scheduler: Option<String>,
}

/// A configuration without errors, and what should be said about it all the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// In the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The file it came from.
    pub source: PathBuf,
    /// Every key with an effect, its value, and where that is from.
    pub settings: Settings,
    /// All files that were read for it, absolute; certificates are none of them.
    pub files: Vec<PathBuf>,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConfigErrors {
    /// All of them, at least one, in the order of the file.
    pub errors: Vec<Diagnostic>,
    /// What else should be said, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The file, when one was named or found.
    pub source: Option<PathBuf>,
    /// All files that were read or should have been, absolute.
    pub files: Vec<PathBuf>,
}

// === impl ConfigErrors ===

impl ConfigErrors {
    /// What a program exits with that cannot use its configuration: `EX_CONFIG` of `sysexits.h`.
    pub const EXIT_CODE: u8 = 78;
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    /// One line for each error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// Reads the configuration: the file that is named, else `DFGET_CONFIG`, else
/// `/etc/dragonfly/dfget.yaml`, else the user's own.
///
/// # Errors
/// [`ConfigErrors`] with every error found, if there is any: there is no file, it or one that it
/// names cannot be read, is no YAML, holds a value that cannot be used, or no key of the proxy.
pub fn load(options: &LoadOptions, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    load_with(options, environment, true)
}

/// The same for whoever makes or replaces the authority of the hijack: `cert` and `key` need not be
/// there nor be of use, and `hosts` may be any patterns.
///
/// # Errors
/// As [`load`].
pub fn load_without_authority(
    options: &LoadOptions,
    environment: &Environment,
) -> Result<Loaded, ConfigErrors> {
    load_with(options, environment, false)
}

fn load_with(
    options: &LoadOptions,
    environment: &Environment,
    needs_authority: bool,
) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::default();
    let file = places::config_file(options, environment);
    let source = file.as_ref().map(|(path, _)| path.clone());
    let mut files = Vec::new();
    let config = read(file, options, environment, needs_authority, &mut report, &mut files);
    let has_errors = report.has_errors();
    let (errors, warnings) = report.into_parts();
    match (config, source) {
        (Some((config, settings)), Some(source)) if !has_errors => {
            Ok(Loaded { config, warnings, source, settings, files })
        }
        (_, source) => Err(ConfigErrors { errors, warnings, source, files }),
    }
}

/// `None` only after an error that leaves nothing to look at.
fn read(
    file: Option<(PathBuf, Named)>,
    options: &LoadOptions,
    environment: &Environment,
    needs_authority: bool,
    report: &mut Report,
    watched: &mut Vec<PathBuf>,
) -> Option<(Config, Settings)> {
    let source = file.as_ref().map(|(path, _)| path.clone()).unwrap_or_default();
    let named = file.as_ref().map_or(Named::Default, |(_, named)| *named);
    watched.extend(file.iter().map(|(path, _)| environment.working_directory.join(path)));
    let mut files = Files { environment, directories: Vec::new(), subjects: Vec::new() };
    let root = match file {
        Some((path, named)) => {
            let content = environment.files.read(&environment.working_directory.join(&path), LIMIT_BYTES);
            let content = content.map_err(|error| unreadable(&path, named, &error, report)).ok()?;
            files.parse(path, &content, report)?
        }
        None => files.parse(PathBuf::new(), b"", report)?,
    };
    let top = layout::top(&root, report);
    let separate_root = layout::separate_file(&top).and_then(|(field, name)| {
        let path = files.directories.first()?.join(name);
        watched.push(path.clone());
        match environment.files.read(&path, LIMIT_BYTES) {
            Ok(content) => files.parse(path, &content, report),
            Err(error) => {
                let problem = format!("the file of the proxy's keys, {}: {}", path.display(), plain(&error));
                let remedy = "write its absolute name, or the keys themselves below `proxy:`";
                report.error(field.value(), Code::MissingFile, problem, remedy);
                None
            }
        }
    });
    let separate = separate_root.as_ref().map(|root| layout::top(root, report));
    let layout = layout::arrange(top, separate, report);
    // Where keys could not be found for an error, that error is enough.
    let is_complete = !report.has_errors();

    for (section, known) in [(Some(&layout.daemon), TOP), (layout.proxy.as_ref(), PROXY)] {
        let Some(section) = section else { continue };
        check(section, known, report);
        lint::placeholders(section, report);
    }
    let Files { directories, subjects, .. } = files;
    let console = options.console;
    let mut context = Context { report, environment, directories: &directories, console, needs_authority };
    let places = places::places(environment);
    let paths = build::directories(&layout.daemon, &places, &mut context);
    let own = places::own_authority(&source, &paths.data_dir, environment);
    let proxy = layout.proxy.as_ref().map(|section| build::proxy(section, own, &mut context));
    let mut config = build::daemon(&layout.daemon, proxy.unwrap_or_default(), paths, &mut context);
    config.cluster = build::cluster(&layout.daemon, &places, options, &mut context);
    config.scheduler = build::scheduler(&layout.daemon, &mut config.cluster, options, &mut context);
    match &layout.proxy {
        Some(section) => lint::proxy(section, &config.proxy, report),
        None if is_complete => nothing_to_serve(subjects.first(), environment, report),
        None => {}
    }
    lint::modes(&config, &subjects, environment, report);
    config.verbose |= options.verbose;
    let (report, directories, places) = (&*report, &directories[..], &places);
    let origins = Origins { options, environment, report, directories, places, file: source, named };
    Some((config, settings::settings(&layout, &origins)))
}

/// The files read so far.
struct Files<'a> {
    environment: &'a Environment,
    directories: Vec<PathBuf>,
    subjects: Vec<Subject>,
}

// === impl Files ===

impl Files<'_> {
    /// Makes a tree of a file's content and remembers the file.
    fn parse(&mut self, path: PathBuf, content: &[u8], report: &mut Report) -> Option<Node> {
        let absolute = self.environment.working_directory.join(&path);
        self.directories.push(absolute.parent().map(Path::to_path_buf).unwrap_or(absolute));
        if !path.as_os_str().is_empty() {
            self.subjects.push(Subject::file(&path));
        }
        let number = report.add_file(path);
        match yaml::parse(number, content) {
            Ok(document) => {
                document.faults.into_iter().for_each(|fault| report.fault(fault));
                Some(document.root)
            }
            Err(fault) => {
                report.fault(fault);
                None
            }
        }
    }
}

/// Says that there is no key of the proxy, in the file or for want of a file.
fn nothing_to_serve(file: Option<&Subject>, environment: &Environment, report: &mut Report) {
    let example = "write `proxies` and `hijackHTTPS`, docs/configuration.md has an example";
    match file {
        Some(file) => {
            let problem = "no key of the proxy, so there is nothing to serve";
            report.error(file.clone(), Code::MissingKey, problem, example);
        }
        None => {
            let places: Vec<_> =
                places::candidates(environment).iter().map(|path| path.display().to_string()).collect();
            let problem = format!("there is no configuration file (looked for {})", places.join(", then "));
            let remedy = format!("{example}, or name a file with `--config FILE`");
            report.error(Subject::default(), Code::MissingKey, problem, remedy);
        }
    }
}

fn unreadable(path: &Path, named: Named, error: &io::Error, report: &mut Report) {
    let by = match named {
        Named::Variable => ", named by `DFGET_CONFIG`",
        Named::CommandLine | Named::Default => "",
    };
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            "write it, docs/configuration.md has an example, or name another with `--config FILE`".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "run `ls -l {0}` to see who may, and `sudo chmod o+r {0}` if everybody should",
                path.display()
            )
        }
        _ => "name a file of YAML with `--config FILE`".to_owned(),
    };
    let problem = format!("the configuration cannot be read{by}: {}", plain(error));
    report.error(Subject::file(path), Code::FileUnreadable, problem, remedy);
}

/// An error of the system without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_ascii_lowercase(),
        None => text,
    }
}
