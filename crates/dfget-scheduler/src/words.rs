//! From the messages of the wire to the words of the core, and back.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use dfget_core::{Authority, piece_count, piece_length, unit_length};
use dfget_proto::messages::common::v2::{Download, Host, Network, Peer};
use dfget_proto::messages::scheduler::v2::announce_peer_response::Response;
use dfget_proto::messages::scheduler::v2::{
    AnnouncePeerResponse, EmptyTaskResponse, MetadataOnlyResponse, NeedBackToSourceResponse,
    NormalTaskResponse, PieceRange, SwarmOrder, SwarmPeer,
};
use dfget_swarm::{HostInfo, Parent, Pieces, Report, SwarmKey};
use tonic::Status;

use crate::limits;

/// What the peer of a good register message is.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) key: SwarmKey,
    pub(crate) total: Option<u64>,
    pub(crate) have: Option<Pieces>,
    pub(crate) private: bool,
    /// It takes nothing without proof.
    pub(crate) wants_proof: bool,
}

/// Reads the announcement of a host.
pub(crate) fn host_info(host: &Host, keyed: bool) -> Result<HostInfo, Status> {
    let ip: IpAddr = host.ip.parse().map_err(|_| invalid("host.ip", "is no IP address"))?;
    let port = port(host.port).ok_or_else(|| invalid("host.port", "must be 1024 to 65534"))?;
    if host.download_port != 0 {
        self::port(host.download_port)
            .ok_or_else(|| invalid("host.download_port", "must be 1024 to 65534"))?;
    }
    name("host.id", &host.id)?;
    name("host.hostname", &host.hostname)?;
    if host.r#type > 3 {
        return Err(invalid("host.type", "must be 0 to 3"));
    }
    let network = host.network.as_ref();
    let place = |text: Option<&String>| text.filter(|text| text.len() <= limits::NAME).cloned();
    let percent = host.memory.as_ref().map(|memory| [memory.used_percent, memory.process_used_percent]);
    if percent.is_some_and(|both| both.iter().any(|percent| !(0.0..=100.0).contains(percent))) {
        return Err(invalid("host.memory.used_percent", "must be 0 to 100"));
    }
    Ok(HostInfo {
        id: host.id.as_str().into(),
        hostname: host.hostname.clone(),
        ip,
        port,
        idc: place(network.and_then(|network| network.idc.as_ref())).unwrap_or_default(),
        location: place(network.and_then(|network| network.location.as_ref())).unwrap_or_default(),
        uplink: network.map_or(0, |network| network.max_tx_bandwidth / 8),
        keyed,
        disable_shared: host.disable_shared,
    })
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| (1024..=65534).contains(port))
}

/// Refuses an id that is empty or too long.
pub(crate) fn name(field: &str, text: &str) -> Result<(), Status> {
    match text.len() {
        0 => Err(invalid(field, "is empty")),
        1..=limits::NAME => Ok(()),
        _ => Err(invalid(field, "is too long")),
    }
}

/// Reads the id of a task: 64 hex digits, lower case.
pub(crate) fn task(text: &str) -> Result<Arc<str>, Status> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 64 && text.bytes().all(digit) {
        Ok(text.into())
    } else {
        Err(invalid("task_id", "is not 64 hex digits"))
    }
}

/// Reads a register message.
pub(crate) fn wanted(id: &str, download: &Download, swarm: Option<&SwarmPeer>) -> Result<Wanted, Status> {
    let task = task(id)?;
    let mut authority = origin_of(&download.url)?;
    let told = swarm.map(|swarm| swarm.total).filter(|&total| total != 0);
    let total = match (download.actual_content_length, told) {
        (Some(one), Some(other)) if one != other => {
            return Err(invalid("swarm.total", "is not download.actual_content_length"));
        }
        (one, other) => one.or(other),
    };
    let total = total.map(checked_total).transpose()?;
    if let Some(length) = download.piece_length.or(download.actual_piece_length) {
        if !(dfget_core::MIN_PIECE_LENGTH..=dfget_core::MAX_PIECE_LENGTH).contains(&length) {
            return Err(invalid("download.piece_length", "must be 4 MiB to 64 MiB"));
        }
        if total.is_none_or(|total| piece_length(total) != length) {
            // Pieces of another length cannot be mixed with ours: these peers keep to themselves.
            authority = format!("{authority} {length}");
        }
    }
    Ok(Wanted {
        key: SwarmKey { task, authority: authority.into() },
        total,
        have: swarm.map(|swarm| pieces(&swarm.have, total)),
        private: swarm.map_or_else(|| has_credential(download), |swarm| swarm.private),
        wants_proof: swarm.is_some_and(|swarm| swarm.wants_proof),
    })
}

fn has_credential(download: &Download) -> bool {
    let secret =
        |name: &String| ["authorization", "cookie"].iter().any(|known| name.eq_ignore_ascii_case(known));
    download.request_header.keys().any(secret)
}

