//! What the store refuses, and what it makes of a damaged one.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use redb::{Database, TableDefinition};
use rustix::process::geteuid;

use super::{at, content, open, options, refused};
use crate::{BLOCK, EntryKey, Store, StoreError};

fn index(dir: &Path) -> PathBuf {
    dir.join("store/index.redb")
}

/// A store with one complete entry of two blocks and one partial one.
fn filled(dir: &Path) {
    let (store, _) = open(dir);
    let whole = store.create(EntryKey::from("whole"), vec![1], Some(2 * BLOCK), at(0)).unwrap();
    whole.append(0, &content(1, 0, 2 * BLOCK)).unwrap();
    store.publish(&whole, EntryKey::from("whole"), vec![2]).unwrap();
    let part = store.create(EntryKey::from("part"), vec![1], None, at(0)).unwrap();
    part.append(0, &content(2, 0, BLOCK)).unwrap();
    store.flush().unwrap();
}

#[test]
fn a_second_daemon_is_refused_and_told_who_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = refused(options(dir.path()));
    let own = std::process::id();
    assert!(matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == own), "{error}");
    let text = error.to_string();
    assert!(text.contains(&own.to_string()) && text.contains("dataDir"), "{text}");
    drop(store);
    open(dir.path());
}

#[test]
fn everything_in_the_store_is_private() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut to_see = vec![dir.path().join("store")];
    let mut files = 0;
    while let Some(path) = to_see.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            to_see.extend(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            files += 1;
        }
    }
    assert_eq!(files, 4, "lock, index and two data files");
}

#[test]
fn a_directory_that_others_may_write_is_refused_with_the_remedy() {
    for below in ["store", "store/tasks"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let path = dir.path().join(below);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let error = refused(options(dir.path()));
        assert!(matches!(error, StoreError::OpenToOthers { mode: 0o770, .. }), "{error}");
        assert!(error.to_string().contains(&format!("chmod go-w {}", path.display())), "{error}");
    }
}

#[test]
fn a_link_in_place_of_the_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let tasks = dir.path().join("store/tasks");
    fs::remove_dir_all(&tasks).unwrap();
    symlink(elsewhere.path(), &tasks).unwrap();
    let error = refused(options(dir.path()));
    assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
}

/// Only root can give a directory away; for others the one of root (`/`) is as foreign.
#[test]
fn a_directory_of_somebody_else_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    if geteuid().is_root() {
        fs::create_dir(&options.dir).unwrap();
        chown(&options.dir, Some(1234), None).unwrap();
    } else {
        options.dir = PathBuf::from("/");
    }
    let error = refused(options);
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    assert!(error.to_string().contains("chown"), "{error}");
}

#[test]
fn an_index_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let node: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("node");
    let database = Database::open(index(dir.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    let newer = 99_u32.to_le_bytes();
    transaction.open_table(node).unwrap().insert("schema", newer.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = refused(options(dir.path()));
    assert!(matches!(error, StoreError::Newer { found: 99, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("rm "), "{error}");
    assert!(index(dir.path()).exists());
    let (files, _) = crate::files::Files::prepare(&options(dir.path()).dir).unwrap().list().unwrap();
    assert_eq!(files.len(), 2, "the data stays for that version");
}

#[test]
fn a_foreign_file_in_place_of_the_index_is_moved_aside() {
    let garbage: [&[u8]; 3] = [b"not an index", &[0; 70_000], &[0xff; 9_000]];
    for bytes in garbage {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        fs::write(index(dir.path()), bytes).unwrap();
        let (store, report) = open(dir.path());
        let kept = report.rebuilt.expect("a new index").kept;
        assert_eq!(fs::read(kept).unwrap(), bytes);
        assert_eq!(report.orphans, 2, "data without a row is of no use");
        assert!(store.entries().is_empty());
    }
}

#[test]
fn only_the_newest_damaged_index_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let kept = [1, 2, 3].map(|second| {
        fs::write(index(dir.path()), format!("garbage {second}")).unwrap();
        let (_, report) = Store::open_quiet(options(dir.path()), at(second)).unwrap();
        report.rebuilt.expect("a new index").kept
    });
    assert!(!kept[0].exists() && !kept[1].exists());
    assert_eq!(fs::read(&kept[2]).unwrap(), b"garbage 3");
}

#[test]
fn a_torn_or_rotten_index_never_panics_and_never_gives_a_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let good = fs::read(index(dir.path())).unwrap();
    let mut rebuilt = 0;
    for round in 0..36_u64 {
        let case = tempfile::tempdir().unwrap();
        copy_store(&dir.path().join("store"), &case.path().join("store"));
        let mut bad = good.clone();
        let place = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize;
        match round % 3 {
            0 => bad.truncate(place % good.len()),
            1 => bad[place % good.len()] ^= 0x10,
            // the header and the first pages, where a flipped bit hurts most
            _ => bad[place % 16_384] ^= 1 << (round % 8),
        }
        fs::write(index(case.path()), bad).unwrap();
        let (store, report) = open(case.path());
        rebuilt += u32::from(report.rebuilt.is_some());
        for (name, seed) in [("whole", 1), ("part", 2)] {
            let Some(entry) = store.get(&EntryKey::from(name)) else { continue };
            let end = entry.contiguous_from(0);
            for at in (0..end).step_by(BLOCK as usize) {
                let bytes = entry.read(at, false).unwrap();
                assert_eq!(bytes, content(seed, at, BLOCK), "round {round}");
            }
        }
    }
    assert!(rebuilt > 5, "only {rebuilt} of 36 were damaged for good");
}

#[test]
fn files_and_rows_without_each_other_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = open(dir.path());
    let whole = store.get(&EntryKey::from("whole")).unwrap();
    let path = store.shared().files.path(whole.id);
    let late = store.create(EntryKey::from("late"), vec![], None, at(0)).unwrap();
    let late = store.shared().files.path(late.id);
    drop((store, whole));
    fs::remove_file(path).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.lost, report.orphans), (1, 1));
    assert!(!late.exists());
    assert!(store.get(&EntryKey::from("whole")).is_none());
    assert!(store.get(&EntryKey::from("part")).is_some());
    drop(store);
    let (_, again) = open(dir.path());
    assert_eq!((again.lost, again.orphans), (0, 0));
}

#[test]
fn a_deleted_directory_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = Store::open(options(dir.path()), at(0)).unwrap();
    fs::remove_dir_all(dir.path().join("store/tasks")).unwrap();
    let entry = store.get(&EntryKey::from("whole")).unwrap();
    assert!(entry.read(0, false).is_err());
    let error = store.create(EntryKey::from("new"), vec![], None, at(0)).unwrap_err();
    assert!(matches!(error, StoreError::Io { action: "create", .. }), "{error}");
    store.remove(&entry);
    assert!(store.get(&EntryKey::from("whole")).is_none());
}

/// Copies a closed store, file by file, without empty directories.
fn copy_store(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() && fs::read_dir(&path).unwrap().next().is_none() {
            continue;
        }
        if path.is_dir() {
            copy_store(&path, &copy);
        } else {
            fs::copy(path, copy).unwrap();
        }
    }
}
