//! Pages by what people want to do.

use std::fs;
use std::os::unix::fs::symlink;

use dfget_testkit::{Answer, Origin, TestCa};

use super::{Reader, THEIRS, THIS_NODE, make_cluster_key, stand_in_for_engines, stand_in_for_srun};
use crate::support::{Client, Daemon, Image, Registries, User, clients_dir, dfget_binary, in_namespace, run};

#[test]
fn a_first_pull_in_a_minute() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        let reference = format!("registry.test/public/sif:{}", image.tag);
        symlink(dfget_binary(), client.file("dfget")).unwrap();
        let said = Reader::new(&client).read(THEIRS, &reference).follow("docs/first-pull.md");
        registries.assert_downloaded_once("open", &image);
        let [_copied, first, second, would, doctor] = &said[..] else { panic!("{said:#?}") };
        assert!(first.contains("dfget run: ") && second.contains("dfget run: "), "{said:#?}");
        assert!(would.contains("HTTPS_PROXY="), "{would}");
        assert!(doctor.contains("limits"), "{doctor}");
        image.assert_same(&client.file(&format!("sif_{}.sif", image.tag)));
    });
}

#[test]
fn a_private_registry_with_the_login_of_apptainer() {
    in_namespace(|| {
        let registries = Registries::start(&["basic"]);
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        fs::write(client.file("password"), "secret").unwrap();
        let host = Registries::host("basic");
        let reference = format!("{host}/private/sif:{}", image.tag);
        let reader = Reader::new(&client).read(THEIRS, &reference).read("registry.example.com", &host);
        reader.read("--username me", "--username dev").follow("docs/private-registries.md");
        registries.assert_downloaded_once("basic", &image);
    });
}

#[test]
fn what_to_do_by_message() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let _daemon = Daemon::start();
        let client = Client::proxied(User::Nobody);
        let reference = format!("registry.test/public/sif:{}", image.tag);
        let pull = format!("apptainer pull oras://{reference}");
        run(client.command("sh").args(["-c", &pull])).ok();
        // The registries' authority is none of this machine's.
        let doctor = format!("SSL_CERT_FILE={} dfget doctor", clients_dir().join("ca/origins.crt").display());
        let reader = Reader::new(&client).read(THEIRS, &reference).read("dfget doctor", &doctor);
        let said = reader.follow("docs/troubleshooting.md");
        let [doctor, explain, log] = &said[..] else { panic!("{said:#?}") };
        assert!(doctor.contains("HTTPS_PROXY leads to the daemon"), "{doctor}");
        assert!(explain.contains("yes: it is accelerated"), "{explain}");
        assert!(log.contains("peer task done"), "{log}");
    });
}

#[test]
fn a_configuration_of_dragonfly_is_taken_over() {
    in_namespace(|| {
        fs::create_dir_all("/etc/dragonfly").unwrap();
        fs::write("/etc/dragonfly/dfget.yaml", "aliveTime: 5m\nproxies:\n  - regx: blobs/sha256.*\n")
            .unwrap();
        let client = Client::direct(User::Nobody);
        let said = Reader::new(&client).follow("docs/migrating.md");
        assert!(said[0].contains("/etc/dragonfly/dfget.yaml"), "{said:#?}");
    });
}

/// A server of one tar, with what the client must trust besides the registries.
fn server_of_a_tar(client: &Client) -> Origin {
    fs::write(client.file("inside.txt"), "it was packed").unwrap();
    run(client.command("tar").args(["-cf", "packed.tar", "inside.txt"])).ok();
    fs::remove_file(client.file("inside.txt")).unwrap();
    let tar = fs::read(client.file("packed.tar")).unwrap();
    let ca = TestCa::new("authority of the files");
    let trusted = fs::read_to_string(clients_dir().join("ca/origins.crt")).unwrap() + &ca.certificate_pem();
    fs::write(client.file("trusted.pem"), trusted).unwrap();
    Origin::https(&ca, move |_| Answer::new(200).header("ETag", "\"1\"").body(tar.clone()).into())
}

