//! `download`.

use super::cluster::{PEER_LISTEN, PEER_SECURITY};
use super::{Kind, LISTEN_PART, Opt, TLS_PART};

const NO_PEERS: &str = "this daemon works alone, nothing comes from peers";

const COUNT: Kind = Kind::Integer(0, i64::MAX);

/// Connections to origins, the same fields for each protocol.
const CLIENT: &[Opt] = &[
    Opt::full(
        "proxy",
        Kind::Secret,
        "",
        "proxy on the way to the origin, `http://[USER:PASSWORD@]HOST:PORT`; wins over `D7Y_SOURCE_PROXY`, and that over `HTTPS_PROXY` or `HTTP_PROXY`; `NO_PROXY` holds for all",
    ),
    Opt::full("dialTimeout", Kind::UnitDuration, "", "bound of a connect; 0 or absent = 10s"),
    Opt::full(
        "keepAlive",
        Kind::UnitDuration,
        "",
        "after so long without a byte a connection is probed; 0 or absent = 60s",
    ),
    Opt::full(
        "maxIdleConns",
        COUNT,
        "",
        "idle connections kept, to all origins; 0 or absent = 32 to each of them",
    ),
    Opt::full(
        "idleConnTimeout",
        Kind::UnitDuration,
        "",
        "how long an idle connection is kept; 0 or absent = 50s",
    ),
    Opt::full(
        "responseHeaderTimeout",
        Kind::UnitDuration,
        "",
        "bound of the wait for an answer's head; 0 or absent = twice `stallTimeout`",
    ),
    Opt::full("tlsHandshakeTimeout", Kind::UnitDuration, "", "bound of a TLS handshake; 0 or absent = 10s"),
    Opt::later(
        "expectContinueTimeout",
        Kind::UnitDuration,
        "bound of the wait for 100 Continue",
        "a body is sent on as it comes, without a wait for 100 Continue",
    ),
    Opt::full(
        "insecureSkipVerify",
        Kind::Boolean,
        "",
        "verify no certificate of an origin, but for `hosts` with `certs`; prefer `insecure` of one host",
    ),
];

const REDIRECTS: &[Opt] = &[
    Opt::full(
        "allow",
        Kind::List(&Kind::Text),
        "",
        "hosts, addresses and ranges that redirects may lead to although they are loopback, link-local or a metadata service",
    ),
    Opt::full("downgrade", Kind::Boolean, "false", "follow redirects from https to http"),
];

const CONCURRENT: &[Opt] = &[
    Opt::full("thresholdSize", Kind::Rate, "16Mi", "bytes still to come from which it is worth it"),
    Opt::full("thresholdSpeed", Kind::Bytes, "100Mi", "bytes a second below which one stream is slow"),
    Opt::full("goroutineCount", Kind::Integer(0, 64), "4", "ranges at once, at most; 1 or 0 = one stream"),
    Opt::full("initBackoff", Kind::Number, "0.2", "seconds before a broken download goes on, the first time"),
    Opt::full("maxBackoff", Kind::Number, "10", "the same after many tries, at most"),
    Opt::full(
        "maxAttempts",
        Kind::Integer(0, 1000),
        "8",
        "tries in a row that may bring no byte before a download fails; 0 or 1 = none is repeated",
    ),
];

const ORIGIN_BUDGET: &[Opt] = &[
    Opt::full("requests", Kind::Integer(0, 100_000), "0", "requests at most; 0 = as many as there are"),
    Opt::full("per", Kind::Duration, "1s", "in any stretch of this time, more than 0"),
];

const TRANSPORT: &[Opt] = &[
    Opt::part("dialTimeout", Kind::UnitDuration, "bound of a connect"),
    Opt::part("keepAlive", Kind::UnitDuration, "pause between two TCP keep-alives"),
    Opt::part("maxIdleConns", COUNT, "idle connections kept"),
    Opt::part("idleConnTimeout", Kind::UnitDuration, "how long an idle connection is kept"),
    Opt::part("responseHeaderTimeout", Kind::UnitDuration, "bound of the wait for an answer"),
    Opt::part("tlsHandshakeTimeout", Kind::UnitDuration, "bound of a TLS handshake"),
    Opt::part("expectContinueTimeout", Kind::UnitDuration, "bound of the wait for 100 Continue"),
];

const SOCKET: &[Opt] = &[Opt::part("socket", Kind::Path, "path of the socket")];

const DOWNLOAD_GRPC: &[Opt] = &[
    Opt::part("unixListen", Kind::Section(SOCKET), "the unix socket"),
    Opt::part("tcpListen", Kind::Section(LISTEN_PART), "where it listens"),
    Opt::part("security", Kind::Section(TLS_PART), "TLS of that listener"),
];

