//! Whether a daemon runs on this node, for whom, and whether it is of this command's version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dfget_lease::{Channel, FromDaemon, Look, Peer, ToDaemon};

use crate::finding::{Area, Finding, Verdict};
use crate::version::{OWN, Skew};

/// What is at a socket.
#[derive(Debug)]
enum At {
    /// Nothing.
    Nobody,
    /// A daemon that this user may trust.
    Daemon(Daemon),
    /// Something else.
    Other(String),
}

/// A daemon that answers.
#[derive(Debug, Default)]
struct Daemon {
    pid: u32,
    /// Its program's version; `None` = it does not tell.
    version: Option<String>,
    /// The file that it was started from is another one by now, or gone.
    replaced: bool,
}

/// A socket for leases.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    path: PathBuf,
    /// `dfget run` starts the daemon there, which leaves by itself.
    of_run: bool,
}

/// A daemon answers at once.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn findings() -> Vec<Finding> {
    let places = places(dfget_daemon::daemon_sockets(), dfget_daemon::admin_sockets());
    let seen: Vec<_> = places.into_iter().map(|place| (look(&place.path), place)).collect();
    judge(&seen)
}

/// Those of daemons that stay, then those of daemons of `dfget run`, each of which is beside its API's.
fn places(daemons: Vec<PathBuf>, apis: Vec<PathBuf>) -> Vec<Place> {
    let beside = apis.into_iter().filter(|path| path.extension().is_some_and(|end| end == "admin"));
    let of_run: Vec<_> =
        beside.map(|path| path.with_extension("sock")).filter(|path| !daemons.contains(path)).collect();
    let place = |of_run| move |path| Place { path, of_run };
    daemons.into_iter().map(place(false)).chain(of_run.into_iter().map(place(true))).collect()
}

fn judge(seen: &[(At, Place)]) -> Vec<Finding> {
    let finding = |(at, place): &(At, Place)| match at {
        At::Nobody => None,
        At::Daemon(daemon) => Some(judge_daemon(place, daemon)),
        At::Other(reason) => Some(Finding::new(
            Area::Daemon,
            Verdict::Warning,
            format!("{}: {reason}", place.path.display()),
            "commands do not use it; stop it, or remove the socket",
        )),
    };
    let findings: Vec<_> = seen.iter().filter_map(finding).collect();
    if !findings.is_empty() {
        return findings;
    }
    vec![Finding::new(
        Area::Daemon,
        Verdict::Note,
        "none runs on this node, or none that you may ask",
        "`dfget daemon` starts one; `dfget run` starts its own",
    )]
}

fn judge_daemon(place: &Place, daemon: &Daemon) -> Finding {
    let Daemon { pid, version, replaced } = daemon;
    let socket = place.path.display();
    // Who has opened a socket is who the kernel names.
    let by_systemd = *pid == 1;
    let answers = if by_systemd {
        format!("a daemon answers at {socket}, which systemd keeps open for it")
    } else {
        format!("process {pid} answers at {socket}")
    };
    let warn = |text: String, remedy: String| Finding::new(Area::Daemon, Verdict::Warning, text, remedy);
    let restart = if place.of_run {
        "it leaves when the last command of `dfget run` has ended, and the next one starts a new one"
            .to_owned()
    } else if by_systemd {
        "start it again: `systemctl restart dfget`".to_owned()
    } else {
        format!("start it again: `systemctl restart dfget`, or end process {pid} and start `dfget daemon`")
    };
    let Some(version) = version else {
        let text = format!(
            "{answers}, and does not tell its version: it is none of dfget {OWN}, as this command is"
        );
        return warn(text, restart);
    };
    let differs = |how: &str| format!("{answers}, of dfget {version}, {how} than this command ({OWN})");
    match Skew::of(version, OWN) {
        Skew::Older => warn(differs("older"), restart),
        Skew::Newer => {
            let remedy =
                "`type -a dfget` shows which are on your path: use the one that came with the daemon";
            warn(differs("newer"), remedy.to_owned())
        }
        Skew::Other => warn(differs("another"), restart),
        Skew::Same if *replaced => {
            let text =
                format!("{answers}, of dfget {version}, whose file was replaced or removed since it started");
            warn(text, restart)
        }
        Skew::Same => {
            Finding::good(Area::Daemon, format!("{answers}, of dfget {version}, as this command is"))
        }
    }
}

