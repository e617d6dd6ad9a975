use std::fs;

use super::*;

fn row(id: u64, key: &str) -> EntryRow {
    EntryRow {
        id: FileId(id),
        key: EntryKey::from(key),
        meta: b"{}".as_slice().into(),
        total: Some(7),
        complete: true,
        created: 1,
        accessed: 2,
        uses: 3,
    }
}

fn open(path: &Path) -> (Index, Loaded) {
    match Index::open(path) {
        Ok(opened) => opened,
        Err(OpenError::Broken(cause)) => panic!("{cause}"),
        Err(OpenError::Fatal(error)) => panic!("{error}"),
    }
}

#[test]
fn a_batch_is_read_back_and_forgotten_with_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let blocks = Row { full: 0b11, crcs: vec![5, 6] };
    {
        let (index, loaded) = open(&path);
        assert!(loaded.entries.is_empty() && loaded.grants.is_empty());
        let batch = Batch {
            entries: vec![row(1, "a"), row(2, "b")],
            blocks: vec![(FileId(1), 0, blocks.clone()), (FileId(2), 9, blocks.clone())],
            grants: [([3; 32], Some(4)), ([5; 32], None)].into(),
            ..Batch::default()
        };
        index.apply(&batch).unwrap();
        let batch = Batch { forgotten: vec![FileId(1), FileId(77)], ..Batch::default() };
        index.apply(&batch).unwrap();
    }
    let (index, loaded) = open(&path);
    assert_eq!(loaded.entries, [row(2, "b")]);
    assert_eq!(loaded.grants, [([3; 32], 4)].into());
    assert_eq!(index.blocks(FileId(1)).unwrap(), []);
    assert_eq!(index.blocks(FileId(2)).unwrap(), [(9, blocks)]);
}

#[test]
fn the_index_is_opened_again_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let (index, _) = open(&path);
    let failed = index.with(|_| Err::<(), _>(redb::Error::PreviousIo)).unwrap_err();
    assert!(failed.to_string().contains(&path.display().to_string()), "{failed}");
    index.apply(&Batch { entries: vec![row(1, "a")], ..Batch::default() }).unwrap();
    drop(index);
    assert_eq!(open(&path).1.entries.len(), 1);
}

#[test]
fn a_panic_of_the_database_code_is_a_damaged_file() {
    let outcome = guarded(|| -> Result<(), Failure> { panic!("as a damaged page may cause") });
    assert!(matches!(outcome, Err(Failure::Index(error)) if is_broken(&error)));
}

#[test]
fn a_failing_disk_is_no_damaged_index() {
    assert!(!is_broken(&redb::Error::Io(io::Error::from_raw_os_error(5))));
    assert!(!is_broken(&redb::Error::Io(ErrorKind::PermissionDenied.into())));
    assert!(is_broken(&redb::Error::Io(ErrorKind::InvalidData.into())));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    fs::create_dir(&path).unwrap();
    assert!(matches!(Index::open(&path), Err(OpenError::Fatal(StoreError::Index { .. }))));
}
