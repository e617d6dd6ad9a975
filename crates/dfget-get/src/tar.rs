//! Headers of a tar archive of plain files (POSIX ustar; sizes past 8 GiB as GNU tar has them).

/// A tar archive consists of blocks of this length.
pub(crate) const BLOCK: u64 = 512;

/// What stands before a file's bytes. The name must have 100 bytes at most.
pub(crate) fn header(name: &str, size: u64) -> Vec<u8> {
    entry(name, size, b"0000644\0", b"0")
}

/// A directory; its name ends in a slash. Not every program makes those that are missing.
pub(crate) fn directory(name: &str) -> Vec<u8> {
    entry(name, 0, b"0000755\0", b"5")
}

fn entry(name: &str, size: u64, mode: &[u8], kind: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    put(&mut header, 0, name.as_bytes());
    put(&mut header, 100, mode);
    put(&mut header, 108, b"0000000\0");
    put(&mut header, 116, b"0000000\0");
    if size < 1 << 33 {
        put(&mut header, 124, format!("{size:011o}\0").as_bytes());
    } else {
        put(&mut header, 124, &[0x80, 0, 0, 0]);
        put(&mut header, 128, &size.to_be_bytes());
    }
    // The same archive for the same image, whenever it is made.
    put(&mut header, 136, b"00000000000\0");
    put(&mut header, 148, b"        ");
    put(&mut header, 156, kind);
    put(&mut header, 257, b"ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Zeros after a file of this size, up to the next block.
pub(crate) fn padding(size: u64) -> Vec<u8> {
    let rest = usize::try_from(size % BLOCK).unwrap_or(0);
    if rest == 0 { Vec::new() } else { vec![0; 512 - rest] }
}

/// What ends an archive.
pub(crate) fn end() -> Vec<u8> {
    vec![0; 1024]
}

fn put(header: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = header.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_systems_tar_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("blobs/sha256/{}", "a".repeat(64));
        let archive = [
            directory("blobs/"),
            header("oci-layout", 3),
            b"abc".to_vec(),
            padding(3),
            header(&name, 512),
            vec![b'x'; 512],
            padding(512),
            end(),
        ];
        let file = dir.path().join("x.tar");
        std::fs::write(&file, archive.concat()).unwrap();
        let ended = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(dir.path()).output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        assert_eq!(std::fs::read(dir.path().join("oci-layout")).unwrap(), b"abc");
        assert_eq!(std::fs::read(dir.path().join(&name)).unwrap(), vec![b'x'; 512]);
    }

    #[test]
    fn a_size_past_eight_gibibytes_is_told_in_full() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.tar");
        std::fs::write(&file, header("big", 10 << 30)).unwrap();
        let ended = Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
        let listed = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(listed.contains("10737418240"), "{ended:?}");
    }
}
