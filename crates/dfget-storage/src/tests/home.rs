use super::*;

#[test]
fn file_systems_of_many_nodes_are_known_by_their_numbers() {
    assert_eq!(kind_of(rustix::fs::NFS_SUPER_MAGIC as u32), Some("NFS"));
    assert_eq!(kind_of(0x0bd0_0bd0), Some("Lustre"));
    assert_eq!(kind_of(0x4750_4653), Some("GPFS"));
    assert_eq!(kind_of(0x1983_0326), Some("BeeGFS"));
    assert_eq!(kind_of(0xff53_4d42), Some("CIFS"));
    // ext4, xfs, btrfs, tmpfs, overlayfs
    for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
        assert_eq!(kind_of(local), None, "{local:x}");
    }
}

#[test]
fn warnings_say_what_to_set() {
    let dir = PathBuf::from("/somewhere");
    for warning in
        [OpenWarning::NetworkFileSystem { dir: dir.clone(), kind: "Lustre" }, OpenWarning::NoLock { dir }]
    {
        let text = warning.to_string();
        assert!(text.contains("/somewhere") && text.contains("`dataDir`"), "{text}");
    }
}

#[test]
fn the_disk_has_a_size() {
    let disk = disk(&std::env::temp_dir()).unwrap();
    assert!(disk.total > 0 && disk.free <= disk.total, "{disk:?}");
    assert!(super::disk(Path::new("/nowhere/at/all")).is_err());
}

#[test]
fn missing_parents_are_made_private() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("a/b");
    make_store_dir(&store).unwrap();
    for made in [&store, store.parent().unwrap()] {
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
    }
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(make_store_dir(&dir.path().join("file")), Err(StoreError::Io { .. })));
}

#[test]
fn a_lock_without_a_number_is_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (held, warning) = lock(dir.path()).unwrap();
    assert_eq!(warning, None);
    held.set_len(0).unwrap();
    let error = lock(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { host: None, pid: None, .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_lock_held_on_another_host_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (held, _) = lock(dir.path()).unwrap();
    let told = |text: &str| {
        held.set_len(0).unwrap();
        fs::write(dir.path().join("lock"), text).unwrap();
        lock(dir.path()).unwrap_err().to_string()
    };
    let there = told("node-7.example 4711\n");
    assert!(there.contains("process 4711 on host node-7.example"), "{there}");
    let here = told(&format!("{} 4711\n", own_host()));
    assert!(here.contains("process 4711;"), "{here}");
    let odd = told("\x1b[2J 4711\n");
    assert!(odd.contains("process 4711;"), "{odd:?}");
}
