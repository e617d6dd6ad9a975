//! Images and files of registries.

use std::fs;
use std::process::Command;

use dfget_testkit::session::until;
use dfget_testkit::{Answer, Blob, Cut, Ended, Gate, Origin, Running, Session};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{WAYS, dfget, get, get_json, got, home, names, session};

const SIF: &str = "application/vnd.sylabs.sif.layer.v1.sif";

/// Puts a manifest of these contents under the tag, and under its digest, which is returned.
fn put_image(
    session: &Session,
    repository: &str,
    tag: &str,
    layers: &[(&Blob, &str, Option<&str>)],
) -> String {
    let config = Blob::empty_config();
    session.registry.put(repository, &config);
    let layers: Vec<Value> = layers
        .iter()
        .map(|(blob, kind, title)| {
            session.registry.put(repository, blob);
            let title = title.map(|title| json!({"org.opencontainers.image.title": title}));
            json!({"mediaType": kind, "digest": blob.digest, "size": blob.len(), "annotations": title})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config.digest, "size": config.len()},
        "layers": layers,
    });
    put_document(session, repository, tag, &manifest)
}

fn put_document(session: &Session, repository: &str, tag: &str, document: &Value) -> String {
    let text = Blob::of(document.to_string().into_bytes());
    session.registry.put_manifest(repository, &text.digest, &text.bytes);
    session.registry.put_manifest(repository, tag, &text.bytes);
    text.digest
}

fn reference(session: &Session, scheme: &str, rest: &str) -> String {
    format!("{scheme}://{}/{rest}", session.registry.origin.authority())
}

/// Every blob of a layout hashes to its name, and these are all there.
#[track_caller]
fn assert_layout(session: &Session, dir: &str, manifest: &str, blobs: &[&Blob]) {
    let dir = home(session, dir);
    assert_eq!(fs::read_to_string(dir.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], manifest, "{index}");
    let mut found = Vec::new();
    for blob in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let name = format!("sha256:{}", blob.file_name().into_string().unwrap());
        assert_eq!(Blob::of(fs::read(blob.path()).unwrap()).digest, name);
        found.push(name);
    }
    for blob in blobs {
        assert!(found.contains(&blob.digest), "{found:?}");
    }
    assert_eq!(found.len(), blobs.len() + 2, "with the manifest and the configuration: {found:?}");
}

