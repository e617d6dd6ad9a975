//! Authorities in files: made once, whoever asks at once; mended, replaced, refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use dfget_tls::{NewAuthority, Opened, PairError, PairFiles, PairOrigin, Scope, Unusable};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn new() -> NewAuthority {
    NewAuthority::new(Scope::of_hosts(["registry.example"]).expect("a host"), "test").living_days(10)
}

fn site() -> (TempDir, PairFiles) {
    let directory = tempfile::tempdir().expect("a directory");
    let files = PairFiles::in_directory(&directory.path().join("a/b"));
    (directory, files)
}

fn open(files: &PairFiles, unusable: Unusable, now: SystemTime) -> Result<Opened, PairError> {
    files.load_or_create(&new(), unusable, now)
}

fn made(files: &PairFiles) -> Opened {
    open(files, Unusable::Refuse, SystemTime::now()).expect("made")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_pair_is_made_once_and_found_again() {
    let (_directory, files) = site();
    assert!(files.load(SystemTime::now()).expect("nothing is no error").is_none());
    let first = made(&files);
    assert_eq!(first.origin, PairOrigin::Made);
    assert_eq!((mode(&files.key), mode(&files.cert)), (0o600, 0o644));
    assert_eq!(mode(files.key.parent().expect("a directory")), 0o700);
    let again = made(&files);
    assert_eq!(again.origin, PairOrigin::Found);
    assert_eq!(again.authority.fingerprint(), first.authority.fingerprint());
    assert!(matches!(files.create(&new(), SystemTime::now()), Err(PairError::Exists { .. })));
    let names: Vec<_> = fs::read_dir(files.key.parent().expect("a directory")).expect("listed").collect();
    assert_eq!(names.len(), 2, "no draft is left: {names:?}");
}

#[test]
fn many_at_once_agree_on_one_pair() {
    for unusable in [Unusable::Refuse, Unusable::Replace] {
        let (_directory, files) = site();
        if unusable == Unusable::Replace {
            files.create(&new(), SystemTime::now() - 100 * DAY).expect("made long ago");
        }
        let opened: Vec<Opened> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| open(&files, unusable, SystemTime::now()).expect("one")))
                .collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        let first = opened[0].authority.fingerprint();
        assert!(opened.iter().all(|one| one.authority.fingerprint() == first), "{unusable:?}");
        assert_eq!(opened.iter().filter(|one| one.origin == PairOrigin::Made).count(), 1, "{unusable:?}");
        assert_eq!(made(&files).authority.fingerprint(), first);
    }
}

#[test]
fn a_certificate_that_is_gone_or_another_is_written_anew() {
    let (_directory, files) = site();
    let first = made(&files);
    let text = fs::read(&files.cert).expect("there");
    let other = new().make(SystemTime::now()).expect("made").cert_pem;
    for damage in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAA"), Some(other.as_str())] {
        match damage {
            None => fs::remove_file(&files.cert).expect("removed"),
            Some(content) => fs::write(&files.cert, content).expect("written"),
        }
        assert_eq!(made(&files).authority.fingerprint(), first.authority.fingerprint());
        assert_eq!(fs::read(&files.cert).expect("there"), text);
    }
}

#[test]
fn a_pair_of_others_is_used_as_it_is() {
    let (_directory, files) = site();
    let pair = new().make(SystemTime::now()).expect("made");
    fs::create_dir_all(files.key.parent().expect("a directory")).expect("made");
    fs::write(&files.cert, &pair.cert_pem).expect("written");
    let missing = open(&files, Unusable::Refuse, SystemTime::now()).expect_err("no key");
    assert!(matches!(missing, PairError::KeyMissing { .. }), "{missing}");
    fs::write(&files.key, pair.key_pem.expose()).expect("written");
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("closed");
    assert_eq!(made(&files).origin, PairOrigin::Found);
    fs::remove_file(&files.cert).expect("removed");
    let missing = open(&files, Unusable::Refuse, SystemTime::now()).expect_err("no certificate");
    assert!(matches!(missing, PairError::CertificateMissing { .. }), "{missing}");
}

#[test]
fn what_cannot_sign_is_replaced_only_when_told_so() {
    let later = SystemTime::now() + 100 * DAY;
    for damage in ["nothing", "key"] {
        let (_directory, files) = site();
        let old = made(&files);
        let now = if damage == "key" { SystemTime::now() } else { later };
        if damage == "key" {
            fs::write(&files.key, "no key").expect("written");
        }
        let refused = open(&files, Unusable::Refuse, now).expect_err("it cannot sign");
        assert!(matches!(refused, PairError::Refused { .. }), "{refused}");
        let opened = open(&files, Unusable::Replace, now).expect("replaced");
        assert_eq!(opened.origin, PairOrigin::Made);
        assert_ne!(opened.authority.fingerprint(), old.authority.fingerprint());
        assert_eq!((mode(&files.key), mode(&files.cert)), (0o600, 0o644));
        assert_eq!(open(&files, Unusable::Refuse, now).expect("good").origin, PairOrigin::Found);
    }
}

#[test]
fn a_clock_behind_replaces_nothing() {
    let (_directory, files) = site();
    made(&files);
    let early = SystemTime::now() - 100 * DAY;
    let refused = open(&files, Unusable::Replace, early).expect_err("not yet valid");
    assert!(refused.to_string().contains("is the clock of this host right?"), "{refused}");
}

#[test]
fn a_key_that_others_may_have_is_refused() {
    let (_directory, files) = site();
    made(&files);
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o604)).expect("opened");
    for unusable in [Unusable::Refuse, Unusable::Replace] {
        let refused = open(&files, unusable, SystemTime::now()).expect_err("exposed").to_string();
        assert!(refused.contains("(mode 0604)") && refused.contains("chmod 600 "), "{refused}");
    }
}

#[test]
fn replacing_keeps_the_old_certificate_and_destroys_the_old_key() {
    let (directory, files) = site();
    let old = made(&files);
    let old_cert = fs::read(&files.cert).expect("there");
    // Another name for the old key shows what becomes of its bytes.
    let peephole = directory.path().join("peephole");
    fs::hard_link(&files.key, &peephole).expect("linked");
    files.replace(&new(), SystemTime::now()).expect("replaced");
    assert_ne!(made(&files).authority.fingerprint(), old.authority.fingerprint());
    assert_eq!(fs::read(files.kept()).expect("kept"), old_cert);
    assert!(fs::read(&peephole).expect("there").iter().all(|byte| *byte == 0));
    assert_eq!(mode(&files.key), 0o600);

    let (_directory, none) = site();
    none.replace(&new(), SystemTime::now()).expect("made where nothing was");
    assert!(!none.kept().exists());
}
