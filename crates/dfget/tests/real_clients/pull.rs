//! Pulls through the daemon: the first of a node, later ones, many at once, and broken off ones.

use std::fs;
use std::path::Path;
use std::thread;

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace, run, until};

/// One pull that finds nothing on the node, and one by a client with nothing in its own cache: the registry sends
/// the blob once, and the log has a line for each.
fn cold_then_warm(tool: Tool, registry: &str) {
    let registries = Registries::start(&[registry]);
    let _daemon = Daemon::start();
    let image = Image::of_mib(4);
    let protected = matches!(registry, "basic" | "token");
    let (repository, user) =
        if protected { ("private/sif", User::Dev) } else { ("public/sif", User::Nobody) };
    let from = Reference { registry, repository };
    let log = if registry == "redirect" { "files" } else { registry };

    Client::proxied(user).pull(tool, from, &image);
    registries.assert_downloaded_once(log, &image);
    let cold = Daemon::tasks_done().len();
    assert!(cold > 0, "no line of the task in the log");

    Client::proxied(user).pull(tool, from, &image);
    registries.assert_downloaded_once(log, &image);
    assert!(Daemon::tasks_done().len() > cold, "no line of the second task in the log");
}

/// A test for each client and registry.
macro_rules! cold_then_warm {
    ($($name:ident: $tool:ident, $registry:literal;)*) => {$(
        #[test]
        fn $name() {
            in_namespace(|| cold_then_warm(Tool::$tool, $registry));
        }
    )*};
}

cold_then_warm! {
    apptainer_cold_then_warm_from_the_open_registry: Apptainer, "open";
    apptainer_cold_then_warm_from_the_basic_registry: Apptainer, "basic";
    apptainer_cold_then_warm_from_the_token_registry: Apptainer, "token";
    apptainer_cold_then_warm_from_the_redirecting_registry: Apptainer, "redirect";
    singularity_cold_then_warm_from_the_open_registry: Singularity, "open";
    singularity_cold_then_warm_from_the_token_registry: Singularity, "token";
    oras_cold_then_warm_from_the_open_registry: Oras, "open";
    oras_cold_then_warm_from_the_basic_registry: Oras, "basic";
    oras_cold_then_warm_from_the_token_registry: Oras, "token";
    oras_cold_then_warm_from_the_redirecting_registry: Oras, "redirect";
    crane_cold_then_warm_from_the_open_registry: Crane, "open";
    crane_cold_then_warm_from_the_basic_registry: Crane, "basic";
    crane_cold_then_warm_from_the_token_registry: Crane, "token";
    crane_cold_then_warm_from_the_redirecting_registry: Crane, "redirect";
    curl_cold_then_warm_from_the_open_registry: Curl, "open";
    curl_cold_then_warm_from_the_basic_registry: Curl, "basic";
    curl_cold_then_warm_from_the_token_registry: Curl, "token";
    curl_cold_then_warm_from_the_redirecting_registry: Curl, "redirect";
}

#[test]
fn apptainer_pulls_a_container_image_of_several_layers() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let _daemon = Daemon::start();
        for _ in ["cold", "warm"] {
            let client = Client::proxied(User::Nobody);
            let reference = "docker://registry.test/public/oci:4";
            run(client.command("apptainer").args(["--silent", "pull", "pulled", reference])).ok();
            // The client checked the layers by their digests before it made the file.
            assert!(fs::metadata(client.file("pulled")).unwrap().len() > 4 << 20);
        }
    });
}

#[test]
fn apptainer_pulls_from_a_registry_without_tls() {
    in_namespace(|| {
        let _registries = Registries::start(&["plain"]);
        let _daemon = Daemon::start();
        let plain = Reference { registry: "plain", repository: "public/sif" };
        for _ in ["cold", "warm"] {
            Client::proxied(User::Nobody).pull(Tool::Apptainer, plain, &Image::of_mib(4));
        }
    });
}

/// Twenty clients, none with a cache, all at once.
fn twenty_at_once(tool: Tool, registry: &str, repository: &str, user: User) {
    let registries = Registries::start(&[registry]);
    let _daemon = Daemon::start();
    let image = Image::of_mib(16);
    let from = Reference { registry, repository };
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| Client::proxied(user).pull(tool, from, &image));
        }
    });
    registries.assert_downloaded_once(if registry == "redirect" { "files" } else { registry }, &image);
}

#[test]
fn twenty_apptainers_at_once_cost_the_open_registry_one_blob() {
    in_namespace(|| twenty_at_once(Tool::Apptainer, "open", "public/sif", User::Nobody));
}

#[test]
fn twenty_apptainers_at_once_cost_the_token_registry_one_blob() {
    in_namespace(|| twenty_at_once(Tool::Apptainer, "token", "private/sif", User::Dev));
}

