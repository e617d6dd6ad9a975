//! Runs a test once more, in namespaces.
//!
//! The test as `cargo test` calls it sets the clients up (once for all tests), then starts its own binary with its
//! own name in the namespaces and passes on how that ended. There the same function runs its scenario.
//!
//! Root makes the namespaces as it is, anybody else by a user namespace, in which there is one uid and no power over
//! what is the machine's. A scenario that needs more begins with [`left_out_without_root`].

use std::any::type_name;
use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::{Finished, run};

/// Seconds after which a scenario is ended from outside.
const SCENARIO_SECONDS: u32 = 300;

/// Says which kind of namespaces these are, `root` or `user`; unset outside of them.
const KIND: &str = "DFGET_NAMESPACE";

/// How a line begins that tells of a scenario that did not run.
const LEFT_OUT: &str = "left out: ";

/// Runs `scenario`, a closure in the body of the test, in fresh namespaces.
pub(crate) fn in_namespace<F: FnOnce()>(scenario: F) {
    in_namespace_with(&clients_dir, scenario);
}

/// The same, with a directory of programs besides the clients', which `prepare` fills and names.
pub(crate) fn in_namespace_with<F: FnOnce()>(prepare: &dyn Fn() -> PathBuf, scenario: F) {
    if env::var_os(KIND).is_some() {
        return scenario();
    }
    set_up();
    let programs = prepare();
    let this = env::current_exe().expect("a test knows its own binary");
    let name = test_name::<F>();
    let ended = run(Command::new(scripts_dir().join("in-namespace"))
        .arg(clients_dir())
        .arg("--keep")
        .arg(this.parent().expect("a file is in a directory"))
        .arg("--keep")
        .arg(dfget_binary().parent().expect("a file is in a directory"))
        .arg("--keep")
        .arg(programs)
        .arg(&this)
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env("DFGET_RUN_SECONDS", SCENARIO_SECONDS.to_string()));
    let ran = ended.success && ended.stdout.contains("1 passed");
    assert!(ran, "{name} failed in its namespaces:\n{}\n{}", ended.stdout, ended.stderr);
    for line in ended.stderr.lines().filter(|line| line.starts_with(LEFT_OUT)) {
        // Not by a macro, whose words the test harness keeps to itself when the test ends well.
        writeln!(io::stderr(), "{line} (test {name})").expect("standard error takes a line");
    }
}

/// Whether these are the namespaces of an ordinary user; then says that the scenario is left out, and `why`.
pub(crate) fn left_out_without_root(why: &str) -> bool {
    let left_out = env::var_os(KIND).is_none_or(|kind| kind != "root");
    if left_out {
        eprintln!("{LEFT_OUT}{why} needs root; it runs in CI");
    }
    left_out
}

/// The binary under test.
pub(crate) fn dfget_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dfget"))
}

/// Where `tests/real-clients/setup` puts programs and images: `$DFGET_BUILD_DIR/clients`, by default `build/clients`.
pub(crate) fn clients_dir() -> PathBuf {
    env::var_os("DFGET_BUILD_DIR").map_or_else(|| root_dir().join("build"), PathBuf::from).join("clients")
}

/// Where `tests/real-clients/h2spec` puts its program: beside the clients.
pub(crate) fn h2spec_dir() -> PathBuf {
    clients_dir().with_file_name("h2spec")
}

/// The scripts of the real clients.
pub(crate) fn scripts_dir() -> PathBuf {
    root_dir().join("tests/real-clients")
}

/// This clone.
pub(crate) fn root_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Once for all tests of this process; a second call costs nothing when all is there.
fn set_up() {
    static SET_UP: OnceLock<Finished> = OnceLock::new();
    let done = SET_UP.get_or_init(|| run(Command::new(scripts_dir().join("setup")).arg(clients_dir())));
    assert!(done.success, "the real clients are not there:\n{}{}", done.stdout, done.stderr);
}

/// The name by which libtest knows the function that made the closure `F`: its path in this crate.
fn test_name<F>() -> String {
    let path = type_name::<F>();
    let path = path.split_once("::").map_or(path, |(_crate, rest)| rest);
    path.trim_end_matches("::{{closure}}").to_owned()
}
