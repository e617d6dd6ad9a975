//! The clients, each with a home and caches of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::daemon::Daemon;
use super::image::{Image, sha256};
use super::namespace::{clients_dir, dfget_binary};
use super::process::{Finished, run};
use super::registry::Registries;

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum User {
    /// Without any credential.
    Nobody,
    /// With all rights.
    Dev,
    /// With a good password, and no right to `private/`.
    Guest,
    /// `dev` with a bad password.
    Forger,
}

impl User {
    /// Name and password as the file of `docker login` has them.
    const fn encoded(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Dev => "ZGV2OnNlY3JldA==",
            Self::Guest => "Z3Vlc3Q6dmlzaXRvcg==",
            Self::Forger => "ZGV2Omd1ZXNzZWQ=",
        }
    }

    /// Name and password.
    pub(crate) const fn credential(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nobody => None,
            Self::Dev => Some(("dev", "secret")),
            Self::Guest => Some(("guest", "visitor")),
            Self::Forger => Some(("dev", "guessed")),
        }
    }
}

/// A program that pulls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    /// `apptainer pull oras://…`
    Apptainer,
    /// The same program by its older name, as in the documentation.
    Singularity,
    /// `oras pull`
    Oras,
    /// `crane pull --format=oci`
    Crane,
    /// `curl` on the blob's URL; where a token is needed it asks for one first, as clients do.
    Curl,
}

/// A repository of a registry, both by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    /// As in `tests/real-clients/registries`.
    pub(crate) registry: &'a str,
    /// As `public/sif`.
    pub(crate) repository: &'a str,
}

impl Reference<'_> {
    /// `HOST/REPOSITORY:TAG`.
    pub(crate) fn tagged(self, tag: impl std::fmt::Display) -> String {
        format!("{}/{}:{tag}", Registries::host(self.registry), self.repository)
    }
}

/// One user's session on the node: nothing is cached in it at first.
#[derive(Debug)]
pub(crate) struct Client {
    home: PathBuf,
    user: User,
    way: Way,
}

/// How a client reaches registries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// Through `dfget daemon`.
    Proxied,
    /// By `dfget run`.
    Leased,
    /// As if there were no proxy; a mirror is the business of its configuration.
    Direct,
}

impl Client {
    /// A client behind the daemon.
    pub(crate) fn proxied(user: User) -> Self {
        Self::new(user, Way::Proxied)
    }

    /// A client that knows no proxy.
    pub(crate) fn direct(user: User) -> Self {
        Self::new(user, Way::Direct)
    }

    /// A client that knows no proxy, each program of which `dfget run` runs.
    pub(crate) fn leased(user: User) -> Self {
        Self::new(user, Way::Leased)
    }

