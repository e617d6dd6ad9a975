//! What of a file system is left to a user by quota.
//!
//! Quotas of users and groups are asked of the kernel, which knows those of disks of this node (quotactl(2)). Those of
//! a project or a directory are in what statvfs(2) says is free, on ext4 and XFS as on most servers of NFS. What a
//! server counts for each user only its own program tells; then that is named.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dfget_core::decimal_size;
use nix::errno::Errno;
use nix::sys::quota::{Dqblk, QuotaType, quotactl_get};
use rustix::process::{getegid, geteuid};

/// What bounds somebody at a place.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Quota {
    /// The bounds that are known.
    pub(crate) bounds: Vec<Bound>,
    /// The command that tells what could not be asked; `None` = nothing is left to ask.
    pub(crate) unasked: Option<&'static str>,
}

/// One bound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Bound {
    /// `your`, or whose it is.
    pub(crate) whose: String,
    /// Bytes that may be taken in all, and how many are left.
    pub(crate) bytes: Option<Room>,
    /// The same of files.
    pub(crate) files: Option<Room>,
}

/// A limit, and what of it is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    pub(crate) left: u64,
}

/// A file system where it is mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mount {
    /// `major:minor`.
    device: String,
    point: PathBuf,
    kind: String,
    source: PathBuf,
}

/// Blocks of limits, whatever those of the disk are (`QIF_DQBLKSIZE`).
const BLOCK: u64 = 1024;
/// The bit of a directory by which what is made in it belongs to its group.
const SET_GROUP: u32 = 0o2000;

// === impl Bound ===

impl Bound {
    /// `your quota of 20.0 GB`.
    pub(crate) fn name(&self) -> String {
        let of = self.bytes.map(|room| format!(" of {}", decimal_size(room.limit)));
        format!("{} quota{}", self.whose, of.unwrap_or_default())
    }

    /// `None` = it bounds nothing.
    fn of(whose: String, told: &Dqblk) -> Option<Self> {
        let bytes = room(told.blocks_soft_limit(), told.blocks_hard_limit(), BLOCK, told.occupied_space());
        let files = room(told.inodes_soft_limit(), told.inodes_hard_limit(), 1, told.allocated_inodes());
        (bytes.is_some() || files.is_some()).then_some(Self { whose, bytes, files })
    }
}

/// The soft limit counts where there is one: beyond it one may go for some days only. Zero is none.
fn room(soft: Option<u64>, hard: Option<u64>, unit: u64, used: Option<u64>) -> Option<Room> {
    let limit = [soft, hard].into_iter().flatten().filter(|limit| *limit > 0).min()?.saturating_mul(unit);
    Some(Room { limit, left: limit.saturating_sub(used.unwrap_or(0)) })
}

/// The bounds at a directory that is there, of whoever writes into it.
pub(crate) fn look(dir: &Path) -> Quota {
    let Ok(dir) = dir.canonicalize() else { return Quota::default() };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = mount_of(&dir, &mounts) else { return Quota::default() };
    match kind_of(&mount.kind) {
        Kind::Asked => ask(&dir, &mount),
        Kind::Other(command) => Quota { bounds: Vec::new(), unasked: Some(command) },
        Kind::Without => Quota::default(),
    }
}

fn ask(dir: &Path, mount: &Mount) -> Quota {
    let Ok(about) = dir.metadata() else { return Quota::default() };
    let root = geteuid().is_root();
    // Root is bound by none; who has a daemon's directory may be.
    let user = if root { about.uid() } else { geteuid().as_raw() };
    let own_group = if root { about.gid() } else { getegid().as_raw() };
    let group = if about.mode() & SET_GROUP == 0 { own_group } else { about.gid() };
    let whose = if root { format!("user {user}'s") } else { "your".to_owned() };
    let asked =
        [(QuotaType::USRQUOTA, user, whose), (QuotaType::GRPQUOTA, group, format!("group {group}'s"))];
    let device = device(mount);
    let mut quota = Quota::default();
    for (of, id, whose) in asked.into_iter().filter(|(_, id, _)| *id != 0) {
        let Ok(id) = i32::try_from(id) else { continue };
        match quotactl_get(of, &device, id) {
            Ok(told) => quota.bounds.extend(Bound::of(whose, &told)),
            // The kernel or this file system keeps none, or none of this kind.
            Err(Errno::ESRCH | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL) => {}
            // A group is asked by its members only, and a namespace may hide that one is.
            Err(_) if of == QuotaType::GRPQUOTA => {}
            // A device that is not to be seen here, as in a container.
            Err(_) => quota.unasked = Some("quota -s"),
        }
    }
    quota
}

/// By its number, where there is such a name: `/dev/root` in the list of mounts is none.
fn device(mount: &Mount) -> PathBuf {
    let numbered = Path::new("/dev/block").join(&mount.device);
    if numbered.exists() { numbered } else { mount.source.clone() }
}

