//! Everything of a cluster that is there before its ports open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::door::{Dialer, Door};
use crate::identity::{Identity, IdentityError};
use crate::key_file::{KeyFileError, read_key, read_or_make_key};
use crate::local::{cluster_hostname, local_addresses, port_of_job, system_hostname};
use crate::members::{Itself, Members};
use crate::sources::{MemberControl, MemberWatch, Sources};

/// What the configuration says about the cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Who the members are.
    pub sources: Sources,
    /// Where the key lies.
    pub key_file: PathBuf,
    /// Whether a missing key is made: of a plain user, in the home directory.
    pub make_key: bool,
    /// Whether peers without a key may come in.
    pub allow_plaintext: bool,
    /// `host.hostname`; else the system's name.
    pub hostname: Option<String>,
    /// `host.advertiseIP`.
    pub advertise: Option<IpAddr>,
    /// The job of Slurm that this daemon belongs to.
    pub job: Option<u64>,
    /// Other names of this node, such as Slurm's (`SLURMD_NODENAME`).
    pub aliases: Vec<String>,
    /// Where the gRPC port opens.
    pub grpc: Bind,
    /// Where the piece port opens.
    pub pieces: Bind,
}

/// Where a port opens, as far as somebody has said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bind {
    /// The address; else all.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
}

/// Why the ports stay closed. The daemon works on, alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// There is no key to use.
    #[error("the ports for other nodes stay closed: {0}")]
    Key(#[from] KeyFileError),
    /// The key is of no use.
    #[error("the ports for other nodes stay closed: {0}")]
    Identity(#[from] IdentityError),
    /// The piece port would be beyond the last one.
    #[error(
        "the ports for other nodes stay closed: port {0} leaves no room for the piece port, two above: set a lower cluster.port"
    )]
    Port(u16),
}

/// What this node is in the cluster, and what its ports need.
#[derive(Debug)]
pub struct ClusterSetup {
    /// Its name in the cluster.
    pub hostname: String,
    /// The address at which others reach it.
    pub ip: IpAddr,
    /// `<ip>-<hostname>`.
    pub host_id: String,
    /// Where the gRPC port opens.
    pub grpc: SocketAddr,
    /// Where the piece port opens.
    pub pieces: SocketAddr,
    /// Lets other nodes in.
    pub door: Door,
    /// Goes to other nodes.
    pub dialer: Dialer,
    /// The members now and from now on.
    pub members: watch::Receiver<Arc<Members>>,
    /// Has the members read again.
    pub control: MemberControl,
    /// To be run, or the members stay as they are.
    pub watch: MemberWatch,
    /// Tells this key from others, in the log of two nodes that do not meet.
    pub key_fingerprint: String,
}

// === impl ClusterOptions ===

impl ClusterOptions {
    /// The gRPC port and the piece port: as they are set, else those of the job, else Dragonfly's.
    ///
    /// # Errors
    /// [`ClusterError::Port`].
    pub fn ports(&self) -> Result<(u16, u16), ClusterError> {
        let grpc = self.grpc.port.or_else(|| self.job.map(port_of_job)).unwrap_or(GRPC_PORT);
        let pieces = self.pieces.port.or_else(|| grpc.checked_add(TO_PIECES));
        Ok((grpc, pieces.ok_or(ClusterError::Port(grpc))?))
    }
}

// === impl ClusterSetup ===

impl ClusterSetup {
    /// Reads the key and the members, and finds out who this node is. Opens no port.
    ///
    /// # Errors
    /// [`ClusterError`]: the ports must stay closed, and why.
    pub async fn prepare(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let (grpc, pieces) = options.ports()?;
        let path = &options.key_file;
        let key = if options.make_key { read_or_make_key(path)? } else { read_key(path)? };

        let system = system_hostname();
        let own = options.hostname.clone().unwrap_or_else(|| system.clone()).to_ascii_lowercase();
        let addresses = local_addresses();
        let mut hostnames = vec![own.clone(), system];
        hostnames.extend(options.aliases.iter().map(|alias| alias.to_ascii_lowercase()));
        hostnames.dedup();
        let reachable = addresses.iter().copied().chain(options.advertise).collect();
        let itself = Itself { hostnames: hostnames.clone(), addresses: reachable, port: grpc };
        let (watch, control, members) = MemberWatch::start(options.sources.clone(), itself).await;

        let now = Arc::clone(&members.borrow());
        let listed = listed_address(&now, &addresses).await;
        let ip = options.advertise.or(listed).unwrap_or_else(|| first_address(&addresses));
        let hostname = cluster_hostname(&own, options.job);
        hostnames.push(hostname.clone());
        let names = certificate_names(&hostnames, &addresses, ip);
        let identity = Identity::from_key(&key, &names)?;
        let any: IpAddr =
            if ip.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Ok(Self {
            host_id: dfget_proto::host_id(ip, &hostname),
            hostname,
            ip,
            grpc: SocketAddr::new(options.grpc.ip.unwrap_or(any), grpc),
            pieces: SocketAddr::new(options.pieces.ip.unwrap_or(any), pieces),
            door: Door { tls: Some(identity.server()), plain: options.allow_plaintext },
            dialer: Dialer { tls: Some(identity.client()) },
            members,
            control,
            watch,
            key_fingerprint: key.fingerprint(),
        })
    }
}

