//! What all tests stand on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dfget_cluster::{ClusterKey, Dialer, Door, Identity};
use dfget_core::{ByteRange, piece_length, piece_range};
use dfget_peer::{
    Asker, Holding, Holdings, Patience, PeerClient, UploadEvent, UploadOptions, Uploads, listen,
};
use dfget_storage::{Entry, EntryKey, Options, Store};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const MIB: u64 = 1 << 20;
/// Two pieces and a bit.
pub(crate) const LEN: u64 = 2 * 4 * MIB + 1000;

/// A task's id of one letter.
pub(crate) fn task(letter: char) -> String {
    letter.to_string().repeat(64)
}

/// Bytes that repeat nowhere soon.
pub(crate) fn content(len: u64) -> Vec<u8> {
    let words = (0..len.div_ceil(8)).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.take(len as usize).collect()
}

pub(crate) fn range(number: u32, total: u64) -> ByteRange {
    piece_range(number.into(), total, piece_length(total)).unwrap()
}

/// In the way that is wanted: in clear, or under a key.
pub(crate) fn ways() -> [(Door, Dialer); 2] {
    let identity = Identity::from_key(&ClusterKey::from_bytes([7; 32]), &["127.0.0.1".to_owned()]).unwrap();
    [
        (Door { tls: None, plain: true }, Dialer { tls: None }),
        (Door { tls: Some(identity.server()), plain: false }, Dialer { tls: Some(identity.client()) }),
    ]
}

/// Gives up early, so that a test of a silent parent is short.
pub(crate) fn impatient() -> Patience {
    let short = Duration::from_millis(300);
    Patience { connect: Duration::from_secs(5), answer: short, stall: short, least: 64 << 10 }
}

/// What a node has, and what happened to it.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) holdings: Mutex<HashMap<String, Holding>>,
    pub(crate) events: Mutex<Vec<UploadEvent>>,
    pub(crate) rotten: Mutex<Vec<Range<u64>>>,
    pub(crate) askers: Mutex<Vec<Asker>>,
}

impl Holdings for Shelf {
    fn find(&self, task: &str, asker: &Asker) -> Option<Holding> {
        self.askers.lock().push(*asker);
        self.holdings.lock().get(task).cloned()
    }

    fn rotten(&self, _task: &str, block: Range<u64>) {
        self.rotten.lock().push(block);
    }

    fn happened(&self, event: UploadEvent) {
        self.events.lock().push(event);
    }
}

/// A parent, its store, and a child.
pub(crate) struct Stage {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) uploads: Uploads,
    pub(crate) pieces: SocketAddr,
    pub(crate) client: PeerClient,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Stage {
    pub(crate) fn new(way: (Door, Dialer)) -> Self {
        Self::with(way, |_| {})
    }

    pub(crate) fn with((door, dialer): (Door, Dialer), change: impl FnOnce(&mut UploadOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { dir: dir.path().join("store"), quota_bytes: None, disk_percent: None, expire: None };
        let (store, _) = Store::open(options, SystemTime::now()).unwrap();
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let pieces = listener.local_addr().unwrap();
        let mut options = UploadOptions::new(pieces.ip(), pieces.port());
        change(&mut options);
        let shelf = Arc::new(Shelf::default());
        let uploads = Uploads::new(options, Arc::<Shelf>::clone(&shelf));
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (serving, token) = (uploads.clone(), shutdown.clone());
        tasks.spawn(async move { serving.serve(listener, door, token).await });
        let client = PeerClient::new(dialer, "127.0.0.1-child".to_owned());
        Self { dir, store, shelf, uploads, pieces, client, shutdown, tasks }
    }

    /// A complete content.
    pub(crate) fn stored(&self, letter: char, bytes: &[u8]) -> Arc<Entry> {
        let key = EntryKey::from(letter.to_string().as_str());
        let total = bytes.len() as u64;
        let entry = self.store.create(key.clone(), vec![], Some(total), SystemTime::now()).unwrap();
        entry.append(0, bytes).unwrap();
        self.store.publish(&entry, key, vec![]).unwrap();
        let holding =
            Holding { entry: Arc::clone(&entry), progress: None, ended: CancellationToken::new(), round: 0 };
        self.shelf.holdings.lock().insert(task(letter), holding);
        entry
    }

    /// A content that comes, and how its progress is told and ended.
    pub(crate) fn coming(
        &self,
        letter: char,
        total: Option<u64>,
    ) -> (Arc<Entry>, watch::Sender<()>, CancellationToken) {
        let key = EntryKey::from(letter.to_string().as_str());
        let entry = self.store.create(key, vec![], total, SystemTime::now()).unwrap();
        let (progress, watched) = watch::channel(());
        let ended = CancellationToken::new();
        let holding =
            Holding { entry: Arc::clone(&entry), progress: Some(watched), ended: ended.clone(), round: 0 };
        self.shelf.holdings.lock().insert(task(letter), holding);
        (entry, progress, ended)
    }

    pub(crate) async fn fetch(&self, letter: char, number: u32, total: u64) -> Vec<u8> {
        let range = range(number, total);
        let patience = Patience::default();
        let parts = self.client.fetch(self.pieces, &task(letter), number, range, &patience).await;
        join(&parts.unwrap())
    }

    /// Waits until something like it has happened.
    pub(crate) async fn happened(&self, wanted: UploadEvent) {
        while !self.shelf.events.lock().contains(&wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn join(parts: &[Bytes]) -> Vec<u8> {
    parts.concat()
}

pub(crate) fn slice(bytes: &[u8], range: ByteRange) -> &[u8] {
    &bytes[range.start as usize..range.end as usize]
}