/// `scheme://host[:port]` of a URL, in its one form.
pub(crate) fn origin_of(url: &str) -> Result<String, Status> {
    let bad = || invalid("download.url", "is no absolute URL with a host");
    let url = url::Url::parse(url).map_err(|_| bad())?;
    if let Some(authority) = Authority::of_url(&url) {
        return Ok(authority.to_string());
    }
    let host = url.host_str().filter(|host| !host.is_empty() && host.len() <= 253).ok_or_else(bad)?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{}{port}", url.scheme(), host.to_ascii_lowercase()))
}

/// A length that a content may have.
pub(crate) fn checked_total(total: u64) -> Result<u64, Status> {
    if total <= limits::CONTENT { Ok(total) } else { Err(invalid("total", "is more than 16 TiB")) }
}

/// How many pieces a content of `total` bytes has; `total` is checked.
pub(crate) fn count(total: u64) -> u32 {
    u32::try_from(piece_count(total, piece_length(total))).unwrap_or(u32::MAX)
}

/// What a peer that takes orders has, in units.
fn pieces(have: &[u8], total: Option<u64>) -> Pieces {
    let units = |total| u32::try_from(piece_count(total, unit_length(total))).unwrap_or(u32::MAX);
    Pieces::from_bytes(have, total.map_or(0, units))
}

/// Reads what a peer that takes orders tells; `total` is what it has told before.
pub(crate) fn progress(swarm: SwarmPeer, total: Option<u64>) -> Result<Report, Status> {
    let told = Some(swarm.total).filter(|&total| total != 0).map(checked_total).transpose()?;
    if let (Some(one), Some(other)) = (told, total)
        && one != other
    {
        return Err(invalid("swarm.total", "has changed"));
    }
    let total = told.or(total);
    Ok(Report::Progress {
        have: pieces(&swarm.have, total),
        total,
        whole_only: swarm.whole_only,
        no_origin: swarm.no_origin,
        wants_proof: swarm.wants_proof,
        wrong_hosts: names(swarm.wrong_hosts),
        lost_hosts: names(swarm.lost_hosts),
    })
}

/// Names of a list, as many as are taken notice of.
pub(crate) fn names(list: Vec<String>) -> Vec<Arc<str>> {
    let good = list.into_iter().filter(|text| !text.is_empty() && text.len() <= limits::NAME);
    good.take(limits::NAMES).map(Arc::from).collect()
}

/// The answer that names parents.
pub(crate) fn parents_response(
    parents: &[Parent],
    origin: Option<&[Range<u32>]>,
    total: Option<u64>,
) -> AnnouncePeerResponse {
    let normal = NormalTaskResponse { candidate_parents: parents.iter().map(peer_message).collect() };
    AnnouncePeerResponse {
        response: Some(Response::NormalTaskResponse(normal)),
        swarm: origin.map(|origin| SwarmOrder {
            origin: origin.iter().map(piece_range).collect(),
            total: total.unwrap_or(0),
            plain_hosts: plain_hosts(parents),
        }),
    }
}

/// The hosts among them that have not shown the cluster's key.
fn plain_hosts(parents: &[Parent]) -> Vec<String> {
    let plain = parents.iter().filter(|parent| !parent.host.keyed);
    plain.map(|parent| parent.host.id.as_ref().to_owned()).collect()
}

pub(crate) fn back_to_source(why: &str) -> AnnouncePeerResponse {
    let response = NeedBackToSourceResponse { description: Some(why.to_owned()) };
    plain(Response::NeedBackToSourceResponse(response))
}

pub(crate) const fn empty() -> AnnouncePeerResponse {
    plain(Response::EmptyTaskResponse(EmptyTaskResponse {}))
}

pub(crate) const fn metadata_only() -> AnnouncePeerResponse {
    plain(Response::MetadataOnlyResponse(MetadataOnlyResponse {}))
}

const fn plain(response: Response) -> AnnouncePeerResponse {
    AnnouncePeerResponse { response: Some(response), swarm: None }
}

fn piece_range(range: &Range<u32>) -> PieceRange {
    PieceRange { first: range.start, end: if range.end == u32::MAX { 0 } else { range.end } }
}

fn peer_message(parent: &Parent) -> Peer {
    let state = if parent.complete { COMPLETE } else { "Running" };
    Peer {
        id: parent.peer.as_ref().to_owned(),
        state: state.to_owned(),
        host: Some(host_message(&parent.host)),
        ..Peer::default()
    }
}

fn host_message(host: &HostInfo) -> Host {
    Host {
        id: host.id.as_ref().to_owned(),
        hostname: host.hostname.clone(),
        ip: host.ip.to_string(),
        port: i32::from(host.port),
        download_port: i32::from(host.port),
        network: Some(Network {
            location: Some(host.location.clone()).filter(|text| !text.is_empty()),
            idc: Some(host.idc.clone()).filter(|text| !text.is_empty()),
            max_tx_bandwidth: host.uplink.saturating_mul(8),
            ..Network::default()
        }),
        ..Host::default()
    }
}

