//! `dfget run -- COMMAND` with the real clients: no configuration, no daemon but the one it starts.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use dfget_testkit::session::kill;

use super::support::{
    Client, Finished, Image, Reference, Registries, Tool, User, clients_dir, dfget_binary, in_namespace,
    left_out_without_root, run, until,
};

/// The processes of the daemons that `dfget run` started.
fn daemons() -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|process| {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        words.split(|&byte| byte == 0).any(|word| word == b"leased-daemon")
    });
    ours.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

fn repository(registry: &str) -> (&'static str, User) {
    if matches!(registry, "basic" | "token") {
        ("private/sif", User::Dev)
    } else {
        ("public/sif", User::Nobody)
    }
}

/// The first of a node, the second with the same daemon, the third with the next one.
fn cold_then_warm(tool: Tool, registry: &str) {
    let registries = Registries::start(&[registry]);
    let image = Image::of_mib(4);
    let (repository, user) = repository(registry);
    let from = Reference { registry, repository };
    for _ in ["cold", "warm"] {
        Client::leased(user).pull(tool, from, &image);
        registries.assert_downloaded_once(registry, &image);
    }
    until("the daemon to leave", || daemons().is_empty().then_some(()));
    Client::leased(user).pull(tool, from, &image);
    registries.assert_downloaded_once(registry, &image);
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
    apptainer_from_the_open_registry: Apptainer, "open";
    apptainer_from_the_basic_registry: Apptainer, "basic";
    apptainer_from_the_token_registry: Apptainer, "token";
    oras_from_the_open_registry: Oras, "open";
    oras_from_the_token_registry: Oras, "token";
    crane_from_the_open_registry: Crane, "open";
    crane_from_the_token_registry: Crane, "token";
    curl_from_the_open_registry: Curl, "open";
    curl_from_the_basic_registry: Curl, "basic";
}

#[test]
fn layers_of_a_container_image_come_once() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let reference = "docker://registry.test/public/oci:4";
        let definition = "Bootstrap: docker\nFrom: registry.test/public/oci:4\n";
        for arguments in [
            &["--silent", "pull", "made", reference][..],
            &["--silent", "build", "made", reference],
            &["--silent", "build", "made", "image.def"],
        ] {
            let client = Client::leased(User::Nobody);
            fs::write(client.file("image.def"), definition).unwrap();
            run(client.command("apptainer").args(arguments)).ok();
            // The client checked the layers by their digests before it made the file.
            assert!(fs::metadata(client.file("made")).unwrap().len() > 4 << 20, "{arguments:?}");
        }
        let blobs: Vec<_> = registries
            .requests("open")
            .into_iter()
            .filter(|request| {
                request.method == "GET" && request.path.contains("/blobs/") && request.status == 200
            })
            .map(|request| request.path)
            .collect();
        let mut once = blobs.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), blobs.len(), "each blob was sent once: {blobs:#?}");
    });
}

/// `dfget run` of apptainer as an ordinary user has it: in a user namespace, for apptainer asks root for more
/// capabilities than every machine gives.
fn as_user(client: &Client, arguments: &[&str]) -> Finished {
    let template = client.command("apptainer");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(template.get_program()).args(template.get_args());
    for (name, value) in template.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    run(command.current_dir(client.file("")).args(arguments))
}

#[test]
fn a_container_sees_the_bundle_and_the_proxy() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let script =
            "echo bundle $(cat \"$SSL_CERT_FILE\" | sha256sum) $SSL_CERT_FILE; echo proxy $HTTPS_PROXY";
        for (how, reference) in
            [("exec", "oras://registry.test/public/sif:4"), ("exec", "docker://registry.test/public/oci:4")]
        {
            let client = Client::leased(User::Nobody);
            let ended = as_user(&client, &["--silent", how, reference, "/bin/sh", "-c", script]).ok();
            let line = |start: &str| {
                let found = ended.stdout.lines().find_map(|line| line.strip_prefix(start));
                found.unwrap_or_else(|| panic!("no {start:?} in {}", ended.stdout)).to_owned()
            };
            let bundle = line("bundle ");
            let (digest, file) = (bundle.split(' ').next().unwrap(), bundle.rsplit(' ').next().unwrap());
            assert_eq!(digest, super::support::sha256(Path::new(file)), "inside is what is outside");
            assert!(fs::read_to_string(file).unwrap().contains("BEGIN CERTIFICATE"));
            assert!(line("proxy ").starts_with("http://lease:"), "{}", ended.stdout);
        }
        registries.assert_downloaded_once("open", &image);
    });
}

#[test]
fn fifty_pulls_at_once_cost_the_registry_one_copy() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(16);
        let from = Reference { registry: "open", repository: "public/sif" };
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| Client::leased(User::Nobody).pull(Tool::Apptainer, from, &image));
            }
        });
        registries.assert_downloaded_once("open", &image);
        assert!(daemons().len() <= 1, "one daemon served all");
    });
}

