//! The command line of `dfget cache`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use dfget_core::{Decimal, unix_seconds};
use jiff::civil;
use jiff::tz::TimeZone;

use crate::arguments::Output;
use crate::values::age;

/// What is to be done with what is stored.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Say what is stored, from where, and when it was last used
    Ls(LsArguments),

    /// Say how much is stored, and of which registries
    Stat(StatArguments),

    /// Remove contents from the store
    Rm(RmArguments),

    /// Compare what is stored with its sha256, and drop what is rotten
    Verify(VerifyArguments),

    /// Make room: drop what was used least recently
    Gc(GcArguments),

    /// Pack contents into a bundle, for a site without network
    Export(ExportArguments),

    /// Store the contents of a bundle, each after its sha256 was checked
    Import(ImportArguments),
}

/// Which store is meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PlaceArguments {
    /// The store of this configuration [default: that of the daemon]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The store in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(crate) store: Option<PathBuf>,

    /// The store of the daemon whose admin.sock this is
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["config", "store"])]
    pub(crate) socket: Option<PathBuf>,
}

/// Which contents are meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WantedArguments {
    /// A digest (6 digits do), or HOST, HOST/REPOSITORY, HOST/REPOSITORY:TAG
    #[arg(value_name = "DIGEST|REFERENCE")]
    pub(crate) wanted: Vec<String>,

    /// Only what is of this registry (HOST or HOST:PORT)
    #[arg(long, value_name = "HOST")]
    pub(crate) registry: Option<String>,
}

/// Flags of `dfget cache ls`.
#[derive(Args, Debug)]
#[command(after_help = LS_EXAMPLES)]
pub(crate) struct LsArguments {
    #[command(flatten)]
    pub(crate) wanted: WantedArguments,

    /// Only what was not used for so long, such as 7d or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,

    /// Only what was stored since 2026-01-31, 2026-01-31T12:00, or 7d ago
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) since: Option<u64>,

    /// Only what is not whole: downloads under way or broken off
    #[arg(long)]
    pub(crate) partial: bool,

    /// What to order by: used, stored, size, uses or origin
    #[arg(long, value_enum, default_value_t = Sort::Used, hide_possible_values = true)]
    pub(crate) sort: Sort,

    /// Order it the other way round
    #[arg(long, short)]
    pub(crate) reverse: bool,

    /// Print so many at most
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<usize>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Sort {
    /// What was used last
    Used,
    /// What was stored last
    Stored,
    /// The largest
    Size,
    /// What was used most often
    Uses,
    /// By registry and repository
    Origin,
}

/// Flags of `dfget cache stat`.
#[derive(Args, Debug)]
#[command(after_help = STAT_EXAMPLES)]
pub(crate) struct StatArguments {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Flags of `dfget cache rm`.
#[derive(Args, Debug)]
#[command(after_help = RM_EXAMPLES)]
pub(crate) struct RmArguments {
    #[command(flatten)]
    pub(crate) wanted: WantedArguments,

    /// Only what was not used for so long, such as 7d or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,

    /// Remove everything
    #[arg(long, conflicts_with_all = ["wanted", "registry", "older_than"])]
    pub(crate) all: bool,

    /// Do not ask before
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Flags of `dfget cache verify`.
#[derive(Args, Debug)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) wanted: WantedArguments,

    /// Only say what is rotten, and leave it
    #[arg(long)]
    pub(crate) keep: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Flags of `dfget cache gc`.
#[derive(Args, Debug)]
#[command(after_help = GC_EXAMPLES)]
pub(crate) struct GcArguments {
    /// Drop until so much is left, such as 50GiB [default: as configured]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) to: Option<u64>,

    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Flags of `dfget cache export`.
#[derive(Args, Debug)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(crate) struct ExportArguments {
    /// The bundle; `-` for standard output
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) wanted: WantedArguments,

    /// Only what was stored since 2026-01-31, 2026-01-31T12:00, or 7d ago
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) since: Option<u64>,

    /// Replace what is there
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// Flags of `dfget cache import`.
#[derive(Args, Debug)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(crate) struct ImportArguments {
    /// The bundle; `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) place: PlaceArguments,
}

/// A day, a time of a day in local time, or an age; in seconds since 1970.
fn when(text: &str) -> Result<u64, String> {
    if let Ok(age) = age(text) {
        let then = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        return Ok(unix_seconds(then));
    }
    let wrong =
        || "write a day such as 2026-01-31, a time such as 2026-01-31T12:00, or an age such as 7d".to_owned();
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(instant.as_second()).map_err(|_| wrong());
    }
    let time: civil::DateTime = text.parse().map_err(|_| wrong())?;
    let zoned = time.to_zoned(TimeZone::system()).map_err(|_| wrong())?;
    u64::try_from(zoned.timestamp().as_second()).map_err(|_| wrong())
}

