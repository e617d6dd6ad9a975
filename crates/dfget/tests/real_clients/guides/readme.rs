//! The README, in English and Chinese, and how dfget is installed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::{Reader, THEIRS, THIS_NODE, make_cluster_key, stand_in_for_engines, stand_in_for_srun, yaml_of};
use crate::authority::private_local_share;
use crate::support::{Client, Image, Registries, User, dfget_binary, in_namespace, run};

/// Waits in a shell until the daemon listens.
const UNTIL_IT_LISTENS: &str =
    "until (exec 3<>/dev/tcp/127.0.0.1/65001) 2>/dev/null; do kill -0 $! || cat /tmp/said; sleep 0.1; done";

/// Ends the daemon of the block before in a shell, if one runs.
const UNTIL_IT_IS_GONE: &str =
    "{ kill $(cat /tmp/pid) || true; while kill -0 $(cat /tmp/pid); do sleep 0.1; done; } 2>/dev/null";

/// Writes the README's `dfget.yaml`, with the registry's name.
fn write_its_file() {
    fs::create_dir_all("/etc/dragonfly").unwrap();
    let yaml = yaml_of("README.md", "hijackHTTPS:", &[("registry\\.example\\.com", "registry\\.test")]);
    fs::write("/etc/dragonfly/dfget.yaml", yaml).unwrap();
}

/// Stands for the directory of a clone, in which it was built.
fn put_the_binary(client: &Client, place: &str) {
    let file = client.file(place);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    symlink(dfget_binary(), file).unwrap();
}

fn the_readme(page: &str) {
    private_local_share();
    fs::create_dir("/usr/local/share/ca-certificates").unwrap();
    run(std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/usr/local/bin"])).ok();
    let _registries = Registries::start(&["open"]);
    let image = Image::of_mib(4);
    let client = Client::direct(User::Nobody);
    let reference = format!("registry.test/public/sif:{}", image.tag);
    write_its_file();
    make_cluster_key();
    stand_in_for_srun();
    stand_in_for_engines(&reference);
    put_the_binary(&client, "target/release/dfget");
    let script = client.file("my-script.sh");
    fs::write(&script, format!("#!/bin/sh\napptainer --silent pull --force x.sif oras://{reference}\n"))
        .unwrap();
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(client.file("images.txt"), format!("oras://{reference}\n")).unwrap();
    let daemon = |arguments: &str, then: &str| {
        format!("dfget daemon{arguments} >/tmp/said 2>&1 & echo $! >/tmp/pid; {UNTIL_IT_LISTENS}{then}")
    };
    let reader = Reader::new(&client)
        .read(THEIRS, &reference)
        .read("oras://…", &format!("oras://{reference}"))
        // The image has a shell, and no `true` of its own.
        .read("docker://ghcr.io/project/image:1 true", "docker://registry.test/public/oci:4 /bin/sh -c true")
        .read("--host registry.example.com", "--host registry.test")
        // Commands that do not end, and those behind them that begin anew.
        .read("dfget daemon --cluster 'node[001-500]'", &daemon(&format!(" --cluster {THIS_NODE}"), ""))
        .read("dfget daemon &", &daemon("", ""))
        .read("dfget ca create", &format!("{UNTIL_IT_IS_GONE}; rm -f /etc/dragonfly/ca.*; dfget ca create"))
        .with("SLURM_JOB_NODELIST", THIS_NODE);
    let said = reader.follow(page);
    let all = said.concat();
    for expected in [
        "dfget run: ",
        "HTTPS_PROXY=",
        "1 of 1 up",
        "1 of 1 images are here",
        "DIGEST",
        "to clients",
        "/usr/local/share/ca-certificates/",
        "peer task done",
    ] {
        assert!(all.contains(expected), "{expected}: {said:#?}");
    }
    assert!(Path::new("/usr/local/bin/dfget").exists());
    image.assert_same(&client.file("sif_4.sif"));
}

#[test]
fn the_readme_in_english() {
    in_namespace(|| the_readme("README.md"));
}

#[test]
fn the_readme_in_chinese() {
    in_namespace(|| the_readme("README.zh.md"));
}

#[test]
fn installing_by_hand() {
    in_namespace(|| {
        private_local_share();
        fs::create_dir("/usr/local/share/ca-certificates").unwrap();
        let _registries = Registries::start(&["open"]);
        let client = Client::direct(User::Nobody);
        write_its_file();
        fs::create_dir_all("/etc/systemd/system").unwrap();
        put_the_binary(&client, "dfget");
        run(std::process::Command::new(dfget_binary()).args(["ca", "create"])).ok();
        // Whoever installs by hand has no file yet.
        let config = "dfget setup config --output /etc/dragonfly/dfget.yaml";
        let anew = format!("rm /etc/dragonfly/dfget.yaml\n{config}");
        let reader = Reader::new(&client).read(THEIRS, "registry.test/public/sif:4").read(config, &anew);
        let said = reader.follow("docs/install.md");
        let [pull, configured, files] = &said[..] else { panic!("{said:#?}") };
        assert!(pull.contains("dfget run: "), "{pull}");
        assert!(configured.contains("/usr/local/share/ca-certificates/"), "{configured}");
        assert!(files.contains("systemd-socket"), "{files}");
        assert!(client.file(".local/bin/dfget").exists());
        for unit in ["dfget.service", "dfget.socket"] {
            assert!(Path::new("/etc/systemd/system").join(unit).exists(), "{unit}");
        }
    });
}
