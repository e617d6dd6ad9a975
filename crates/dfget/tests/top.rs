//! `dfget top`, what it asks, and who may ask: the socket, the token and the Host of the page's port.

#![expect(clippy::panic, reason = "a helper of a test may fail the test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dfget_testkit::{Blob, Gate, Request, Stage};
use serde_json::Value;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const MIB: usize = 1 << 20;
const NOBODY: u32 = 65_534;

/// `dfget top` beside a daemon's home.
fn top(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(DFGET);
    command
        .arg("top")
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"))
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn live(stage: &Stage) -> Value {
    let output = top(stage.daemon.home(), &["--once", "--output", "json"]).output().expect("it starts");
    serde_json::from_str(&ok(&output)).expect("JSON")
}

/// Waits until the live view is as `wanted`.
#[track_caller]
fn until(stage: &Stage, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let live = live(stage);
        if wanted(&live) {
            return live;
        }
        assert!(Instant::now() < deadline, "it never came to be: {live:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The page's address, where it is, and its token.
fn page(stage: &Stage) -> (String, SocketAddr, String) {
    let address = ok(&top(stage.daemon.home(), &["--web"]).output().expect("it starts")).trim().to_owned();
    let (place, token) = address.split_once("/#token=").unwrap_or_else(|| panic!("no token in {address}"));
    let place = place.strip_prefix("http://").and_then(|place| place.parse().ok()).expect("an address");
    (address.clone(), place, token.to_owned())
}

/// What the port answers to these lines of a head.
fn exchange(place: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(place).expect("the port is open");
    write!(stream, "{head}\r\n\r\n").expect("it is taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    text(&answer)
}

fn ask(place: SocketAddr, path: &str, token: &str) -> String {
    exchange(place, &format!("GET {path} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {token}"))
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[test]
fn a_live_view_tells_what_runs_what_was_saved_and_what_went_wrong() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(4 * MIB, 1);
    let url = stage.registry.put("lab/tool", &blob);
    for _ in 0..3 {
        let request = Request::get(format!("{url}?sig=topsecret")).authorization("Bearer alsosecret");
        stage.registry.grant("lab/tool", "Bearer alsosecret");
        assert_eq!(stage.fetch(&request).status, 200);
    }
    let live = until(&stage, |live| live["history"]["clients"].as_array().is_some_and(|line| line.len() > 1));
    let ended = &live["ended"][0];
    assert_eq!((&ended["total"], &ended["failure"]), (&(4 * MIB).into(), &Value::Null), "{live:#}");
    assert!(ended["name"].as_str().is_some_and(|name| name.starts_with("lab/tool@")), "{ended}");
    let registry = &live["registries"][0];
    assert_eq!(registry["bytes"], 4 * MIB, "{registry}");
    assert_eq!(
        (&registry["savedBytes"], &registry["savedRequests"]),
        (&(8 * MIB).into(), &2.into()),
        "{registry}"
    );
    assert!(registry["requests"].as_u64() >= Some(1) && registry["logins"] == 1, "{registry}");
    assert_eq!((&live["store"]["contents"], &live["running"]), (&1.into(), &0.into()));
    assert_eq!(live["cluster"], Value::Null);
    let lines = ["origin", "peers", "clients", "cache", "toPeers"]
        .map(|name| live["history"][name].as_array().map(Vec::len));
    assert!(lines.iter().all(|length| *length == lines[0]), "{lines:?}");
    assert!(!live.to_string().contains("secret"), "{live:#}");

    let broken = Blob::random(MIB, 2);
    let wrong = stage.registry.put_as("lab/tool", &format!("sha256:{}", "1".repeat(64)), &broken.bytes);
    let request = Request::get(&wrong).authorization("Bearer alsosecret");
    assert_ne!(stage.fetch(&request).body, broken.bytes[..]);
    let live = until(&stage, |live| live["remarks"].to_string().contains("a download failed: "));
    assert!(live["remarks"].to_string().contains("delivered content with digest"), "{live:#}");
    assert!(live["ended"][0]["failure"].as_str().is_some_and(|why| why.contains("digest")), "{live:#}");
}

#[test]
fn a_download_shows_how_far_it_is() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(8 * MIB, 3);
    let url = stage.registry.put("lab/big", &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(4 * MIB as u64, &held).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(3 * MIB) == blob.bytes[..3 * MIB]);
    let live = until(&stage, |live| live["tasks"][0]["present"].as_u64() >= Some(4 * MIB as u64));
    let task = &live["tasks"][0];
    assert_eq!(
        (&live["running"], &task["total"], &task["clients"]),
        (&1.into(), &(8 * MIB).into(), &1.into()),
        "{task}"
    );
    let map = task["map"].as_str().expect("a map");
    assert!(map.starts_with("oooo") && map.ends_with("..."), "{map}");
    let shown = ok(&top(stage.daemon.home(), &["--once"]).env("COLUMNS", "80").output().expect("it starts"));
    assert!(
        shown.contains("Downloads (1)")
            && shown.contains("lab/big@")
            && shown.contains(" 50 %  4.0 MiB of 8.0 MiB"),
        "{shown}"
    );
    assert!(shown.contains('▒') && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    gate.open();
    assert!(incoming.read_all().is_complete());
    until(&stage, |live| live["running"] == 0 && live["ended"][0]["total"] == 8 * MIB);
}

#[test]
fn the_page_and_what_it_asks_open_with_the_token_alone() {
    let mut stage = Stage::new(DFGET);
    stage.registry.put("lab/private", &Blob::random(MIB, 4));
    let (address, place, token) = page(&stage);
    assert_eq!(token.len(), 64, "{address}");
    let right = ask(place, "/api/v1/live", &token);
    assert_eq!(status(&right), "200", "{right}");
    for path in ["/api/v1/node", "/api/v1/tasks", "/api/v1/contents", "/api/v1/stat"] {
        assert_eq!(status(&ask(place, path, &token)), "200", "{path}");
    }
    let wrong = format!("{}{}", &token[..63], if token.ends_with('0') { '1' } else { '0' });
    for path in ["/api/v1/live", "/api/v1/contents", "/api/v1/page", "/api/v1/nothing"] {
        for wrong in [wrong.as_str(), "", &token[..63], &format!("{token}0")] {
            let answer = ask(place, path, wrong);
            assert_eq!(status(&answer), "401", "{path} {wrong}: {answer}");
            assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
        }
        let without = exchange(place, &format!("GET {path} HTTP/1.1\r\nHost: {place}"));
        assert_eq!(status(&without), "401", "{path}");
        let in_query = exchange(place, &format!("GET {path}?token={token} HTTP/1.1\r\nHost: {place}"));
        assert_eq!(status(&in_query), "401", "{path}");
    }
    assert_eq!(status(&ask(place, "/api/v1/page", &token)), "404", "the token hands out no token");
    assert!(!stage.daemon.everything_said().contains(&token), "the token is in no log");

    stage.daemon.stop();
    stage.daemon.start_again();
    let (_, place, fresh) = page(&stage);
    assert_ne!(fresh, token);
    assert_eq!(status(&ask(place, "/api/v1/live", &token)), "401");
}

#[test]
fn the_page_only_shows_and_is_no_part_of_another_site() {
    let stage = Stage::new(DFGET);
    let (_, place, token) = page(&stage);
    let html = exchange(place, &format!("GET / HTTP/1.1\r\nHost: {place}"));
    assert_eq!(status(&html), "200", "{html}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
    ] {
        assert!(html.contains(line), "no {line} in {html}");
    }
    for path in ["/main.js", "/draw.js", "/words.js", "/page.css", "/icon.svg"] {
        assert_eq!(
            status(&exchange(place, &format!("GET {path} HTTP/1.1\r\nHost: localhost:1"))),
            "200",
            "{path}"
        );
    }
    let bearer = format!("Authorization: Bearer {token}");
    for host in ["evil.example", "evil.example:40901", "127.0.0.1.evil.example", "10.9.9.9", ""] {
        for path in ["/", "/main.js", "/api/v1/live"] {
            let answer = exchange(place, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}"));
            assert_eq!(status(&answer), "421", "{host} {path}: {answer}");
        }
    }
    let twice = format!("GET /api/v1/live HTTP/1.1\r\nHost: {place}\r\nHost: evil.example\r\n{bearer}");
    assert_eq!(status(&exchange(place, &twice)), "421");
    assert_eq!(status(&exchange(place, &format!("GET /api/v1/live HTTP/1.0\r\n{bearer}"))), "421");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/api/v1/live", "/api/v1/contents"] {
            let answer = exchange(place, &format!("{method} {path} HTTP/1.1\r\nHost: {place}\r\n{bearer}"));
            assert_eq!(status(&answer), "405", "{method} {path}: {answer}");
        }
    }
    // What was open stays so, whatever the Host.
    assert_eq!(status(&exchange(place, "GET /server/ping HTTP/1.1\r\nHost: prometheus.example")), "200");
}

#[test]
fn another_user_is_told_so_and_gets_nothing() {
    if !rustix::process::geteuid().is_root() {
        // Not by a macro, whose words the test harness keeps to itself when the test ends well.
        writeln!(std::io::stderr(), "left out: becoming another user needs root; it runs in CI")
            .expect("it is open");
        return;
    }
    let stage = Stage::new(DFGET);
    let home = stage.daemon.home();
    // So that it is the socket that refuses, and not the way to it.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    open(home, 0o755).expect("it is ours");
    let place = tempfile::tempdir().expect("a directory");
    open(place.path(), 0o755).expect("it is ours");
    let binary = place.path().join("dfget");
    assert!(Command::new("cp").arg(DFGET).arg(&binary).status().expect("cp is there").success());
    for arguments in [&["--once"][..], &["--once", "--output", "json"], &["--web"]] {
        let mut command = Command::new(&binary);
        command
            .arg("top")
            .args(arguments)
            .env_clear()
            .env("HOME", "/")
            .env("DFGET_SYSTEM_SOCKET", home.join("lease.sock"))
            .uid(NOBODY)
            .gid(NOBODY);
        let output = command.output().expect("it starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{arguments:?}: {said}");
        assert!(said.contains("belongs to another user: ask as root, or as its own user"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn without_a_daemon_there_is_nothing_to_see() {
    let home = tempfile::tempdir().expect("a directory");
    for arguments in [&[][..], &["--once"], &["--web"], &["--output", "json"]] {
        let output = top(home.path(), arguments).output().expect("it starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{arguments:?}: {said}");
        assert!(said.starts_with("error: no daemon runs on this node"), "{said}");
    }
    for wrong in [&["--web", "--once"][..], &["--every", "1"]] {
        assert_eq!(top(home.path(), wrong).output().expect("it starts").status.code(), Some(2), "{wrong:?}");
    }
}

/// `dfget top` on a terminal of its own (`script`), and what it has written there.
struct OnTerminal {
    child: std::process::Child,
    written: std::sync::mpsc::Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    so_far: String,
}

impl OnTerminal {
    /// Runs it between two looks at how the terminal is set.
    fn start(stage: &Stage, before: &str) -> Self {
        let settings = "stty -a; echo END-OF-SETTINGS";
        let command = format!(
            "{before}\nstty rows 24 cols 80; {settings}; sh -c 'echo PID $$; exec {DFGET} top'; \
             echo \"status $?\"; {settings}"
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("HOME", stage.daemon.home())
            .env("XDG_RUNTIME_DIR", stage.daemon.home().join("run"))
            .env("DFGET_SYSTEM_SOCKET", stage.daemon.home().join("lease.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is there (bsdutils)");
        let mut output = child.stdout.take().expect("a pipe");
        let (sender, written) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, written, bytes: Vec::new(), so_far: String::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.so_far.contains(wanted) {
            assert!(Instant::now() < deadline, "no {wanted:?} in {:?}", self.so_far);
            self.wait_for_more();
        }
    }

    #[track_caller]
    fn wait_for_more(&mut self) {
        match self.written.recv_timeout(Duration::from_secs(60)) {
            Ok(bytes) => {
                self.bytes.extend(bytes);
                self.so_far = text(&self.bytes);
            }
            Err(_) => panic!("nothing more after {:?}", self.so_far),
        }
    }

    /// Waits for what comes from now on.
    fn forget(&mut self) {
        self.bytes.clear();
        self.so_far.clear();
    }

    fn press(&mut self, keys: &str) {
        let keyboard = self.child.stdin.as_mut().expect("a pipe");
        keyboard.write_all(keys.as_bytes()).and_then(|()| keyboard.flush()).expect("it reads");
    }

    /// Waits for the end; the terminal must be as it was.
    #[track_caller]
    fn end(mut self, status: &str) {
        self.wait_for(status);
        while !self.so_far.split(status).nth(1).is_some_and(|after| after.contains("END-OF-SETTINGS")) {
            self.wait_for_more();
        }
        let _ = self.child.wait();
        let all = &self.so_far;
        let (first, last) = (all.split("END-OF-SETTINGS").next(), all.split(status).nth(1));
        let settings = |text: Option<&str>| {
            let text = text.unwrap_or_default().replace("\r\n", "\n");
            let at = text.find("speed ").unwrap_or_else(|| panic!("no settings in {text:?}"));
            text[at..].lines().take_while(|line| !line.contains("END-OF")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(settings(first), settings(last), "the terminal is not as it was");
        let (taken, left) = (all.rfind("\u{1b}[?1049h"), all.rfind("\u{1b}[?1049l"));
        assert!(taken.is_some() && left > taken, "the other screen is left: {all:?}");
        assert!(all.rfind("\u{1b}[?25h") > all.rfind("\u{1b}[?25l"), "the cursor is there again");
    }
}

#[test]
fn the_terminal_is_as_it_was_after_each_end() {
    let stage = Stage::new(DFGET);
    for keys in ["q", "\u{3}", "\u{1b}[B\u{1b}[6~pq"] {
        let mut terminal = OnTerminal::start(&stage, "");
        terminal.wait_for("q quit");
        terminal.press(keys);
        terminal.end("status 0");
    }
    let mut terminal = OnTerminal::start(&stage, "");
    terminal.wait_for("q quit");
    let id = terminal.so_far.split("PID ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let id = id.and_then(|id| id.parse().ok()).and_then(rustix::process::Pid::from_raw).expect("its number");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
    terminal.end("status 0");
}

#[test]
fn a_terminal_of_another_size_gets_another_picture() {
    let stage = Stage::new(DFGET);
    let mut terminal = OnTerminal::start(&stage, "tty=$(tty); (sleep 2; stty -F \"$tty\" rows 10 cols 40) &");
    terminal.wait_for("q quit  ↑↓ scroll  space pause");
    // Cut to forty columns.
    terminal.wait_for("q quit  ↑↓ scroll  space pause  live  l…");
    terminal.press("q");
    terminal.wait_for("status 0");
}

#[test]
fn a_daemon_that_goes_and_comes_back_is_seen_again() {
    let mut stage = Stage::new(DFGET);
    let mut terminal = OnTerminal::start(&stage, "");
    terminal.wait_for("pause  live");
    stage.daemon.stop();
    terminal.wait_for("asking again");
    stage.daemon.start_again();
    terminal.forget();
    terminal.wait_for("pause  live");
    terminal.press("q");
    terminal.wait_for("status 0");
}
