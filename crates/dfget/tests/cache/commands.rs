//! `ls`, `stat`, `rm`, `gc`.

use dfget_testkit::{Blob, Request, Stage};

use crate::kit::{DFGET, IMAGE, MIB, cache, digests, json, pulled, short};

#[test]
fn what_is_stored_is_listed_by_the_daemon_and_without_it_alike() {
    let mut stage = Stage::new(DFGET);
    let (one, two) = (Blob::random(3 * MIB, 1), Blob::random(12_288, 2));
    pulled(&stage, IMAGE, &one);
    let url = pulled(&stage, "lab/other", &two);
    assert!(stage.get(&url).is_complete());
    let host = stage.registry.origin.authority();
    let blanks = " ".repeat(host.len() + "/lab/image".len() - 4);
    let expected = format!(
        "DIGEST        KIND            SIZE  HERE  FROM{blanks}      USED   USES\n\
         {}  blob        12.0 KiB  100%  {host}/lab/other  AGE      1\n\
         {}  blob         3.0 MiB  100%  {host}/lab/image  AGE      0\n\
         2 contents, 3.0 MiB on disk\n",
        short(&two),
        short(&one),
    );
    let shown = |stage: &Stage| {
        let ended = cache(&stage.daemon, &["ls", "--sort", "uses"]).ok();
        assert_eq!(ended.stderr, "");
        // How many seconds ago is none of ours.
        let lines = ended.stdout.lines().map(|line| match line.split_once(" s  ") {
            Some((before, after)) => {
                let before = before.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end();
                format!("{before}  AGE  {after}\n")
            }
            None => format!("{line}\n"),
        });
        lines.collect::<String>()
    };
    assert_eq!(shown(&stage), expected);
    let told = json(&stage.daemon, &["ls"]);
    assert_eq!((&told["matched"], &told["contents"][0]["private"]), (&2.into(), &false.into()));
    assert!(stage.daemon.stop().success());
    assert_eq!(shown(&stage), expected);
    assert_eq!(json(&stage.daemon, &["ls"])["contents"], told["contents"]);
    stage.daemon.start_again();
    assert_eq!(shown(&stage), expected);
}