/// A number of bytes: `50GiB` or `50Gi` (powers of 1024), `50G` or `50GB` (of 1000), or a bare number.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and a unit, such as 50GiB or 500MB".to_owned();
    let (number, unit) = Decimal::take(text).ok_or_else(wrong)?;
    let unit = unit.trim().trim_end_matches(['B', 'b']);
    let (letter, base) = match unit.strip_suffix(['i', 'I']) {
        Some(letter) => (letter, 1024_u64),
        None => (unit, 1000),
    };
    let power = match letter.to_ascii_uppercase().as_str() {
        "" if base == 1000 => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return Err(wrong()),
    };
    number.times(base.pow(power)).and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(wrong)
}

const LS_EXAMPLES: &str = "\
Examples:
  dfget cache ls                      what was used last comes first
  dfget cache ls --sort size -n 10    the ten largest
  dfget cache ls registry.example.org/project
  dfget cache ls --older-than 30d --output json

HERE is how much of a content is here; USES is how often it was served from
here. Who asked is not kept.

Exit status: 0 printed, 75 neither daemon nor store can be asked now,
77 they are somebody else's, 78 the configuration cannot be used,
2 wrong command line, 1 anything else.";

const STAT_EXAMPLES: &str = "\
Examples:
  dfget cache stat
  dfget cache stat --output json

What was saved counts each use as the whole content; a content that two
registries have counts for both.

Exit status: as `dfget cache ls`.";

const RM_EXAMPLES: &str = "\
Examples:
  dfget cache rm 4f0c2a9b1d3e
  dfget cache rm registry.example.org/project/image
  dfget cache rm --registry registry.example.org --older-than 30d --yes

Whoever reads a content reads on; one that is being downloaded stays. It asks
before it removes; without a terminal, say --yes.

Exit status: 0 removed, 1 nothing is meant or not all is gone, 2 wrong command
line or no --yes, 75, 77 and 78 as `dfget cache ls`.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  dfget cache verify                  everything
  dfget cache verify registry.example.org/project --output json

It reads all bytes, at low priority; pulls go on meanwhile. What is rotten is
dropped, and the next client has it fetched again.

Exit status: 0 all is right, 1 something was rotten or could not be read,
2, 75, 77 and 78 as `dfget cache ls`.";

const GC_EXAMPLES: &str = "\
Examples:
  dfget cache gc                      what diskGCThreshold asks for, now
  dfget cache gc --to 50GiB --dry-run

The store's own rules choose: what was not used for taskExpireTime, then what
was used least recently. The image used last stays, as do running downloads;
`dfget cache rm` removes also that.

Exit status: 0 done, 1 more is left than was asked for, 2, 75, 77 and 78 as
`dfget cache ls`.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  dfget cache export bundle.tar       everything that has a sha256
  dfget cache export bundle.tar registry.example.org/project
  dfget cache export - --since 7d | ssh gate 'cat > delta.tar'

The bundle is an OCI image layout: oci-layout, index.json, blobs/sha256/. The
same contents make the same bytes. Whoever has it has the private ones too.

Exit status: 0 written, 1 nothing is meant or it cannot be written, 2, 75, 77
and 78 as `dfget cache ls`.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  dfget cache import bundle.tar
  ssh gate cat delta.tar | dfget cache import -

Each content is kept once its sha256 is right. A client gets it as any other:
after a registry has accepted its credential, and has proved to have the very
bytes. See docs/cache.md for sites without a registry.

Exit status: 0 all is stored, 1 the bundle is cut short, damaged or does not
fit (what was whole and right is stored), 2, 75, 77 and 78 as `dfget cache
ls`.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "7", "1K", "1KiB", "2Mi", "1.5GiB", "50GB", "3t"].map(|text| bytes(text).ok());
        let expected = [0, 7, 1000, 1024, 2 << 20, 3 << 29, 50_000_000_000, 3_000_000_000_000];
        assert_eq!(sizes, expected.map(Some));
        for wrong in ["", "G", "1X", "-1G", "1..5G", "99999999999P", "i", "1iB", "1e9"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_a_day_an_hour_or_an_age() {
        assert_eq!(when("2026-01-31T12:00Z"), Ok(1_769_860_800));
        let (day, noon) = (when("2026-01-31").unwrap(), when("2026-01-31T12:00").unwrap());
        assert_eq!(noon - day, 43_200);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((now - 3600 - 5..=now - 3600).contains(&when("1h").unwrap()));
        for wrong in ["", "yesterday", "2026-13-01", "1900-01-01", "31.1.2026"] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
    }
}
