//! `export` and `import`.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use dfget_testkit::{Blob, Ended, Stage};

use crate::kit::{DFGET, IMAGE, MIB, cache, command, digests, files_below, json, pulled, short};

/// Three blobs and a manifest, packed; with where they are from.
fn packed() -> (Stage, Vec<Blob>, Vec<u8>) {
    let stage = Stage::new(DFGET);
    let mut blobs: Vec<_> =
        [6 * MIB, 700, 2 * MIB].into_iter().zip(1..).map(|(len, seed)| Blob::random(len, seed)).collect();
    for blob in &blobs {
        pulled(&stage, IMAGE, blob);
    }
    let manifest = Blob::of(
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#
            .to_vec(),
    );
    let url = stage.registry.put_manifest(IMAGE, &manifest.digest, &manifest.bytes);
    assert!(stage.get(&url).body == manifest.bytes[..]);
    blobs.push(manifest);
    let output = command(&stage.daemon, &["export", "-"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (stage, blobs, output.stdout)
}

/// An empty daemon, and a bundle in its home.
fn beside(bundle: &[u8]) -> Stage {
    let stage = Stage::new(DFGET);
    fs::write(stage.daemon.home().join("bundle.tar"), bundle).expect("it is ours");
    stage
}

/// Where the bytes of a blob begin in a bundle.
fn place(bundle: &[u8], blob: &Blob) -> usize {
    let start = &blob.bytes[..blob.len().min(64)];
    bundle.windows(start.len()).position(|window| window == start).expect("it is in there")
}

fn names(bundle: &[u8]) -> Vec<String> {
    let mut tar = std::process::Command::new("tar");
    let mut child =
        tar.arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a tar");
    let mut stdin = child.stdin.take().expect("it is piped");
    let bundle = bundle.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bundle));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_bundle_is_a_layout_that_is_the_same_each_time() {
    let (stage, blobs, bundle) = packed();
    let mut expected: Vec<_> =
        blobs.iter().map(|blob| blob.digest.replace("sha256:", "blobs/sha256/")).collect();
    expected.sort_unstable();
    expected.splice(0..0, ["oci-layout".to_owned(), "index.json".to_owned()]);
    assert_eq!(names(&bundle), expected);
    assert!(
        stage.get(&stage.registry.blob_url(IMAGE, &blobs[0].digest)).is_complete(),
        "a use changes nothing"
    );
    let ended = cache(&stage.daemon, &["export", "again.tar"]).ok();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "packed 4 contents, 8.0 MiB\n"));
    let file = stage.daemon.home().join("again.tar");
    assert!(fs::read(&file).expect("it was written") == bundle);
    let ended = cache(&stage.daemon, &["export", "again.tar"]);
    let expected = format!("error: {} is there already: say --force to replace it\n", file.display());
    assert_eq!((ended.code, ended.stderr), (1, expected));
    assert_eq!(cache(&stage.daemon, &["export", "--force", "again.tar", short(&blobs[1])]).code, 0);
    assert_eq!(names(&fs::read(&file).expect("it was written")).len(), 3);
    assert_eq!(cache(&stage.daemon, &["export", "none.tar", "--since", "2999-01-01"]).code, 1);
    assert!(!stage.daemon.home().join("none.tar").exists());
}

#[test]
fn a_bundle_is_stored_by_a_daemon_and_without_one() {
    let (_, blobs, bundle) = packed();
    let mut stage = beside(&bundle);
    let ended = cache(&stage.daemon, &["import", "bundle.tar"]).ok();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("imported 4 contents, 8.0 MiB\n", ""));
    let again = cache(&stage.daemon, &["import", "bundle.tar"]).ok();
    assert_eq!(again.stdout, "imported 0 contents, 0 B; 4 were here already\n");
    let kinds = json(&stage.daemon, &["ls", &blobs[3].digest])["contents"][0]["kind"].clone();
    assert_eq!(kinds, "manifest");
    assert!(cache(&stage.daemon, &["verify"]).ok().stdout.ends_with("all is right\n"));
    // What was imported can be packed again, to the very same bundle.
    let output = command(&stage.daemon, &["export", "-"]).output().expect("it runs");
    assert!(output.stdout == bundle);
    stage.daemon.stop();
    stage.daemon.wipe();
    let ended = cache(&stage.daemon, &["import", "bundle.tar"]).ok();
    assert_eq!(ended.stdout, "imported 4 contents, 8.0 MiB\n");
    stage.daemon.start_again();
    assert_eq!(digests(&stage.daemon, &[]).len(), 4);
    assert!(cache(&stage.daemon, &["verify"]).ok().stdout.ends_with("all is right\n"));
}

