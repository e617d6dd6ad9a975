//! Writes and hashes what comes, on a thread of its own, while more is coming.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::thread::JoinHandle;

use bytes::Bytes;
use dfget_core::{Digest, Hasher};
use tokio::sync::{mpsc, oneshot};

/// Chunks that may wait to be written; each has half a megabyte at most.
const MOST_WAITING: usize = 16;

/// What goes where it cannot be taken back is held up until the digest agrees, for the last bytes.
const HELD: usize = 64 << 10;

/// Where bytes go.
pub(crate) enum Out {
    /// To a file, from its present place on.
    File(File),
    /// To somewhere that takes nothing back.
    Stream(Box<dyn Write + Send>),
}

/// The thread.
pub(crate) struct Writer {
    chunks: mpsc::Sender<Bytes>,
    ended: oneshot::Receiver<io::Result<Written>>,
    _thread: JoinHandle<()>,
}

/// What has been written.
pub(crate) struct Written {
    /// Where it went; to go on.
    pub(crate) out: Out,
    /// Of all that was hashed.
    pub(crate) digest: Digest,
}

// === impl Writer ===

impl Writer {
    /// Begins to write to `out`. `hasher` has taken in what is there of the content already. Where `expected` is
    /// given, a stream gets its last bytes only if that is the digest of the whole.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(out: Out, hasher: Hasher, expected: Option<Digest>) -> io::Result<Self> {
        let (chunks, mut coming) = mpsc::channel::<Bytes>(MOST_WAITING);
        let (told, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
            let mut work = Work { out, hasher, held: VecDeque::new(), held_bytes: 0, expected };
            while let Some(bytes) = coming.blocking_recv() {
                if let Err(error) = work.take(bytes) {
                    let _ = told.send(Err(error));
                    return;
                }
            }
            // Whoever has left does not want the end of it.
            if !told.is_closed() {
                let _ = told.send(work.finish());
            }
        })?;
        Ok(Self { chunks, ended, _thread: thread })
    }

    /// Hands on the next bytes, when there is room. After an error of the disk it returns `false`;
    /// [`Self::finish`] tells which.
    ///
    /// # Cancel safety
    /// What was not handed on is lost; the writer must be finished or dropped then.
    pub(crate) async fn write(&self, bytes: Bytes) -> bool {
        self.chunks.send(bytes).await.is_ok()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn finish(self) -> io::Result<Written> {
        drop(self.chunks);
        self.ended.await.unwrap_or_else(|_| Err(io::Error::other("the thread that writes has died")))
    }
}

struct Work {
    out: Out,
    hasher: Hasher,
    held: VecDeque<Bytes>,
    held_bytes: usize,
    expected: Option<Digest>,
}

// === impl Work ===

impl Work {
    fn take(&mut self, bytes: Bytes) -> io::Result<()> {
        self.hasher.update(&bytes);
        match &mut self.out {
            Out::File(file) => file.write_all(&bytes),
            Out::Stream(stream) if self.expected.is_none() => {
                stream.write_all(&bytes)?;
                stream.flush()
            }
            Out::Stream(stream) => {
                self.held_bytes += bytes.len();
                self.held.push_back(bytes);
                while let Some(first) = self.held.front()
                    && self.held_bytes - first.len() >= HELD
                    && let Some(first) = self.held.pop_front()
                {
                    self.held_bytes -= first.len();
                    stream.write_all(&first)?;
                }
                Ok(())
            }
        }
    }

    fn finish(mut self) -> io::Result<Written> {
        let digest = self.hasher.finish();
        if let Out::Stream(stream) = &mut self.out
            && self.expected.is_none_or(|expected| expected == digest)
        {
            self.held.iter().try_for_each(|bytes| stream.write_all(bytes))?;
            stream.flush()?;
        }
        Ok(Written { out: self.out, digest })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn through(parts: &[Vec<u8>], expected: Option<Digest>) -> (Vec<u8>, Digest) {
        let seen = Seen::default();
        let writer = Writer::start(Out::Stream(Box::new(seen.clone())), Hasher::sha256(), expected).unwrap();
        for part in parts {
            assert!(writer.write(part.clone().into()).await);
        }
        let written = writer.finish().await.unwrap();
        let bytes = seen.0.lock().unwrap().clone();
        (bytes, written.digest)
    }

    #[tokio::test]
    async fn a_stream_gets_its_end_only_if_the_digest_agrees() {
        let parts = vec![vec![1; 100_000], vec![2; 50_000], vec![3; 10], vec![4; 60_000]];
        let whole = parts.concat();
        let right = Digest::sha256(&whole);
        assert_eq!(through(&parts, Some(right)).await, (whole.clone(), right));
        assert_eq!(through(&parts, None).await, (whole.clone(), right));
        let (cut, digest) = through(&parts, Some(Digest::sha256(b"other"))).await;
        assert_eq!(digest, right);
        assert!(cut.len() + HELD <= whole.len() && whole.starts_with(&cut), "{} bytes left", cut.len());
        assert!(!cut.is_empty(), "not all of a long content waits in memory");
    }

    #[tokio::test]
    async fn a_disk_that_is_full_is_told_at_the_end() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let writer = Writer::start(Out::File(full), Hasher::sha256(), None).unwrap();
        while writer.write(Bytes::from_static(&[0; 1000])).await {}
        let error = writer.finish().await.map(|written| written.digest).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
