//! The index: a redb database with one row per entry, one per stretch of blocks, and the node's
//! own secret and remembered permissions.
//!
//! It is checked page by page when it opens (a few megabytes for 100 GB of data), so that a file
//! that something else wrote to is found out then and not later. After a failed write the database
//! is closed, as redb asks for, and opened again by the next call.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, backends::FileBackend};

use crate::{
    blocks::Row,
    error::StoreError,
    files::private,
    key::{EntryKey, FileId, random_bytes},
};

/// An open index.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    database: Mutex<Option<Arc<Database>>>,
}

/// What the index keeps of an entry, its blocks aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EntryRow {
    pub(crate) id: FileId,
    pub(crate) key: EntryKey,
    pub(crate) meta: Arc<[u8]>,
    pub(crate) total: Option<u64>,
    pub(crate) complete: bool,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Seconds since 1970.
    pub(crate) accessed: u64,
    /// How often it was used.
    pub(crate) uses: u64,
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) blocks: Vec<(FileId, u64, Row)>,
    pub(crate) forgotten: Vec<FileId>,
    /// Permission id → when it was last confirmed, or `None` to forget it.
    pub(crate) grants: HashMap<[u8; 32], Option<u64>>,
}

/// What the index held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) grants: HashMap<[u8; 32], u64>,
    pub(crate) secret: [u8; 32],
}

/// Why an index does not open.
pub(crate) enum OpenError {
    /// It is damaged or nothing of ours: it can be moved aside and begun anew.
    Broken(String),
    /// It must stay as it is.
    Fatal(StoreError),
}

// === impl Index ===

impl Index {
    /// Opens the index at `path`, making it if there is none, and reads all but the blocks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) fn open(path: &Path) -> Result<(Self, Loaded), OpenError> {
        let opened = guarded(|| {
            let database = open_database(path)?;
            let loaded = load(&database, path)?;
            Ok((database, loaded))
        });
        match opened {
            Ok((database, loaded)) => {
                let database = Mutex::new(Some(Arc::new(database)));
                Ok((Self { path: path.to_owned(), database }, loaded))
            }
            Err(Failure::Newer(found)) => {
                Err(OpenError::Fatal(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA }))
            }
            Err(Failure::Index(error)) if is_broken(&error) => Err(OpenError::Broken(error.to_string())),
            Err(Failure::Index(error)) => Err(OpenError::Fatal(failed(path, error))),
        }
    }

    /// The rows of these names in the index at `path`, which nobody else has open; nothing is written.
    ///
    /// # Errors
    /// It cannot be read as it is.
    pub(crate) fn look(path: &Path, keys: &[EntryKey]) -> Result<Vec<Option<EntryRow>>, StoreError> {
        let looked = guarded(|| {
            let database = Database::builder().set_cache_size(CACHE_BYTES).open_read_only(path)?;
            let mut found = vec![None; keys.len()];
            for item in database.begin_read()?.open_table(ENTRIES)?.iter()? {
                let (id, value) = item?;
                let (key, meta, total, complete, created, accessed) = value.value();
                if let Some(at) = keys.iter().position(|wanted| wanted.as_str() == key) {
                    let (id, key, meta) = (FileId(id.value()), EntryKey::from(key), meta.into());
                    let uses = 0;
                    found[at] = Some(EntryRow { id, key, meta, total, complete, created, accessed, uses });
                }
            }
            Ok(found)
        });
        looked.map_err(|failure| match failure {
            Failure::Index(error) => failed(path, error),
            Failure::Newer(found) => StoreError::Newer { path: path.to_owned(), found, known: SCHEMA },
        })
    }

    /// Writes `batch`, all or nothing, and waits until it is durable.
    ///
    /// # Errors
    /// [`StoreError::Index`]; nothing of the batch is in the index then.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            {
                let mut entries = transaction.open_table(ENTRIES)?;
                let mut blocks = transaction.open_table(BLOCKS)?;
                let mut grants = transaction.open_table(GRANTS)?;
                let mut uses = transaction.open_table(USES)?;
                for row in &batch.entries {
                    let value =
                        (row.key.as_str(), &*row.meta, row.total, row.complete, row.created, row.accessed);
                    entries.insert(row.id.0, value)?;
                    if row.uses > 0 {
                        uses.insert(row.id.0, row.uses)?;
                    }
                }
                for (id, stretch, row) in &batch.blocks {
                    blocks.insert((id.0, *stretch), row.encode().as_slice())?;
                }
                for id in &batch.forgotten {
                    entries.remove(id.0)?;
                    uses.remove(id.0)?;
                    blocks.retain_in((id.0, 0)..=(id.0, u64::MAX), |_, _| false)?;
                }
                for (grant, confirmed) in &batch.grants {
                    match confirmed {
                        Some(at) => grants.insert(grant, at)?,
                        None => grants.remove(grant)?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// The block rows of one entry. Rows that cannot be read are left out.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub(crate) fn blocks(&self, id: FileId) -> Result<Vec<(u64, Row)>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(BLOCKS)?;
            let mut rows = Vec::new();
            for item in table.range((id.0, 0)..=(id.0, u64::MAX))? {
                let (key, value) = item?;
                rows.extend(Row::decode(value.value()).map(|row| (key.value().1, row)));
            }
            Ok(rows)
        })
    }

    /// Closes the database; the next call opens it again.
    pub(crate) fn close(&self) {
        *self.database.lock() = None;
    }

    /// Runs `work` on the database, opening it first if an earlier failure closed it.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let done = guarded(|| {
            let database = {
                let mut slot = self.database.lock();
                match &*slot {
                    Some(database) => Arc::clone(database),
                    None => Arc::clone(slot.insert(Arc::new(open_database(&self.path)?))),
                }
            };
            Ok(work(&database)?)
        });
        done.map_err(|failure| {
            self.close();
            match failure {
                Failure::Index(error) => failed(&self.path, error),
                Failure::Newer(found) => StoreError::Newer { path: self.path.clone(), found, known: SCHEMA },
            }
        })
    }
}