/// The address of ours that the list of members names; loopback only where it is written there.
async fn listed_address(members: &Members, ours: &[IpAddr]) -> Option<IpAddr> {
    let me = members.me()?;
    let written = me.parse::<SocketAddr>().ok().map(|address| address.ip());
    let resolved = members.resolve(me).await.unwrap_or_default();
    let is_meant = |ip: &IpAddr| ours.contains(ip) && (!ip.is_loopback() || Some(*ip) == written);
    resolved.iter().map(|address| address.ip().to_canonical()).find(is_meant)
}

/// The first that others may reach, of IPv4 if there is one.
pub(crate) fn first_address(ours: &[IpAddr]) -> IpAddr {
    let outside = || ours.iter().copied().filter(|ip| !ip.is_loopback());
    let first = outside().find(IpAddr::is_ipv4).or_else(|| outside().next());
    first.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// What a certificate of this node names. A name that no certificate can hold is left out: nodes are
/// dialled by address.
fn certificate_names(hostnames: &[String], addresses: &[IpAddr], ip: IpAddr) -> Vec<String> {
    let is_plain = |name: &&String| {
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        !name.is_empty() && name.chars().all(of_name)
    };
    let mut names: Vec<String> = hostnames.iter().filter(is_plain).cloned().collect();
    names.extend(addresses.iter().chain([&ip]).map(ToString::to_string));
    names.sort_unstable();
    names.dedup();
    names
}

/// Dragonfly's port for gRPC.
const GRPC_PORT: u16 = 65_000;
/// The piece port is so far above it.
const TO_PIECES: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &str) -> (tempfile::TempDir, ClusterOptions) {
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("cluster.key");
        let sources = Sources { hostlists: vec![list.to_owned()], ..Sources::default() };
        (directory, ClusterOptions { sources, key_file, make_key: true, ..ClusterOptions::default() })
    }

    #[test]
    fn ports_are_those_that_are_set_else_the_jobs_else_dragonflys() {
        let (_directory, mut options) = options("n1");
        assert_eq!(options.ports().unwrap(), (65_000, 65_002));
        options.job = Some(7);
        assert_eq!(options.ports().unwrap(), (20_028, 20_030));
        options.grpc.port = Some(4000);
        assert_eq!(options.ports().unwrap(), (4000, 4002));
        options.pieces.port = Some(9);
        assert_eq!(options.ports().unwrap(), (4000, 9));
        (options.grpc.port, options.pieces.port) = (Some(65_534), None);
        assert!(options.ports().unwrap_err().to_string().contains("set a lower cluster.port"));
    }

    #[tokio::test]
    async fn nodes_of_one_key_file_meet_by_what_their_setups_say() {
        let (_directory, mut options) = options("127.0.0.1,127.0.0.1:18012");
        options.grpc.port = Some(18_002);
        let one = ClusterSetup::prepare(&options).await.unwrap();
        options.grpc.port = Some(18_012);
        options.job = Some(7);
        let two = ClusterSetup::prepare(&options).await.unwrap();
        assert_eq!(two.members.borrow().me(), Some("127.0.0.1:18012"));
        assert_eq!((one.ip, two.ip), (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()));
        assert_eq!(two.hostname, format!("{}-job7", one.hostname));
        assert_eq!(two.host_id, format!("127.0.0.1-{}", two.hostname));
        assert_eq!(
            (one.grpc.to_string(), two.pieces.to_string()),
            ("0.0.0.0:18002".into(), "0.0.0.0:18014".into())
        );
        assert_eq!(one.key_fingerprint, two.key_fingerprint);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let admit = async { one.door.admit(listener.accept().await.unwrap().0).await.unwrap() };
        let (admitted, dialled) = tokio::join!(admit, two.dialer.dial(to, std::time::Duration::from_secs(9)));
        assert!(admitted.is_keyed() && dialled.unwrap().is_keyed());
    }

    #[tokio::test]
    async fn without_a_key_the_ports_stay_closed_and_it_is_said_what_to_do() {
        let (_directory, mut options) = options("n1");
        options.make_key = false;
        let error = ClusterSetup::prepare(&options).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the ports for other nodes stay closed: there is no cluster key at "),
            "{error}"
        );
        assert!(error.contains("dfget cluster key > FILE"), "{error}");
    }

    #[test]
    fn the_first_address_is_one_that_others_reach() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(
            first_address(&ips(&["127.0.0.1", "::1", "2001:db8::1", "10.0.0.1"])),
            ips(&["10.0.0.1"])[0]
        );
        assert_eq!(first_address(&ips(&["::1", "2001:db8::1"])), ips(&["2001:db8::1"])[0]);
        assert_eq!(first_address(&[]), ips(&["127.0.0.1"])[0]);
        let names = certificate_names(
            &["a_b".into(), "k\u{f6}".into(), "(none)".into()],
            &ips(&["::1"]),
            ips(&["10.0.0.1"])[0],
        );
        assert_eq!(names, ["10.0.0.1", "::1", "a_b"]);
    }
}