/// `dfget run` of a task that says that it is there, waits for a file, then pulls, and leaves its exit code in a file.
fn task(client: &Client, registry: &str, image: &Image, go: &Path) -> Child {
    let reference = format!("oras://{registry}/public/sif:{}", image.tag);
    let script = format!(
        "touch here; until [ -e {go} ]; do sleep 0.05; done; \
         apptainer --silent pull --force pulled {reference}; echo $? >code.new; mv code.new code",
        go = go.display()
    );
    let template = client.command("sh");
    let mut command = Command::new(dfget_binary());
    for (name, value) in template.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.current_dir(client.file("")).args(["run", "--host", registry, "--", "sh", "-c", &script]);
    command.stdin(Stdio::null()).spawn().unwrap()
}

fn assert_all_pulled(clients: &[Client], image: &Image) {
    for client in clients {
        let code = until("the task to end", || fs::read_to_string(client.file("code")).ok());
        assert_eq!(code, "0\n");
        image.assert_same(&client.file("pulled"));
    }
}

#[test]
fn twenty_tasks_share_a_daemon_and_survive_each_others_and_its_death() {
    in_namespace(|| {
        let registries = Registries::start_slow("8m");
        let image = Image::of_mib(16);
        let (now, later) = (PathBuf::from("/tmp/go-now"), PathBuf::from("/tmp/go-later"));
        let clients: Vec<_> = (0..20).map(|_| Client::leased(User::Nobody)).collect();
        let (pulling, waiting) = clients.split_at(10);
        let start = |clients: &[Client], go: &Path| -> Vec<Child> {
            clients.iter().map(|client| task(client, "slow.registry.test", &image, go)).collect()
        };
        let mut children = start(pulling, &now);
        children.extend(start(waiting, &later));
        for client in &clients {
            until("the task to be there", || client.file("here").exists().then_some(()));
        }
        let daemon = daemons();
        assert_eq!(daemon.len(), 1, "all share one daemon");

        // Three of those that pull lose their `dfget run` in the middle.
        fs::write(&now, "").unwrap();
        until("the download to begin", || (!registries.requests("slow").is_empty()).then_some(()));
        for child in &mut children[..3] {
            child.kill().unwrap();
        }
        assert_all_pulled(pulling, &image);
        registries.assert_downloaded_once("slow", &image);
        assert_eq!(daemons(), daemon);

        // Those that wait lose the daemon, and pull all the same.
        kill(daemon[0]);
        fs::write(&later, "").unwrap();
        assert_all_pulled(waiting, &image);
        for child in &mut children {
            child.wait().unwrap();
        }
    });
}