#[test]
fn of_a_bundle_that_is_cut_short_only_what_is_whole_is_kept() {
    let (_, blobs, bundle) = packed();
    let mut order: Vec<_> = blobs.iter().collect();
    order.sort_by_key(|blob| &blob.digest);
    let places: Vec<_> = order.iter().map(|blob| place(&bundle, blob)).collect();
    // In a blob, at its end, in the head of the next.
    for (cut, whole) in [
        (places[0] + 10, 0),
        (places[0] + order[0].len(), 1),
        (places[1] - 500, 1),
        (places[2] + order[2].len() - 1, 2),
        (places[3] + 1, 3),
    ] {
        let stage = beside(&bundle[..cut]);
        let ended = cache(&stage.daemon, &["import", "bundle.tar"]);
        assert_eq!(ended.code, 1, "cut at {cut}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.starts_with("error: bundle.tar: it is cut short"), "{}", ended.stderr);
        assert!(ended.stderr.ends_with("copy the bundle again, and import it again\n"), "{}", ended.stderr);
        let mut kept = digests(&stage.daemon, &[]);
        kept.sort_unstable();
        let expected: Vec<_> = order[..whole].iter().map(|blob| blob.digest.clone()).collect();
        assert_eq!(kept, expected, "cut at {cut}");
        fs::write(stage.daemon.home().join("bundle.tar"), &bundle).expect("it is ours");
        let whole = cache(&stage.daemon, &["import", "bundle.tar"]).ok();
        assert!(whole.stdout.contains("imported "), "{}", whole.stdout);
        assert_eq!(digests(&stage.daemon, &[]).len(), 4);
    }
}

#[test]
fn of_a_bundle_that_was_tampered_with_only_what_is_right_is_kept() {
    let (_, blobs, bundle) = packed();
    let mut tampered = bundle.clone();
    for blob in [&blobs[0], &blobs[1]] {
        tampered[place(&bundle, blob) + blob.len() - 1] ^= 1;
    }
    let stage = beside(&tampered);
    let ended = cache(&stage.daemon, &["import", "bundle.tar"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (1, "imported 2 contents, 2.0 MiB\n"),
        "{}",
        ended.stderr
    );
    for blob in [&blobs[0], &blobs[1]] {
        assert!(
            ended.stderr.contains(&format!("what is called {} has the digest ", blob.digest)),
            "{}",
            ended.stderr
        );
    }
    let mut kept = digests(&stage.daemon, &[]);
    kept.sort_unstable();
    let mut expected = [blobs[2].digest.clone(), blobs[3].digest.clone()];
    expected.sort_unstable();
    assert_eq!(kept, expected);
    let report = Ended::of(&mut command(&stage.daemon, &["import", "bundle.tar", "--output", "json"]));
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!((&report["present"], report["wrong"].as_array().map(Vec::len)), (&2.into(), Some(2)));
}

#[test]
fn what_is_no_bundle_is_said_to_be_none() {
    let (_, _, bundle) = packed();
    let index = bundle.windows(9).position(|window| window == b"schemaVer").expect("an index");
    let mut damaged = bundle.clone();
    damaged[index..index + 9].copy_from_slice(b"schemaNot");
    let mut headless = bundle.clone();
    headless[1024 + 150] ^= 1;
    let without_layout = &bundle[1024..];
    for (bytes, text) in [
        (&b""[..], "it is empty"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "it is compressed: `gunzip` it first"),
        (b"\x28\xb5\x2f\xfd\x00\x00\x00\x00", "it is compressed: `unzstd` it first"),
        (&[7; 4096], "it is damaged, or no tar"),
        (b"short", "it is cut short"),
        (&[0; 2048], "it has no index.json"),
        (&damaged, "its index.json is damaged"),
        (&headless, "it is damaged, or no tar"),
        (without_layout, "it has no oci-layout"),
    ] {
        let stage = beside(bytes);
        let ended = cache(&stage.daemon, &["import", "bundle.tar"]);
        assert_eq!(ended.code, 1, "{text}: {}", ended.stdout);
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    let stage = beside(b"");
    let ended = cache(&stage.daemon, &["import", "missing.tar"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.starts_with("error: missing.tar cannot be read: "), "{}", ended.stderr);
}

#[test]
fn a_layout_that_others_packed_is_understood_with_its_index_at_the_end() {
    let layer = Blob::random(MIB, 9);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{{"digest":"{}"}}]}}"#,
        layer.digest
    );
    let manifest = Blob::of(manifest.into_bytes());
    let list = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        manifest.digest,
        manifest.len()
    );
    let list = Blob::of(list.into_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":{}}}]}}"#,
        list.digest,
        list.len()
    );
    let stage = beside(b"");
    let dir = stage.daemon.home().join("layout");
    fs::create_dir_all(dir.join("blobs/sha256")).expect("it is ours");
    for blob in [&layer, &manifest, &list] {
        fs::write(dir.join(blob.digest.replace("sha256:", "blobs/sha256/")), &blob.bytes)
            .expect("it is ours");
    }
    fs::write(dir.join("index.json"), index).expect("it is ours");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("it is ours");
    std::os::unix::fs::symlink("/etc/passwd", dir.join("blobs/sha256").join("0".repeat(64)))
        .expect("it is ours");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-cf"]).arg(stage.daemon.home().join("bundle.tar")).arg("-C").arg(&dir);
    assert!(
        tar.args(["./blobs", "./oci-layout", "./index.json"]).status().expect("there is a tar").success()
    );
    let ended = cache(&stage.daemon, &["import", "bundle.tar"]).ok();
    assert_eq!(ended.stderr, "");
    let seen = json(&stage.daemon, &["ls", "--sort", "size"]);
    let mut seen: Vec<_> = seen["contents"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["key"].as_str().unwrap_or_default().to_owned())
        .collect();
    seen.sort_unstable();
    let mut expected: Vec<_> = [&layer, &manifest, &list].map(|blob| format!("blob:{}", blob.digest)).into();
    expected.extend([&manifest, &list].map(|blob| format!("manifest:{}", blob.digest)));
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn nothing_is_left_of_an_import_that_was_killed() {
    let (_, blobs, bundle) = packed();
    let stage = beside(b"");
    let half = place(&bundle, &blobs[0]) + 5 * MIB;
    let mut child = command(&stage.daemon, &["import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(&bundle[..half]).expect("it reads");
    let coming = || {
        let seen = json(&stage.daemon, &["ls", "--partial"]);
        seen["contents"].as_array().is_some_and(|contents| !contents.is_empty())
    };
    until("the blob begins to come", coming);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    until("nothing is left", || !coming());
    let kept = digests(&stage.daemon, &[]);
    assert!(!kept.contains(&blobs[0].digest), "{kept:?}");
    assert!(cache(&stage.daemon, &["verify"]).stdout.ends_with("all is right\n"));
}

#[test]
fn nothing_is_left_of_an_import_whose_daemon_was_killed() {
    let (_, blobs, bundle) = packed();
    let mut stage = beside(b"");
    let half = place(&bundle, &blobs[0]) + 5 * MIB;
    let mut child = command(&stage.daemon, &["import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(&bundle[..half]).expect("it reads");
    until("the blob begins to come", || {
        json(&stage.daemon, &["ls", "--partial"])["contents"]
            .as_array()
            .is_some_and(|contents| !contents.is_empty())
    });
    stage.daemon.kill();
    let _ = stdin.write_all(&bundle[half..]);
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    stage.daemon.start_again();
    assert_eq!(json(&stage.daemon, &["ls", "--partial"])["matched"], 0);
    assert!(cache(&stage.daemon, &["verify"]).ok().stdout.ends_with("all is right\n"));
}

#[test]
fn what_does_not_fit_is_said_and_the_rest_stays() {
    let (_, _, bundle) = packed();
    let stage = Stage::with(DFGET, |options| options.extra("storage: {diskGCThreshold: 1Mi}"));
    fs::write(stage.daemon.home().join("bundle.tar"), &bundle).expect("it is ours");
    let ended = cache(&stage.daemon, &["import", "bundle.tar"]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    assert!(
        ended.stderr.contains("make room by `dfget cache gc --to SIZE`, then import again"),
        "{}",
        ended.stderr
    );
    assert_eq!(json(&stage.daemon, &["ls", "--partial"])["matched"], 0);
}

#[test]
fn a_rotten_content_is_not_packed() {
    let (stage, blobs, _) = packed();
    crate::kit::rot(&stage.daemon.data_dir(), &blobs[2], MIB);
    let ended = cache(&stage.daemon, &["export", "bundle.tar"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("run `dfget cache verify`, then export again"), "{}", ended.stderr);
    let left: Vec<PathBuf> =
        files_below(stage.daemon.home()).into_iter().filter(|path| path.ends_with("bundle.tar")).collect();
    assert!(left.is_empty(), "nothing half-written is left under that name");
    assert_eq!(cache(&stage.daemon, &["verify"]).code, 1);
    assert_eq!(cache(&stage.daemon, &["export", "bundle.tar"]).code, 0);
}

fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !is() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within half a minute");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn no_damage_brings_in_what_is_wrong_or_stops_the_program() {
    let mut stage = Stage::new(DFGET);
    let blobs: Vec<_> =
        [700, 5000, 200_000].into_iter().zip(20..).map(|(len, seed)| Blob::random(len, seed)).collect();
    for blob in &blobs {
        pulled(&stage, IMAGE, blob);
    }
    let output = command(&stage.daemon, &["export", "-"]).output().expect("it runs");
    let bundle = output.stdout;
    stage.daemon.stop();
    stage.daemon.wipe();
    let mut random = fastrand::Rng::with_seed(7);
    let mut kept = 0;
    for round in 0..60 {
        let mut damaged = bundle.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            match random.u8(..4) {
                // Most of a bundle is content: heads are hit on purpose, too.
                0 => {
                    let at = (at / 512 * 512 + random.usize(..160)).min(damaged.len() - 1);
                    damaged[at] ^= 1 << random.u8(..8);
                }
                1 => damaged[at] ^= 1 << random.u8(..8),
                2 => damaged.truncate(at.max(1)),
                _ => drop(damaged.splice(at..at, std::iter::repeat_n(random.u8(..), random.usize(..600)))),
            }
            if damaged.len() < 1024 {
                break;
            }
        }
        fs::write(stage.daemon.home().join("damaged.tar"), &damaged).expect("it is ours");
        let ended = cache(&stage.daemon, &["import", "damaged.tar"]);
        assert!(matches!(ended.code, 0 | 1), "round {round}: {}", ended.stderr);
        let listed = digests(&stage.daemon, &[]);
        kept += listed.len();
        for digest in &listed {
            assert!(blobs.iter().any(|blob| blob.digest == *digest), "round {round}: {digest}");
        }
        if !listed.is_empty() {
            assert!(
                cache(&stage.daemon, &["verify"]).ok().stdout.ends_with("all is right\n"),
                "round {round}"
            );
            assert_eq!(cache(&stage.daemon, &["rm", "--all", "--yes"]).code, 0);
        }
    }
    assert!(kept > 0, "some of it was right");
}
