//! The registry that everything comes from: an nginx that sends files, over TLS.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256};

use crate::places::{Places, nginx_command};
use crate::process::Server;

/// The running origin.
#[derive(Debug)]
pub struct Origin {
    blobs: PathBuf,
    log: PathBuf,
    made: u64,
    server: Server,
}

/// Something that the origin has.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The path of its URL.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    file: PathBuf,
}

// === impl Origin ===

impl Origin {
    /// Starts it, without any blob.
    ///
    /// # Errors
    /// nginx does not start.
    pub fn start(places: &Places) -> io::Result<Self> {
        Self::start_as(places, "origin")
    }

    /// The same from a directory of this name, for one of another network.
    ///
    /// # Errors
    /// nginx does not start.
    pub fn start_as(places: &Places, name: &str) -> io::Result<Self> {
        let run = places.directory(name)?;
        let blobs = run.join("root").join(REPOSITORY);
        fs::create_dir_all(&blobs)?;
        let log = run.join("requests");
        let root = run.join("root").display().to_string();
        // Within a server, for what is off around it would stay off beside it.
        let log_line = format!("access_log {} asked;", log.display());
        // The second server holds every connection to a rate.
        let servers = format!(
            "log_format asked '$request_method $status $body_bytes_sent';
    root {root};
    server {{ listen {}:{PORT} ssl; server_name {NAME}; {log_line} }}
    server {{ listen {}:{PORT} ssl; server_name {CAPPED_NAME}; limit_rate {CAPPED_MIB}m; {log_line} }}",
            Self::address().ip(),
            Self::capped_address().ip(),
        );
        let command: Command = nginx_command(places, &run, &servers)?;
        let server = Server::start(command, &run.join("output"), Self::address())?;
        Ok(Self { blobs, log, made: 0, server })
    }

    /// Where it listens.
    pub fn address() -> SocketAddr {
        (Ipv4Addr::new(198, 51, 100, 60), PORT).into()
    }

    /// Where it sends no more than [`CAPPED_MIB`] a second on each connection.
    pub fn capped_address() -> SocketAddr {
        (Ipv4Addr::new(198, 51, 100, 61), PORT).into()
    }

    /// Where docker-registry listens.
    pub fn registry_address() -> SocketAddr {
        (Ipv4Addr::new(198, 51, 100, 10), REGISTRY_PORT).into()
    }

    /// Makes a blob that never was before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, size: u64) -> io::Result<Blob> {
        let new = self.blobs.join("new");
        let digest = write_random(&new, size, self.made)?;
        self.made += 1;
        let name = format!("sha256:{digest}");
        let file = self.blobs.join(&name);
        fs::rename(new, &file)?;
        Ok(Blob { path: format!("/{REPOSITORY}/{name}"), size, file })
    }

    /// Puts a blob into the storage of docker-registry too, which must have been started before.
    ///
    /// # Errors
    /// It cannot be linked there.
    pub fn add_to_registry(&self, blob: &Blob) -> io::Result<()> {
        let hex = blob.path.rsplit(':').next().unwrap_or_default();
        let storage = Path::new(REGISTRY_STORAGE);
        let data = storage.join("blobs/sha256").join(hex.get(..2).unwrap_or_default()).join(hex);
        fs::create_dir_all(&data)?;
        fs::hard_link(&blob.file, data.join("data"))?;
        let link = storage.join("repositories/bench/blob/_layers/sha256").join(hex);
        fs::create_dir_all(&link)?;
        fs::write(link.join("link"), format!("sha256:{hex}"))
    }

    /// Forgets what [`Self::add_to_registry`] put there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_from_registry(&self, blob: &Blob) -> io::Result<()> {
        let hex = blob.path.rsplit(':').next().unwrap_or_default();
        let data = Path::new(REGISTRY_STORAGE).join("blobs/sha256").join(hex.get(..2).unwrap_or_default());
        fs::remove_dir_all(data.join(hex))
    }

    /// Forgets a blob.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, blob: &Blob) -> io::Result<()> {
        fs::remove_file(&blob.file)
    }

    /// Bytes of bodies that it sent since it started, as far as their answers have ended.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn sent(&self) -> io::Result<u64> {
        let log = fs::read_to_string(&self.log)?;
        Ok(log.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Ends it.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn end(self) -> io::Result<()> {
        self.server.end()
    }
}

/// Writes `size` bytes that depend on `seed` and that no compressor shortens; their sha256.
///
/// # Errors
/// The file cannot be written.
pub fn write_random(path: &Path, size: u64, seed: u64) -> io::Result<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    let mut file = File::create(path)?;
    let mut digest = Context::new(&SHA256);
    let mut left = size;
    while left > 0 {
        block[..8].copy_from_slice(&seed.to_le_bytes());
        block[8..16].copy_from_slice(&left.to_le_bytes());
        let part = &block[..usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))];
        digest.update(part);
        file.write_all(part)?;
        left -= part.len() as u64;
    }
    // So that writing it back is no part of what comes next.
    file.sync_all()?;
    Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where `tests/real-clients/registries` lets docker-registry store.
const REGISTRY_STORAGE: &str = "/tmp/registries/storage/docker/registry/v2";
const BLOCK: usize = 1 << 20;
const REPOSITORY: &str = "v2/bench/blob/blobs";
/// The origin's name.
pub const NAME: &str = "bench.registry.test";
/// The name of the origin that holds every connection to a rate.
pub const CAPPED_NAME: &str = "capped.registry.test";
/// The rate, in MiB a second.
pub const CAPPED_MIB: u64 = 16;
/// The port of all that speaks TLS at once: one that needs no rights.
pub const PORT: u16 = 8443;
/// The name of docker-registry.
pub const REGISTRY_NAME: &str = "registry.test";
/// Its port.
pub const REGISTRY_PORT: u16 = 443;
