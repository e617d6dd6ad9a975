//! Clients that know no proxy: the hosts file leads them to the daemon (`hijackHTTPS.sni`).

use std::fs;
use std::process::{Child, Command};

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace, run, until};

const OPEN: Reference<'_> = Reference { registry: "open", repository: "public/sif" };

/// Gives the registry the daemon's address, as a site does on its nodes; returns what stood there.
fn lead_here() -> String {
    let hosts = fs::read_to_string("/etc/hosts").expect("the namespace has one");
    let led = hosts.replace("198.51.100.10 registry.test", "127.0.0.1 registry.test");
    assert_ne!(led, hosts);
    fs::write("/etc/hosts", led).expect("/etc is ours");
    hosts
}

/// Lines below `hijackHTTPS`, the last section of the documented configuration.
fn listening(namespace: &str) -> String {
    format!("  sni: [{{port: 443{namespace}}}]\ndownload: {{resolve: {{registry.test: 198.51.100.10}}}}\n")
}

#[test]
fn apptainer_and_oras_pull_by_the_hosts_file_alone() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let before = lead_here();
        let _daemon = Daemon::start_with(&listening(""));
        let image = Image::of_mib(4);
        for _ in ["cold", "warm"] {
            let client = Client::direct(User::Nobody);
            run(client.apptainer_pull(Tool::Apptainer, OPEN, &image).env("SSL_CERT_FILE", Daemon::ca())).ok();
            image.assert_same(&client.file("pulled"));
        }
        let client = Client::direct(User::Nobody);
        let reference = OPEN.tagged(image.tag);
        let mut oras = client.command("oras");
        oras.args(["pull", "--no-tty", "--output", "pulled", &reference]).env("SSL_CERT_FILE", Daemon::ca());
        run(&mut oras).ok();
        // The registry is asked for its log at its own address.
        fs::write("/etc/hosts", before).expect("/etc is ours");
        registries.assert_downloaded_once("open", &image);
        assert!(Daemon::tasks_done().len() >= 3, "{:?}", Daemon::tasks_done());
    });
}

/// A network namespace that lives as long as its process.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Self {
        let script = "ip link set lo up && touch /tmp/elsewhere && exec sleep 300";
        let child = Command::new("unshare").args(["--net", "sh", "-c", script]).spawn();
        let elsewhere = Self(child.expect("unshare can be started"));
        until("the other namespace to be there", || fs::metadata("/tmp/elsewhere").ok());
        elsewhere
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // Either may fail when it ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon stands where the registries are; its client in a namespace with nothing but a loopback.
#[test]
fn a_client_in_another_network_namespace_is_served_there() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        lead_here();
        let elsewhere = Elsewhere::new();
        let _daemon = Daemon::start_with(&listening(&format!(", namespace: {}", elsewhere.path())));
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        let mut curl = client.command("nsenter");
        curl.arg(format!("--net={}", elsewhere.path()))
            .args(["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", "--cacert"])
            .arg(Daemon::ca())
            .args(["--output", "pulled", &image.blob_url("registry.test", "public/sif")]);
        run(&mut curl).ok();
        image.assert_same(&client.file("pulled"));
        let here = Command::new("curl").args(["--silent", "https://127.0.0.1/"]).status();
        assert!(!here.expect("curl runs").success(), "nobody listens in the daemon's own namespace");
    });
}
