//! Users with different rights on one node: what one pulled is not thereby another's.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::support::{
    Client, Daemon, Image, Reference, Registries, Request, Tool, User, in_namespace, left_out_without_root,
    run, sha256,
};

/// Digest of `{}`, the config blob that all SIF repositories share.
const EMPTY_CONFIG: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// `dev` pulls, the others try with every client, `dev` pulls again from the cache.
fn only_dev_gets_the_private_image(registry: &str, others: &[User]) {
    let registries = Registries::start(&[registry]);
    let _daemon = Daemon::start();
    let image = Image::of_mib(4);
    let private = Reference { registry, repository: "private/sif" };
    Client::proxied(User::Dev).pull(Tool::Apptainer, private, &image);
    for user in others {
        for tool in [Tool::Apptainer, Tool::Oras, Tool::Crane, Tool::Curl] {
            let denied = Client::proxied(*user).try_pull(tool, private, &image);
            assert!(denied.is_err(), "{user:?} got the private image by {tool:?}");
        }
    }
    Client::proxied(User::Dev).pull(Tool::Apptainer, private, &image);
    registries.assert_downloaded_once(registry, &image);
}

#[test]
fn cached_private_image_of_the_token_registry_is_refused_to_others() {
    in_namespace(|| only_dev_gets_the_private_image("token", &[User::Nobody, User::Guest]));
}

#[test]
fn cached_private_image_of_the_basic_registry_is_refused_to_others() {
    in_namespace(|| only_dev_gets_the_private_image("basic", &[User::Nobody, User::Guest, User::Forger]));
}

#[test]
fn wrong_password_gets_the_registrys_own_refusal() {
    in_namespace(|| {
        let _registries = Registries::start(&["token"]);
        let _daemon = Daemon::start();
        let image = Image::of_mib(4);
        let private = Reference { registry: "token", repository: "private/sif" };
        Client::proxied(User::Dev).pull(Tool::Apptainer, private, &image);
        let refused = Client::proxied(User::Forger).try_pull(Tool::Apptainer, private, &image).unwrap_err();
        assert!(refused.stderr.contains("wrong user or password"), "{}", refused.stderr);
    });
}

#[test]
fn token_of_one_repository_opens_no_cached_blob_of_another() {
    in_namespace(|| {
        let _registries = Registries::start(&["token"]);
        let _daemon = Daemon::start();
        let image = Image::of_mib(4);
        let dev = Client::proxied(User::Dev);
        for repository in ["private/sif", "public/sif"] {
            dev.pull(Tool::Curl, Reference { registry: "token", repository }, &image);
        }
        // The same digest is open to all in public/sif, by the very token that is tried on private/sif.
        let guest = Client::proxied(User::Guest);
        let host = Registries::host("token");
        let token = [format!("Authorization: Bearer {}", guest.token("public/sif"))];
        guest.curl(&image.blob_url(&host, "public/sif"), &token).ok();
        let refused = guest.curl(&image.blob_url(&host, "private/sif"), &token).failed();
        assert!(refused.stderr.contains("401"), "{}", refused.stderr);

        let config = format!("https://{host}/v2/private/sif/blobs/sha256:{EMPTY_CONFIG}");
        let dev_token = [format!("Authorization: Bearer {}", dev.token("private/sif"))];
        dev.curl(&config, &dev_token).ok();
        guest.curl(&config, &token).failed();
        guest.curl(&config, &[]).failed();
    });
}

#[test]
fn private_digest_is_not_found_under_a_repository_one_may_read() {
    in_namespace(|| {
        let _registries = Registries::start(&["token"]);
        let _daemon = Daemon::start();
        let image = Image::of_mib(4);
        let dev = Client::proxied(User::Dev);
        // An artifact whose blob is in no public repository.
        std::fs::write(dev.file("secret.txt"), "known to dev alone").unwrap();
        run(dev.command("oras").args([
            "push",
            "--no-tty",
            "token.registry.test/private/note:1",
            "secret.txt",
        ]))
        .ok();
        let note = Image { digest: sha256(&dev.file("secret.txt")), ..image };
        let host = Registries::host("token");
        let good = [format!("Authorization: Bearer {}", dev.token("private/note"))];
        dev.curl(&note.blob_url(&host, "private/note"), &good).ok();

        let guest = Client::proxied(User::Guest);
        let token = [format!("Authorization: Bearer {}", guest.token("public/sif"))];
        let refused = guest.curl(&note.blob_url(&host, "public/sif"), &token).failed();
        assert!(refused.stderr.contains("404"), "{}", refused.stderr);
        let body = std::fs::read_to_string(guest.file("pulled")).unwrap();
        assert!(body.contains("BLOB_UNKNOWN"), "the registry's own words: {body}");
    });
}