#[test]
fn a_sif_comes_under_its_title_or_its_name() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(300_000, 1);
        put_image(&session, "p/tool", "1", &[(&blob, SIF, Some("tool.sif"))]);
        let digest = put_image(&session, "p/tool", "2", &[(&blob, SIF, Some("../../.bashrc"))]);
        for (from, file) in [
            ("p/tool:1", "tool.sif"),
            ("p/tool:2", "tool_2.sif"),
            (&format!("p/tool@{digest}"), &format!("tool_{}.sif", &digest[7..19])),
        ] {
            let object = get_json(&session, way, &[&reference(&session, "oras", from)]);
            assert_eq!(
                (&object["output"], &object["digest"]),
                (&file.into(), &blob.digest.as_str().into()),
                "{object}"
            );
            assert!(fs::read(home(&session, file)).unwrap() == blob.bytes[..]);
        }
        let again = get_json(&session, way, &[&reference(&session, "oras", "p/tool:1")]);
        assert_eq!(again["unchanged"], true, "{again}");
        assert_eq!(session.registry.downloads(&blob.digest), if way.is_empty() { 1 } else { 3 });
        fs::write(home(&session, "tool.sif"), "another").unwrap();
        let refused = get(&session, way, &[&reference(&session, "oras", "p/tool:1")]);
        assert_eq!(
            (refused.code, refused.stderr.contains("tool.sif exists")),
            (1, true),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn what_a_registry_has_not_or_has_wrong_is_told() {
    for way in WAYS {
        let session = session();
        let (one, two) = (Blob::random(1000, 2), Blob::random(1000, 3));
        put_image(&session, "p/two", "1", &[(&one, "text/plain", None), (&two, "text/plain", None)]);
        let wrong = Blob::random(1000, 4);
        let bad = put_image(&session, "p/bad", "1", &[(&wrong, SIF, None)]);
        session.registry.put_as("p/bad", &wrong.digest, &Blob::random(1000, 5).bytes);
        session.registry.put_manifest("p/bad", "page", b"<html>");
        session.registry.put_manifest("p/bad", &Blob::of(*b"x").digest, b"y");
        let told = |from: &str, told: &str, code: i32| {
            let ended = get(&session, way, &[&reference(&session, "oras", from), "-O", "x"]);
            assert_eq!(ended.code, code, "{from}: {}", ended.stderr);
            assert!(ended.stderr.contains(told), "{from}: {}", ended.stderr);
            assert!(ended.stderr.lines().count() == 1 && names(&session).is_empty(), "{:?}", names(&session));
        };
        told("p/none:1", "no such repository", 1);
        told("p/two:2", "no such manifest", 1);
        told(
            "p/two:1",
            "there are 2 files in it and not one; get all of them into a directory by docker://",
            1,
        );
        told("p/bad:page", "the manifest cannot be read", 1);
        told(&format!("p/bad@{}", Blob::of(*b"x").digest), "what came has the digest", 1);
        told("p/bad:1", if way.is_empty() { "/blobs/" } else { "what came has the digest" }, 1);
        let other = get(&session, way, &[&reference(&session, "oras", "p/two:1"), "--digest", &bad]);
        assert_eq!(
            (other.code, other.stderr.contains("what came has the digest")),
            (1, true),
            "{}",
            other.stderr
        );
    }
}

#[test]
fn a_container_image_becomes_a_layout() {
    for way in WAYS {
        let session = session();
        let layers = [Blob::random(300_000, 6), Blob::random(10, 7), Blob::random(200_000, 8)];
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let given: Vec<_> = layers.iter().map(|layer| (layer, kind, None)).collect();
        let digest = put_image(&session, "p/image", "1", &given);
        let from = reference(&session, "docker", "p/image:1");
        let object = get_json(&session, way, &[&from]);
        assert_eq!(
            (&object["output"], &object["digest"]),
            (&"image_1".into(), &digest.as_str().into()),
            "{object}"
        );
        assert_eq!(object["bytes"], 500_012);
        assert_layout(&session, "image_1", &digest, &layers.each_ref());
        let again = get_json(&session, way, &[&from]);
        assert_eq!(again["unchanged"], true, "{again}");

        got(&session, way, &[&from, "-O", "image.tar"]);
        let unpack = "mkdir unpacked && tar -xf image.tar -C unpacked";
        assert!(session.program("sh").args(["-c", unpack]).status().unwrap().success());
        assert_layout(&session, "unpacked", &digest, &layers.each_ref());
        let mut streamed = session.program("sh");
        let script = "mkdir streamed && \"$@\" | tar -xf - -C streamed";
        streamed.args(["-c", script, "sh", super::support::DFGET, &from, "-O", "-"]).args(way);
        assert!(streamed.status().unwrap().success());
        assert_layout(&session, "streamed", &digest, &layers.each_ref());
        assert_eq!(names(&session), ["image.tar", "image_1", "streamed", "unpacked"]);
    }
}

#[test]
fn a_directory_with_something_else_is_not_replaced() {
    let session = session();
    put_image(&session, "p/image", "1", &[(&Blob::random(1000, 9), "x", None)]);
    let from = reference(&session, "docker", "p/image:1");
    fs::create_dir(home(&session, "thesis")).unwrap();
    fs::write(home(&session, "thesis/a.tex"), "precious").unwrap();
    for flags in [&["-O", "thesis"][..], &["-O", "thesis", "--force"]] {
        let ended = get(&session, &["--direct"], &[&[from.as_str()][..], flags].concat());
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert_eq!(fs::read(home(&session, "thesis/a.tex")).unwrap(), b"precious");
    }
    fs::write(home(&session, "file"), "precious").unwrap();
    let ended = get(&session, &["--direct"], &[&from, "-O", "file", "--force"]);
    assert_eq!((ended.code, ended.stderr.contains("it is no directory")), (1, true), "{}", ended.stderr);
}

#[test]
fn a_broken_layout_is_gone_on_with() {
    for output in ["image", "image.tar"] {
        let session = session();
        let (first, second) = (Blob::random(2_000_000, 10), Blob::random(2_000_000, 11));
        let digest = put_image(&session, "p/image", "1", &[(&first, "x", None), (&second, "x", None)]);
        let gate = Gate::new();
        session.registry.next_blob(Into::into);
        session.registry.next_blob(Into::into);
        session.registry.next_blob(move |answer| answer.hold_after(1_500_000, &gate).into());
        let from = reference(&session, "docker", "p/image:1");
        let running = Running::start(&mut dfget(&session, &[&from, "-O", output, "--direct"]));
        session.registry.origin.wait_until("half of the second layer is sent", |journal| {
            journal.iter().any(|entry| entry.target.contains(&second.digest) && entry.sent >= 1_500_000)
        });
        until("it to be written", || {
            let files = session.files();
            let sizes = files.iter().filter(|path| path.display().to_string().contains(".part"));
            let sum: u64 = sizes
                .filter_map(|path| fs::metadata(path).ok())
                .filter(|found| found.is_file())
                .map(|found| found.len())
                .sum();
            let done = files.iter().any(|path| path.ends_with(&first.digest[7..])) || output.ends_with("tar");
            (sum >= 3_000_000 && done).then_some(())
        });
        running.send(Signal::INT);
        assert_eq!(running.wait().code, 130);
        assert!(!home(&session, output).exists());
        let object = get_json(&session, &["--direct"], &[&from, "-O", output]);
        assert!(object["resumedBytes"].as_u64().unwrap() >= 3_000_000, "{object}");
        assert_eq!(session.registry.downloads(&first.digest), 1, "what was whole is not got again");
        if output.ends_with("tar") {
            let unpack = Command::new("sh")
                .current_dir(session.path("home"))
                .args(["-c", "mkdir u && tar -xf image.tar -C u"])
                .status();
            assert!(unpack.unwrap().success());
            assert_layout(&session, "u", &digest, &[&first, &second]);
        } else {
            assert_layout(&session, "image", &digest, &[&first, &second]);
        }
    }
}

#[test]
fn of_several_images_the_one_for_this_machine_comes() {
    for way in WAYS {
        let session = session();
        let (ours, other) = (Blob::random(1000, 12), Blob::random(1000, 13));
        let ours_digest = put_image(&session, "p/image", "ours", &[(&ours, SIF, Some("ours.sif"))]);
        let other_digest = put_image(&session, "p/image", "other", &[(&other, SIF, Some("other.sif"))]);
        let entry = |digest: &str, architecture: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                "platform": {"os": "linux", "architecture": architecture}})
        };
        let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let index = json!({"schemaVersion": 2, "manifests": [entry(&other_digest, "s390x"), entry(&ours_digest, here)]});
        put_document(&session, "p/image", "1", &index);
        let from = reference(&session, "oras", "p/image:1");
        got(&session, way, &[&from]);
        got(&session, way, &[&from, "--platform", "linux/s390x"]);
        assert!(fs::read(home(&session, "ours.sif")).unwrap() == ours.bytes[..]);
        assert!(fs::read(home(&session, "other.sif")).unwrap() == other.bytes[..]);
        let none = get(&session, way, &[&from, "--platform", "linux/riscv64"]);
        assert_eq!(none.code, 1);
        assert!(
            none.stderr.contains(&format!("there is none for linux/riscv64, but: linux/s390x, linux/{here}")),
            "{}",
            none.stderr
        );
    }
}

