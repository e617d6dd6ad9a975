//! What the API says, as types of both ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a node is (`GET /api/v1/node`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Version of the daemon's program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The name of the host.
    pub host: String,
    /// When it started.
    pub started_at: u64,
    /// For how long it has run.
    pub uptime_seconds: u64,
    /// The store; `None` where there is none, and pulls stream through.
    pub store: Option<NodeStore>,
    /// Why there is no store.
    pub no_store: Option<String>,
    /// What it has counted since its start.
    pub counters: Counters,
}

/// A store and its room.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStore {
    /// Its directory.
    pub place: String,
    /// Contents, whole or in part.
    pub contents: u64,
    /// Bytes that they take.
    pub used_bytes: u64,
    /// Bytes that they may take; `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// Bytes of its disk, and how many of them are free.
    pub disk_bytes: Option<u64>,
    /// See there.
    pub free_bytes: Option<u64>,
}

/// What a daemon has counted since its start.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Responses to clients by where they came from: `cache`, `origin` (by way of a task),
    /// `forwarded`, `shared` (asked once for several), `tunnelled`.
    pub served: BTreeMap<String, ServedBy>,
    /// Downloads begun.
    pub tasks: u64,
    /// Downloads failed.
    pub failed_tasks: u64,
    /// Requests that found their content stored, or being fetched already.
    pub cache_hits: u64,
    /// Requests sent to origins.
    pub origin_requests: u64,
    /// Bytes that origins have sent to downloads.
    pub bytes_from_origin: u64,
    /// Bytes that other nodes have sent.
    pub bytes_from_peers: u64,
    /// Bytes sent to other nodes.
    pub bytes_to_peers: u64,
    /// Bytes removed to stay within the quota.
    pub evicted_bytes: u64,
    /// Blocks found changed on disk.
    pub rotten_blocks: u64,
    /// How the question whether a client may have a stored content was answered: `remembered`,
    /// `allowed`, `denied`, `grace`, `unreachable`.
    pub access_checks: BTreeMap<String, u64>,
}

/// Responses of one source.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServedBy {
    /// How many.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Stored contents (`GET /api/v1/contents`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Contents {
    /// How many were meant, whatever `limit` left off.
    pub matched: u64,
    /// Bytes that those take on disk.
    pub matched_bytes: u64,
    /// They, or the first of them.
    pub contents: Vec<Content>,
}

/// One content in the store.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Content {
    /// Its name in the store, which other calls know it by.
    pub key: String,
    /// What it is.
    pub kind: Kind,
    /// `sha256:` and the hash, where that is what names it.
    pub digest: Option<String>,
    /// Its name in the cluster, where that follows from the digest.
    pub task: Option<String>,
    /// Its length.
    pub size: Option<u64>,
    /// Bytes of it on disk.
    pub stored_bytes: u64,
    /// All of it is here, and was verified.
    pub complete: bool,
    /// Who has delivered it, or proved to have it.
    pub origins: Vec<Origin>,
    /// It was fetched with a credential, or by a URL that may hold one.
    pub private: bool,
    /// It came by `dfget cache import`.
    pub imported: bool,
    /// When it was stored, or its download begun.
    pub stored_at: u64,
    /// When it was last used.
    pub last_used_at: u64,
    /// How often it was served from here.
    pub uses: u64,
}

/// What a content is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A blob of a registry, named by its digest.
    Blob,
    /// A manifest of a registry, named by its digest.
    Manifest,
    /// What only its URL names.
    #[default]
    Url,
}

/// Where a content is from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Origin {
    /// Scheme, host and port, the usual port left out: `https://registry.example.org`.
    pub authority: String,
    /// The repositories that it was asked from there, or the paths of URLs; not all, if there are many.
    pub places: Vec<String>,
    /// Of a manifest, the tags (`repository:tag`) that it was given for, and when that was found out last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, u64>,
}

/// Running downloads (`GET /api/v1/tasks`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tasks {
    /// The oldest first.
    pub tasks: Vec<TaskSeen>,
}

/// One running download.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskSeen {
    /// The content's name in the cluster.
    pub id: String,
    /// This download's name in the log.
    pub peer: String,
    /// Its URL, without query and login.
    pub url: String,
    /// Where it is fetched from.
    pub authority: String,
    /// The repository there.
    pub repository: Option<String>,
    /// What it must hash to.
    pub digest: Option<String>,
    /// Its length.
    pub total: Option<u64>,
    /// The length of the pieces that are numbered here.
    pub piece_length: Option<u64>,
    /// Which pieces are whole here: first and one past the last of each stretch.
    pub pieces: Vec<[u32; 2]>,
    /// Where its bytes came from.
    pub bytes: TaskBytes,
    /// The nodes that have sent some of what is here, most first.
    pub parents: Vec<Parent>,
    /// The nodes that have asked for it within the last half minute.
    pub children: Vec<String>,
    /// Responses that read it.
    pub readers: u64,
    /// For how long it has run.
    pub age_seconds: f64,
}

