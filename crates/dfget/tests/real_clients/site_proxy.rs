//! Pulls where the proxy of the site, a real squid, is all that leads to registries.

use std::fs;

use super::support::{
    CORE_LOG, Client, Daemon, Image, LOGIN, Reference, Registries, Squid, Tool, User, in_namespace_with,
    left_out_without_root,
};

/// Runs `scenario` where squid is.
macro_rules! beside_squid {
    ($scenario:expr) => {
        in_namespace_with(&Squid::unpacked, || {
            if !left_out_without_root("a squid, which must become another user,") {
                $scenario
            }
        })
    };
}

const OPEN: Reference<'_> = Reference { registry: "open", repository: "public/sif" };

/// Lines of the configuration that name squid for everything.
fn configured(login: Option<&str>) -> String {
    let url = Squid::url(login);
    format!("\ndownload:\n  resourceClients: {{https: {{proxy: '{url}'}}, http: {{proxy: '{url}'}}}}\n")
}

fn assert_no_secret_in_the_log() {
    let log = fs::read_to_string(CORE_LOG).expect("there is a log");
    assert!(!log.contains("canary"), "{log}");
}

/// Cold and warm through squid: one copy of the blob, and every connection to a registry by squid.
fn pulls(registry: &str, login: Option<&str>, daemon: impl FnOnce() -> Daemon) {
    let registries = Registries::start(&[registry]);
    let squid = Squid::start(login.is_some());
    let mut daemon = daemon();
    let image = Image::of_mib(4);
    let user = if registry == "open" { User::Nobody } else { User::Dev };
    let from = Reference { registry, ..OPEN };
    for _ in ["cold", "warm"] {
        Client::proxied(user).pull(Tool::Apptainer, from, &image);
    }
    registries.assert_downloaded_once(registry, &image);
    // squid writes of a tunnel when it ends.
    daemon.stop();
    let lines = squid.logged(&format!("CONNECT {}:443", Registries::host(registry)));
    assert!(lines.iter().all(|line| line.contains("/200 ")), "{lines:?}");
    assert_no_secret_in_the_log();
}

#[test]
fn apptainer_pulls_through_squid_by_the_environment() {
    beside_squid!(pulls("open", None, || Daemon::start_with_variables(&[(
        "HTTPS_PROXY",
        &Squid::url(None)
    )])));
}

#[test]
fn apptainer_pulls_through_squid_with_a_login_by_the_environment() {
    beside_squid!(pulls("open", Some(LOGIN), || Daemon::start_with_variables(&[(
        "HTTPS_PROXY",
        &Squid::url(Some(LOGIN))
    )])));
}

/// Tokens come from a host that is not hijacked: a blind tunnel, through squid too.
#[test]
fn apptainer_pulls_through_squid_with_a_login_by_the_configuration() {
    beside_squid!({
        pulls("token", Some(LOGIN), || Daemon::start_with(&configured(Some(LOGIN))));
    });
}

#[test]
fn a_wrong_password_is_a_502_that_names_the_sites_proxy() {
    beside_squid!({
        let _registries = Registries::start(&["open", "plain"]);
        let squid = Squid::start(true);
        let _daemon = Daemon::start_with(&configured(Some("site:canary-wrong")));
        let image = Image::of_mib(4);
        let client = Client::proxied(User::Nobody);
        let failed = client.try_pull(Tool::Apptainer, OPEN, &image).expect_err("squid refuses");
        let said = failed.stdout + &failed.stderr;
        assert!(said.contains("site's proxy") && said.contains("407"), "apptainer shows the reason: {said}");
        let plain = client.curl("http://plain.registry.test:5080/v2/", &[]).failed();
        assert!(plain.stderr.contains("502"), "{}", plain.stderr);
        let told = fs::read_to_string(client.file("pulled")).expect("curl wrote the body");
        assert!(told.contains("site's proxy") && told.contains("refuses our login"), "{told}");
        assert!(squid.logged("/407 ").len() >= 2);
        assert_no_secret_in_the_log();
    });
}

#[test]
fn without_squid_stored_content_still_flows_and_the_rest_is_a_502() {
    beside_squid!({
        let registries = Registries::start(&["open"]);
        let squid = Squid::start(false);
        let _daemon = Daemon::start_with(&(configured(None) + "access: {ttl: 0s}\n"));
        let (stored, other) = (Image::of_mib(4), Image::of_mib(16));
        Client::proxied(User::Nobody).pull(Tool::Apptainer, OPEN, &stored);
        drop(squid);
        Client::proxied(User::Nobody).pull(Tool::Curl, OPEN, &stored);
        registries.assert_downloaded_once("open", &stored);
        let client = Client::proxied(User::Nobody);
        let failed = client.curl(&other.blob_url("registry.test", "public/sif"), &[]).failed();
        assert!(failed.stderr.contains("502"), "{}", failed.stderr);
        let told = fs::read_to_string(client.file("pulled")).expect("curl wrote the body");
        assert!(told.contains("site's proxy") && told.contains("refused"), "{told}");
    });
}

/// Two users, a registry that redirects to its store, and squid between: one stored copy.
#[test]
fn two_users_of_a_redirecting_registry_behind_squid_share_one_copy() {
    beside_squid!({
        let registries = Registries::start(&["redirect"]);
        let squid = Squid::start(false);
        let mut daemon = Daemon::start_with(&configured(None));
        let image = Image::of_mib(4);
        let from = Reference { registry: "redirect", ..OPEN };
        for user in [User::Nobody, User::Dev] {
            Client::proxied(user).pull(Tool::Apptainer, from, &image);
        }
        // The second one's right was asked for by one byte of it.
        let sent: u64 = registries.downloads("files", &image).iter().map(|request| request.body_bytes).sum();
        assert!((image.len_bytes..=image.len_bytes + 1).contains(&sent), "{sent}");
        daemon.stop();
        assert!(!squid.logged("CONNECT files.registry.test:443").is_empty());
    });
}
