//! Every command of docs/cache.md, as it stands there.

use std::process::Command;

use dfget_testkit::{Blob, Ended, Stage};

use crate::kit::{DFGET, IMAGE, MIB, command, pulled};

const PAGE: &str = include_str!("../../../../docs/cache.md");

/// The lines of the page's shell blocks.
fn lines() -> Vec<&'static str> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    shell.flat_map(str::lines).collect()
}

#[test]
fn every_command_of_the_page_works() {
    let stage = Stage::new(DFGET);
    pulled(&stage, IMAGE, &Blob::random(MIB, 1));
    let (host, home) = (stage.registry.origin.authority(), stage.daemon.home());
    let socket = stage.daemon.api_socket().display().to_string();
    let binary = stage.daemon.home().join("bin");
    std::fs::create_dir(&binary).expect("it is ours");
    std::os::unix::fs::symlink(DFGET, binary.join("dfget")).expect("it is ours");
    let path = format!("{}:/usr/bin:/bin", binary.display());
    let lines = lines();
    assert!(lines.len() >= 11, "{lines:#?}");
    for line in lines {
        let here = line.replace("registry.example.org", &host).replace("/run/dragonfly/admin.sock", &socket);
        let like = command(&stage.daemon, &[]);
        let mut shell = Command::new("sh");
        shell.args(["-ec", &here]).current_dir(home).env_clear();
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        let ended = Ended::of(&mut shell);
        // Nothing is as old as that here.
        let nothing =
            line.contains("--older-than 30d") && ended.stderr.contains("nothing that is stored is meant");
        assert!(ended.code == 0 || nothing, "{here}: {}{}", ended.stdout, ended.stderr);
    }
}
