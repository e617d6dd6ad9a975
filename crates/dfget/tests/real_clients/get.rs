//! `dfget oras://…` and `docker://…` from the real registries, with the logins that the real clients have.

use std::fs;
use std::process::Command;

use super::support::{
    Client, Finished, Image, Reference, Registries, User, dfget_binary, in_namespace, left_out_without_root,
    run,
};

/// `dfget` with this client's environment; its logins are in files alone, as `apptainer registry login` writes them.
fn dfget(client: &Client, arguments: &[&str]) -> Finished {
    let mut command = client.command(&dfget_binary().display().to_string());
    command.env_remove("APPTAINER_DOCKER_USERNAME").env_remove("APPTAINER_DOCKER_PASSWORD");
    // All users of a node have the same place for temporary files; the store goes there.
    run(command.env("TMPDIR", "/tmp").args(arguments))
}

fn reference(registry: &str) -> (Reference<'_>, User) {
    if matches!(registry, "basic" | "token") {
        (Reference { registry, repository: "private/sif" }, User::Dev)
    } else {
        (Reference { registry, repository: "public/sif" }, User::Nobody)
    }
}

#[test]
fn a_sif_comes_from_each_kind_of_registry() {
    in_namespace(|| {
        let kinds = ["open", "basic", "token", "redirect", "plain"];
        let _registries = Registries::start(&kinds);
        let image = Image::of_mib(4);
        for registry in kinds {
            let (from, user) = reference(registry);
            let url = format!("oras://{}", from.tagged(image.tag));
            for way in [&[][..], &["--direct"]] {
                let client = Client::direct(user);
                let plain: &[&str] = if registry == "plain" { &["--plain-http"] } else { &[] };
                let ended = dfget(&client, &[&[url.as_str(), "-O", "pulled"], plain, way].concat()).ok();
                image.assert_same(&client.file("pulled"));
                assert_eq!(ended.stderr, "", "quiet where nobody looks");
            }
        }
    });
}

#[test]
fn the_second_get_of_a_node_costs_the_registry_no_copy() {
    in_namespace(|| {
        let registries = Registries::start(&["token"]);
        let image = Image::of_mib(4);
        let (from, user) = reference("token");
        for source in ["origin", "cache"] {
            let client = Client::direct(user);
            let url = format!("oras://{}", from.tagged(image.tag));
            let ended = dfget(&client, &[&url, "-O", "pulled", "--output", "json"]).ok();
            image.assert_same(&client.file("pulled"));
            let share = format!(r#""{source}":0"#);
            assert!(!ended.stdout.contains(&share), "{}", ended.stdout);
            registries.assert_downloaded_once("token", &image);
        }
    });
}

#[test]
fn who_may_not_have_it_is_told_and_gets_nothing() {
    in_namespace(|| {
        let _registries = Registries::start(&["basic", "token"]);
        let image = Image::of_mib(4);
        for registry in ["basic", "token"] {
            let (from, dev) = reference(registry);
            let url = format!("oras://{}", from.tagged(image.tag));
            // What others have brought into the cache is not for everybody.
            dfget(&Client::direct(dev), &[&url, "-O", "pulled"]).ok();
            for user in [User::Nobody, User::Forger] {
                let client = Client::direct(user);
                let ended = dfget(&client, &[&url, "-O", "pulled"]).failed();
                assert_eq!(ended.status.code(), Some(77), "{registry} {user:?}: {}", ended.stderr);
                assert!(!client.file("pulled").exists());
                for secret in ["guessed", "ZGV2Omd1ZXNzZWQ"] {
                    assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
                }
            }
        }
    });
}

#[test]
fn the_layouts_are_taken_by_the_real_tools() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let client = Client::direct(User::Nobody);
        let image = "docker://registry.test/public/oci:4";
        dfget(&client, &[image, "-O", "image"]).ok();
        dfget(&client, &[image, "-O", "image.tar"]).ok();
        for at in ["oci:image", "oci-archive:image.tar"] {
            let template = client.command("apptainer");
            let mut command = Command::new("unshare");
            command.args([
                "--user",
                "--map-root-user",
                "apptainer",
                "--silent",
                "build",
                "--force",
                "made",
                at,
            ]);
            for (name, value) in template.get_envs() {
                command.env(name, value.unwrap_or_default());
            }
            run(command.current_dir(client.file(""))).ok();
            assert!(fs::metadata(client.file("made")).unwrap().len() > 4 << 20, "{at}");
        }
        let inspected = run(client.command("skopeo").args(["inspect", "--raw", "oci:image:4"])).ok();
        assert!(inspected.stdout.contains("schemaVersion"), "{}", inspected.stdout);
    });
}

#[test]
fn a_disk_that_is_full_or_read_only_keeps_the_name_free() {
    in_namespace(|| {
        if left_out_without_root("a small disk is mounted by root alone") {
            return;
        }
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        let small = client.file("small");
        fs::create_dir(&small).unwrap();
        let mount = |options: &str| {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&small)).ok();
        };
        mount("size=3m");
        // The URL of a blob tells no length before its bytes come; a reference does.
        let (from, _) = reference("open");
        let blob = image.blob_url(&Registries::host("open"), from.repository);
        let tagged = format!("oras://{}", from.tagged(image.tag));
        for (url, told) in [(&tagged, " bytes are to come, and "), (&blob, "the disk is full; make room")] {
            for way in [&[][..], &["--direct"]] {
                let ended = dfget(&client, &[&[url.as_str(), "-O", "small/x"], way].concat()).failed();
                assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
                assert!(ended.stderr.contains(told) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
                assert!(!small.join("x").exists());
            }
        }
        run(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&small)).ok();
        dfget(&client, &[&blob, "-O", "small/x"]).ok();
        image.assert_same(&small.join("x"));
        assert_eq!(fs::read_dir(&small).unwrap().count(), 1, "the part became the file");
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(&small)).ok();
        let ended = dfget(&client, &[&tagged, "-O", "small/y"]).failed();
        assert!(
            ended.stderr.contains("the file system is read-only; name another place by -O"),
            "{}",
            ended.stderr
        );
    });
}
