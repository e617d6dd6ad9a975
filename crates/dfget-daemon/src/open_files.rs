//! How many files may be open at once: every client, origin and stored blob is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Raises the soft limit of open files to the hard one, and says both.
///
/// A failure is told and refuses nothing: a small node does with few.
pub(crate) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("the limit of open files cannot be raised: {error}");
    }
    let now = getrlimit(Resource::Nofile).current;
    if now == before.current {
        info!("open files: at most {}", shown(now));
    } else {
        info!("open files: at most {}, raised from {}", shown(now), shown(before.current));
    }
    if let Some(remedy) = too_few(now) {
        warn!("{remedy}");
    }
}

/// What to do about a limit that a busy node reaches.
fn too_few(limit: Option<u64>) -> Option<String> {
    limit.filter(|limit| *limit < ADVISED).map(|limit| {
        format!(
            "at most {limit} files can be open at once, {ADVISED} or more are advised; raise the hard limit \
             (systemd: `LimitNOFILE=65536`, a shell: `ulimit -Hn 65536` as root)"
        )
    })
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string())
}

/// A thousand clients with a connection to an origin and a blob each, and some room.
const ADVISED: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_limit_is_worth_a_word() {
        assert_eq!(too_few(None), None);
        assert_eq!(too_few(Some(4096)), None);
        let text = too_few(Some(4095)).unwrap_or_default();
        assert!(text.starts_with("at most 4095 files") && text.contains("LimitNOFILE"), "{text}");
    }
}