const PEER_GRPC: &[Opt] = &[
    Opt::full("tcpListen", Kind::Section(PEER_LISTEN), "", "where it listens"),
    Opt::later("unixListen", Kind::Section(SOCKET), "the unix socket", "peers come over the net only"),
    PEER_SECURITY,
];

pub(super) const DOWNLOAD: &[Opt] = &[
    Opt::full(
        "prefetch",
        Kind::Boolean,
        "false",
        "a request for a range also starts the download of the whole blob",
    ),
    Opt::full(
        "finishAbandoned",
        Kind::Boolean,
        "true",
        "a client that leaves does not stop the download it began",
    ),
    Opt::full(
        "stallTimeout",
        Kind::Duration,
        "30s",
        "an origin that sends no byte for so long is asked again where it stopped, more than 0",
    ),
    Opt::full(
        "totalRateLimit",
        Kind::Rate,
        "0",
        "bytes per second of all downloads from origins; 0 = no limit. What is only forwarded or tunnelled is not limited",
    ),
    Opt::full(
        "perTaskRateLimit",
        Kind::Rate,
        "0",
        "bytes per second of one download from its origin; 0 = no limit",
    ),
    Opt::later("perPeerRateLimit", Kind::Rate, "bytes per second of one task from peers", NO_PEERS)
        .remedy("to bound a download from its origin write `perTaskRateLimit`"),
    Opt::full(
        "trafficShaperType",
        Kind::Text,
        "plain",
        "how `totalRateLimit` is shared: `plain` = whoever comes first, each connection alike; `sampling` = each download alike, and what one does not need the others have",
    ),
    Opt::later("pieceDownloadTimeout", Kind::UnitDuration, "bound of one piece from a peer", NO_PEERS),
    Opt::later("grpcDialTimeout", Kind::UnitDuration, "bound of a connect to a peer", NO_PEERS),
    Opt::later("getPiecesMaxRetry", COUNT, "had no effect in 2.0.9 either", NO_PEERS),
    Opt::later(
        "calculateDigest",
        Kind::Boolean,
        "checksum of every piece",
        "every piece has its checksum, and the sha256 in a URL is always verified",
    )
    .harmless(&["true"]),
    Opt::later("watchdogTimeout", Kind::UnitDuration, "when a silent peer is reported", NO_PEERS)
        .harmless(&["0", "0s"]),
    Opt::later("syncPieceViaHTTPS", Kind::Boolean, "pieces over TLS", NO_PEERS).harmless(&["false"]),
    Opt::later(
        "splitRunningTasks",
        Kind::Boolean,
        "each request downloads for itself",
        "requests for the same blob always share one download",
    )
    .harmless(&["false"]),
    Opt::full(
        "concurrent",
        Kind::Section(CONCURRENT),
        "",
        "a large blob that comes slowly is fetched by several ranges at once",
    ),
    Opt::full("originBudget", Kind::Section(ORIGIN_BUDGET), "", "requests that each origin is sent"),
    Opt::later("transportOption", Kind::Section(TRANSPORT), "connections to peers", NO_PEERS),
    Opt::later(
        "recursiveConcurrent",
        Kind::Section(&[Opt::part("goroutineCount", COUNT, "files at once")]),
        "downloads of directories",
        "directories are not downloaded",
    ),
    Opt::later(
        "cacheRecursiveMetadata",
        Kind::UnitDuration,
        "how long a listing of a directory is shared",
        "directories are not downloaded",
    )
    .harmless(&["0", "0s"]),
    Opt::full(
        "resourceClients",
        Kind::Named(CLIENT),
        "",
        "connections to origins, by protocol: `http` and `https`",
    ),
    Opt::full("redirects", Kind::Section(REDIRECTS), "", "which redirects of origins are followed"),
    Opt::full(
        "resolve",
        Kind::Map(&Kind::Ip),
        "",
        "addresses of hosts that are not looked up, where the hosts file leads to the daemon itself",
    ),
    Opt::later("seedConcurrent", Kind::Any, "as `concurrent`, for seed peers", NO_PEERS),
    Opt::later(
        "downloadGRPC",
        Kind::Section(DOWNLOAD_GRPC),
        "where `dfget URL` reaches the daemon",
        "there is no `dfget URL` yet, and `dfget run` finds the daemon without it",
    ),
    Opt::full("peerGRPC", Kind::Section(PEER_GRPC), "", "where members of the cluster reach the daemon"),
];
