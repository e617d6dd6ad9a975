//! Pages about other programs that pull.

use super::{Reader, THEIRS, yaml_of};
use crate::docker::{Docker, PROXIES};
use crate::mirror::{Containerd, configure_containerd, configure_containers};
use crate::sources::lfs_clone;
use crate::support::{Client, Daemon, Image, Registries, User, dfget_binary, in_namespace, run};

/// An image of the registry for everyone that is no SIF.
const OCI: &str = "registry.test/public/oci:4";
const BUNDLE: &str = "/etc/dragonfly/bundle.crt";

/// A configuration that hijacks the registries, and is the mirror of this one.
fn mirror_and_proxy(registry: &str) -> String {
    let hijack = "hijackHTTPS: {hosts: [{regx: 'registry\\.test:443$'}]}";
    let rules = "proxies: [{regx: 'blobs/sha256.*'}, {regx: 'manifests/sha256.*'}]";
    format!("registryMirror:\n  url: {}\n{rules}\n{hijack}\n", Registries::url(registry))
}

/// Makes the bundle that pages have made before.
fn make_the_bundle(client: &Client) {
    run(client.command(&dfget_binary().display().to_string()).args(["ca", "bundle", "-O", BUNDLE])).ok();
}

fn apptainer(page: &str) {
    let registries = Registries::start(&["open", "library"]);
    let words = [
        ("registry\\.example\\.com", "registry\\.test"),
        ("files\\.example\\.com", "objects\\.registry\\.test"),
    ];
    let _daemon = Daemon::start_as(&yaml_of(page, "files", &words));
    let client = Client::direct(User::Nobody);
    let add = ["remote", "add", "--no-login", "test", "library.registry.test"];
    for arguments in [&add[..], &["remote", "use", "test"]] {
        run(client.command("apptainer").args(arguments)).ok();
    }
    let proxied = format!("no_proxy= NO_PROXY= HTTPS_PROXY=127.0.0.1:65001 SSL_CERT_FILE={BUNDLE}");
    let reader = Reader::new(&client)
        .read(THEIRS, OCI)
        .read("https://files.example.com/image.sif", "https://objects.registry.test/16.sif")
        .read("library://entity/collection/image:tag", "library://lab/tools/image:4")
        .read("apptainer --debug pull", &format!("{proxied} apptainer --debug pull"))
        .read("apptainer pull …", &format!("{proxied} apptainer pull oras://registry.test/public/sif:4"));
    let said = reader.follow(page);
    let [_, _, library, seen] = &said[..] else { panic!("{said:#?}") };
    assert!(library.contains("its connections are tunnelled"), "{library}");
    assert!(seen.contains("peer task done"), "{seen}");
    registries.assert_downloaded_once("open", &Image::of_mib(4));
}

#[test]
fn apptainers_other_sources_in_english() {
    in_namespace(|| apptainer("docs/integrations/apptainer.md"));
}

#[test]
fn apptainers_other_sources_in_chinese() {
    in_namespace(|| apptainer("docs/integrations/apptainer.zh.md"));
}

#[test]
fn a_login_at_the_mirror() {
    in_namespace(|| {
        let _registries = Registries::start(&["basic"]);
        configure_containers("");
        let _daemon = Daemon::start_as(&mirror_and_proxy("basic"));
        let client = Client::direct(User::Nobody);
        // Between the blocks somebody pulls by that login.
        let pull =
            "skopeo copy --src-tls-verify=false docker://127.0.0.1:65001/private/oci:4 dir:image; grep";
        let reader = Reader::new(&client)
            .read("127.0.0.1:65001 ", "127.0.0.1:65001 --username dev --password secret ")
            .read("grep", pull)
            .with("CONTAINERS_CONF", "/etc/containers/containers.conf");
        let said = reader.follow("docs/integrations/README.md");
        assert!(said[0].contains("Login Succeeded") && said[1].contains("peer task done"), "{said:#?}");
    });
}

#[test]
fn podman_and_skopeo() {
    in_namespace(|| {
        let registries = Registries::start(&["open", "basic"]);
        configure_containers("");
        let _daemon = Daemon::start_as(&mirror_and_proxy("basic"));
        let client = Client::direct(User::Nobody);
        make_the_bundle(&client);
        let reader = Reader::new(&client)
            .read(THEIRS, OCI)
            .read("--tls-verify=false", "--username dev --password secret --tls-verify=false")
            .with("CONTAINERS_CONF", "/etc/containers/containers.conf")
            .with("STORAGE_DRIVER", "vfs")
            .with("PODMAN_IGNORE_CGROUPSV1_WARNING", "true");
        let said = reader.follow("docs/integrations/podman.md");
        assert!(said[0].contains("Login Succeeded") && said[2].contains("peer task done"), "{said:#?}");
        assert!(!registries.blobs("open").is_empty());
    });
}

#[test]
fn containerd_by_ctr() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let words = [("registry.example.com", "registry.test")];
        let _daemon =
            Daemon::start_as(&yaml_of("docs/integrations/containerd.md", "extraRegistryMirrors", &words));
        let hosts = "server = \"https://registry.test\"\n\n[host.\"http://127.0.0.1:65001\"]\n\
                     capabilities = [\"pull\", \"resolve\"]\n";
        configure_containerd("registry.test", hosts);
        let client = Client::direct(User::Nobody);
        let containerd = Containerd::start(&client);
        let reader = Reader::new(&client)
            .read(THEIRS, OCI)
            .with("CONTAINERD_ADDRESS", &containerd.socket().display().to_string())
            .with("CONTAINERD_SNAPSHOTTER", "native");
        let said = reader.follow("docs/integrations/containerd.md");
        assert!(said[1].contains("peer task done"), "{said:#?}");
        assert_eq!(registries.blobs("open").len(), 2, "each layer once");
    });
}

#[test]
fn docker_through_the_proxy() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let _daemon = Daemon::start();
        let docker = Docker::start(User::Nobody, PROXIES);
        let reader = Reader::new(docker.client())
            .read(THEIRS, OCI)
            .read("registry.example.com", "registry.test")
            .with("DOCKER_HOST", docker.socket());
        let said = reader.follow("docs/integrations/docker.md");
        assert!(said[1].contains("HTTPS Proxy: http://127.0.0.1:65001"), "{said:#?}");
        assert!(said[1].contains("peer task done"), "{said:#?}");
        assert_eq!(registries.blobs("open").len(), 2, "each layer once");
    });
}

#[test]
fn git_lfs() {
    in_namespace(|| {
        let _registries = Registries::start(&["library"]);
        let words = [("objects\\.example\\.com", "objects\\.registry\\.test")];
        let _daemon = Daemon::start_as(&yaml_of("docs/integrations/git-lfs.md", "hijackHTTPS", &words));
        let image = Image::of_mib(16);
        let client = Client::direct(User::Nobody);
        make_the_bundle(&client);
        lfs_clone(&client, &image);
        let reader = Reader::new(&client).read("git config http.proxy", "cd clone; git config http.proxy");
        reader.follow("docs/integrations/git-lfs.md");
        image.assert_same(&client.file("clone/data.sif"));
        assert!(!Daemon::tasks_done().is_empty(), "it came through the daemon");
    });
}
