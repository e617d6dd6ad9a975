//! Keys to types: a Dragonfly cluster to join.

use std::time::Duration;

use super::Context;
use crate::{
    Cluster, Code, LoadOptions, Scheduler,
    read::{Expected, Field, Section},
    report::{Report, Subject},
    scalar,
};

const ADDRESS: Expected = Expected { what: "a host and a port", example: "scheduler.example.com:8002" };
const INTERVAL: Expected = Expected { what: "a duration from 1s to 1h", example: "1m" };
/// Of a host name (RFC 1035 section 2.3.4).
const MOST_CHARACTERS: usize = 253;
/// As much of a flag is repeated.
const SHOWN_CHARS: usize = 60;

/// `scheduler` and `announcer`, and the flags that stand above them. With a flag the file's cluster of the other kind
/// counts for nothing; the file itself may name only one.
pub(crate) fn scheduler(
    daemon: &Section<'_>,
    cluster: &mut Cluster,
    options: &LoadOptions,
    context: &mut Context<'_>,
) -> Scheduler {
    let section = daemon.section(context.report, "scheduler");
    let report = &mut *context.report;
    let interval = announce_interval(&daemon.section(report, "announcer"), report);
    let mut scheduler = Scheduler { addresses: addresses(&section, report), announce_interval: interval };
    match (&options.scheduler, &options.cluster) {
        (Some(flag), _) => {
            scheduler.addresses = of_flag(flag, report).into_iter().collect();
            (cluster.members, cluster.members_file, cluster.dns) = (Vec::new(), None, None);
        }
        (None, Some(_)) => scheduler.addresses.clear(),
        (None, None) => {}
    }
    if cluster.is_wanted() && !scheduler.addresses.is_empty() {
        let subject = section.get("netAddrs").map(Field::key).unwrap_or_default();
        report.error(
            subject,
            Code::BadValue,
            "a daemon is in one cluster, and `cluster` names the members of another",
            "remove `scheduler.netAddrs`, or `cluster.members`, `cluster.membersFile` and `cluster.dns`",
        );
    }
    scheduler
}

fn announce_interval(section: &Section<'_>, report: &mut Report) -> Duration {
    let default = Scheduler::default().announce_interval;
    let Some(field) = section.get("schedulerInterval").filter(|field| !field.is_empty()) else {
        return default;
    };
    let Some(interval) = field.parse(report, INTERVAL, scalar::duration) else { return default };
    if (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&interval) {
        return interval;
    }
    field.bad_value(report, INTERVAL, "out of range");
    default
}

fn addresses(section: &Section<'_>, report: &mut Report) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for item in section.items(report, "netAddrs") {
        let Some(entry) = item.section(report) else { continue };
        if let Some(kind) = entry.text(report, "type", "tcp")
            && kind != "tcp"
            && let Some(field) = entry.get("type")
        {
            field.bad_value(report, Expected { what: "`tcp`", example: "tcp" }, "there is no other kind");
        }
        match entry.get("addr").filter(|field| !field.is_empty()) {
            Some(field) => found.extend(address(field, report)),
            None => report.error(
                item.value(),
                Code::BadValue,
                "a scheduler has no address",
                format!("write `addr: {}`", ADDRESS.example),
            ),
        }
    }
    found.dedup();
    found
}

fn address(field: &Field<'_>, report: &mut Report) -> Option<(String, u16)> {
    let address = split(field.text(report, ADDRESS)?);
    if address.is_none() {
        field.bad_value(report, ADDRESS, "it is no host with a port");
    }
    address
}

fn of_flag(text: &str, report: &mut Report) -> Option<(String, u16)> {
    let address = split(text);
    if address.is_none() {
        let subject = Subject { key: Some("--scheduler".to_owned()), ..Subject::default() };
        let shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        let problem = format!("it is no host with a port (got `{shown}`)");
        let remedy = format!("write {}, for example `--scheduler {}`", ADDRESS.what, ADDRESS.example);
        report.error(subject, Code::BadValue, problem, remedy);
    }
    address
}

/// `host:port`; an address of IPv6 stands in brackets.
fn split(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let ip: std::net::Ipv6Addr = inner.parse().ok()?;
        return Some((ip.to_string(), port));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let good = !host.is_empty() && host.len() <= MOST_CHARACTERS && host.chars().all(plain);
    good.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let good = [
            ("Scheduler.example.com:8002", ("scheduler.example.com", 8002)),
            ("10.0.0.1:8002", ("10.0.0.1", 8002)),
            ("[2001:db8::1]:8002", ("2001:db8::1", 8002)),
        ];
        for (text, (host, port)) in good {
            assert_eq!(split(text), Some((host.to_owned(), port)), "{text}");
        }
        for bad in
            ["", "host", "host:", ":8002", "host:0", "host:70000", "2001:db8::1:8002", "http://h:1", "a b:1"]
        {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
