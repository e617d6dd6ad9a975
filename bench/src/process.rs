//! Programs that are measured: started, accounted for by the operating system, ended by their own id.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A running program, with all that it started. It is ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

// === impl Server ===

impl Server {
    /// Starts `command` with its output in the file `log`, and waits until `address` accepts connections.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not listen in time; the message tells what it printed last.
    pub fn start(mut command: Command, log: &Path, address: SocketAddr) -> io::Result<Self> {
        let file = File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut server = Self { child: command.spawn()? };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || began.elapsed() > START {
                let printed = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = printed.lines().collect();
                let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
                let program = command.get_program().to_string_lossy().into_owned();
                return Err(io::Error::other(format!(
                    "{program} does not listen on {address}; it says:\n  {last}"
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// Seconds of processor that the program and all it started took since they began (`/proc/PID/stat`).
    ///
    /// # Errors
    /// The program is gone.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let mut ticks = 0;
        for pid in self.tree()? {
            // One that ended meanwhile has been added to its parent's.
            ticks += ticks_of(pid).unwrap_or(0);
        }
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Bytes of anonymous memory of them all, shared pages in proportion (`Pss_Anon` of `/proc/PID/smaps_rollup`).
    ///
    /// # Errors
    /// The program is gone, or the system does not tell.
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for pid in self.tree()? {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
            let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
            let line =
                line.ok_or_else(|| io::Error::other("the system tells no Pss_Anon (Linux 5.14 does)"))?;
            let kib: u64 = line.trim_end_matches("kB").trim().parse().map_err(io::Error::other)?;
            bytes += kib * 1024;
        }
        if bytes == 0 { Err(io::Error::other("the program is gone")) } else { Ok(bytes) }
    }

    /// The most memory that the program itself has had at once, in bytes (`VmHWM` of `/proc/PID/status`).
    ///
    /// # Errors
    /// The program is gone.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.ok_or_else(|| io::Error::other("the program is gone"))?.trim_end_matches("kB");
        let kib: u64 = kib.trim().parse().map_err(io::Error::other)?;
        Ok(kib * 1024)
    }

    /// Asks the program to end, and waits for it.
    ///
    /// # Errors
    /// It does not end in time, and was killed.
    pub fn end(mut self) -> io::Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<()> {
        let tree = self.tree().unwrap_or_default();
        let signal = |pid: u32, signal: Signal| {
            i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, signal))
        };
        if self.child.try_wait()?.is_none() {
            signal(self.child.id(), Signal::TERM);
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > END {
                for pid in &tree {
                    signal(*pid, Signal::KILL);
                }
                self.child.wait()?;
                return Err(io::Error::other("a program did not end, and was killed"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        // What it left behind would be in the way of the next.
        for pid in tree.into_iter().filter(|pid| *pid != self.child.id()) {
            while alive(pid) && began.elapsed() < END {
                thread::sleep(Duration::from_millis(5));
            }
            signal(pid, Signal::KILL);
        }
        Ok(())
    }

    /// The program and its descendants.
    fn tree(&self) -> io::Result<Vec<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut tree = vec![self.child.id()];
        let mut seen = 0;
        while let Some(parent) = tree.get(seen).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            seen += 1;
        }
        Ok(tree)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Seconds of processor that this program took itself, without those that it started.
///
/// # Errors
/// The system does not tell.
pub fn own_cpu_seconds() -> io::Result<f64> {
    let times = stat(std::process::id()).and_then(|fields| {
        fields.get(11..13)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()
    });
    let ticks = times.ok_or_else(|| io::Error::other("no /proc/PID/stat"))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// User and system time of a process, and of its children that ended.
fn ticks_of(pid: u32) -> Option<u64> {
    stat(pid)?.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// Fields of `/proc/PID/stat` behind the name, from the state on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses.
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn alive(pid: u32) -> bool {
    let running = stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"));
    running
        && i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// `USER_HZ`, which is the same wherever this runs.
const TICKS_PER_SECOND: f64 = 100.0;
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(20);
