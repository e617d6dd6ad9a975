//! Apptainer's sources other than registries: `https://` and `library://`; and Git LFS, which signs URLs as a library
//! does. (`docker://` is among the container tools of `mirror.rs`.)

use std::fs;
use std::path::Path;
use std::thread;

use super::support::{Client, Daemon, Image, Registries, Request, User, in_namespace, run};

/// What the documentation tells to add for images by their file.
const RULE: &str = r"\.sif(\?|$)";

/// What the object store was asked for the image, by this path.
fn asked(registries: &Registries, path: &str) -> Vec<Request> {
    let mut found = registries.requests("objects");
    found.retain(|request| request.method == "GET" && request.path.starts_with(path));
    found
}

fn bytes(requests: &[Request]) -> u64 {
    let sent = requests.iter().filter(|request| matches!(request.status, 200 | 206));
    sent.map(|request| request.body_bytes).sum()
}

/// `apptainer pull library://…` by a client that has nothing yet.
fn pull_from_library(image: &Image) {
    let client = Client::proxied(User::Nobody);
    for arguments in
        [&["remote", "add", "--no-login", "test", "library.registry.test"][..], &["remote", "use", "test"]]
    {
        run(client.command("apptainer").args(arguments)).ok();
    }
    let reference = format!("library://lab/tools/image:{}", image.tag);
    run(client.command("apptainer").args(["--silent", "pull", "pulled", &reference])).ok();
    image.assert_same(&client.file("pulled"));
}

fn stored_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let len = |entry: fs::DirEntry| match entry.metadata() {
        Ok(kind) if kind.is_dir() => stored_bytes(&entry.path()),
        Ok(kind) => std::os::unix::fs::MetadataExt::blocks(&kind) * 512,
        Err(_) => 0,
    };
    entries.map(len).sum()
}

#[test]
fn an_image_by_https_is_fetched_once_and_revalidated() {
    in_namespace(|| {
        let registries = Registries::start(&["library"]);
        let _daemon = Daemon::start_with_rule(RULE);
        let image = Image::of_mib(16);
        for turn in ["cold", "warm", "warm"] {
            let client = Client::proxied(User::Nobody);
            let url = "https://objects.registry.test/16.sif";
            run(client.command("apptainer").args(["--silent", "pull", "pulled", url])).ok();
            image.assert_same(&client.file("pulled"));
            let asked = asked(&registries, "/16.sif");
            assert_eq!(bytes(&asked), image.len_bytes, "{turn}: {asked:#?}");
        }
        let statuses: Vec<_> = asked(&registries, "/16.sif").iter().map(|request| request.status).collect();
        // The client asks by HEAD and by GET; of what is stored both are revalidated.
        assert_eq!(statuses, [200, 304, 304, 304, 304]);
        let done = Daemon::tasks_done();
        let cached = done.iter().filter(|line| line.contains(r#""source":"cache""#)).count();
        assert_eq!(cached, 2, "{done:#?}");
    });
}

#[test]
fn an_image_of_a_library_is_one_task_whatever_its_parts_and_signatures() {
    in_namespace(|| {
        let registries = Registries::start(&["library"]);
        let _daemon = Daemon::start_with_rule(RULE);
        let image = Image::of_mib(64);
        for turn in ["cold", "warm"] {
            pull_from_library(&image);
            let asked = asked(&registries, "/signed/64.sif");
            assert_eq!(bytes(&asked), image.len_bytes, "{turn}: {asked:#?}");
        }
        let signatures: std::collections::HashSet<_> =
            asked(&registries, "/signed/64.sif").into_iter().map(|request| request.path).collect();
        assert_eq!(signatures.len(), 2, "each pull had a signature of its own");
        let stored = stored_bytes(Path::new("/var/lib/dragonfly"));
        assert!(stored < image.len_bytes * 5 / 4, "one copy is stored: {stored}");

        // Without a signature, or with one that the store does not take, nothing of it can be had.
        let client = Client::proxied(User::Nobody);
        for query in ["", "?X-Amz-Signature=?"] {
            let refused =
                client.curl(&format!("https://objects.registry.test/signed/64.sif{query}"), &[]).failed();
            assert!(refused.stderr.contains("403"), "{}", refused.stderr);
        }
    });
}

#[test]
fn clients_of_a_slow_library_share_one_task() {
    in_namespace(|| {
        let registries = Registries::start_library("8m");
        let _daemon = Daemon::start_with_rule(RULE);
        let image = Image::of_mib(16);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pull_from_library(&image));
            }
        });
        let asked = asked(&registries, "/signed/16.sif");
        assert_eq!(bytes(&asked), image.len_bytes, "{asked:#?}");
    });
}

/// A repository `clone` in the client's home, whose file `data.sif` is to come by Git LFS.
pub(crate) fn lfs_clone(client: &Client, image: &Image) {
    let git = |arguments: &[&str]| run(client.command("git").args(["-C", "clone"]).args(arguments)).ok();
    run(client.command("git").args(["init", "--quiet", "clone"])).ok();
    for (key, value) in [
        ("lfs.url", "https://library.registry.test/lfs"),
        ("user.name", "dev"),
        ("user.email", "dev@registry.test"),
    ] {
        git(&["config", key, value]);
    }
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        image.digest, image.len_bytes
    );
    fs::write(client.file("clone/data.sif"), pointer).expect("/tmp is ours");
    fs::write(client.file("clone/.gitattributes"), "*.sif filter=lfs -text\n").expect("/tmp is ours");
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "data"]);
    git(&["lfs", "install", "--local"]);
}

#[test]
fn git_lfs_fetches_a_file_once_whatever_its_signature() {
    in_namespace(|| {
        let registries = Registries::start(&["library"]);
        let _daemon = Daemon::start_with_rule("^https://objects\\.registry\\.test/");
        let image = Image::of_mib(16);
        for turn in ["cold", "warm"] {
            // As docs/integrations/git-lfs.md says.
            let client = Client::direct(User::Nobody);
            let git = |arguments: &[&str]| {
                let mut command = client.command("git");
                command.env("GIT_SSL_CAINFO", Daemon::ca());
                run(command.args(["-C", "clone"]).args(arguments)).ok()
            };
            lfs_clone(&client, &image);
            git(&["config", "http.proxy", "http://127.0.0.1:65001"]);
            git(&["lfs", "pull"]);
            image.assert_same(&client.file("clone/data.sif"));
            let asked = asked(&registries, "/signed/16.sif");
            assert_eq!(bytes(&asked), image.len_bytes, "{turn}: {asked:#?}");
        }
        let done = Daemon::tasks_done();
        assert!(done.last().is_some_and(|line| line.contains(r#""source":"cache""#)), "{done:#?}");
    });
}
