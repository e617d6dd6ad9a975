//! Docker, set up as docs/integrations/docker.md says: by `daemon.json` and `certs.d`, not by variables.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::support::{Client, Daemon, Finished, Registries, User, in_namespace, run, until};

/// Docker's own daemon, with nothing of its own yet; ended when dropped.
#[derive(Debug)]
pub(crate) struct Docker {
    client: Client,
    child: Child,
    socket: String,
}

impl Docker {
    /// Starts it with these keys in `daemon.json`.
    pub(crate) fn start(user: User, keys: &str) -> Self {
        let client = Client::direct(user);
        let home = client.file("docker");
        fs::create_dir_all(&home).expect("/tmp is ours");
        let (home, socket) = (home.display(), format!("unix://{}/socket", home.display()));
        // Its own needs, as there is neither a network nor a way to mount layers here.
        let own = format!(
            r#""storage-driver": "vfs", "bridge": "none", "iptables": false, "ip6tables": false, "userland-proxy": false,
            "hosts": ["{socket}"], "data-root": "{home}/data", "exec-root": "{home}/run", "pidfile": "{home}/pid""#
        );
        let file = PathBuf::from(format!("{home}/daemon.json"));
        fs::write(&file, format!("{{{keys}, {own}}}")).expect("/tmp is ours");
        let said = File::create(format!("{home}/said")).expect("/tmp is ours");
        let errors = said.try_clone().expect("a file can be cloned");
        let mut command = client.command("dockerd");
        let child = command.arg("--config-file").arg(&file).stdout(said).stderr(errors).spawn();
        let mut docker = Self { child: child.expect("dockerd is there"), client, socket };
        until("dockerd to answer", || {
            if let Ok(Some(status)) = docker.child.try_wait() {
                let said = fs::read_to_string(docker.client.file("docker/said")).unwrap_or_default();
                panic!("dockerd ended with {status}:\n{said}");
            }
            docker.run(&["version"]).success.then_some(())
        });
        docker
    }

    /// Whose it is.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where it is asked.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(self.client.command("docker").args(["--host", &self.socket]).args(arguments))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Told to end it ends its containerd too. Either may fail when it ended before.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

pub(crate) const PROXIES: &str = r#""proxies": {"http-proxy": "http://127.0.0.1:65001", "https-proxy": "http://127.0.0.1:65001",
    "no-proxy": "localhost,127.0.0.0/8"}"#;

/// Lets Docker trust what the daemon shows for the registry.
fn trust(registry: &str) {
    let directory = Path::new("/etc/docker/certs.d").join(Registries::host(registry));
    fs::create_dir_all(&directory).expect("/etc is ours");
    fs::copy(Daemon::ca(), directory.join("ca.crt")).expect("/etc is ours");
}

fn through_the_proxy(registry: &str, repository: &str) {
    let registries = Registries::start(&[registry]);
    let _daemon = Daemon::start();
    trust(registry);
    let protected = repository.starts_with("private");
    let user = if protected { User::Dev } else { User::Nobody };
    let image = format!("{}/{repository}:4", Registries::host(registry));
    for turn in ["cold", "warm"] {
        Docker::start(user, PROXIES).run(&["pull", "--quiet", &image]).ok();
        let blobs = registries.blobs(registry);
        assert_eq!(blobs.len(), 2, "{turn}: {blobs:#?}");
    }
    for other in if protected { &[User::Nobody, User::Guest][..] } else { &[] } {
        let refused = Docker::start(*other, PROXIES).run(&["pull", "--quiet", &image]).failed();
        let said = refused.stderr.to_lowercase();
        assert!(
            said.contains("denied") || said.contains("unauthorized") || said.contains("authentication"),
            "{said}"
        );
    }
    assert_eq!(registries.blobs(registry).len(), 2);
}

#[test]
fn docker_through_the_proxy_from_the_open_registry() {
    in_namespace(|| through_the_proxy("open", "public/oci"));
}

#[test]
fn docker_through_the_proxy_from_the_token_registry() {
    in_namespace(|| through_the_proxy("token", "private/oci"));
}

#[test]
fn docker_by_the_mirror_of_docker_hub() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        // What Docker takes for the hub is another registry here.
        let _daemon = Daemon::start_as("registryMirror:\n  url: https://registry.test\n");
        let keys = r#""registry-mirrors": ["http://127.0.0.1:65001"]"#;
        for turn in ["cold", "warm"] {
            Docker::start(User::Nobody, keys).run(&["pull", "--quiet", "public/oci:4"]).ok();
            let blobs = registries.blobs("open");
            assert_eq!(blobs.len(), 2, "{turn}: {blobs:#?}");
        }
        assert!(Daemon::tasks_done().len() >= 4, "{:#?}", Daemon::tasks_done());
    });
}
