//! The guides of `docs/`, typed in: each block of commands of a page, in its order, in one shell, against the real
//! registries. What a guide calls `registry.example.com/project/image:tag` is an image of theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::support::{
    Client, Daemon, Image, Registries, User, clients_dir, dfget_binary, in_namespace, root_dir, run,
};

/// The blocks of commands of a page.
pub(super) fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root_dir().join(page)).unwrap();
    let (mut blocks, mut open) = (Vec::new(), None::<Vec<&str>>);
    for line in text.lines() {
        match (&mut open, line.trim()) {
            (None, "```sh") => open = Some(Vec::new()),
            (Some(lines), "```") => {
                blocks.push(lines.join("\n"));
                open = None;
            }
            (Some(lines), _) => lines.push(line.trim_start()),
            (None, _) => {}
        }
    }
    assert!(!blocks.is_empty(), "{page} has no commands");
    blocks
}

/// Types a page's blocks, with some words replaced, in the home of a client.
fn follow(page: &str, client: &Client, words: &[(&str, &str)]) -> Vec<String> {
    let bin = Path::new("/tmp/bin");
    fs::create_dir_all(bin).unwrap();
    if !bin.join("dfget").exists() {
        symlink(dfget_binary(), bin.join("dfget")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let type_in = |block: String| {
        let block = words.iter().fold(block, |block, (theirs, ours)| block.replace(theirs, ours));
        let mut shell = client.command("bash");
        let ended = run(shell.args(["-euo", "pipefail", "-c", &block]).env("PATH", &path)).ok();
        ended.stdout + &ended.stderr
    };
    blocks(page).into_iter().map(type_in).collect()
}

#[test]
fn a_first_pull_in_a_minute() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        let reference = format!("registry.test/public/sif:{}", image.tag);
        symlink(dfget_binary(), client.file("dfget")).unwrap();
        let said =
            follow("docs/first-pull.md", &client, &[("registry.example.com/project/image:tag", &reference)]);
        registries.assert_downloaded_once("open", &image);
        let [_copied, first, second, would, doctor] = &said[..] else { panic!("{said:#?}") };
        assert!(first.contains("dfget run: ") && second.contains("dfget run: "), "{said:#?}");
        assert!(would.contains("HTTPS_PROXY="), "{would}");
        assert!(doctor.contains("limits"), "{doctor}");
        image.assert_same(&client.file(&format!("sif_{}.sif", image.tag)));
    });
}

#[test]
fn a_private_registry_with_the_login_of_apptainer() {
    in_namespace(|| {
        let registries = Registries::start(&["basic"]);
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        fs::write(client.file("password"), "secret").unwrap();
        let host = Registries::host("basic");
        let reference = format!("{host}/private/sif:{}", image.tag);
        follow(
            "docs/private-registries.md",
            &client,
            &[
                ("registry.example.com/project/image:tag", &reference),
                ("registry.example.com", &host),
                ("--username me", "--username dev"),
            ],
        );
        registries.assert_downloaded_once("basic", &image);
    });
}

#[test]
fn what_to_do_by_message() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let _daemon = Daemon::start();
        let client = Client::proxied(User::Nobody);
        let reference = format!("registry.test/public/sif:{}", image.tag);
        let pull = format!("apptainer pull oras://{reference}");
        run(client.command("sh").args(["-c", &pull])).ok();
        // The registries' authority is none of this machine's.
        let doctor = format!("SSL_CERT_FILE={} dfget doctor", clients_dir().join("ca/origins.crt").display());
        let words =
            [("registry.example.com/project/image:tag", reference.as_str()), ("dfget doctor", &doctor)];
        let said = follow("docs/troubleshooting.md", &client, &words);
        let [doctor, explain, log] = &said[..] else { panic!("{said:#?}") };
        assert!(doctor.contains("HTTPS_PROXY leads to the daemon"), "{doctor}");
        assert!(explain.contains("yes: it is accelerated"), "{explain}");
        assert!(log.contains("peer task done"), "{log}");
    });
}

#[test]
fn a_configuration_of_dragonfly_is_taken_over() {
    in_namespace(|| {
        fs::create_dir_all("/etc/dragonfly").unwrap();
        fs::write("/etc/dragonfly/dfget.yaml", "aliveTime: 5m\nproxies:\n  - regx: blobs/sha256.*\n")
            .unwrap();
        let client = Client::direct(User::Nobody);
        let said = follow("docs/migrating.md", &client, &[]);
        assert!(said[0].contains("/etc/dragonfly/dfget.yaml"), "{said:#?}");
    });
}
