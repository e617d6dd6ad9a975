//! Where the configuration file is found, and where things lie when it does not say.
//!
//! Pure decisions over an [`Environment`]. Root, or whoever may write the system's directories,
//! gets those; everybody else gets the ones of the XDG base directory specification.

use std::path::{Path, PathBuf};

use crate::{Environment, LoadOptions, OwnAuthority};

/// How a configuration file came to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Named {
    /// `--config`, or an argument of `dfget config check`.
    CommandLine,
    /// `DFGET_CONFIG`.
    Variable,
    /// It lies where one is looked for.
    Default,
}

/// Directories to use when the file names none; `None` where there is no home directory either.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Places {
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    /// The key of the cluster.
    pub(crate) cluster_key: Option<PathBuf>,
    /// Of a plain user: the directory below which a missing key is made.
    pub(crate) key_home: Option<PathBuf>,
}

/// The file to read: the one that is named, else the first that is there and readable, the
/// system's before the user's. `None` when there is none.
pub(crate) fn config_file(options: &LoadOptions, environment: &Environment) -> Option<(PathBuf, Named)> {
    if let Some(path) = &options.config {
        return Some((path.clone(), Named::CommandLine));
    }
    if let Some(path) = environment.variable("DFGET_CONFIG") {
        return Some((path.into(), Named::Variable));
    }
    let there: Vec<_> =
        candidates(environment).into_iter().filter(|path| environment.files.mode(path).is_ok()).collect();
    let readable = there.iter().find(|path| environment.files.read(path, LIMIT_BYTES).is_ok());
    // One that cannot be read is still named: its reader says why.
    readable.or_else(|| there.first()).map(|path| (path.clone(), Named::Default))
}

/// The places where a configuration file is looked for, in this order.
pub(crate) fn candidates(environment: &Environment) -> Vec<PathBuf> {
    let user = environment
        .directory("XDG_CONFIG_HOME")
        .map(Path::to_path_buf)
        .or_else(|| environment.directory("HOME").map(|home| home.join(".config")))
        .map(|directory| directory.join("dragonfly/dfget.yaml"));
    std::iter::once(PathBuf::from(SYSTEM_CONFIG)).chain(user).collect()
}

/// The system's directories when they can be written, else the user's.
pub(crate) fn places(environment: &Environment) -> Places {
    with_key(environment, directories(environment))
}

/// The key of the system for whoever may write its directory, else the user's own.
fn with_key(environment: &Environment, places: Places) -> Places {
    let system = PathBuf::from(CLUSTER_KEY);
    let is_ours = environment.files.is_writable_directory(Path::new(CONFIG_DIR));
    let configured = environment.directory("XDG_CONFIG_HOME").map(Path::to_path_buf);
    let home = environment.directory("HOME").map(Path::to_path_buf);
    let user = configured.or_else(|| home.as_ref().map(|home| home.join(".config"))).filter(|_| !is_ours);
    Places {
        key_home: user
            .as_ref()
            .map(|user| home.filter(|home| user.starts_with(home)).unwrap_or_else(|| user.clone())),
        cluster_key: Some(user.map_or(system, |user| user.join("dragonfly/cluster.key"))),
        ..places
    }
}

fn directories(environment: &Environment) -> Places {
    if [LOG_DIR, DATA_DIR].iter().all(|path| environment.files.is_writable_directory(Path::new(path))) {
        return Places {
            log_dir: Some(LOG_DIR.into()),
            data_dir: Some(DATA_DIR.into()),
            ..Places::default()
        };
    }
    let below = |variable: &str, in_home: &str| {
        let home = || environment.directory("HOME").map(|home| home.join(in_home));
        environment.directory(variable).map(Path::to_path_buf).or_else(home)
    };
    Places {
        log_dir: below("XDG_STATE_HOME", ".local/state").map(|path| path.join("dragonfly/log")),
        data_dir: below("XDG_CACHE_HOME", ".cache").map(|path| path.join("dragonfly")),
        ..Places::default()
    }
}

/// Where a configuration is written that is not there yet: the system's directory if it can be
/// written, else the user's. `None` where there is no home directory either.
#[must_use]
pub fn config_directory(environment: &Environment) -> Option<PathBuf> {
    let directories: Vec<PathBuf> =
        candidates(environment).iter().filter_map(|file| file.parent().map(Path::to_path_buf)).collect();
    let writable = directories.iter().find(|path| environment.files.is_writable_directory(path));
    writable.or_else(|| directories.last()).cloned()
}

/// Where dfget's own authority lies, `ca.crt` and `ca.key`: beside the configuration file `source`,
/// or in `data_dir` if it is there, or if the former cannot be written. The hosts are left empty.
#[must_use]
pub fn own_authority(source: &Path, data_dir: &Path, environment: &Environment) -> OwnAuthority {
    let source = environment.working_directory.join(source);
    let beside = source.parent().unwrap_or(&source);
    let pair = |directory: &Path, exists| OwnAuthority {
        cert: directory.join("ca.crt"),
        key: directory.join("ca.key"),
        exists,
        hosts: Vec::new(),
    };
    let is_there = |directory: &&Path| environment.files.read(&directory.join("ca.key"), LIMIT_BYTES).is_ok();
    let can_be_made = |directory: &&Path| {
        let hidden = environment.files.mode(&directory.join("ca.key")).is_ok();
        !hidden && environment.files.is_writable_directory(directory)
    };
    let places = [beside, data_dir];
    if let Some(directory) = places.into_iter().find(is_there) {
        return pair(directory, true);
    }
    pair(places.into_iter().find(can_be_made).unwrap_or(data_dir), false)
}

