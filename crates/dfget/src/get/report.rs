//! How the end is told.

use std::time::Duration;

use dfget_core::decimal_size as size;
use dfget_get::{GetError, Report};
use dfget_run::Sources;
use serde_json::{Value, json};

/// The line at the end, for a terminal.
pub(crate) fn line(report: &Report, took: Duration) -> String {
    let name = report
        .output
        .as_ref()
        .map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    if report.unchanged {
        return format!("{name} was there already, and is right");
    }
    format!("{name}: {}", summary(report, took))
}

/// How much came, how fast, and from where.
pub(crate) fn summary(report: &Report, took: Duration) -> String {
    let fresh = report.sources.cache + report.sources.peers + report.sources.origin;
    let kept = if report.resumed > 0 {
        format!(", {} of them from the try before", size(report.resumed))
    } else {
        String::new()
    };
    let from = shares(report.sources).map_or_else(String::new, |shares| format!(", from {shares}"));
    let rate = rate(fresh, took).map_or_else(String::new, |rate| format!(" ({rate}/s)"));
    format!("{} in {}{rate}{kept}{from}", size(report.bytes), time(took))
}

/// Where bytes came from, in parts of a hundred; `None` where there were none.
pub(crate) fn shares(sources: Sources) -> Option<String> {
    let Sources { cache, peers, origin } = sources;
    let all = cache.saturating_add(peers).saturating_add(origin);
    let parts = [("this node's cache", cache), ("peers", peers), ("the origin", origin)];
    let there: Vec<_> = parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    match there.as_slice() {
        [] => None,
        [(name, _)] => Some((*name).to_owned()),
        several => {
            let percent = |bytes: u64| (u128::from(bytes) * 100).div_ceil(u128::from(all.max(1))).min(99);
            let several: Vec<_> =
                several.iter().map(|(name, bytes)| format!("{name} {} %", percent(*bytes))).collect();
            Some(several.join(", "))
        }
    }
}

/// The object at the end, for programs.
pub(crate) fn object(outcome: &Result<Report, GetError>, took: Duration) -> Value {
    match outcome {
        Ok(report) => json!({
            "version": 1,
            "ok": true,
            "output": report.output.as_ref().map(|path| path.display().to_string()),
            "bytes": report.bytes,
            "digest": report.digest.map(|digest| digest.to_string()),
            "unchanged": report.unchanged,
            "resumedBytes": report.resumed,
            "sources": {
                "cache": report.sources.cache,
                "peers": report.sources.peers,
                "origin": report.sources.origin,
            },
            "throughDaemon": !report.direct && !report.unchanged,
            "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }),
        Err(error) => failure(&error.to_string(), error.exit_code()),
    }
}

/// The object of a failure.
pub(crate) fn failure(error: &str, code: u8) -> Value {
    json!({ "version": 1, "ok": false, "error": error, "exitCode": code })
}

fn rate(bytes: u64, took: Duration) -> Option<String> {
    let a_second = (u128::from(bytes) * 1_000_000).checked_div(took.as_micros())?;
    (bytes > 0).then(|| size(u64::try_from(a_second).unwrap_or(u64::MAX)))
}

fn time(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(cache: u64, peers: u64, origin: u64) -> Sources {
        Sources { cache, peers, origin }
    }

    #[test]
    fn the_shares_name_those_that_gave_something() {
        assert_eq!(shares(from(0, 0, 0)), None);
        assert_eq!(shares(from(7, 0, 0)).as_deref(), Some("this node's cache"));
        assert_eq!(shares(from(0, 3, 1)).as_deref(), Some("peers 75 %, the origin 25 %"));
        assert_eq!(
            shares(from(1, 100_000, 1)).as_deref(),
            Some("this node's cache 1 %, peers 99 %, the origin 1 %")
        );
    }

    #[test]
    fn the_line_tells_what_came_of_it() {
        let report = Report {
            output: Some("x.sif".into()),
            bytes: 3_000_000,
            sources: from(0, 0, 2_000_000),
            ..Report::default()
        };
        assert_eq!(
            line(&report, Duration::from_secs(2)),
            "x.sif: 3.00 MB in 2.0 s (1.00 MB/s), from the origin"
        );
        let resumed = Report { resumed: 1_000_000, ..report.clone() };
        assert_eq!(
            line(&resumed, Duration::from_secs(90)),
            "x.sif: 3.00 MB in 1 min 30 s (22.2 kB/s), 1.00 MB of them from the try before, from the origin"
        );
        let unchanged = Report { unchanged: true, ..report };
        assert_eq!(line(&unchanged, Duration::ZERO), "x.sif was there already, and is right");
    }

    #[test]
    fn the_object_has_all_of_it() {
        let report =
            Report { output: Some("x".into()), bytes: 3, sources: from(1, 1, 1), ..Report::default() };
        let object = object(&Ok(report), Duration::from_millis(5));
        assert_eq!((&object["ok"], &object["sources"]["peers"]), (&json!(true), &json!(1)));
        assert_eq!((&object["throughDaemon"], &object["milliseconds"]), (&json!(true), &json!(5)));
        let failed = failure("no", 75);
        assert_eq!(failed, json!({"version": 1, "ok": false, "error": "no", "exitCode": 75}));
    }
}
