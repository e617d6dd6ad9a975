//! What is printed to be read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use dfget_testkit::{Blob, Ended, Session, Stage, TestCa};
use tempfile::TempDir;

use crate::transcript::{DFGET, Transcript, beside, when_stored};

/// What is shown for an address, which is at least as long.
const ADDRESS: &str = "127.0.0.1:5000";

/// A stage whose store holds two blobs, and what is shown for what differs.
fn stored() -> (Stage, [Blob; 2], Transcript) {
    let stage = Stage::with(DFGET, |options| options.extra("storage: {diskGCThreshold: 10Gi}"));
    let blobs = [Blob::random(3 << 20, 1), Blob::random(12_288, 2)];
    for (blob, repository) in blobs.iter().zip(["lab/image", "lab/other"]) {
        let url = stage.registry.put(repository, blob);
        assert!(stage.get(&url).is_complete());
        if blob.len() < 1 << 20 {
            assert!(stage.get(&url).is_complete());
        }
    }
    let _ = when_stored(&stage.daemon, 2);
    let mut transcript = Transcript::new();
    transcript.word(stage.daemon.home().display(), "~");
    transcript.word(stage.registry.origin.authority(), ADDRESS);
    (stage, blobs, transcript)
}

/// The same without what is told of time and of the disk (the column `USED` of `ls`, and what is free), and in columns as
/// wide as if the registry had our address.
fn blurred(ended: Ended, address: &str) -> Ended {
    let line = |line: &str| {
        let line = match line.split_once(" s  ") {
            Some((before, after)) => {
                let seconds = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
                // As wide as it was, for the column has its place.
                format!("{}{:>seconds$} s  {after}", &before[..before.len() - seconds], 0)
            }
            None => line.to_owned(),
        };
        match line.split_once("; ") {
            Some((before, _)) if line.starts_with("used ") => format!("{before}; FREE"),
            _ => line,
        }
    };
    let stdout = ended.stdout.lines().map(|text| line(text) + "\n").collect::<String>();
    let spare = " ".repeat(if stdout.contains(address) { address.len() - ADDRESS.len() } else { 0 });
    let heads = ["FROM", "REGISTRY"].map(|head| (format!("{head}{spare}"), head));
    let stdout = heads.iter().fold(stdout, |text, (wide, head)| text.replace(wide, head));
    Ended { stdout, ..ended }
}

#[test]
fn snapshot_of_what_is_stored() {
    let (stage, blobs, mut transcript) = stored();
    let short = &blobs[0].digest[7..19];
    for typed in [
        "dfget cache ls --sort size",
        "dfget cache ls --sort size -n 1",
        "dfget cache ls elsewhere.test",
        "dfget cache stat",
        &format!("dfget cache rm {short} --dry-run"),
        "dfget cache gc --dry-run",
        "dfget cache gc --to 1MiB --dry-run",
        "dfget cache verify",
        "dfget cache export bundle.tar",
        "dfget cache import bundle.tar",
        &format!("dfget cache rm {short} --yes"),
        "dfget cache import bundle.tar",
    ] {
        let words: Vec<_> = typed.split(' ').skip(1).collect();
        let ended =
            blurred(Ended::of(&mut beside(&stage.daemon, &words)), &stage.registry.origin.authority());
        transcript.show(typed, &ended);
    }
    transcript.end("tables/cache.txt");
}

/// A home with a configuration and its authority, whose name is as long each time.
fn home() -> TempDir {
    let home = tempfile::tempdir_in("/tmp").expect("a directory");
    let yaml = "dataDir: data\nlogDir: log\nproxies:\n  - regx: 'blobs/sha256.*'\n  - {regx: '/files/', useHTTPS: true}\n\
        hijackHTTPS:\n  hosts:\n    - regx: '^r\\.test:443$'\nbasicAuth: {username: u, password: canary}\ncluster: {keyFile: k}\n";
    let file = home.path().join("dfget.yaml");
    fs::write(&file, yaml).expect("it is ours");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    home
}

fn at(home: &TempDir) -> impl Fn(&[&str]) -> Command {
    move |words| {
        let mut command = Command::new(DFGET);
        command
            .args(words)
            .current_dir(home.path())
            .env_clear()
            .env("HOME", home.path())
            .env("DFGET_CONFIG", home.path().join("dfget.yaml"))
            .env("DFGET_SYSTEM_SOCKET", home.path().join("lease.sock"))
            .env("XDG_RUNTIME_DIR", home.path());
        command
    }
}