    fn new(user: User, way: Way) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let home = PathBuf::from(format!("/tmp/client-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        for part in ["tmp", "cache", ".docker"] {
            fs::create_dir_all(home.join(part)).expect("/tmp is ours");
        }
        if let Some((name, password)) = user.credential() {
            let auth = user.encoded();
            let account = format!(r#"{{"username": "{name}", "password": "{password}", "auth": "{auth}"}}"#);
            // At a mirror a client shows what it has for the mirror's address.
            let hosts = [Registries::host("basic"), Registries::host("token"), "127.0.0.1:65001".to_owned()];
            let hosts = hosts.map(|host| format!(r#""{host}": {account}"#));
            let text = format!(r#"{{"auths": {{{}}}}}"#, hosts.join(", "));
            fs::write(home.join(".docker/config.json"), text).expect("/tmp is ours");
        }
        Self { home, user, way }
    }

    /// Where its temporary files are.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.home.join("tmp")
    }

    /// A file of this name in its home.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// The program with this client's environment, in its home.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.way == Way::Leased {
            command = Command::new(dfget_binary());
            command.args(["run", "--", program]);
        }
        // All users of a node have the same place for temporary files; the store goes there.
        let temporary = if self.way == Way::Leased { PathBuf::from("/tmp") } else { self.temporary() };
        command
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("TMPDIR", temporary)
            .env("APPTAINER_CACHEDIR", self.home.join("cache"))
            .env("APPTAINER_TMPDIR", self.temporary());
        let trusted =
            if self.way == Way::Proxied { Daemon::ca() } else { clients_dir().join("ca/origins.crt") };
        command.env("SSL_CERT_FILE", &trusted).env("CURL_CA_BUNDLE", &trusted);
        if self.way == Way::Proxied {
            command
                .env("no_proxy", "")
                .env("NO_PROXY", "")
                .env("HTTPS_PROXY", "127.0.0.1:65001")
                .env("HTTP_PROXY", "127.0.0.1:65001")
                .env("http_proxy", "127.0.0.1:65001");
        }
        if let Some((name, password)) = self.user.credential() {
            command.env("APPTAINER_DOCKER_USERNAME", name).env("APPTAINER_DOCKER_PASSWORD", password);
            command.env("REGISTRY_AUTH_FILE", self.home.join(".docker/config.json"));
        }
        command
    }

    /// Pulls the image and compares what came; the result is how the program ended, if badly.
    pub(crate) fn try_pull(&self, tool: Tool, from: Reference<'_>, image: &Image) -> Result<(), Finished> {
        let reference = from.tagged(image.tag);
        let file = self.file("pulled");
        let ended = match tool {
            Tool::Apptainer | Tool::Singularity => run(&mut self.apptainer_pull(tool, from, image)),
            Tool::Oras => {
                run(self.command("oras").args(["pull", "--no-tty", "--output", "pulled", &reference]))
            }
            Tool::Crane => run(self.command("crane").args(["pull", "--format=oci", &reference, "pulled"])),
            Tool::Curl => self.curl_blob(from, image),
        };
        if !ended.success {
            return Err(ended);
        }
        match tool {
            Tool::Oras => image.assert_same(&file.join(format!("{}.sif", image.tag))),
            Tool::Crane => assert_layout(&file, image),
            Tool::Apptainer | Tool::Singularity | Tool::Curl => image.assert_same(&file),
        }
        Ok(())
    }

    /// Pulls the image, or panics with what the program said.
    #[track_caller]
    pub(crate) fn pull(&self, tool: Tool, from: Reference<'_>, image: &Image) {
        if let Err(ended) = self.try_pull(tool, from, image) {
            ended.ok();
        }
    }

    /// `apptainer pull` of the image to the file `pulled`, not yet started.
    pub(crate) fn apptainer_pull(&self, tool: Tool, from: Reference<'_>, image: &Image) -> Command {
        let program = if matches!(tool, Tool::Singularity) { "singularity" } else { "apptainer" };
        let mut command = self.command(program);
        command.args(["--silent", "pull", "--force"]);
        if from.registry == "plain" {
            command.arg("--no-https");
        }
        command.arg("pulled").arg(format!("oras://{}", from.tagged(image.tag)));
        command
    }

    /// `curl` with the headers given, the body to the file `pulled`; it fails where the status is 400 or more.
    pub(crate) fn curl(&self, url: &str, headers: &[String]) -> Finished {
        let mut command = self.command("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--location", "--max-time", "120"]);
        for header in headers {
            command.args(["--header", header]);
        }
        run(command.args(["--output", "pulled", url]))
    }

    /// A bearer token for pulling from the repository, with this user's credential if it has one.
    pub(crate) fn token(&self, repository: &str) -> String {
        let mut command = self.command("curl");
        command.args(["--silent", "--show-error", "--max-time", "30"]);
        if let Some((name, password)) = self.user.credential() {
            command.args(["--user", &format!("{name}:{password}")]);
        }
        let scope = format!("repository:{repository}:pull");
        let service = "token.registry.test";
        command.arg(format!("https://auth.registry.test/token?service={service}&scope={scope}"));
        let answer = run(&mut command).ok().stdout;
        let token = answer.split_once(r#""token": ""#).and_then(|(_, rest)| rest.split_once('"'));
        token.unwrap_or_else(|| panic!("no token in {answer}")).0.to_owned()
    }

    fn curl_blob(&self, from: Reference<'_>, image: &Image) -> Finished {
        let url = image.blob_url(&Registries::host(from.registry), from.repository);
        match (from.registry, self.user.credential()) {
            ("token", _) => {
                self.curl(&url, &[format!("Authorization: Bearer {}", self.token(from.repository))])
            }
            ("basic", Some((name, password))) => run(self
                .command("curl")
                .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "120", "--user"])
                .args([&format!("{name}:{password}"), "--output", "pulled", &url])),
            _ => self.curl(&url, &[]),
        }
    }
}

/// Every blob of an OCI layout hashes to its name, and the image is among them.
#[track_caller]
fn assert_layout(directory: &Path, image: &Image) {
    let blobs = directory.join("blobs/sha256");
    for blob in fs::read_dir(&blobs).expect("crane made a layout") {
        let blob = blob.expect("crane made a layout").path();
        assert_eq!(blob.file_name().and_then(|name| name.to_str()), Some(sha256(&blob).as_str()));
    }
    image.assert_same(&blobs.join(&image.digest));
}
