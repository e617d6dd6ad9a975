//! Keys to types: the nodes that feed each other.

use std::path::{Path, PathBuf};

use dfget_core::{MOST_HOSTS, expand_hostlist};

use super::{Context, rate_limit};
use crate::{
    Cluster, Code, Host, LoadOptions, PeerListen, SharePrivate, Upload,
    places::Places,
    read::{Expected, Field, IP, Section},
    report::{Report, Subject},
    scalar,
    yaml::Data,
};

/// `cluster`, and the flags that stand above it.
pub(crate) fn cluster(
    daemon: &Section<'_>,
    places: &Places,
    options: &LoadOptions,
    context: &mut Context<'_>,
) -> Cluster {
    let section = daemon.section(context.report, "cluster");
    let directory = context.environment.working_directory.clone();
    let report = &mut *context.report;
    let path = |report: &mut Report, name: &str| {
        section.text(report, name, "/some/path").map(|text| directory.join(text))
    };
    let key_file = path(report, "keyFile");
    let mut cluster = Cluster {
        members: members(&section, report),
        members_file: path(report, "membersFile"),
        dns: dns(&section, report),
        make_key: is_made(key_file.as_deref(), places),
        key_file: key_file.or_else(|| places.cluster_key.clone()).unwrap_or_default(),
        port: port(&section, report),
        allow_plaintext_peers: section.boolean(report, "allowPlaintextPeers", false),
        share_private: share_private(&section, report),
    };
    if let Some(list) = &options.cluster {
        check_flag(list, report);
        (cluster.members, cluster.members_file, cluster.dns) = (vec![list.clone()], None, None);
    }
    cluster.port = options.cluster_port.or(cluster.port);
    cluster
}

/// `host`.
pub(super) fn host(section: &Section<'_>, report: &mut Report) -> Host {
    let text =
        |report: &mut Report, name: &str, example| section.text(report, name, example).map(str::to_owned);
    Host {
        idc: text(report, "idc", "hall-1").unwrap_or_default(),
        location: text(report, "location", "hall-1|rack-7").unwrap_or_default(),
        hostname: hostname(section, report),
        advertise_ip: ip(section, "advertiseIP", report),
    }
}

/// `upload`.
pub(super) fn upload(section: &Section<'_>, report: &mut Report) -> Upload {
    Upload {
        rate_limit: rate_limit(section, "rateLimit", report),
        listen: peer_listen(&section.section(report, "tcpListen"), report),
    }
}

/// `download.peerGRPC`.
pub(super) fn peer_grpc(download: &Section<'_>, report: &mut Report) -> PeerListen {
    let section = download.section(report, "peerGRPC");
    peer_listen(&section.section(report, "tcpListen"), report)
}

fn peer_listen(section: &Section<'_>, report: &mut Report) -> PeerListen {
    let ports = section.get("port").and_then(|field| field.ports(report));
    PeerListen {
        ip: ip(section, "listen", report),
        port: ports.map(|ports| ports.start).filter(|port| *port != 0),
    }
}

fn ip(section: &Section<'_>, name: &str, report: &mut Report) -> Option<std::net::IpAddr> {
    section.text(report, name, IP.example)?;
    section.get(name)?.parse(report, IP, scalar::ip)
}

/// A name that can stand in the ids of hosts and peers.
fn hostname(section: &Section<'_>, report: &mut Report) -> Option<String> {
    const NAME: Expected = Expected { what: "the name of this node", example: "node001" };
    let text = section.text(report, "hostname", NAME.example)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.len() <= MOST_CHARACTERS && text.chars().all(plain) {
        return Some(text.to_owned());
    }
    section.get("hostname")?.bad_value(report, NAME, "it is no name of a host");
    None
}

/// One hostlist, or a list of them.
fn members(section: &Section<'_>, report: &mut Report) -> Vec<String> {
    let Some(field) = section.get("members") else { return Vec::new() };
    let fields = match &field.node.data {
        Data::List(_) => field.items(report).unwrap_or_default(),
        _ => vec![field.clone()],
    };
    let lists: Vec<(String, usize)> = fields.iter().filter_map(|field| hostlist(field, report)).collect();
    let all = lists.iter().map(|(_, hosts)| hosts).sum::<usize>();
    if all > MOST_HOSTS {
        field.bad_value(report, LIST, format_args!("{all} members, and {MOST_HOSTS} are the most"));
    }
    lists.into_iter().map(|(list, _)| list).collect()
}

fn hostlist(field: &Field<'_>, report: &mut Report) -> Option<(String, usize)> {
    let text = field.text(report, LIST)?;
    if text.is_empty() {
        return None;
    }
    match expand_hostlist(text) {
        Ok(hosts) => Some((text.to_owned(), hosts.len())),
        Err(error) => {
            field.bad_value(report, LIST, error);
            None
        }
    }
}

fn check_flag(list: &str, report: &mut Report) {
    if let Err(error) = expand_hostlist(list) {
        let subject = Subject { key: Some("--cluster".to_owned()), ..Subject::default() };
        let shown: String = list.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        let problem = format!("{error} (got `{shown}`)");
        let remedy = "write a list of hosts, for example `--cluster 'node[001-128]'`";
        report.error(subject, Code::BadValue, problem, remedy);
    }
}

/// `name:port`.
fn dns(section: &Section<'_>, report: &mut Report) -> Option<(String, u16)> {
    const NAME: Expected = Expected { what: "a name and a port", example: "dfget.cluster.example:65000" };
    let text = section.text(report, "dns", NAME.example)?;
    let split = text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match split {
        Some((name, port))
            if port != 0 && !name.is_empty() && name.len() <= MOST_CHARACTERS && name.chars().all(plain) =>
        {
            Some((name.to_owned(), port))
        }
        _ => {
            section.get("dns")?.bad_value(report, NAME, "it is no name with a port");
            None
        }
    }
}

fn port(section: &Section<'_>, report: &mut Report) -> Option<u16> {
    let port = section.get("port")?.integer(report, 1, 65_533)?;
    u16::try_from(port).ok()
}

fn share_private(section: &Section<'_>, report: &mut Report) -> SharePrivate {
    const WHO: Expected = Expected { what: "`keyed`, `never` or `all`", example: "keyed" };
    match section.text(report, "sharePrivate", WHO.example) {
        None | Some("keyed") => SharePrivate::Keyed,
        Some("never") => SharePrivate::Never,
        Some("all") => {
            if let Some(field) = section.get("sharePrivate") {
                report.warn(
                    field.value(),
                    Code::Exposed,
                    "whoever reaches the ports of the cluster gets what users fetched with their credentials",
                    format!("write {} unless all of it may be seen by all", field.line(WHO.example)),
                );
            }
            SharePrivate::All
        }
        Some(_) => {
            if let Some(field) = section.get("sharePrivate") {
                field.bad_value(report, WHO, "there is no such choice");
            }
            SharePrivate::Never
        }
    }
}

/// Whether a missing key is made: where a plain user's lies, or below the same home directory.
fn is_made(named: Option<&Path>, places: &Places) -> bool {
    let home: Option<&PathBuf> = places.key_home.as_ref();
    home.is_some_and(|home| named.is_none_or(|path| path.starts_with(home)))
}

const LIST: Expected = Expected { what: "a list of hosts", example: "'node[001-128,200]'" };
/// Of a host name (RFC 1035 section 2.3.4).
const MOST_CHARACTERS: usize = 253;
/// As much of a flag is repeated.
const SHOWN_CHARS: usize = 60;