/// An error inside this module, before it is known what it means for the caller.
enum Failure {
    Index(redb::Error),
    Newer(u32),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Index(error.into())
    }
}

/// Runs `work`; a panic in the database code counts as a damaged file.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::Index(redb::Error::Corrupted("the database code stopped".to_owned())))
    })
}

fn open_database(path: &Path) -> Result<Database, redb::Error> {
    let file = private().create(true).truncate(false).open(path)?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(FileBackend::new(file)?)?;
    Ok(database)
}

/// Reads everything but the blocks; makes the tables and the secret of a new index.
fn load(database: &Database, path: &Path) -> Result<Loaded, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut loaded = Loaded::default();
    {
        let mut node = transaction.open_table(NODE)?;
        let schema = node.get("schema")?.map(|value| number(value.value()));
        match schema {
            Some(SCHEMA) => (),
            Some(found) if found > SCHEMA => return Err(Failure::Newer(found)),
            Some(_) => return Err(broken(path, "layout")),
            None => {
                node.insert("schema", SCHEMA.to_le_bytes().as_slice())?;
            }
        }
        let secret = node.get("secret")?.map(|value| value.value().try_into());
        loaded.secret = match secret {
            Some(Ok(secret)) => secret,
            Some(Err(_)) => return Err(broken(path, "secret")),
            None => {
                let secret = random_bytes::<32>().map_err(redb::Error::Io)?;
                node.insert("secret", secret.as_slice())?;
                secret
            }
        };
        transaction.open_table(BLOCKS)?;
        let uses = transaction.open_table(USES)?;
        for item in transaction.open_table(GRANTS)?.iter()? {
            let (grant, confirmed) = item?;
            loaded.grants.insert(*grant.value(), confirmed.value());
        }
        for item in transaction.open_table(ENTRIES)?.iter()? {
            let (id, value) = item?;
            let (key, meta, total, complete, created, accessed) = value.value();
            loaded.entries.push(EntryRow {
                id: FileId(id.value()),
                key: EntryKey::from(key),
                meta: meta.into(),
                total,
                complete,
                created,
                accessed,
                uses: uses.get(id.value())?.map_or(0, |uses| uses.value()),
            });
        }
    }
    transaction.commit()?;
    Ok(loaded)
}

/// A number of the node table; one of another width is no layout of ours and reads as 0.
fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn broken(path: &Path, what: &str) -> Failure {
    Failure::Index(redb::Error::Corrupted(format!("{} has a strange {what}", path.display())))
}

fn failed(path: &Path, source: redb::Error) -> StoreError {
    StoreError::Index { path: path.to_owned(), source: Box::new(source) }
}

/// Whether the error says that the file is not what we wrote, rather than that the disk failed.
fn is_broken(error: &redb::Error) -> bool {
    use redb::Error as E;
    match error {
        E::Corrupted(_) | E::UpgradeRequired(_) | E::RepairAborted => true,
        E::TableTypeMismatch { .. } | E::TypeDefinitionChanged { .. } => true,
        E::TableIsMultimap(_) | E::TableIsNotMultimap(_) | E::TableDoesNotExist(_) => true,
        E::Io(error) => is_broken_io(error),
        _ => false,
    }
}

fn is_broken_io(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

/// File id → key, meta, total, complete, created, accessed.
type EntryValue = (&'static str, &'static [u8], Option<u64>, bool, u64, u64);
const ENTRIES: TableDefinition<'_, u64, EntryValue> = TableDefinition::new("entries");
/// File id, stretch → [`Row`].
const BLOCKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("blocks");
/// File id → how often the entry was used. Apart from the rest, so that older versions read on.
const USES: TableDefinition<'_, u64, u64> = TableDefinition::new("uses");
/// Permission id → when it was last confirmed, in seconds since 1970.
const GRANTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("grants");
/// `schema` → version of this layout; `secret` → 32 random bytes.
const NODE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("node");
/// The layout described above.
const SCHEMA: u32 = 1;
/// The index is read once and then written; more would only take memory from the page cache.
const CACHE_BYTES: usize = 8 << 20;

#[cfg(test)]
#[path = "tests/index.rs"]
mod tests;