#[test]
fn twenty_oras_at_once_cost_the_redirecting_registry_one_blob() {
    in_namespace(|| twenty_at_once(Tool::Oras, "redirect", "public/sif", User::Nobody));
}

#[test]
fn a_client_killed_in_the_middle_leaves_its_work_to_the_next() {
    in_namespace(|| {
        let registries = Registries::start_slow("16m");
        let _daemon = Daemon::start();
        let image = Image::of_mib(64);
        let from = Reference { registry: "slow", repository: "public/sif" };

        let first = Client::proxied(User::Nobody);
        let mut killed = first.apptainer_pull(Tool::Apptainer, from, &image).spawn().unwrap();
        until("a part of the image at the client", || {
            (size_below(&first.temporary()) > 8 << 20).then_some(())
        });
        assert!(killed.try_wait().unwrap().is_none(), "the pull ended before it could be broken off");
        killed.kill().unwrap();
        killed.wait().unwrap();

        Client::proxied(User::Nobody).pull(Tool::Apptainer, from, &image);
        let sent: u64 = registries.downloads("slow", &image).iter().map(|request| request.body_bytes).sum();
        // A slow stream is cut where others take over: what was in flight then has left twice.
        let in_flight = 8 << 20;
        let once = image.len_bytes..image.len_bytes + in_flight;
        assert!(once.contains(&sent), "every byte left the registry once: {sent} of {}", image.len_bytes);
    });
}

#[test]
fn a_restarted_daemon_goes_on_where_it_stopped() {
    in_namespace(|| {
        let registries = Registries::start_slow("16m");
        let mut daemon = Daemon::start();
        let image = Image::of_mib(64);
        let from = Reference { registry: "slow", repository: "public/sif" };

        let first = Client::proxied(User::Nobody);
        let mut killed = first.apptainer_pull(Tool::Apptainer, from, &image).spawn().unwrap();
        until("a part of the image at the client", || {
            (size_below(&first.temporary()) > 16 << 20).then_some(())
        });
        killed.kill().unwrap();
        killed.wait().unwrap();
        daemon.stop();

        let _again = Daemon::start();
        Client::proxied(User::Nobody).pull(Tool::Apptainer, from, &image);
        let downloads = registries.downloads("slow", &image);
        let rest = downloads.last().unwrap();
        assert_eq!(rest.status, 206, "the rest is asked for, not all: {downloads:#?}");
        assert!(rest.body_bytes < image.len_bytes - (8 << 20), "{downloads:#?}");
    });
}

#[test]
fn curl_gets_exact_ranges_cold_and_warm() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let _daemon = Daemon::start();
        let image = Image::of_mib(16);
        let right = fs::read(&image.file).unwrap();
        let client = Client::proxied(User::Nobody);
        let url = image.blob_url("registry.test", "public/sif");
        let middle = right.len() / 2 - 7..right.len() / 2 + 5_000_000;
        let ranges = [
            (format!("{}-{}", middle.start, middle.end - 1), &right[middle]),
            ("0-0".to_owned(), &right[..1]),
            ("-100000".to_owned(), &right[right.len() - 100_000..]),
            (format!("{}-", right.len() - 1), &right[right.len() - 1..]),
        ];
        for _ in ["cold", "warm"] {
            for (range, expected) in &ranges {
                let head = ranged(&client, &url, range);
                assert!(head.starts_with("HTTP/1.1 206"), "{range}: {head}");
                assert!(head.contains(&format!("/{}\r\n", right.len())), "{range}: the total in {head}");
                assert!(fs::read(client.file("pulled")).unwrap() == **expected, "{range}: other bytes");
            }
            client.pull(Tool::Curl, Reference { registry: "open", repository: "public/sif" }, &image);
            let head = ranged(&client, &url, &format!("{}-", right.len()));
            assert!(head.starts_with("HTTP/1.1 416"), "{head}");
        }
    });
}

/// The head of the answer to `curl --range` inside the tunnel; its body is in the file `pulled`.
fn ranged(client: &Client, url: &str, range: &str) -> String {
    let mut command = client.command("curl");
    command.args([
        "--silent",
        "--http1.1",
        "--suppress-connect-headers",
        "--dump-header",
        "-",
        "--max-time",
        "60",
    ]);
    run(command.args(["--range", range, "--output", "pulled", url])).ok().stdout
}

/// Bytes of all files below a directory; what vanishes meanwhile counts nothing.
fn size_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(kind) if kind.is_dir() => size_below(&entry.path()),
            Ok(kind) => kind.len(),
            Err(_) => 0,
        })
        .sum()
}
