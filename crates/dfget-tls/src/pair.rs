//! An authority in two files: found, made, replaced.
//!
//! The file of the key holds the certificate too, behind the key, and is put in place by one step
//! that only one of many processes can win. So it alone decides which pair it is; the file of the
//! certificate, which clients read, is written after it and can be written anew from it. A kill in
//! between leaves nothing that the next start does not mend. Pairs that others made, with the key
//! alone in its file, are used as they are.
//!
//! Replacing a pair is done under a lock (`KEY.lock`), so that of many that find it expired one
//! makes the new one and the others take that.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use crate::authority::CertificateAuthority;
use crate::certificate::AuthorityCertificate;
use crate::create::{NewAuthority, NewPair};
use crate::error::{CaError, PairError};
use crate::publish::{self, PRIVATE, READABLE};

/// Where an authority lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PairFiles {
    /// The certificate, for everybody to read.
    pub cert: PathBuf,
    /// The key, for its owner alone.
    pub key: PathBuf,
}

/// What to do with a pair that is there and cannot sign: expired, damaged, half gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// Leave it, and say so.
    Refuse,
    /// Make a new one in its place.
    Replace,
}

/// How an authority came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairOrigin {
    /// It was there, or another process has just made it.
    Found,
    /// It was made.
    Made,
}

/// An authority out of its files.
#[derive(Debug)]
pub struct Opened {
    /// Ready to sign.
    pub authority: CertificateAuthority,
    /// Where it is from.
    pub origin: PairOrigin,
}

// === impl PairFiles ===