fn shown(name: &str, typed: &[&str]) {
    let home = home();
    let mut transcript = Transcript::new();
    transcript.word(home.path().display(), "~");
    transcript.word(DFGET, "/usr/bin/dfget");
    for typed in typed {
        transcript.run(at(&home), typed);
    }
    transcript.end(name);
}

#[test]
fn snapshot_of_a_configuration() {
    shown("tables/config.txt", &["dfget config check", "dfget config show"]);
}

#[test]
fn snapshot_of_what_would_become_of_a_pull() {
    shown(
        "tables/explain.txt",
        &[
            "dfget explain oras://r.test/lab/image:1",
            "dfget explain https://other.test/files/x",
            "dfget explain docker://r.test/lab/image@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ],
    );
}

#[test]
fn snapshot_of_the_files_that_can_be_set_up() {
    shown("tables/setup.txt", &["dfget setup", "dfget setup slurm-prolog", "dfget setup lmod"]);
}

#[test]
fn snapshot_of_an_authority() {
    let home = home();
    let ca = TestCa::new("authority of a site");
    fs::write(home.path().join("weak.crt"), ca.certificate_pem()).expect("it is ours");
    let mut transcript = Transcript::new();
    transcript.word(home.path().display(), "~");
    for typed in [
        "dfget ca create",
        "dfget ca show",
        "dfget ca create",
        "dfget ca rotate --any-host",
        "dfget ca show weak.crt",
    ] {
        let words: Vec<_> = typed.split(' ').skip(1).collect();
        let ended = Ended::of(&mut at(&home)(&words));
        let stdout = ended.stdout.lines().map(|line| without_chance(line) + "\n").collect();
        transcript.show(typed, &Ended { stdout, ..ended });
    }
    transcript.end("tables/authority.txt");
}

/// A line without days, fingerprints, and the names that `dfget ca create` makes of this host and a number.
fn without_chance(line: &str) -> String {
    if let Some((before, _)) = line.split_once("CN=dfget on ") {
        return format!("{before}CN=dfget on HOST NUMBER");
    }
    let is_hour = |word: &str| word.len() == 8 && word.matches(':').count() == 2;
    let is_day = |word: &str| {
        let word = word.trim_end_matches([',', ';', ')', '.']);
        word.len() >= 10 && word.as_bytes()[4] == b'-' && word.as_bytes()[..4].iter().all(u8::is_ascii_digit)
    };
    let is_digits = |word: &str| word.len() > 30 && word.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    let word = |word: &str| match word {
        day if is_day(day) => "DAY".to_owned(),
        hour if is_hour(hour) => "HOUR".to_owned(),
        print if is_digits(print) => "FINGERPRINT".to_owned(),
        other => other.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn snapshot_of_what_was_preheated() {
    let session = Session::new(DFGET);
    let good = Blob::random(10_000, 4);
    let url = session.registry.put("p/a", &good);
    let missing = url.replace(&good.digest[7..], &"0".repeat(64));
    let home = session.path("home");
    fs::write(home.join("images.txt"), format!("# two\n{url}\n{missing}\n")).expect("it is ours");
    fs::write(home.join("main.nf"), format!("  container '{url}'\n  container \"${{params.x}}\"\n"))
        .expect("ours");
    let mut transcript = Transcript::new();
    transcript.word(home.display(), "~");
    transcript.word(session.registry.origin.authority(), ADDRESS);
    let run = |words: &[&str]| {
        let mut command = session.program(DFGET);
        command.args(words);
        command
    };
    // How long it took, and so how fast it was, is another each time.
    let line = |line: &str| match line.split_once(" kB in ") {
        Some((before, after)) => {
            let from = after.split_once("), ").map_or("", |(_, from)| from);
            format!("{before} kB in SECONDS (RATE), {from}\n")
        }
        None => format!("{line}\n"),
    };
    for typed in [
        "dfget preheat --project . --dry-run",
        "dfget preheat --project .",
        "dfget preheat -f images.txt --at-once 1",
        "dfget preheat -f images.txt --best-effort --quiet",
    ] {
        let words: Vec<_> = typed.split(' ').skip(1).collect();
        let ended = Ended::of(&mut run(&words));
        let stderr = ended.stderr.lines().map(line).collect();
        transcript.show(typed, &Ended { stderr, ..ended });
    }
    transcript.end("tables/preheat.txt");
}
