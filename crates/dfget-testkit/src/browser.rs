//! A real Chromium without a window, told what to do by its DevTools protocol.
//!
//! The protocol goes over two pipes (`--remote-debugging-pipe`), each message ended by a zero byte, so that nothing listens
//! on a port and no library of WebSockets is needed. The browser has a profile of its own, which goes with it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gate::PATIENCE;

/// Programs that are tried, in order.
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium", "chromium-browser"];

/// A running browser. It is killed when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    next: u64,
    _profile: TempDir,
}

/// A page of a browser.
#[derive(Debug)]
pub struct Tab {
    browser: Browser,
    session: String,
    events: Vec<Value>,
}

// === impl Browser ===

impl Browser {
    /// Starts the Chromium of this machine.
    ///
    /// # Panics
    /// If there is none, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let program = find().expect("there is no Chromium here; type: apt-get install chromium");
        let profile = tempfile::tempdir().expect("the system has a directory for temporary files");
        let [to, from] = ["to", "from"].map(|name| profile.path().join(name));
        for pipe in [&to, &from] {
            let made = Command::new("mkfifo").arg(pipe).status().expect("mkfifo is there");
            assert!(made.success(), "no pipe at {}", pipe.display());
        }
        let log = File::create(profile.path().join("log")).expect("the profile can be written");
        // The shell opens the pipes where the browser looks for them: at 3 and 4.
        let child = Command::new("sh")
            .args(["-c", "to=$1 from=$2; shift 2; exec \"$@\" 3<\"$to\" 4>\"$from\"", "sh"])
            .args([&to, &from])
            .arg(program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"])
            .args(["--no-proxy-server", "--hide-scrollbars", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().join("data").display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sh is there");
        // In the order in which the shell opens them: each side waits for the other.
        let commands = File::options().write(true).open(&to).expect("the browser reads");
        let messages = read_on(File::open(&from).expect("the browser writes"));
        Self { child, commands, messages, next: 0, _profile: profile }
    }

    /// Opens an empty page of this size; `phone` has its pixels small and takes touches.
    ///
    /// # Panics
    /// If the browser does not obey.
    #[must_use]
    pub fn tab(mut self, width: u32, height: u32, phone: bool) -> Tab {
        let made = self.call(None, "Target.createTarget", &json!({ "url": "about:blank" }), &mut Vec::new());
        let attach = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", &attach, &mut Vec::new());
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let mut tab = Tab { browser: self, session, events: Vec::new() };
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        tab.resize(width, height, phone);
        tab
    }

    fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        parameters: &Value,
        events: &mut Vec<Value>,
    ) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let sent = self.commands.write_all(format!("{message}\0").as_bytes());
        sent.expect("the browser takes a command");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next_message(deadline).unwrap_or_else(|| gave_up(method));
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            events.push(message);
        }
    }

    fn next_message(&self, deadline: Instant) -> Option<Value> {
        self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::panic, reason = "a failure of the kit fails the test at once")]
fn gave_up(method: &str) -> ! {
    panic!("the browser does not answer {method}")
}

// === impl Tab ===

impl Tab {
    /// What the browser answers to a command for this page.
    ///
    /// # Panics
    /// If it refuses, or does not answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters, &mut self.events)
    }

    /// Another size.
    pub fn resize(&mut self, width: u32, height: u32, phone: bool) {
        let scale = if phone { 2 } else { 1 };
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// What the user likes: dark or light, and whether pictures may move.
    pub fn prefer(&mut self, dark: bool, still: bool) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } },
            { "name": "prefers-reduced-motion", "value": if still { "reduce" } else { "no-preference" } },
        ]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Opens an address.
    pub fn open(&mut self, address: &str) {
        self.call("Page.navigate", &json!({ "url": address }));
    }

    /// The value of an expression of JavaScript, awaited.
    ///
    /// # Panics
    /// If it throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it is not within [`PATIENCE`]; the message shows the text of the page.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        let parameters = json!({ "expression": format!("Boolean({expression})"), "returnByValue": true });
        // What throws now, for the page is not there yet, may be true later.
        while self.call("Runtime.evaluate", &parameters)["result"]["value"] != true {
            let patient = Instant::now() < deadline;
            assert!(patient, "{expression} never came to be:\n{}", self.text());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The text that is to be seen.
    pub fn text(&mut self) -> String {
        self.value("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Presses a key, such as `Tab` or `Enter`.
    pub fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": if kind == "keyDown" { text } else { "" },
            });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// A picture of the whole page, as a PNG file.
    ///
    /// # Panics
    /// If there is none, or the file cannot be written.
    pub fn picture(&mut self, file: &Path) {
        self.shoot(file, true);
    }

    /// A picture of what its window shows, as a PNG file.
    ///
    /// # Panics
    /// If there is none, or the file cannot be written.
    pub fn window_picture(&mut self, file: &Path) {
        self.shoot(file, false);
    }

    fn shoot(&mut self, file: &Path, whole: bool) {
        let shot =
            self.call("Page.captureScreenshot", &json!({ "format": "png", "captureBeyondViewport": whole }));
        let bytes = STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(file, bytes).expect("the file can be written");
    }

    /// Everything that the page asked for so far: addresses.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// What went wrong in the page so far: exceptions, and what the browser complains of.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.events.iter().filter(bad).map(|event| event["params"].to_string()).collect()
    }
}

/// Where the Chromium of this machine is: `$DFGET_CHROMIUM`, else on the path.
fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DFGET_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let on_path =
        |name: &&str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    PROGRAMS.iter().find_map(on_path)
}

/// The messages of a browser, as they come; reading them is never behind.
fn read_on(from: File) -> Receiver<Value> {
    let (sender, messages) = channel();
    thread::spawn(move || -> io::Result<()> {
        let mut from = BufReader::new(from);
        loop {
            let mut message = Vec::new();
            from.read_until(0, &mut message)?;
            if message.pop() != Some(0) {
                return Ok(());
            }
            let message = serde_json::from_slice(&message).unwrap_or_default();
            if sender.send(message).is_err() {
                return Ok(());
            }
        }
    });
    messages
}