/// A server that gives a token to whoever shows this login, and to nobody else.
fn token_server(session: &Session, login: &'static str) -> Origin {
    Origin::https(&session.ca, move |request| {
        if request.headers.get("authorization") == Some(login) {
            Answer::new(200).body(br#"{"token":"good"}"#.to_vec()).into()
        } else {
            Answer::new(401).body(br#"{"details":"who are you?"}"#.to_vec()).into()
        }
    })
}

#[test]
fn a_private_image_needs_the_users_login() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(300_000, 14);
        put_image(&session, "p/private", "1", &[(&blob, SIF, None)]);
        session.registry.grant("p/private", "Bearer good");
        let tokens = token_server(&session, "Basic ZGV2OmNhbmFyeQ==");
        session.registry.set_realm(&tokens.url("/token"));
        let from = reference(&session, "oras", "p/private:1");
        let ended = get(&session, way, &[&from, "-O", "x"]);
        assert_eq!(ended.code, 77, "{}", ended.stderr);
        let host = session.registry.origin.authority();
        let told = format!(
            "who are you? (401 Unauthorized); if it is there, it needs a login: apptainer registry login --username NAME oras://{host}"
        );
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);

        let write = |dir: &str, file: &str, auth: &str| {
            fs::create_dir_all(home(&session, dir)).unwrap();
            let text = format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#);
            fs::write(home(&session, dir).join(file), text).unwrap();
        };
        write(".docker", "config.json", "ZGV2Ondyb25n");
        let ended = get(&session, way, &[&from, "-O", "x"]);
        assert_eq!(ended.code, 77, "{}", ended.stderr);
        assert!(ended.stderr.contains(".docker/config.json: log in again"), "{}", ended.stderr);
        write(".apptainer", "docker-config.json", "ZGV2OmNhbmFyeQ==");
        let ended = get(&session, way, &[&from, "-O", "x", "-v"]).ok();
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
        assert!(ended.stderr.contains(".apptainer/docker-config.json"), "{}", ended.stderr);
        let file = session.path("logins.json");
        fs::rename(home(&session, ".apptainer/docker-config.json"), &file).unwrap();
        let mut named = dfget(&session, &[&[from.as_str(), "-O", "y"][..], way].concat());
        let _ = Ended::of(named.env("REGISTRY_AUTH_FILE", &file)).ok();
        got(&session, way, &[&from, "-O", "z", "--authfile", file.to_str().unwrap()]);
        for secret in ["canary", "ZGV2OmNhbmFyeQ", "good"] {
            assert!(
                !ended.stderr.contains(secret) && !session.log().contains(secret),
                "{secret}: {}",
                ended.stderr
            );
        }
        for entry in session.registry.origin.journal() {
            let shown = entry.headers.get("authorization");
            assert!(
                shown.is_none_or(|shown| shown == "Bearer good"),
                "the password is for the token server: {shown:?}"
            );
        }
    }
}

