//! The clients and registries by themselves. What fails here is no fault of the proxy.

use super::support::{Client, Image, Reference, Registries, Tool, User, in_namespace, run};

#[test]
fn every_client_pulls_from_every_registry() {
    in_namespace(|| {
        let registries = Registries::start(&["open", "basic", "token", "redirect", "plain", "slow"]);
        let image = Image::of_mib(4);
        for registry in ["open", "basic", "token", "redirect", "slow"] {
            let repository = if matches!(registry, "basic" | "token") { "private/sif" } else { "public/sif" };
            for tool in [Tool::Apptainer, Tool::Singularity, Tool::Oras, Tool::Crane, Tool::Curl] {
                Client::direct(User::Dev).pull(tool, Reference { registry, repository }, &image);
            }
            let log = if registry == "redirect" { "files" } else { registry };
            assert_eq!(registries.downloads(log, &image).len(), 5, "{registry}");
        }
        let plain = Reference { registry: "plain", repository: "public/sif" };
        Client::direct(User::Nobody).pull(Tool::Apptainer, plain, &image);
    });
}

#[test]
fn registries_tell_users_apart() {
    in_namespace(|| {
        let _registries = Registries::start(&["basic", "token"]);
        let image = Image::of_mib(4);
        for registry in ["basic", "token"] {
            let private = Reference { registry, repository: "private/sif" };
            for user in [User::Nobody, User::Guest, User::Forger] {
                for tool in [Tool::Apptainer, Tool::Oras, Tool::Crane] {
                    let denied = Client::direct(user).try_pull(tool, private, &image);
                    assert!(denied.is_err(), "{user:?} got {private:?} by {tool:?}");
                }
            }
        }
        let public = Reference { registry: "token", repository: "public/sif" };
        for user in [User::Nobody, User::Guest, User::Dev] {
            Client::direct(user).pull(Tool::Apptainer, public, &image);
        }
    });
}

#[test]
fn what_is_pushed_is_pulled() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let new = Reference { registry: "open", repository: "pushed/sif" };
        let reference = format!("oras://{}", new.tagged(image.tag));
        let client = Client::direct(User::Nobody);
        run(client.command("apptainer").arg("push").arg(&image.file).arg(reference)).ok();
        client.pull(Tool::Apptainer, new, &image);
    });
}