fn look(place: &Path) -> At {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};

    let mut channel = match Channel::connect(place, PATIENCE) {
        Ok(channel) => channel,
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return At::Nobody,
        Err(error) => return At::Other(error.to_string()),
    };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    match Peer::of(channel.stream()).map(|peer| peer.trusted(&passwd)) {
        Ok(Ok(Peer { pid, .. })) => {
            At::Daemon(Daemon { pid, version: ask(&mut channel), replaced: is_replaced(pid) })
        }
        Ok(Err(untrusted)) => At::Other(untrusted.to_string()),
        Err(error) => At::Other(error.to_string()),
    }
}

/// The version that is told to everybody, also to those who may know nothing else.
fn ask(channel: &mut Channel) -> Option<String> {
    channel.send(&ToDaemon::Look(Look::default()), &[]).ok()?;
    let version = match channel.receive::<FromDaemon>() {
        Ok(Some(FromDaemon::Seen(seen))) => seen.version,
        Ok(Some(FromDaemon::Refused { version, .. })) => version,
        _ => return None,
    };
    (!version.is_empty()).then_some(version)
}

/// As the kernel tells root and the process's own user (proc(5)).
fn is_replaced(pid: u32) -> bool {
    let file = std::fs::read_link(format!("/proc/{pid}/exe"));
    file.is_ok_and(|file| file.to_string_lossy().ends_with(" (deleted)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place { path: path.into(), of_run: false }
    }

    #[test]
    fn daemons_of_dfget_run_are_found_beside_their_api() {
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        let daemons = paths(&["/run/dragonfly/lease.sock", "/tmp/d/daemon.sock"]);
        let apis = paths(&["/run/dragonfly/admin.sock", "/tmp/d/daemon.admin", "/tmp/d/run-1.admin"]);
        let found = places(daemons, apis);
        let found: Vec<_> = found.iter().map(|place| (place.path.to_str().unwrap(), place.of_run)).collect();
        let expected = [
            ("/run/dragonfly/lease.sock", false),
            ("/tmp/d/daemon.sock", false),
            ("/tmp/d/run-1.sock", true),
        ];
        assert_eq!(found, expected);
    }

    fn daemon(version: Option<&str>, replaced: bool) -> At {
        At::Daemon(Daemon { pid: 7, version: version.map(str::to_owned), replaced })
    }

    #[test]
    fn one_daemon_is_enough_and_a_stranger_at_a_socket_is_told() {
        let (one, other) = (|| place("/run/a.sock"), || place("/tmp/b.sock"));
        let of = |seen: &[(At, Place)]| judge(seen).iter().map(|one| one.verdict).collect::<Vec<_>>();
        assert_eq!(of(&[(At::Nobody, one()), (daemon(Some(OWN), false), other())]), [Verdict::Good]);
        assert_eq!(of(&[(At::Nobody, one()), (At::Nobody, other())]), [Verdict::Note]);
        assert_eq!(of(&[(At::Other("it is user 5".to_owned()), one())]), [Verdict::Warning]);
    }

    #[test]
    fn a_daemon_of_another_version_is_told_with_which_of_the_two_is_older() {
        let told = |at| {
            let found = judge(&[(at, place("/run/a.sock"))]).remove(0);
            (found.verdict, found.text, found.remedy.unwrap_or_default())
        };
        for (version, words, remedy) in [
            (Some("0.0.9"), "of dfget 0.0.9, older than this command", "systemctl restart dfget"),
            (Some("99.0.0"), "of dfget 99.0.0, newer than this command", "type -a dfget"),
            (Some("main"), "of dfget main, another than this command", "end process 7"),
            (None, "does not tell its version", "end process 7"),
        ] {
            let (verdict, text, what) = told(daemon(version, false));
            assert_eq!(verdict, Verdict::Warning, "{text}");
            assert!(text.contains(words) && what.contains(remedy), "{text}: {what}");
        }
        let (verdict, text, _) = told(daemon(Some(OWN), true));
        assert!(verdict == Verdict::Warning && text.contains("replaced or removed"), "{text}");
    }

    #[test]
    fn a_process_whose_file_is_gone_is_told_from_others() {
        assert!(!is_replaced(std::process::id()));
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("sleep");
        std::fs::copy("/bin/sleep", &copy).unwrap();
        let mut child = std::process::Command::new(&copy).arg("60").spawn().unwrap();
        assert!(!is_replaced(child.id()));
        std::fs::remove_file(copy).unwrap();
        assert!(is_replaced(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
