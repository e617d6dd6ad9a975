//! The real client, one on each node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster, Node};

use crate::support::{Finished, clients_dir, run};

/// Puts a real image into the registry as `apptainer push` does; the image, and what apptainer is told to pull.
pub(crate) fn push_image(cluster: &Cluster) -> (Blob, String) {
    let file = clients_dir().join("images/64.sif");
    let image = Blob::of(fs::read(&file).expect("setup made the image"));
    let reference = push(cluster, &image);
    (image, reference)
}

/// Pulls it on every node at once, and looks at every file.
#[track_caller]
pub(crate) fn pull_image(cluster: &Cluster, image: &Blob, reference: &str) {
    let ended: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> =
            cluster.nodes.iter().map(|node| scope.spawn(|| apptainer_pull(node, reference))).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    for (ended, node) in ended.into_iter().zip(&cluster.nodes) {
        ended.ok();
        let file = fs::read(home(node).join("pulled.sif")).expect("apptainer wrote it");
        assert_eq!(sha256(&file), image.digest, "{} has another image", node.place);
    }
}

fn push(cluster: &Cluster, image: &Blob) -> String {
    let config = Blob::empty_config();
    cluster.registry.put("public/sif", image);
    cluster.registry.put("public/sif", &config);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.sylabs.sif.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.title":"image.sif"}}}}]}}"#,
        config.digest,
        config.len(),
        image.digest,
        image.len(),
    );
    cluster.registry.put_manifest("public/sif", "tag", manifest.as_bytes());
    let digest = sha256(manifest.as_bytes());
    cluster.registry.put_manifest("public/sif", &digest, manifest.as_bytes());
    format!("oras://{}/public/sif:tag", cluster.registry.origin.authority())
}

pub(crate) fn home(node: &Node) -> PathBuf {
    Path::new("/tmp").join(node.place.name())
}

/// `apptainer pull` on this node, by a user who has nothing yet.
pub(crate) fn apptainer_pull(node: &Node, reference: &str) -> Finished {
    let home = home(node);
    fs::create_dir_all(&home).expect("/tmp is ours");
    let mut command = Command::new("apptainer");
    command
        .args(["--silent", "pull", "pulled.sif", reference])
        .current_dir(&home)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("APPTAINER_CACHEDIR", home.join("cache"))
        .env("SSL_CERT_FILE", node.daemon.ca_file())
        .env("NO_PROXY", "")
        .env("no_proxy", "")
        .env("HTTPS_PROXY", node.daemon.address().to_string());
    node.place.within(|| run(&mut command))
}
