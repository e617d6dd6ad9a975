//! From a bare home to an accelerated pull, as `docs/first-pull.md` has it: its commands are typed, in their order, by a
//! user who is not root and has nothing but the binary; the last one is the first pull that the registry need not send.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::contender::Kind;
use crate::course::Bench;
use crate::places::Places;
use crate::table::{Goal, Row};

/// Each dfget in a home of its own, and beside it the same pulls by the client alone.
pub(super) fn first(bench: &mut Bench) -> io::Result<()> {
    let size = if bench.plan.small { 4 } else { 64 };
    let ids = ["first-all", "first-cold", "first-warm"].map(str::to_owned);
    let [all, cold, warm] = &ids;
    let commands = commands(&bench.places)?;
    let what = format!("bare home, {} commands, s", commands.len());
    let goal = Goal::AtMost(MOST_SECONDS);
    bench.table.add(Row::new(all, what).against("direct").goal(goal));
    bench.table.add(Row::new(cold, format!("  the first pull, {size} MiB, s")).against("direct"));
    bench.table.add(Row::new(warm, "  and the next one, s").against("direct"));
    if commands.len() > MOST_COMMANDS {
        bench.table.note(format!("docs/first-pull.md takes more than {MOST_COMMANDS} commands"));
    }
    bench.places.registry("start")?;
    for round in 0..bench.plan.rounds {
        let direct = pulls(&bench.places, size, &commands, None);
        bench.record(round, "direct", &ids, direct);
        for contender in bench.contenders.clone() {
            if let Kind::Dfget(binary) = &contender.kind {
                rustix::fs::sync();
                let pulled = pulls(&bench.places, size, &commands, Some(binary));
                bench.record(round, &contender.name, &ids, pulled);
            }
        }
    }
    bench.places.registry("stop")
}

/// Seconds of all commands, of the first pull and of the second. Without a binary only the pulls themselves are typed.
fn pulls(places: &Places, size: u32, commands: &[String], binary: Option<&Path>) -> io::Result<Vec<f64>> {
    let home = places.directory("first")?;
    if let Some(binary) = binary {
        fs::copy(binary, home.join("dfget"))?;
    }
    let reference = format!("registry.test/public/sif:{size}");
    let (mut all, mut each) = (0.0, Vec::new());
    for command in commands {
        let mut typed = command.replace(THEIRS, &reference);
        if binary.is_none() {
            let Some((_, alone)) = typed.split_once(RUN) else { continue };
            typed = alone.to_owned();
        }
        let began = Instant::now();
        type_in(places, &home, &typed)?;
        let seconds = began.elapsed().as_secs_f64();
        all += seconds;
        if is_pull(command) {
            each.push(seconds);
        }
    }
    let image = places.clients.join("images").join(format!("{size}.sif"));
    if fs::metadata(home.join(format!("sif_{size}.sif")))?.len() != fs::metadata(image)?.len() {
        return Err(io::Error::other("another image than the registry has"));
    }
    daemon_left()?;
    fs::remove_dir_all(home)?;
    each.insert(0, all);
    Ok(each)
}

/// Types a command in a shell of a user who is not root, in this home.
fn type_in(places: &Places, home: &Path, typed: &str) -> io::Result<()> {
    let mut shell = Command::new("unshare");
    shell.args(["--user", "--map-user=65534", "--map-group=65534", "sh", "-c", typed]);
    let programs = [home.join(".local/bin"), places.clients.join("bin"), "/usr/bin".into(), "/bin".into()];
    let path = std::env::join_paths(programs).map_err(io::Error::other)?;
    shell.env_clear().env("PATH", path).env("HOME", home).env("SSL_CERT_FILE", places.origin_authority());
    let output = shell.current_dir(home).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{typed}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// The commands of the page up to the second pull.
fn commands(places: &Places) -> io::Result<Vec<String>> {
    let page = fs::read_to_string(places.scripts.join("../../docs/first-pull.md"))?;
    let commands = until_second_pull(&page);
    let pulls = commands.iter().filter(|command| is_pull(command)).count();
    if pulls == 2 { Ok(commands) } else { Err(io::Error::other("docs/first-pull.md has no two pulls")) }
}

fn until_second_pull(page: &str) -> Vec<String> {
    let (mut open, mut pulls, mut commands) = (false, 0, Vec::new());
    for line in page.lines().map(str::trim) {
        match line {
            "```sh" => open = true,
            "```" => open = false,
            line if open && pulls < 2 && !line.is_empty() && !line.starts_with('#') => {
                pulls += usize::from(is_pull(line));
                commands.push(line.to_owned());
            }
            _ => {}
        }
    }
    commands
}

fn is_pull(command: &str) -> bool {
    command.starts_with(RUN)
}

/// Waits until the daemon that `dfget run` started has left, so that the next home is as bare as this one was.
fn daemon_left() -> io::Result<()> {
    let began = Instant::now();
    while is_daemon_there()? {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other("the daemon of `dfget run` does not leave"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn is_daemon_there() -> io::Result<bool> {
    for process in fs::read_dir("/proc")? {
        // One that ended meanwhile has no line any more.
        let line = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word == b"leased-daemon") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How a pull of the page begins.
const RUN: &str = "dfget run -- ";
/// What the page pulls.
const THEIRS: &str = "registry.example.com/project/image:tag";
const MOST_COMMANDS: usize = 3;
const MOST_SECONDS: f64 = 60.0;
/// It stays for some seconds, for the next command.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_end_with_the_second_pull() {
        let page = "words\n```sh\ninstall x\n```\n```sh\n# words\ndfget run -- a\n```\n```text\nno\n```\n\
                    ```sh\ndfget run -- b\n```\n```sh\ndfget run -- c\n```\n";
        assert_eq!(until_second_pull(page), ["install x", "dfget run -- a", "dfget run -- b"]);
    }
}