#[test]
fn one_file_or_image() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let client = Client::direct(User::Nobody);
        let files = server_of_a_tar(&client);
        make_cluster_key();
        stand_in_for_srun();
        let reader = Reader::new(&client)
            .read("registry.example.org/project/tool:1", &format!("registry.test/public/sif:{}", image.tag))
            .read("ghcr.io/project/image:1", "registry.test/public/oci:4")
            .read("files.example.org", &files.authority())
            .with("SSL_CERT_FILE", client.file("trusted.pem").to_str().unwrap())
            .with("SLURM_JOB_NODELIST", THIS_NODE);
        let said = reader.follow("docs/get.md");
        assert_eq!(said.len(), 2, "{said:#?}");
        assert_eq!(fs::read(client.file("data.tar")).unwrap(), fs::read(client.file("packed.tar")).unwrap());
        assert_eq!(fs::read_to_string(client.file("inside.txt")).unwrap(), "it was packed");
        assert!(client.file("image/index.json").exists() && client.file("image.tar").exists());
        image.assert_same("/tmp/tool.sif".as_ref());
    });
}

#[test]
fn the_live_picture_as_text() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let _daemon = Daemon::start();
        let client = Client::direct(User::Nobody);
        let said = Reader::new(&client).follow("docs/top.md");
        let [live, once] = &said[..] else { panic!("{said:#?}") };
        assert!(live.contains("to clients") && once.contains("to clients"), "{said:#?}");
        assert!(once.contains("\"startedAt\"") && once.contains("/#token="), "{once}");
    });
}

#[test]
fn workflows_and_what_is_got_before_them() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        let image = Image::of_mib(4);
        let reference = format!("registry.test/public/sif:{}", image.tag);
        let client = Client::direct(User::Nobody);
        fs::write(client.file("main.nf"), format!("process a {{\n  container 'oras://{reference}'\n}}\n"))
            .unwrap();
        fs::write(client.file("images.txt"), format!("oras://{reference}\n")).unwrap();
        stand_in_for_engines(&reference);
        // The image has a shell, and no `true` of its own.
        let reader =
            Reader::new(&client).read(&format!("{THEIRS} true"), &format!("{reference} /bin/sh -c true"));
        let said = reader.read(THEIRS, &reference).follow("docs/workflows.md");
        let [engines, project, list, _array] = &said[..] else { panic!("{said:#?}") };
        assert!(engines.contains("dfget run: "), "{engines}");
        assert!(project.contains(&reference) && project.contains("1 of 1 images are here"), "{project}");
        assert!(list.contains("1 of 1 images are here"), "{list}");
        registries.assert_downloaded_once("open", &image);
    });
}

#[test]
fn a_cluster_in_a_job_and_its_key() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let client = Client::direct(User::Nobody);
        make_cluster_key();
        stand_in_for_srun();
        let before = fs::read("/etc/dragonfly/cluster.key").unwrap();
        let reader = Reader::new(&client)
            .read("registry.example.com/project/image:1", "registry.test/public/sif:4")
            .with("SLURM_JOB_NODELIST", THIS_NODE);
        let said = reader.follow("docs/cluster.md");
        assert_eq!(said.len(), 2, "{said:#?}");
        Image::of_mib(4).assert_same(&client.file("sif_4.sif"));
        assert_ne!(fs::read("/etc/dragonfly/cluster.key").unwrap(), before, "another was made");
    });
}

#[test]
fn what_would_become_of_a_pull() {
    in_namespace(|| {
        let _registries = Registries::start(&["open"]);
        let _daemon = Daemon::start();
        let client = Client::direct(User::Nobody);
        // That it is not accelerated is what the page shows.
        let theirs = "oras://registry.example.com/project/image:1";
        let ours = "oras://registry.test/public/sif:4 || [ $? -eq 1 ]";
        let said =
            Reader::new(&client).read(theirs, ours).read(".example.com", ".test").follow("docs/reload.md");
        assert!(said[0].contains("not proxied: the entry `.test` of NO_PROXY names it"), "{said:#?}");
        assert!(said[0].ends_with("no: it is not accelerated (see: client)\n"), "{said:#?}");
    });
}