#[test]
fn a_token_that_expires_meanwhile_is_got_anew() {
    let session = session();
    let blob = Blob::random(2_000_000, 15);
    put_image(&session, "p/private", "1", &[(&blob, SIF, None)]);
    session.registry.grant("p/private", "Bearer good");
    let tokens =
        Origin::https(&session.ca, |_| Answer::new(200).body(br#"{"access_token":"good"}"#.to_vec()).into());
    session.registry.set_realm(&tokens.url("/token"));
    session.registry.next_blob(|answer| answer.cut_after(1_000_000, Cut::Reset).into());
    let realm = tokens.url("/token");
    session.registry.next_blob(move |_| {
        Answer::new(401)
            .header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",error=\"invalid_token\""))
            .into()
    });
    got(&session, &["--direct"], &[&reference(&session, "oras", "p/private:1"), "-O", "x"]);
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
}

#[test]
fn a_registry_without_tls_is_spoken_to_if_asked() {
    for way in WAYS {
        let session = Session::with(super::support::DFGET, |_| dfget_testkit::Registry::plain());
        let blob = Blob::random(300_000, 16);
        put_image(&session, "p/tool", "1", &[(&blob, SIF, None)]);
        got(&session, way, &[&reference(&session, "oras", "p/tool:1"), "--plain-http", "-O", "x"]);
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
    }
}