/// Reads a candidate parent; `None` if there is no way to ask it. `plain`: the hosts that have not shown
/// the cluster's key.
pub(crate) fn parent(peer: &Peer, plain: &[String]) -> Option<Parent> {
    let host = peer.host.as_ref()?;
    if peer.id.is_empty() || peer.id.len() > limits::NAME {
        return None;
    }
    let info = host_info(host, !plain.contains(&host.id)).ok()?;
    Some(Parent { peer: peer.id.as_str().into(), host: Arc::new(info), complete: peer.state == COMPLETE })
}

/// The same of a scheduler that knows of no key: whoever it names is spoken to in clear.
pub(crate) fn plain_parent(peer: &Peer) -> Option<Parent> {
    let host = peer.host.as_ref()?;
    parent(peer, std::slice::from_ref(&host.id))
}

/// Reads the ranges of an order.
pub(crate) fn origin_ranges(origin: &[PieceRange]) -> Vec<Range<u32>> {
    let ranges = origin.iter().map(|range| range.first..if range.end == 0 { u32::MAX } else { range.end });
    ranges.filter(|range| range.start < range.end).collect()
}

/// An error about a field.
pub(crate) fn invalid(field: &str, what: &str) -> Status {
    Status::invalid_argument(format!("{field} {what}"))
}

/// The state of a peer that has all (Dragonfly scheduler: `PeerStateSucceeded`).
const COMPLETE: &str = "Succeeded";

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            id: "10.0.0.1-n1".to_owned(),
            hostname: "n1".to_owned(),
            ip: "10.0.0.1".to_owned(),
            port: 65000,
            ..Host::default()
        }
    }

    fn download(url: &str) -> Download {
        Download { url: url.to_owned(), ..Download::default() }
    }

    #[test]
    fn a_host_that_cannot_be_asked_is_refused_by_the_name_of_the_field() {
        assert!(host_info(&host(), true).is_ok());
        type Spoil = fn(&mut Host);
        let cases: [(&str, Spoil); 5] = [
            ("host.port", |host| host.port = 80),
            ("host.port", |host| host.port = 65_535),
            ("host.ip", |host| host.ip = "nope".to_owned()),
            ("host.hostname", |host| host.hostname.clear()),
            ("host.id", |host| host.id = "x".repeat(1000)),
        ];
        for (field, spoil) in cases {
            let mut bad = host();
            spoil(&mut bad);
            let error = host_info(&bad, true).expect_err(field);
            assert!(error.message().starts_with(field), "{error}");
        }
    }

    #[test]
    fn the_swarm_is_the_task_and_the_authority_and_no_path_or_password() {
        let id = "a".repeat(64);
        let key =
            |url: &str| wanted(&id, &download(url), None).map(|wanted| wanted.key.authority.to_string());
        assert_eq!(key("https://Registry.test:443/v2/a?token=x").expect("a key"), "https://registry.test");
        assert_eq!(key("http://u:p@r.test:5000/x").expect("a key"), "http://r.test:5000");
        assert_eq!(key("s3://Bucket/x").expect("a key"), "s3://bucket");
        for bad in ["/relative", "data.sif", "mailto:x", ""] {
            assert!(key(bad).is_err(), "{bad}");
        }
        for bad in ["", "A", &"g".repeat(64), &"A".repeat(64), &"a".repeat(128)] {
            assert!(wanted(bad, &download("https://r.test/"), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_map_of_pieces_is_no_longer_than_the_content() {
        let swarm = SwarmPeer { have: vec![0xff; 1 << 20], total: 5 << 20, ..SwarmPeer::default() };
        let wanted = wanted(&"a".repeat(64), &download("https://r.test/"), Some(&swarm)).expect("good");
        assert_eq!(wanted.have, Some(Pieces::all(10)));
        let huge = SwarmPeer { total: u64::MAX, ..SwarmPeer::default() };
        assert!(progress(huge, None).is_err());
        let changed = SwarmPeer { total: 4, ..SwarmPeer::default() };
        assert!(progress(changed, Some(5)).is_err());
    }

    #[test]
    fn parents_come_back_as_they_were_sent() {
        for keyed in [true, false] {
            let info =
                HostInfo { uplink: 1000, idc: "a".to_owned(), ..host_info(&host(), keyed).expect("a host") };
            let sent = [Parent { peer: "p".into(), host: Arc::new(info), complete: true }];
            let swarm = parents_response(&sent, Some(&[]), None).swarm.expect("it is for our own");
            assert_eq!(swarm.plain_hosts.len(), usize::from(!keyed));
            assert_eq!(parent(&peer_message(&sent[0]), &swarm.plain_hosts).as_slice(), sent);
        }
        let ranges = [piece_range(&(1..4)), piece_range(&(5..u32::MAX)), PieceRange { first: 9, end: 3 }];
        assert_eq!(origin_ranges(&ranges), [1..4, 5..u32::MAX]);
    }
}