/// Where the bytes of a download came from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskBytes {
    /// They were here before it began.
    pub cache: u64,
    /// Other nodes.
    pub peers: u64,
    /// Origins.
    pub origin: u64,
}

/// A node that feeds a download.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Parent {
    /// Its name.
    pub host: String,
    /// Bytes of what is here that it sent.
    pub bytes: u64,
}

/// What is stored, by registry (`GET /api/v1/stat`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stat {
    /// Contents, whole or in part.
    pub contents: u64,
    /// Of those, the whole ones.
    pub complete: u64,
    /// Bytes that all take on disk.
    pub bytes: u64,
    /// How often they were served from here.
    pub uses: u64,
    /// About how many bytes that was: each use counted as the whole.
    pub served_bytes: u64,
    /// The same by registry, most bytes first. A content that two registries have counts for both,
    /// one without (imported, or in part) for none.
    pub registries: Vec<RegistryUse>,
    /// What has no registry.
    pub without_registry: RegistryUse,
}

/// What is stored of one registry.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryUse {
    /// Scheme, host and port.
    pub authority: String,
    /// How many contents.
    pub contents: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// How often they were served from here.
    pub uses: u64,
    /// About how many bytes that was.
    pub served_bytes: u64,
}

/// Contents that a call is about, by [`Content::key`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Keys {
    /// Their names in the store.
    pub keys: Vec<String>,
}

/// What became of contents that were to be removed (`DELETE /api/v1/contents` with [`Keys`]).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Removed {
    /// How many went.
    pub contents: u64,
    /// Bytes that they took on disk.
    pub bytes: u64,
    /// Those that stay, for they are being downloaded just now.
    pub busy: Vec<String>,
    /// How many were not there.
    pub missing: u64,
}

/// What is to leave the store (`POST /api/v1/gc`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gc {
    /// Down to so many bytes; `None` = as the configuration says.
    pub to_bytes: Option<u64>,
    /// Only say what would.
    pub dry_run: bool,
}

/// What left, or would.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Collected {
    /// In the order in which they left.
    pub evicted: Vec<Evicted>,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that all others take.
    pub left_bytes: u64,
    /// Bytes above what was asked for: running downloads, and the image used last.
    pub over_bytes: u64,
}

/// A content that left the store, or would.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evicted {
    /// What it was.
    pub content: Content,
    /// `expired` (nobody used it for long) or `space`.
    pub reason: String,
}

/// What is to be checked (`POST /api/v1/verify`).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verify {
    /// Names in the store; `None` = everything.
    pub keys: Option<Vec<String>>,
    /// Only say what is rotten, and leave it.
    pub keep: bool,
}

/// One line of the answer to that, each as it becomes known.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Verified {
    /// So far it has come.
    #[serde(rename_all = "camelCase")]
    Progress {
        /// Contents that are done.
        contents: u64,
        /// Of so many.
        of_contents: u64,
        /// Bytes that are done.
        bytes: u64,
        /// Of so many.
        of_bytes: u64,
    },
    /// This content is not what it was.
    #[serde(rename_all = "camelCase")]
    Rotten {
        /// What it was.
        content: Box<Content>,
        /// What is wrong.
        reason: String,
        /// It was taken out of the store.
        dropped: bool,
    },
    /// All is done: the last line.
    #[serde(rename_all = "camelCase")]
    Done {
        /// Contents that were checked against their digest, or block by block where none is known.
        contents: u64,
        /// Bytes that were read.
        bytes: u64,
        /// Contents that were rotten.
        rotten: u64,
        /// Contents that could not be read, for another reason than rot.
        unreadable: u64,
        /// Contents that left the store before their turn.
        gone: u64,
    },
}

/// A content that is to be stored: the query of `PUT /api/v1/contents`, whose body is its bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Import {
    /// `sha256:` and the hash.
    pub digest: String,
    /// A blob, or a manifest.
    pub kind: Kind,
    /// Its length.
    pub size: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    /// It was there already.
    pub present: bool,
}

/// Why a call failed; with a status of 400 or above.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// The status of the answer.
    #[serde(skip)]
    pub status: u16,
    /// What is wrong and what to do, in a line.
    pub error: String,
}

impl Failed {
    /// With this status.
    pub fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }
}
