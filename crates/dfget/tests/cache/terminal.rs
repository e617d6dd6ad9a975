//! At a terminal: questions, and tables that fit.

use std::io::Write as _;
use std::process::{Command, Stdio};

use dfget_testkit::{Blob, Stage};

use crate::kit::{DFGET, IMAGE, MIB, command, digests, pulled, short};

/// What a terminal of 80 columns shows when this is typed.
fn at_terminal(stage: &Stage, arguments: &str, typed: &str) -> (i32, String) {
    let like = command(&stage.daemon, &[]);
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command"])
        .arg(format!("stty cols 80 rows 24; {DFGET} cache {arguments}"))
        .arg("/dev/null")
        .current_dir(stage.daemon.home())
        .env_clear()
        .envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = script.spawn().expect("util-linux is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(typed.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

#[test]
fn it_is_asked_before_anything_goes() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(MIB, 1);
    pulled(&stage, IMAGE, &blob);
    for no in ["n\n", "\n", "yess\n"] {
        let (code, shown) = at_terminal(&stage, &format!("rm {}", short(&blob)), no);
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("1 content, 1.0 MiB: remove? [y/N] "), "{shown}");
        assert!(shown.contains("nothing was removed"), "{shown}");
        assert_eq!(digests(&stage.daemon, &[]).len(), 1);
    }
    let (code, shown) = at_terminal(&stage, &format!("rm {}", short(&blob)), "y\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(short(&blob)) && shown.contains("removed 1 content, 1.0 MiB"), "{shown}");
    assert_eq!(digests(&stage.daemon, &[]).len(), 0);
}

#[test]
fn a_table_fits_the_terminal_and_a_bundle_does_not_go_there() {
    let stage = Stage::new(DFGET);
    let repository = format!("lab/{}/image", "very-long-name".repeat(6));
    pulled(&stage, &repository, &Blob::random(MIB, 2));
    let (code, shown) = at_terminal(&stage, "ls", "");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains('…') && shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let (code, shown) = at_terminal(&stage, "export -", "");
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("a bundle is nothing for a terminal"), "{shown}");
    let (code, shown) = at_terminal(&stage, "verify", "");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("checked 1 content, 1.0 MiB: all is right"), "{shown}");
}
