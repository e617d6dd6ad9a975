//! A registry that is gone: whole pulls of those who had the image before are served from the node.

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace};

/// The image of a registry that has ended is pulled again by a new client of the same user, and by no other.
fn pulled_though_the_registry_is_gone(registry: &str, repository: &str, user: User, strangers: &[User]) {
    let registries = Registries::start(&[registry]);
    let _daemon = Daemon::start();
    let image = Image::of_mib(4);
    let from = Reference { registry, repository };
    Client::proxied(user).pull(Tool::Apptainer, from, &image);
    registries.stop(registry);
    for _ in ["once", "again"] {
        Client::proxied(user).pull(Tool::Apptainer, from, &image);
    }
    for &stranger in strangers {
        let refused = Client::proxied(stranger).try_pull(Tool::Apptainer, from, &image);
        assert!(refused.is_err(), "{stranger:?} never had it");
    }
}

#[test]
fn apptainer_pulls_though_the_open_registry_is_gone() {
    in_namespace(|| pulled_though_the_registry_is_gone("open", "public/sif", User::Nobody, &[]));
}

#[test]
fn apptainer_pulls_though_the_basic_registry_is_gone() {
    let strangers = [User::Nobody, User::Guest];
    in_namespace(|| pulled_though_the_registry_is_gone("basic", "private/sif", User::Dev, &strangers));
}

#[test]
fn apptainer_pulls_though_the_token_registry_is_gone() {
    let strangers = [User::Nobody, User::Guest];
    in_namespace(|| pulled_though_the_registry_is_gone("token", "private/sif", User::Dev, &strangers));
}
