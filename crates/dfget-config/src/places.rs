//! Where the configuration file is found, and where things lie when it does not say.
//!
//! Pure decisions over an [`Environment`]. Root, or whoever may write the system's directories,
//! gets those; everybody else gets the ones of the XDG base directory specification.

use std::path::{Path, PathBuf};

use crate::{Environment, LoadOptions};

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

/// The system's directories when both can be written, else the user's.
pub(crate) fn places(environment: &Environment) -> Places {
    if [LOG_DIR, DATA_DIR].iter().all(|path| environment.files.is_writable_directory(Path::new(path))) {
        return Places { log_dir: Some(LOG_DIR.into()), data_dir: Some(DATA_DIR.into()) };
    }
    let below = |variable: &str, in_home: &str| {
        let home = || environment.directory("HOME").map(|home| home.join(in_home));
        environment.directory(variable).map(Path::to_path_buf).or_else(home)
    };
    Places {
        log_dir: below("XDG_STATE_HOME", ".local/state").map(|path| path.join("dragonfly/log")),
        data_dir: below("XDG_CACHE_HOME", ".cache").map(|path| path.join("dragonfly")),
    }
}

/// A configuration of ten thousand hosts takes less than a MiB.
pub(crate) const LIMIT_BYTES: u64 = 4 << 20;

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

        assert_eq!(places(&environment(FakeFiles::default(), &[])), Places::default());
    }
}