/// How the quotas of a kind of file system can be learnt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Of the kernel.
    Asked,
    /// By this command only.
    Other(&'static str),
    /// It has none for users.
    Without,
}

fn kind_of(name: &str) -> Kind {
    match name {
        "ext2" | "ext3" | "ext4" | "f2fs" | "gfs2" | "jfs" | "ocfs2" | "reiserfs" | "xfs" => Kind::Asked,
        "nfs" | "nfs4" => Kind::Other("quota -s"),
        "lustre" => Kind::Other("lfs quota -h"),
        "gpfs" => Kind::Other("mmlsquota --block-size auto"),
        "beegfs" => Kind::Other("beegfs-ctl --getquota --uid"),
        "panfs" => Kind::Other("pan_quota"),
        "zfs" => Kind::Other("zfs get userquota@$USER"),
        "afs" => Kind::Other("fs listquota"),
        _ => Kind::Without,
    }
}

/// The file system that `dir`, a path without links, is on, by the text of `/proc/self/mountinfo` (proc(5)).
fn mount_of(dir: &Path, mounts: &str) -> Option<Mount> {
    let above = mounts.lines().filter_map(mount).filter(|mount| dir.starts_with(&mount.point));
    // Of those at one place the last covers the others, and that is what `max_by_key` takes.
    above.max_by_key(|mount| mount.point.components().count())
}

fn mount(line: &str) -> Option<Mount> {
    let (own, rest) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(2);
    let (device, point) = (own.next()?.to_owned(), unescaped(own.nth(1)?));
    let mut rest = rest.split(' ');
    Some(Mount { device, point, kind: rest.next()?.to_owned(), source: unescaped(rest.next()?) })
}

/// Spaces and the like stand as three octal digits behind a backslash.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| byte == b'\\').and_then(|three| str::from_utf8(three).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(meant) => {
                bytes.push(meant);
                rest = &behind[3..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = r"21 1 254:0 / / rw,relatime - ext4 /dev/root rw
40 21 0:31 / /tmp rw - tmpfs tmpfs rw,size=1g
41 21 8:17 / /home rw,relatime shared:7 master:3 - xfs /dev/sdb1 rw,usrquota
42 41 0:50 /export /home/me/my\040data rw - nfs4 server:/export/my\040data rw
43 21 8:33 / /home rw - ext4 /dev/sdc1 rw
nonsense
";

    #[test]
    fn the_mount_of_a_directory_is_the_nearest_and_of_two_the_last() {
        let of = |dir: &str| mount_of(Path::new(dir), MOUNTS).map(|mount| (mount.device, mount.kind));
        let is = |device: &str, kind: &str| Some((device.to_owned(), kind.to_owned()));
        assert_eq!(of("/var/lib"), is("254:0", "ext4"));
        assert_eq!(of("/tmp"), is("0:31", "tmpfs"));
        assert_eq!(of("/temporary"), is("254:0", "ext4"));
        assert_eq!(of("/home/me"), is("8:33", "ext4"));
        assert_eq!(of("/home/me/my data/x"), is("0:50", "nfs4"));
        assert_eq!(mount_of(Path::new("/"), ""), None);
        assert_eq!(unescaped(r"a\134b\0"), Path::new(r"a\b\0"));
    }

    #[test]
    fn the_smaller_limit_counts_and_none_is_none() {
        let gib = (1 << 30) / BLOCK;
        assert_eq!(room(Some(0), Some(0), BLOCK, Some(5)), None);
        let of = |limit, left| Some(Room { limit, left });
        assert_eq!(room(Some(20 * gib), Some(25 * gib), BLOCK, Some(19 << 30)), of(20 << 30, 1 << 30));
        assert_eq!(room(Some(0), Some(25 * gib), BLOCK, Some(30 << 30)), of(25 << 30, 0));
        assert_eq!(room(None, Some(u64::MAX), BLOCK, None), of(u64::MAX, u64::MAX));
        assert_eq!(Bound::of("your".to_owned(), &Dqblk::default()), None);
    }

    #[test]
    fn a_bound_is_called_by_its_owner_and_size() {
        let bytes = Some(Room { limit: 20_000_000_000, left: 5 });
        let bound = Bound { whose: "your".to_owned(), bytes, files: None };
        assert_eq!(bound.name(), "your quota of 20.0 GB");
        assert_eq!(Bound { bytes: None, ..bound }.name(), "your quota");
    }

    /// Whatever the machine is, nothing that is not there is told: a directory of a test has no quota.
    #[test]
    fn a_directory_of_this_machine_can_be_asked_about() {
        let dir = tempfile::tempdir().unwrap();
        let quota = look(dir.path());
        assert!(quota.bounds.iter().all(|bound| bound.bytes.is_some() || bound.files.is_some()), "{quota:?}");
        assert_eq!(look(Path::new("/proc/self")), Quota::default());
        assert_eq!(look(&dir.path().join("nowhere")), Quota::default());
    }
}