#[test]
fn a_list_can_be_filtered_and_ordered() {
    let stage = Stage::new(DFGET);
    let blobs: Vec<_> =
        [32_768, 12_288, 20_480].into_iter().zip(1..).map(|(len, seed)| Blob::random(len, seed)).collect();
    for (blob, repository) in blobs.iter().zip(["lab/a", "lab/b", "other"]) {
        pulled(&stage, repository, blob);
    }
    let [a, b, c] = [0, 1, 2].map(|i| blobs[i].digest.clone());
    let host = stage.registry.origin.authority();
    let ls = |arguments: &[&str]| digests(&stage.daemon, arguments);
    assert_eq!(ls(&["--sort", "size"]), [a.clone(), c.clone(), b.clone()]);
    assert_eq!(ls(&["--sort", "size", "--reverse", "-n", "1"]), std::slice::from_ref(&b));
    assert_eq!(ls(&["--sort", "origin"]), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(ls(&["--sort", "origin", &format!("{host}/lab")]), [a.clone(), b.clone()]);
    assert_eq!(ls(&[&format!("oras://{host}/lab/b")]), std::slice::from_ref(&b));
    assert_eq!(ls(&[&b[7..20], &c]).len(), 2);
    assert_eq!(ls(&["--registry", "elsewhere.test"]).len(), 0);
    assert_eq!(ls(&["--older-than", "1h"]).len(), 0);
    assert_eq!(ls(&["--since", "1h"]).len(), 3);
    assert_eq!(ls(&["--partial"]).len(), 0);
    let limited = cache(&stage.daemon, &["ls", "-n", "1"]).ok();
    assert!(
        limited.stdout.ends_with("3 contents, 64.0 KiB on disk; 1 of them shown\n"),
        "{}",
        limited.stdout
    );
    let empty = cache(&stage.daemon, &["ls", "elsewhere.test"]).ok();
    assert!(empty.stdout.ends_with("\n0 contents, 0 B on disk\n"), "{}", empty.stdout);
}

#[test]
fn sums_are_told_by_registry() {
    let stage = Stage::with(DFGET, |options| options.extra("storage: {diskGCThreshold: 10Gi}"));
    let blob = Blob::random(2 * MIB, 3);
    let url = pulled(&stage, IMAGE, &blob);
    assert!(stage.get(&url).is_complete());
    let ended = cache(&stage.daemon, &["stat"]).ok();
    let mut lines = ended.stdout.lines();
    let mut line = || lines.next().unwrap_or_default().to_owned();
    assert_eq!(line(), format!("store   {}", stage.daemon.data_dir().display()));
    assert!(line().starts_with("used    2.0 MiB (of 10.0 GiB); "), "{}", ended.stdout);
    assert_eq!(line(), "holds   1 content, 2.0 MiB, 1 whole");
    assert_eq!(line(), "served  1 times from here: about 2.0 MiB not fetched again");
    line();
    let authority = format!("https://{}", stage.registry.origin.authority());
    let widest = authority.len();
    assert_eq!(line(), format!("{:<widest$}  CONTENTS        SIZE    USES       SAVED", "REGISTRY"));
    assert_eq!(line(), format!("{authority}         1     2.0 MiB       1     2.0 MiB"));
    let told = json(&stage.daemon, &["stat"]);
    assert_eq!(told["stat"]["registries"][0]["authority"], authority);
    assert_eq!(told["node"]["store"]["quotaBytes"], 10_u64 << 30);
}

#[test]
fn what_is_removed_is_fetched_again() {
    let stage = Stage::new(DFGET);
    let (one, two) = (Blob::random(MIB, 4), Blob::random(MIB, 5));
    let url = pulled(&stage, IMAGE, &one);
    pulled(&stage, "lab/other", &two);
    let unasked = cache(&stage.daemon, &["rm", short(&one)]);
    assert_eq!(unasked.code, 2, "{}", unasked.stderr);
    assert_eq!(unasked.stderr, "error: 1 content, 1.0 MiB would go; say --yes where nobody can be asked\n");
    let dry = cache(&stage.daemon, &["rm", short(&one), "--dry-run"]).ok();
    assert!(dry.stdout.ends_with("\n1 content, 1.0 MiB would go\n"), "{}", dry.stdout);
    assert_eq!(digests(&stage.daemon, &[]).len(), 2, "nothing went by that");
    let removed = cache(&stage.daemon, &["rm", short(&one), "--yes"]).ok();
    assert_eq!(removed.stdout, "removed 1 content, 1.0 MiB\n");
    assert_eq!(digests(&stage.daemon, &[]), std::slice::from_ref(&two.digest));
    assert!(stage.get(&url).body == one.bytes[..]);
    assert_eq!(stage.registry.downloads(&one.digest), 2);

    let host = stage.registry.origin.authority();
    let removed = json(&stage.daemon, &["rm", "--registry", &host, "--yes"]);
    assert_eq!((&removed["contents"], &removed["missing"]), (&2.into(), &0.into()));
    let nothing = cache(&stage.daemon, &["rm", "--all", "--yes"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (1, ""));
    assert_eq!(nothing.stderr, "error: nothing that is stored is meant; see `dfget cache ls`\n");
}

#[test]
fn what_a_command_line_does_not_say_is_not_guessed() {
    let stage = Stage::new(DFGET);
    let wrong = [
        (vec!["rm", "--yes"], "say what is to be removed"),
        (vec!["rm", "--yes", "alpine"], "neither a digest nor a reference"),
        (vec!["rm", "--yes", "sha256:xyz"], "is no digest"),
        (vec!["ls", "--older-than", "7"], "write a number and s, m, h, d or w"),
        (vec!["gc", "--to", "much"], "write a number and a unit"),
        (vec!["rm", "--all", "--registry", "r.test"], "cannot be used with"),
        (vec!["lss"], "ls"),
    ];
    for (arguments, text) in wrong {
        let ended = cache(&stage.daemon, &arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.stderr.contains(text), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn a_download_under_way_is_not_removed_and_goes_on() {
    let stage = Stage::with(DFGET, |options| options.extra("download: {stallTimeout: 10m}"));
    let blob = Blob::random(6 * MIB, 6);
    let url = stage.registry.put(IMAGE, &blob);
    let gate = dfget_testkit::Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(4 * MIB as u64, &held).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert_eq!(incoming.read(3 * MIB).len(), 3 * MIB);
    let listed = cache(&stage.daemon, &["ls", "--partial"]).ok();
    assert!(listed.stdout.contains(short(&blob)), "{}", listed.stdout);
    let ended = cache(&stage.daemon, &["rm", &blob.digest, "--yes"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert_eq!(ended.stdout, "removed 0 contents, 0 B; 1 stay, for they are being downloaded now\n");
    gate.open();
    let rest = incoming.read(6 * MIB);
    assert!(rest == blob.bytes[3 * MIB..], "{}", rest.len());
    assert_eq!(stage.registry.downloads(&blob.digest), 1);
}

#[test]
fn the_store_is_emptied_down_to_a_size_by_its_own_rules() {
    let stage = Stage::new(DFGET);
    let blobs = [7, 8, 9].map(|seed| Blob::random(2 * MIB, seed));
    for blob in &blobs {
        pulled(&stage, IMAGE, blob);
    }
    // Uses within one second have no order.
    let told = json(&stage.daemon, &["gc", "--to", "4MiB", "--dry-run"]);
    assert_eq!((told["evicted"].as_array().map(Vec::len), &told["leftBytes"]), (Some(1), &(4 * MIB).into()));
    assert_eq!(told["evicted"][0]["reason"], "space");
    assert_eq!(digests(&stage.daemon, &[]).len(), 3);
    let ended = cache(&stage.daemon, &["gc", "--to", "4MiB"]).ok();
    assert!(ended.stdout.ends_with("\ndropped 1 content, 2.0 MiB; 4.0 MiB stay\n"), "{}", ended.stdout);
    assert_eq!(digests(&stage.daemon, &[]).len(), 2);
    assert_eq!(cache(&stage.daemon, &["gc"]).ok().stdout, "dropped 0 contents, 0 B; 4.0 MiB stay\n");
    let ended = cache(&stage.daemon, &["gc", "--to", "0"]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    let rest = "dropped 1 content, 2.0 MiB; 2.0 MiB stay\n2.0 MiB more than was asked for: running downloads, or the image used last\n";
    assert!(ended.stdout.ends_with(rest), "{}", ended.stdout);
}

#[test]
fn an_image_is_meant_by_its_tag_with_all_that_belongs_to_it() {
    let stage = Stage::with(DFGET, |options| options.extra("manifests: {freshness: 1ms}"));
    let (layer, other) = (Blob::random(MIB, 10), Blob::random(MIB, 11));
    let config = Blob::empty_config();
    for blob in [&layer, &config, &other] {
        pulled(&stage, IMAGE, blob);
    }
    let host = stage.registry.origin.authority();
    let reference = format!("oras://{host}/{IMAGE}:1");
    let unknown = cache(&stage.daemon, &["ls", &reference]);
    assert_eq!(unknown.code, 1, "{}", unknown.stdout);
    assert!(unknown.stderr.contains("no pull of this tag has passed by here"), "{}", unknown.stderr);
    let manifest = |layer: &Blob| {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}}]}}"#,
            config.digest, layer.digest
        );
        Blob::of(text.into_bytes())
    };
    let pull_tag = |manifest: &Blob| {
        let url = stage.registry.put_manifest(IMAGE, "1", &manifest.bytes);
        assert!(stage.get(&url).body == manifest.bytes[..]);
    };
    let (first, second) = (manifest(&other), manifest(&layer));
    pull_tag(&first);
    let kept = || json(&stage.daemon, &["ls"])["contents"].as_array().map_or(0, Vec::len);
    dfget_testkit::session::until("the manifest is kept", || (kept() == 4).then_some(()));
    let shown = cache(&stage.daemon, &["ls", &reference, "--sort", "size"]).ok().stdout;
    let columns: Vec<_> = shown.lines().nth(2).unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns[1], "manifest", "{shown}");
    assert!(shown.contains(&format!("  {host}/{IMAGE}:1  ")), "{shown}");
    let sorted = |mut digests: Vec<String>| {
        digests.sort_unstable();
        digests
    };
    let meant = || sorted(digests(&stage.daemon, &[&reference]));
    let all = |blobs: &[&Blob]| sorted(blobs.iter().map(|blob| blob.digest.clone()).collect());
    assert_eq!(meant(), all(&[&first, &other, &config]));

    assert_eq!(cache(&stage.daemon, &["export", "image.tar", &reference]).code, 0);
    let index = std::process::Command::new("tar")
        .args(["-xOf", "image.tar", "index.json"])
        .current_dir(stage.daemon.home())
        .output()
        .expect("there is a tar");
    let index: serde_json::Value = serde_json::from_slice(&index.stdout).expect("JSON");
    let named = index["manifests"].as_array().expect("a list");
    let tagged: Vec<_> = named.iter().filter(|one| one["digest"] == first.digest.as_str()).collect();
    assert_eq!(tagged.len(), 1, "{index}");
    assert_eq!(tagged[0]["annotations"]["org.opencontainers.image.ref.name"], "1");
    assert_eq!(tagged[0]["annotations"]["io.containerd.image.name"], format!("{host}/{IMAGE}:1"));
    assert_eq!(tagged[0]["mediaType"], "application/vnd.oci.image.manifest.v1+json");

    // The tag comes to mean another image; which one is told apart by the second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    stage.registry.put_manifest(IMAGE, "1", &second.bytes);
    let again = Request::get(stage.registry.blob_url(IMAGE, "1").replace("/blobs/", "/manifests/"));
    dfget_testkit::session::until("the tag means another image", || {
        assert!(stage.fetch(&again).is_complete());
        (meant() == all(&[&second, &layer, &config])).then_some(())
    });
    let removed = json(&stage.daemon, &["rm", &reference, "--yes"]);
    assert_eq!(removed["contents"], 3);
    assert_eq!(sorted(digests(&stage.daemon, &[])), all(&[&first, &other]));
}