impl PairFiles {
    /// `ca.crt` and `ca.key` in a directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { cert: directory.join("ca.crt"), key: directory.join("ca.key") }
    }

    /// The authority that is there, else a new one as `new` says. Any number of processes may do
    /// so at once, and all get the same one. Its scope may be another than that of `new`: look at
    /// [`CertificateAuthority::scope`].
    ///
    /// # Errors
    /// [`PairError`]: there is one that cannot be used, and `unusable` does not allow to replace
    /// it; the key is not its user's alone; or the file system refuses.
    pub fn load_or_create(
        &self,
        new: &NewAuthority,
        unusable: Unusable,
        now: SystemTime,
    ) -> Result<Opened, PairError> {
        match self.load(now) {
            Ok(Some(authority)) => return Ok(Opened { authority, origin: PairOrigin::Found }),
            Ok(None) => {}
            Err(error) if unusable == Unusable::Replace && is_beyond_use(&error) => {
                return self.replace_unusable(new, now);
            }
            Err(error) => return Err(error),
        }
        let origin = match self.create(new, now) {
            Ok(()) => PairOrigin::Made,
            Err(PairError::Exists { .. }) => PairOrigin::Found,
            Err(error) => return Err(error),
        };
        self.reopen(origin, now)
    }

    /// The authority that is there; `None` where neither file is.
    ///
    /// # Errors
    /// As [`load_or_create`](Self::load_or_create).
    pub fn load(&self, now: SystemTime) -> Result<Option<CertificateAuthority>, PairError> {
        // The certificate is written last, so where it was seen the key must be.
        let cert_is_there = self.cert.exists();
        let Some(key) = self.read_key()? else {
            if cert_is_there {
                return Err(PairError::KeyMissing { cert: self.cert.clone(), key: self.key.clone() });
            }
            return Ok(None);
        };
        let refused = |source| PairError::Refused { cert: self.cert.clone(), key: self.key.clone(), source };
        let beside = match read(&self.cert) {
            Ok(cert) => Some(cert),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(io_error("read", &self.cert)(source)),
        };
        let first = beside.map(|cert| CertificateAuthority::load(&cert, &key, now));
        match first {
            Some(Ok(authority)) => Ok(Some(authority)),
            // Another's certificate, or the old one of a pair that is being replaced.
            Some(Err(error)) if !is_about_certificate(&error) => Err(refused(error)),
            other => {
                let Ok(within) = AuthorityCertificate::from_pem(&key) else {
                    return Err(match other {
                        Some(Err(error)) => refused(error),
                        _ => PairError::CertificateMissing { cert: self.cert.clone(), key: self.key.clone() },
                    });
                };
                let authority = CertificateAuthority::load(&key, &key, now).map_err(refused)?;
                self.write_cert(&within.to_pem())?;
                Ok(Some(authority))
            }
        }
    }

    /// Makes a new pair where none is, and the directory if it is missing (mode 0700).
    ///
    /// # Errors
    /// [`PairError::Exists`] where there is one; else the file system refuses.
    pub fn create(&self, new: &NewAuthority, now: SystemTime) -> Result<(), PairError> {
        let exists = |path: &Path| PairError::Exists { path: path.to_owned() };
        if self.key.exists() {
            return Err(exists(&self.key));
        }
        if self.cert.exists() {
            return Err(exists(&self.cert));
        }
        for path in [&self.key, &self.cert] {
            make_directory(path)?;
        }
        let pair = new.make(now)?;
        match publish::create(&self.key, content_of_key(&pair).as_bytes(), PRIVATE) {
            Ok(()) => self.write_cert(&pair.cert_pem),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.key)),
            Err(source) => Err(io_error("make", &self.key)(source)),
        }
    }

    /// Makes a new pair in place of the one that is there, if any. The old certificate is kept as
    /// `CERT.old`; the old key is overwritten, as far as the file system lets that be done.
    ///
    /// # Errors
    /// [`PairError`]: no key could be made, or the file system refuses.
    pub fn replace(&self, new: &NewAuthority, now: SystemTime) -> Result<(), PairError> {
        let _lock = self.lock()?;
        match read(&self.cert) {
            Ok(old) => {
                let kept = self.kept();
                publish::replace(&kept, &old, READABLE).map_err(io_error("write", &kept))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("read", &self.cert)(source)),
        }
        let old_key = OpenOptions::new().write(true).open(&self.key).ok();
        self.put(&new.make(now)?)?;
        if let Some(old_key) = old_key {
            destroy(&old_key).map_err(io_error("overwrite the old key of", &self.key))?;
        }
        Ok(())
    }

    /// Where [`replace`](Self::replace) keeps the old certificate.
    #[must_use]
    pub fn kept(&self) -> PathBuf {
        with_suffix(&self.cert, ".old")
    }

    fn replace_unusable(&self, new: &NewAuthority, now: SystemTime) -> Result<Opened, PairError> {
        let _lock = self.lock()?;
        match self.load(now) {
            Ok(Some(authority)) => return Ok(Opened { authority, origin: PairOrigin::Found }),
            Err(error) if !is_beyond_use(&error) => return Err(error),
            Ok(None) | Err(_) => {}
        }
        self.put(&new.make(now)?)?;
        self.reopen(PairOrigin::Made, now)
    }

    fn reopen(&self, origin: PairOrigin, now: SystemTime) -> Result<Opened, PairError> {
        let gone = || PairError::KeyMissing { cert: self.cert.clone(), key: self.key.clone() };
        let authority = self.load(now)?.ok_or_else(gone)?;
        Ok(Opened { authority, origin })
    }

    /// Over what is there.
    fn put(&self, pair: &NewPair) -> Result<(), PairError> {
        for path in [&self.key, &self.cert] {
            make_directory(path)?;
        }
        publish::replace(&self.key, content_of_key(pair).as_bytes(), PRIVATE)
            .map_err(io_error("write", &self.key))?;
        self.write_cert(&pair.cert_pem)
    }

    fn write_cert(&self, pem: &str) -> Result<(), PairError> {
        publish::replace(&self.cert, pem.as_bytes(), READABLE).map_err(io_error("write", &self.cert))
    }

    /// The content of the key's file, provided that nobody else has it.
    fn read_key(&self) -> Result<Option<Vec<u8>>, PairError> {
        let failed = io_error("read", &self.key);
        let mut file = match File::open(&self.key) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let about = match file.metadata() {
            Ok(about) => about,
            Err(source) => return Err(failed(source)),
        };
        let exposed =
            |reason: String, remedy: String| PairError::Exposed { key: self.key.clone(), reason, remedy };
        let me = rustix::process::geteuid().as_raw();
        if about.uid() != me && about.uid() != 0 {
            let remedy = format!("chown {me} {}", self.key.display());
            return Err(exposed(format!("belongs to the user {}, not to {me}", about.uid()), remedy));
        }
        if about.mode() & 0o007 != 0 {
            let reason =
                format!("can be read by every user of this host (mode {:04o})", about.mode() & 0o7777);
            return Err(exposed(reason, format!("chmod 600 {}", self.key.display())));
        }
        let mut content = Vec::new();
        match Read::by_ref(&mut file).take(LIMIT_BYTES).read_to_end(&mut content) {
            Ok(_) => Ok(Some(content)),
            Err(source) => Err(failed(source)),
        }
    }

    /// Held until dropped. A file system without locks is done without.
    fn lock(&self) -> Result<File, PairError> {
        make_directory(&self.key)?;
        let path = with_suffix(&self.key, ".lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(())
            | Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Ok(file)
            }
            Err(error) => Err(io_error("lock", &path)(error.into())),
        }
    }
}

/// The key, and behind it the certificate.
fn content_of_key(pair: &NewPair) -> String {
    format!("{}{}", pair.key_pem.expose(), pair.cert_pem)
}

/// Whether no later try can succeed with the pair as it is.
const fn is_beyond_use(error: &PairError) -> bool {
    match error {
        PairError::KeyMissing { .. } | PairError::CertificateMissing { .. } => true,
        // A clock that is wrong today is right tomorrow.
        PairError::Refused { source, .. } => !matches!(source, CaError::NotYetValid { .. }),
        _ => false,
    }
}

/// Whether another certificate could do with the same key.
const fn is_about_certificate(error: &CaError) -> bool {
    !error.is_about_key() || matches!(error, CaError::KeyMismatch { .. })
}

fn destroy(key: &File) -> io::Result<()> {
    let length = key.metadata()?.len().min(LIMIT_BYTES);
    let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
    (&*key).write_all(&zeros)?;
    key.sync_all()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(LIMIT_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

fn make_directory(of: &Path) -> Result<(), PairError> {
    let Some(directory) = of.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    if fs::metadata(directory).is_ok_and(|about| about.is_dir()) {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_error("make", directory))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PairError {
    let path = path.to_owned();
    move |source| PairError::Io { operation, path, source }
}

/// More than any pair takes.
const LIMIT_BYTES: u64 = 1 << 20;