/// `dfget run --verbose` of `curl` of the blob by this uid, with a home and no other place of its own.
fn curl_as(uid: u32, home: &Path, image: &Image, set: &[(&str, &str)]) -> Finished {
    let binary = Path::new("/tmp/dfget-binary");
    let roots = Path::new("/tmp/origins.crt");
    if !binary.exists() {
        fs::copy(dfget_binary(), binary).unwrap();
        fs::copy(clients_dir().join("ca/origins.crt"), roots).unwrap();
        fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(roots, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let mut command = Command::new(binary);
    command
        .args(["run", "--verbose", "--", "/usr/bin/curl", "--silent", "--show-error", "--fail", "--output"])
        .arg(home.join("pulled"))
        .arg(image.blob_url("registry.test", "public/sif"))
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("SSL_CERT_FILE", roots)
        .envs(set.iter().copied());
    if uid != 0 {
        command.uid(uid).gid(uid);
    }
    run(&mut command)
}

fn home_of(uid: u32) -> PathBuf {
    let home = PathBuf::from(format!("/tmp/home-{uid}"));
    fs::create_dir_all(&home).unwrap();
    if uid != 0 {
        chown(&home, Some(uid), Some(uid)).unwrap();
    }
    home
}

#[test]
fn two_users_share_nothing() {
    in_namespace(|| {
        if left_out_without_root("that two users of a node share nothing") {
            return;
        }
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        for uid in [1111, 2222] {
            let home = home_of(uid);
            curl_as(uid, &home, &image, &[]).ok();
            image.assert_same(&home.join("pulled"));
        }
        assert_eq!(registries.downloads("open", &image).len(), 2, "each fetched it");
        let enter = |uid: u32, dir: &str| run(Command::new("ls").arg(dir).uid(uid).gid(uid)).success;
        assert!(enter(1111, "/tmp/dfget-1111") && !enter(2222, "/tmp/dfget-1111"));
        assert!(enter(2222, "/tmp/dfget-2222") && !enter(1111, "/tmp/dfget-2222"));
    });
}

/// Who finds the place of its sockets taken by somebody else uses another one.
#[test]
fn a_place_that_somebody_else_took_is_not_used() {
    in_namespace(|| {
        if left_out_without_root("a directory for sockets that belongs to somebody else") {
            return;
        }
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let home = home_of(1111);
        let squatted = Path::new("/tmp/dfget-1111");
        fs::create_dir(squatted).unwrap();
        chown(squatted, Some(2222), Some(2222)).unwrap();
        fs::set_permissions(squatted, fs::Permissions::from_mode(0o777)).unwrap();

        // No other place is named: it says what to set, and the pull goes directly.
        let ended = curl_as(1111, &home, &image, &[]).ok();
        image.assert_same(&home.join("pulled"));
        assert!(ended.stderr.contains("/tmp/dfget-1111: it belongs to user 2222"), "{}", ended.stderr);
        assert!(ended.stderr.contains("set XDG_RUNTIME_DIR to a directory of this host"), "{}", ended.stderr);

        let runtime = home.join("run");
        fs::create_dir(&runtime).unwrap();
        chown(&runtime, Some(1111), Some(1111)).unwrap();
        let ended = curl_as(1111, &home, &image, &[("XDG_RUNTIME_DIR", runtime.to_str().unwrap())]).ok();
        assert!(ended.stderr.contains("using the daemon of this user"), "{}", ended.stderr);
        assert_eq!(fs::read_dir(squatted).unwrap().count(), 0, "nothing is put there");
    });
}

#[test]
fn a_link_in_place_of_the_runtime_directory_is_not_followed() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let home = home_of(0);
        let (runtime, target) = (home.join("run"), home.join("elsewhere"));
        fs::create_dir(&runtime).unwrap();
        fs::create_dir(&target).unwrap();
        symlink(&target, runtime.join("dragonfly")).unwrap();
        let ended = curl_as(0, &home, &image, &[("XDG_RUNTIME_DIR", runtime.to_str().unwrap())]).ok();
        image.assert_same(&home.join("pulled"));
        assert!(ended.stderr.contains("using the daemon of this user"), "{}", ended.stderr);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "nothing is put there");
    });
}

fn mount(directory: &Path, options: &str) {
    fs::create_dir_all(directory).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory)).ok();
}

#[test]
fn a_home_that_cannot_be_written_a_full_disk_and_no_runtime_directory_do_not_matter() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let (home, full) = (Path::new("/tmp/read-only"), Path::new("/tmp/tiny"));
        mount(full, "size=64k");
        let filled = fs::write(full.join("filling"), vec![1; 1 << 20]);
        assert!(filled.is_err(), "the disk is full");
        mount(home, "ro");
        // Where the file goes is the only thing that curl needs.
        let set = [("TMPDIR", full.to_str().unwrap())];
        for _ in ["cold", "warm"] {
            let place = home_of(0);
            let mut command = curl_command(&place, &image);
            let ended = run(command.env("HOME", home).envs(set)).ok();
            image.assert_same(&place.join("pulled"));
            let said = &ended.stderr;
            assert!(said.contains("using the daemon of this user"), "{said}");
            assert!(said.contains("no store in /tmp/tiny: only 0 MB are free"), "{said}");
            assert!(said.contains("no store in /tmp/read-only/.cache: Read-only file system"), "{said}");
        }
        registries.assert_downloaded_once("open", &image);
    });
}

/// No disk can be written but the one the command writes to: it says so and goes directly.
#[test]
fn where_nothing_can_be_written_the_command_says_so_and_runs() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let place = Path::new("/run/place");
        fs::create_dir_all(place).unwrap();
        fs::create_dir("/run/home").unwrap();
        // In mounts of its own, for the registry needs /tmp.
        let script =
            "for dir in /tmp /var/tmp /run/home; do mount -t tmpfs -o ro tmpfs $dir || exit; done; \"$@\"";
        let template = curl_command(place, &image);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(template.get_program());
        command.args(template.get_args()).env_clear().env("HOME", "/run/home");
        for (name, value) in template.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let ended = run(&mut command).ok();
        image.assert_same(&place.join("pulled"));
        assert!(ended.stderr.contains("the command runs directly, without a cache"), "{}", ended.stderr);
        assert!(ended.stderr.contains("set XDG_RUNTIME_DIR"), "{}", ended.stderr);
    });
}

/// As [`curl_as`], by whoever runs the test, with the home still to be set.
fn curl_command(place: &Path, image: &Image) -> Command {
    let mut command = Command::new(dfget_binary());
    command
        .args(["run", "--verbose", "--", "curl", "--silent", "--show-error", "--fail", "--output"])
        .arg(place.join("pulled"))
        .arg(image.blob_url("registry.test", "public/sif"))
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SSL_CERT_FILE", clients_dir().join("ca/origins.crt"));
    command
}
