//! Bounds that the system sets for processes of this user.

use rustix::process::{Resource, getrlimit};

use crate::finding::{Area, Finding, Verdict};

/// Enough for a daemon of a busy node: two for each connection, and one for each file.
const FILES: u64 = 4096;

pub(crate) fn findings() -> Vec<Finding> {
    judge(getrlimit(Resource::Nofile).maximum, getrlimit(Resource::Fsize).current)
}

/// `None` is no bound.
fn judge(files: Option<u64>, file_bytes: Option<u64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match files {
        Some(most) if most < FILES => Finding::new(
            Area::Limits,
            Verdict::Warning,
            format!("at most {most} files can be open at once (the hard limit of `ulimit -n`)"),
            "LimitNOFILE in the unit, or `nofile` in /etc/security/limits.conf",
        ),
        Some(most) => Finding::good(Area::Limits, format!("{most} files can be open at once")),
        None => Finding::good(Area::Limits, "any number of files can be open at once"),
    });
    if let Some(bytes) = file_bytes {
        findings.push(Finding::new(
            Area::Limits,
            Verdict::Warning,
            format!("no file can be larger than {} MiB (`ulimit -f`)", bytes >> 20),
            "`ulimit -f unlimited`; larger images are passed on and not kept",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_hurt_are_told() {
        let verdicts = |files, bytes| judge(files, bytes).iter().map(|one| one.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(None, None), [Verdict::Good]);
        assert_eq!(verdicts(Some(FILES), None), [Verdict::Good]);
        assert_eq!(verdicts(Some(1024), Some(1 << 30)), [Verdict::Warning, Verdict::Warning]);
    }
}
