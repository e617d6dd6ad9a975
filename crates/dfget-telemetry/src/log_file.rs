//! `core.log` on disk: appended to line by line, renamed when it is full, cleaned up behind.
//!
//! Each line is one write on a descriptor opened for appending, so that a reader sees whole lines
//! and sees them at once. A line that cannot be written is lost and reported to the caller; a torn
//! one is ended before the next begins. When someone moves or removes the file (logrotate, an
//! operator), a line a moment later starts a new one. Old files are named by the time of their renaming,
//! `core-2026-11-23T08-15-00.123.log`, and kept by number and age. A file that cannot be renamed
//! grows beyond its bound rather than losing lines; renaming is tried again from time to time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::logging::Rotation;
use jiff::{SignedDuration, Timestamp, Zoned};

/// When a file is full and how long old ones stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A file does not grow beyond this, in bytes.
    pub(crate) file_bytes: u64,
    /// After a renaming that failed it may grow by so much until the next try, in bytes.
    pub(crate) retry_bytes: u64,
    /// So many old files are kept,
    pub(crate) kept_files: usize,
    /// and none that is older than this.
    pub(crate) kept_for: Duration,
}

impl Limits {
    pub(crate) fn of(rotation: &Rotation) -> Self {
        Self {
            file_bytes: rotation.file_bytes,
            retry_bytes: 64 << 20,
            kept_files: rotation.kept_files.unwrap_or(usize::MAX),
            kept_for: rotation.kept_for.unwrap_or(Duration::MAX),
        }
    }
}

/// The open `core.log`.
#[derive(Debug)]
pub(crate) struct LogFile {
    directory: PathBuf,
    limits: Limits,
    file: File,
    len_bytes: u64,
    /// The file is full at this length.
    full_bytes: u64,
    torn: bool,
    /// When it was last seen that the path is the open file.
    followed: Option<Timestamp>,
}

// === impl LogFile ===

