//! Pushes pass through the proxy, and what was pushed comes back.

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace, run};

/// Pushes the image by `command`, pulls it through the proxy and without it.
fn push_and_pull_back(user: User, registry: &str, push: impl FnOnce(&Client, &str, &Image)) {
    let _registries = Registries::start(&[registry]);
    let _daemon = Daemon::start();
    let image = Image::of_mib(16);
    let new = Reference { registry, repository: "pushed/sif" };
    let client = Client::proxied(user);
    push(&client, &new.tagged(image.tag), &image);
    client.pull(Tool::Apptainer, new, &image);
    Client::direct(user).pull(Tool::Oras, new, &image);
}

fn apptainer_push(client: &Client, reference: &str, image: &Image) {
    let target = format!("oras://{reference}");
    run(client.command("apptainer").args(["--silent", "push"]).arg(&image.file).arg(target)).ok();
}

fn oras_push(client: &Client, reference: &str, image: &Image) {
    let layer = format!("{}.sif:application/vnd.sylabs.sif.layer.v1.sif", image.tag);
    let mut command = client.command("oras");
    command.args([
        "push",
        "--no-tty",
        "--artifact-type",
        "application/vnd.sylabs.sif.config.v1+json",
        reference,
        &layer,
    ]);
    run(command.current_dir(image.file.parent().expect("a file is in a directory"))).ok();
}

#[test]
fn apptainer_pushes_to_the_open_registry() {
    in_namespace(|| push_and_pull_back(User::Nobody, "open", apptainer_push));
}

#[test]
fn apptainer_pushes_to_the_token_registry() {
    in_namespace(|| push_and_pull_back(User::Dev, "token", apptainer_push));
}

#[test]
fn oras_pushes_to_the_open_registry() {
    in_namespace(|| push_and_pull_back(User::Nobody, "open", oras_push));
}

#[test]
fn oras_pushes_to_the_basic_registry() {
    in_namespace(|| push_and_pull_back(User::Dev, "basic", oras_push));
}
