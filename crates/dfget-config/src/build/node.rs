//! Keys to types: the files of this node.

use std::time::Duration;

use crate::{
    Code, LogFiles,
    read::{Expected, Field, MODE, Section},
    report::Report,
    scalar,
};

/// The longest wait that is meant in seconds.
const LONGEST_WAIT: f64 = 3600.0;

/// `logMaxSize`, `logMaxAge`, `logMaxBackups`; 0 days or files is no bound.
pub(super) fn log_files(section: &Section<'_>, report: &mut Report) -> LogFiles {
    let defaults = LogFiles::default();
    let mut number = |name: &str, min: i64, max: i64| {
        let value = section.get(name)?.integer(report, min, max)?;
        u64::try_from(value).ok()
    };
    LogFiles {
        max_bytes: number("logMaxSize", 1, 1 << 20).map_or(defaults.max_bytes, |mib| mib << 20),
        max_age: match number("logMaxAge", 0, 100_000) {
            Some(days) => (days > 0).then(|| Duration::from_secs(days * 24 * 60 * 60)),
            None => defaults.max_age,
        },
        max_backups: match number("logMaxBackups", 0, 1 << 20) {
            Some(files) => usize::try_from(files).ok().filter(|&files| files > 0),
            None => defaults.max_backups,
        },
    }
}

/// `dataDirMode`: its owner must be able to use it, and nobody else to change what is there.
pub(super) fn data_dir_mode(section: &Section<'_>, default: u32, report: &mut Report) -> u32 {
    let Some(field) = section.get("dataDirMode") else { return default };
    let Some(mode) = field.parse(report, MODE, scalar::mode) else { return default };
    if mode & 0o700 != 0o700 || mode & 0o022 != 0 {
        let expected = Expected { what: "a mode by which the owner alone may write there", ..MODE };
        field.bad_value(report, expected, "who can swap a file there decides what every pull gets");
        return default;
    }
    if mode != 0o700 {
        report.warn(
            field.value(),
            Code::Exposed,
            format!("others see the names of files in `dataDir`, not the blobs (got {})", field.shown()),
            format!("write {} unless they are meant to", field.line(MODE.example)),
        );
    }
    mode
}

/// `storage.strategy`: both names of 2.0.9, as its documentation printed them too.
pub(super) fn strategy(section: &Section<'_>, report: &mut Report) {
    const NAMES: Expected = Expected {
        what: "`io.d7y.storage.v2.simple` or `io.d7y.storage.v2.advance`",
        example: "io.d7y.storage.v2.simple",
    };
    let Some(field) = section.get("strategy") else { return };
    let Some(text) = field.text(report, NAMES) else { return };
    let name = text.strip_suffix('.').unwrap_or(text);
    match name {
        "" if text.is_empty() => {}
        "io.d7y.storage.v2.simple" | "io.d7y.storage.v2.advance" if name.len() < text.len() => report.warn(
            field.value(),
            Code::Suspicious,
            format!("a dot too many, taken for `{name}`"),
            format!("write {}", field.line(name)),
        ),
        "io.d7y.storage.v2.simple" | "io.d7y.storage.v2.advance" => {}
        _ => field.bad_value(report, NAMES, "there is no such layout of the store"),
    }
}

/// A wait in seconds, a fraction allowed.
pub(super) fn seconds(section: &Section<'_>, name: &str, report: &mut Report) -> Option<Duration> {
    const SECONDS: Expected = Expected { what: "seconds, from 0 to 3600", example: "0.5" };
    let field: &Field<'_> = section.get(name)?;
    let seconds = field.parse(report, SECONDS, scalar::number)?;
    if (0.0..=LONGEST_WAIT).contains(&seconds) {
        return Some(Duration::from_secs_f64(seconds));
    }
    field.bad_value(report, SECONDS, "no wait that is meant");
    None
}