/// A configuration of ten thousand hosts takes less than a MiB.
pub(crate) const LIMIT_BYTES: u64 = 4 << 20;

const CONFIG_DIR: &str = "/etc/dragonfly";
const CLUSTER_KEY: &str = "/etc/dragonfly/cluster.key";
const SYSTEM_CONFIG: &str = "/etc/dragonfly/dfget.yaml";
const LOG_DIR: &str = "/var/log/dragonfly";
const DATA_DIR: &str = "/var/lib/dragonfly";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeFiles, environment};

    fn found(files: FakeFiles, variables: &[(&str, &str)]) -> Option<(PathBuf, Named)> {
        config_file(&LoadOptions::default(), &environment(files, variables))
    }

    #[test]
    fn the_option_comes_before_the_variable_and_both_before_the_default() {
        let files = FakeFiles::default().with(SYSTEM_CONFIG, "");
        let environment = environment(files, &[("DFGET_CONFIG", "/v.yaml")]);
        let options = LoadOptions { config: Some("o.yaml".into()), ..LoadOptions::default() };
        assert_eq!(config_file(&options, &environment), Some(("o.yaml".into(), Named::CommandLine)));
        assert_eq!(
            config_file(&LoadOptions::default(), &environment),
            Some(("/v.yaml".into(), Named::Variable))
        );
    }

    #[test]
    fn the_systems_file_comes_before_the_users_if_it_can_be_read() {
        let user = "/home/u/.config/dragonfly/dfget.yaml";
        let both = || FakeFiles::default().with(SYSTEM_CONFIG, "").with(user, "");
        let home = [("HOME", "/home/u")];
        assert_eq!(found(both(), &home), Some((SYSTEM_CONFIG.into(), Named::Default)));
        assert_eq!(found(both().locked(SYSTEM_CONFIG), &home), Some((user.into(), Named::Default)));
        let locked = FakeFiles::default().with(SYSTEM_CONFIG, "").locked(SYSTEM_CONFIG);
        assert_eq!(found(locked, &home), Some((SYSTEM_CONFIG.into(), Named::Default)));
        assert_eq!(found(FakeFiles::default(), &home), None);
        let xdg = FakeFiles::default().with("/x/dragonfly/dfget.yaml", "");
        assert_eq!(
            found(xdg, &[("XDG_CONFIG_HOME", "/x"), ("HOME", "/home/u")]),
            Some(("/x/dragonfly/dfget.yaml".into(), Named::Default))
        );
    }

    #[test]
    fn whoever_may_write_the_systems_directories_gets_them() {
        let files = FakeFiles::default().writable(DATA_DIR).writable(LOG_DIR);
        let set = places(&environment(files, &[("HOME", "/root")]));
        assert_eq!(set.data_dir, Some("/var/lib/dragonfly".into()));
        assert_eq!(set.log_dir, Some("/var/log/dragonfly".into()));
        let one = FakeFiles::default().writable(DATA_DIR);
        assert_eq!(
            places(&environment(one, &[("HOME", "/h")])).data_dir,
            Some("/h/.cache/dragonfly".into()),
            "what lies together is moved together"
        );
    }

    #[test]
    fn others_get_the_xdg_directories() {
        let variables = [("HOME", "/home/u"), ("XDG_CACHE_HOME", "/scratch/u"), ("XDG_STATE_HOME", "/state")];
        let set = places(&environment(FakeFiles::default(), &variables));
        assert_eq!(set.data_dir, Some("/scratch/u/dragonfly".into()));
        assert_eq!(set.log_dir, Some("/state/dragonfly/log".into()));

        let home = places(&environment(FakeFiles::default(), &variables[..1]));
        assert_eq!(home.data_dir, Some("/home/u/.cache/dragonfly".into()));
        assert_eq!(home.log_dir, Some("/home/u/.local/state/dragonfly/log".into()));

        let nowhere = places(&environment(FakeFiles::default(), &[]));
        let cluster_key = Some("/etc/dragonfly/cluster.key".into());
        assert_eq!(nowhere, Places { cluster_key, ..Places::default() });
    }

    #[test]
    fn an_own_authority_lies_beside_the_configuration_if_it_can() {
        let own = |files: FakeFiles| {
            let own = own_authority(
                Path::new("/etc/dragonfly/dfget.yaml"),
                Path::new("/data"),
                &environment(files, &[]),
            );
            (own.cert.display().to_string(), own.exists)
        };
        let beside = "/etc/dragonfly/ca.crt".to_owned();
        let data = "/data/ca.crt".to_owned();
        let none = FakeFiles::default;
        assert_eq!(own(none().writable("/etc/dragonfly").writable("/data")), (beside.clone(), false));
        assert_eq!(own(none().writable("/data")), (data.clone(), false));
        assert_eq!(own(none()), (data.clone(), false));
        assert_eq!(own(none().with("/etc/dragonfly/ca.key", "")), (beside.clone(), true));
        assert_eq!(own(none().with("/data/ca.key", "").writable("/etc")), (data.clone(), true));
        let both = none().with("/data/ca.key", "").with("/etc/dragonfly/ca.key", "");
        assert_eq!(own(both), (beside, true));
        let anothers = none().with("/etc/dragonfly/ca.key", "").locked("/etc/dragonfly/ca.key").writable("/");
        assert_eq!(own(anothers), (data, false));
    }

    #[test]
    fn a_new_configuration_goes_where_it_can_be_written() {
        let home = [("HOME", "/home/u")];
        let directory = |files| config_directory(&environment(files, &home));
        assert_eq!(directory(FakeFiles::default().writable("/")), Some("/etc/dragonfly".into()));
        assert_eq!(directory(FakeFiles::default()), Some("/home/u/.config/dragonfly".into()));
    }
}
