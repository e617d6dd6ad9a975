//! The bar in a real terminal of 80 columns (`tmux`, which must be installed).

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use dfget_testkit::gate::PATIENCE;
use dfget_testkit::{Blob, Gate, Session};

use super::support::{DFGET, home, session};

const LEN: usize = 3_000_000;

/// A terminal; closed when dropped.
struct Terminal {
    socket: PathBuf,
}

// === impl Terminal ===

impl Terminal {
    /// A terminal in which a shell runs this script in the session.
    fn open(session: &Session, width: u16, script: &str) -> Self {
        let terminal = Self { socket: session.path("tmux.sock") };
        let size = [width.to_string(), "10".to_owned()];
        let mut command = session.program("tmux");
        command.arg("-S").arg(&terminal.socket).args(["-f", "/dev/null", "new-session", "-d"]);
        command.args(["-x", &size[0], "-y", &size[1], &format!("{script}; echo status $?; cat")]);
        let ended = command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").output();
        let ended = ended.expect("tmux is installed; apt-get install tmux");
        assert!(ended.status.success(), "{ended:?}");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let ended = Command::new("tmux").arg("-S").arg(&self.socket).args(arguments).output().unwrap();
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }

    /// What is to be seen, once `holds` is true of it.
    fn see(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if holds(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "waited in vain for {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// Opens a terminal with a download that stands still after two thirds.
fn held(session: &Session, width: u16, flags: &str) -> (Terminal, Gate) {
    let blob = Blob::random(LEN, 1);
    let url = session.registry.put("p/image", &blob);
    let gate = Gate::new();
    let held = gate.clone();
    session.registry.next_blob(move |answer| answer.hold_after(2_000_000, &held).into());
    (Terminal::open(session, width, &format!("{DFGET} {url} -O tool_1.2.sif {flags}")), gate)
}

#[test]
fn the_bar_shows_how_much_has_come_and_from_where() {
    let session = session();
    let (terminal, gate) = held(&session, 80, "");
    let screen =
        terminal.see("a bar", |screen| screen.contains("from the origin") && screen.contains("MB/3.00 MB"));
    let bar = screen.lines().find(|line| line.starts_with("tool_1.2.sif ")).expect("the bar").to_owned();
    assert!(bar.contains("=>") && bar.contains("/s "), "{bar}");
    assert!(bar.chars().count() <= 80, "{bar}");
    gate.open();
    let screen = terminal.see("the end", |screen| screen.contains("status 0"));
    let lines: Vec<_> = screen.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "the bar is gone: {screen}");
    assert!(
        lines[0].starts_with("tool_1.2.sif: 3.00 MB in ") && lines[0].ends_with(", from the origin"),
        "{screen}"
    );
    assert!(home(&session, "tool_1.2.sif").exists());
}

#[test]
fn a_narrow_terminal_is_borne() {
    let session = session();
    let (terminal, gate) = held(&session, 30, "");
    let screen = terminal.see("a bar", |screen| screen.contains("tool_1.2.sif"));
    assert!(screen.lines().filter(|line| line.contains("tool_1.2.sif")).count() == 1, "{screen}");
    gate.open();
    terminal.see("the end", |screen| screen.contains("status 0"));
}

#[test]
fn ctrl_c_says_on_a_line_of_its_own_that_the_rest_comes_next_time() {
    let session = session();
    let (terminal, _gate) = held(&session, 80, "");
    terminal.see("bytes", |screen| screen.contains("MB/3.00 MB"));
    terminal.tmux(&["send-keys", "C-c"]);
    let screen = terminal.see("the end", |screen| screen.contains("status 130"));
    let told = "error: interrupted; what has come is kept, and the same command goes on from there";
    assert!(screen.replace('\n', "").contains(told), "{screen}");
    assert!(
        screen.lines().any(|line| line.starts_with("error: interrupted")),
        "it has a line of its own: {screen}"
    );
}

#[test]
fn a_terminal_that_is_to_be_quiet_or_can_do_nothing_shows_no_bar() {
    for flags in ["--quiet", "2>/dev/null"] {
        let session = session();
        let (terminal, gate) = held(&session, 80, flags);
        session
            .registry
            .origin
            .wait_until("bytes are sent", |journal| journal.iter().any(|entry| entry.sent >= 2_000_000));
        gate.open();
        let screen = terminal.see("the end", |screen| screen.contains("status 0"));
        assert_eq!(screen.trim(), "status 0", "{flags}");
    }
    let session = session();
    let url = session.registry.put("p/image", &Blob::random(1000, 2));
    let terminal = Terminal::open(&session, 80, &format!("TERM=dumb {DFGET} {url} -O x"));
    let screen = terminal.see("the end", |screen| screen.contains("status 0"));
    assert_eq!(screen.trim(), "status 0");
}