#[test]
fn revoked_right_opens_nothing_once_it_is_asked_for_again() {
    in_namespace(|| {
        let registries = Registries::start(&["basic"]);
        let _daemon = Daemon::start_with("access:\n  ttl: 0s\n");
        let image = Image::of_mib(4);
        let private = Reference { registry: "basic", repository: "private/sif" };
        for _ in ["cold", "warm"] {
            Client::proxied(User::Dev).pull(Tool::Curl, private, &image);
        }
        registries.revoke_dev();
        let refused = Client::proxied(User::Dev).try_pull(Tool::Curl, private, &image).unwrap_err();
        assert!(refused.stderr.contains("401"), "{}", refused.stderr);
        registries.assert_downloaded_once("basic", &image);
    });
}

#[test]
fn cached_image_outlives_its_registry_for_those_who_had_it() {
    in_namespace(|| {
        let registries = Registries::start(&["basic"]);
        let mut daemon = Daemon::start_with("access:\n  ttl: 0s\n");
        let image = Image::of_mib(4);
        let private = Reference { registry: "basic", repository: "private/sif" };
        Client::proxied(User::Dev).pull(Tool::Curl, private, &image);
        registries.stop("basic");
        for _ in ["by the same daemon", "by the next one"] {
            Client::proxied(User::Dev).pull(Tool::Curl, private, &image);
            for user in [User::Nobody, User::Guest, User::Forger] {
                let refused = Client::proxied(user).try_pull(Tool::Curl, private, &image);
                assert!(refused.is_err(), "{user:?} got the private image while its registry was down");
            }
            daemon.stop();
            daemon = Daemon::start();
        }
    });
}

#[test]
fn no_credential_is_in_any_log() {
    in_namespace(|| {
        let registries = Registries::start(&["basic", "token"]);
        let _daemon = Daemon::start();
        let image = Image::of_mib(4);
        let client = Client::proxied(User::Dev);
        for registry in ["basic", "token"] {
            client.pull(Tool::Curl, Reference { registry, repository: "private/sif" }, &image);
        }
        let token = client.token("private/sif");
        client
            .curl(
                &image.blob_url("token.registry.test", "private/sif"),
                &[format!("Authorization: Bearer {token}")],
            )
            .ok();
        let seen: Vec<Request> = registries.requests("token");
        assert!(!seen.is_empty());

        // The password, its Basic form (dev:secret), and the token's signature.
        let signature = token.rsplit('.').next().unwrap();
        for secret in ["dev:secret", "ZGV2OnNlY3JldA", signature] {
            let places =
                ["/var/log/dragonfly", "/var/lib/dragonfly", "/var/cache/dragonfly", "/tmp/daemon.output"];
            let mut grep = Command::new("grep");
            let found =
                run(grep.args(["--recursive", "--text", "--files-with-matches", "--", secret]).args(places));
            assert_eq!(found.stdout, "", "a credential is written down");
        }
    });
}

#[test]
fn another_user_of_the_machine_pulls_and_reads_nothing_of_the_daemon() {
    const OTHER: u32 = 65534;
    in_namespace(|| {
        if left_out_without_root("a client of another uid") {
            return;
        }
        let _registries = Registries::start(&["basic"]);
        let _daemon = Daemon::start();
        let image = Image::of_mib(4);
        let private = Reference { registry: "basic", repository: "private/sif" };
        Client::proxied(User::Dev).pull(Tool::Curl, private, &image);

        let client = Client::proxied(User::Nobody);
        chown(client.file(""), Some(OTHER), Some(OTHER)).unwrap();
        let url = image.blob_url("basic.registry.test", "private/sif");
        let mut curl = client.command("curl");
        curl.args(["--silent", "--fail", "--output", "pulled"]).uid(OTHER).gid(OTHER);
        run(curl.arg(&url)).failed();
        run(curl.args(["--user", "dev:secret"])).ok();
        image.assert_same(&client.file("pulled"));

        let places = ["/var/log/dragonfly", "/var/lib/dragonfly", "/etc/dragonfly/ca.key"];
        let mut find = client.command("find");
        find.args(places).args(["-type", "f", "-readable"]).uid(OTHER).gid(OTHER);
        assert_eq!(run(&mut find).stdout, "", "somebody else's to read");
        let mut find = client.command("find");
        find.args(places).args(["-type", "f", "-readable"]);
        assert!(run(&mut find).ok().stdout.lines().count() > 2, "there is something to be read");
    });
}