impl LogFile {
    /// Opens `core.log` in `directory`, both made if missing (0600 in 0700); existing ones keep
    /// their modes. Removes old files that are due.
    pub(crate) fn open(directory: &Path, limits: Limits, now: SystemTime) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = append(&directory.join(FILE_NAME))?;
        let len_bytes = file.metadata()?.len();
        let full_bytes = limits.file_bytes;
        let directory = directory.to_owned();
        let log = Self { directory, limits, file, len_bytes, full_bytes, torn: false, followed: None };
        log.remove_old(now);
        Ok(log)
    }

    /// Appends `line`, which ends with a line feed.
    ///
    /// # Errors
    /// The line was not written, or only a part of it.
    pub(crate) fn write_line(&mut self, line: &str, now: &Zoned) -> io::Result<()> {
        self.follow_path(now.timestamp())?;
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.len_bytes > 0
            && self.len_bytes.saturating_add(len) > self.full_bytes
            && self.rotate(now).is_err()
        {
            self.full_bytes = self.len_bytes.saturating_add(self.limits.retry_bytes);
        }
        let repaired;
        let bytes = if self.torn {
            repaired = format!("\n{line}");
            repaired.as_bytes()
        } else {
            line.as_bytes()
        };
        let written = self.file.write(bytes)?;
        self.len_bytes += u64::try_from(written).unwrap_or(0);
        self.torn = written < bytes.len();
        if self.torn { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Opens the path anew if it is no longer the open file. Where that fails, the open file stays
    /// in use as long as it has a name, and somebody can find it.
    fn follow_path(&mut self, now: Timestamp) -> io::Result<()> {
        let since = self.followed.map(|followed| now.duration_since(followed));
        if since.is_some_and(|since| !since.is_negative() && since < FOLLOW_EVERY) {
            return Ok(());
        }
        let path = self.directory.join(FILE_NAME);
        let ours = self.file.metadata()?;
        let same =
            fs::metadata(&path).is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev());
        if !same {
            match Self::open(&self.directory, self.limits, SystemTime::now()) {
                Ok(new) => *self = new,
                Err(error) if ours.nlink() == 0 => return Err(error),
                Err(_) => {}
            }
        }
        self.followed = Some(now);
        Ok(())
    }

    fn rotate(&mut self, now: &Zoned) -> io::Result<()> {
        let stamp = now.strftime("%Y-%m-%dT%H-%M-%S%.3f");
        let mut target = self.directory.join(format!("{OLD_PREFIX}{stamp}{SUFFIX}"));
        let mut number = 1;
        while target.try_exists()? {
            target = self.directory.join(format!("{OLD_PREFIX}{stamp}-{number}{SUFFIX}"));
            number += 1;
        }
        fs::rename(self.directory.join(FILE_NAME), target)?;
        self.file = append(&self.directory.join(FILE_NAME))?;
        self.len_bytes = 0;
        self.full_bytes = self.limits.file_bytes;
        self.torn = false;
        self.remove_old(now.timestamp().into());
        Ok(())
    }

    /// Removes what exceeds the limits, oldest first. What cannot be removed stays: the next
    /// rotation tries again.
    fn remove_old(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut old: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_old_name))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        old.sort_by(|one, other| other.cmp(one));
        for (position, (modified, path)) in old.iter().enumerate() {
            let age = now.duration_since(*modified).unwrap_or_default();
            if position >= self.limits.kept_files || age > self.limits.kept_for {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Only names that [`LogFile::rotate`] gives: `core-` and a date.
fn is_old_name(name: &str) -> bool {
    name.strip_prefix(OLD_PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX))
        .and_then(|stamp| stamp.get(..10))
        .is_some_and(|date| date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
}

/// How often it is looked whether somebody has moved the file; lines go to it until then.
const FOLLOW_EVERY: SignedDuration = SignedDuration::from_millis(100);
const FILE_NAME: &str = "core.log";
const OLD_PREFIX: &str = "core-";
const SUFFIX: &str = ".log";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jiff::ToSpan;

    use super::*;

    const SMALL: Limits =
        Limits { file_bytes: 10, retry_bytes: 20, kept_files: 2, kept_for: Duration::from_secs(3600) };

    fn opened(directory: &Path) -> LogFile {
        LogFile::open(directory, SMALL, SystemTime::now()).expect("a log file")
    }

    fn content(directory: &Path) -> String {
        fs::read_to_string(directory.join(FILE_NAME)).expect("core.log")
    }

    fn old_files(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .filter(|name| name != FILE_NAME)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_made_is_private_and_what_exists_is_left_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let directory = root.path().join("log/daemon");
        opened(&directory);
        assert_eq!(mode(&root.path().join("log")), 0o700);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join(FILE_NAME)), 0o600);

        fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).expect("a mode");
        fs::set_permissions(directory.join(FILE_NAME), fs::Permissions::from_mode(0o640)).expect("a mode");
        opened(&directory);
        assert_eq!((mode(&directory), mode(&directory.join(FILE_NAME))), (0o750, 0o640));
    }

    #[test]
    fn lines_are_appended_to_what_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = Zoned::now();
        opened(directory.path()).write_line("one\n", &now).expect("written");
        opened(directory.path()).write_line("two\n", &now).expect("written");
        assert_eq!(content(directory.path()), "one\ntwo\n");
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = opened(directory.path());
        let start: Zoned = "2020-11-23T08:15:00.120[UTC]".parse().expect("a time");
        for number in 0..4_i64 {
            let now = &start + number.milliseconds();
            log.write_line(&format!("line {number}\n"), &now).expect("written");
        }
        assert_eq!(content(directory.path()), "line 3\n");
        assert_eq!(
            old_files(directory.path()),
            ["core-2020-11-23T08-15-00.122.log", "core-2020-11-23T08-15-00.123.log"]
        );
    }

    #[test]
    fn two_rotations_within_a_millisecond_keep_both_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = opened(directory.path());
        let now: Zoned = "2020-11-23T08:15:00[UTC]".parse().expect("a time");
        for line in ["first 1\n", "second 2\n", "third 3\n"] {
            log.write_line(line, &now).expect("written");
        }
        assert_eq!(
            old_files(directory.path()),
            ["core-2020-11-23T08-15-00.000-1.log", "core-2020-11-23T08-15-00.000.log"]
        );
    }

    #[test]
    fn a_file_that_cannot_be_renamed_is_written_on_and_renamed_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = opened(directory.path());
        let now: Zoned = "2020-11-23T08:15:00[UTC]".parse().expect("a time");
        // A link to itself under the new name: whether that name is free cannot be found out.
        let target = directory.path().join("core-2020-11-23T08-15-00.000.log");
        std::os::unix::fs::symlink(&target, &target).expect("a link");
        for line in ["first 1\n", "second 2\n", "third 3\n"] {
            log.write_line(line, &now).expect("written");
        }
        assert_eq!(content(directory.path()), "first 1\nsecond 2\nthird 3\n");
        fs::remove_file(&target).expect("removed");
        log.write_line("fourth\n", &now).expect("written");
        assert_eq!(content(directory.path()), "fourth\n", "20 bytes after the failure it is tried again");
        assert_eq!(fs::read_to_string(&target).expect("the old file"), "first 1\nsecond 2\nthird 3\n");
    }

    #[test]
    fn a_file_that_cannot_be_made_anew_is_written_on_while_it_has_a_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = Zoned::now();
        let mut log = LogFile::open(directory.path(), Limits::of(&Rotation::default()), SystemTime::now())
            .expect("a file");
        let moved = directory.path().join("moved");
        fs::rename(directory.path().join(FILE_NAME), &moved).expect("moved");
        fs::create_dir(directory.path().join(FILE_NAME)).expect("a directory in its place");
        log.write_line("one\n", &now).expect("written");
        assert_eq!(fs::read_to_string(&moved).expect("the moved file"), "one\n");
        fs::remove_file(&moved).expect("removed");
        log.write_line("two\n", &(&now + 1.second())).expect_err("nobody would find it");
    }

    #[test]
    fn a_line_longer_than_a_file_is_still_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = opened(directory.path());
        log.write_line("longer than ten bytes\n", &Zoned::now()).expect("written");
        assert_eq!(content(directory.path()), "longer than ten bytes\n");
        assert_eq!(old_files(directory.path()), [] as [&str; 0]);
    }

    #[test]
    fn files_too_old_go_at_opening_and_strangers_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["core-2026-11-20T08-15-00.000.log", "core-dump.log", "core-2026-11-20.txt"] {
            fs::write(directory.path().join(name), "old\n").expect("written");
        }
        let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
        LogFile::open(directory.path(), SMALL, tomorrow).expect("a log file");
        assert_eq!(old_files(directory.path()), ["core-2026-11-20.txt", "core-dump.log"]);
    }

    #[test]
    fn a_file_moved_or_removed_by_others_is_made_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = Zoned::now();
        let mut log = opened(directory.path());
        log.write_line("one\n", &now).expect("written");
        fs::rename(directory.path().join(FILE_NAME), directory.path().join("moved")).expect("moved");
        log.write_line("still there\n", &now).expect("written");
        log.write_line("two\n", &(&now + 1.second())).expect("written");
        assert_eq!(content(directory.path()), "two\n");
        fs::remove_dir_all(directory.path()).expect("removed");
        log.write_line("three\n", &(&now + 2.seconds())).expect("written");
        assert_eq!(content(directory.path()), "three\n");
        fs::remove_file(directory.path().join(FILE_NAME)).expect("removed");
        log.write_line("four\n", &(&now - 9.seconds())).expect("written");
        assert_eq!(content(directory.path()), "four\n", "a clock that was set back holds nothing up");
    }

    #[test]
    fn a_full_disk_is_an_error_and_no_panic() {
        let directory = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/dev/full", directory.path().join(FILE_NAME)).expect("a link");
        let mut log = opened(directory.path());
        let error = log.write_line("one\n", &Zoned::now()).expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = LogFile::open(directory.path(), Limits::of(&Rotation::default()), SystemTime::now())
            .expect("a file");
        log.file.write_all(b"{\"torn\":").expect("written");
        log.torn = true;
        log.write_line("{}\n", &Zoned::now()).expect("written");
        log.write_line("{}\n", &Zoned::now()).expect("written");
        assert_eq!(content(directory.path()), "{\"torn\":\n{}\n{}\n");
    }
}
