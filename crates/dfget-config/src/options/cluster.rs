//! Keys of the parts that make several daemons work together.

use super::{Kind, LISTEN_PART, NAMESPACE, Opt, TLS_PART};

const ADDRESSES: &[Opt] = &[
    Opt::part("type", Kind::Text, "kind of the address, `tcp`"),
    Opt::part("addr", Kind::Text, "`host:port`"),
];

const SCHEDULERS: &[Opt] = &[
    Opt::full("type", Kind::Text, "tcp", "kind of the address; there is no other"),
    Opt::full("addr", Kind::Text, "", "`host:port`; all addresses of a name are schedulers"),
];

const SEED_PEER: &[Opt] = &[
    Opt::part("enable", Kind::Boolean, "be a seed peer").harmless(&["false"]),
    Opt::part("type", Kind::Text, "`super`, `strong` or `weak`"),
    Opt::part("clusterID", Kind::Integer(0, i64::MAX), "number of the cluster"),
    Opt::part(
        "keepAlive",
        Kind::Section(&[Opt::part("interval", Kind::UnitDuration, "pause between two signs of life")]),
        "signs of life to the manager",
    ),
];

const MANAGER: &[Opt] = &[
    Opt::part("enable", Kind::Boolean, "take the schedulers from a manager").harmless(&["false"]),
    Opt::part("netAddrs", Kind::Sections(ADDRESSES), "addresses of managers"),
    Opt::part("refreshInterval", Kind::UnitDuration, "pause between two questions to the manager"),
    Opt::part("seedPeer", Kind::Section(SEED_PEER), "being a seed peer"),
];

pub(super) const SCHEDULER: Opt = Opt::full(
    "scheduler",
    Kind::Section(&[
        Opt::later(
            "manager",
            Kind::Section(MANAGER),
            "the manager",
            "no manager is asked for the schedulers of its cluster",
        )
        .remedy("name the schedulers in `scheduler.netAddrs`; one name in DNS for all of them will do"),
        Opt::full(
            "netAddrs",
            Kind::Sections(SCHEDULERS),
            "",
            "schedulers of a Dragonfly cluster, whose peer this daemon is then, instead of `cluster`; in clear, as they speak",
        ),
        Opt::later(
            "scheduleTimeout",
            Kind::Duration,
            "how long to wait for a scheduler",
            "the origin is asked after one second without an answer",
        )
        .remedy("remove it"),
        Opt::later(
            "disableAutoBackSource",
            Kind::Boolean,
            "leave the origin to the scheduler's word",
            "the origin is asked for whatever peers do not bring",
        )
        .harmless(&["false"])
        .remedy("remove it"),
    ]),
    "",
    "the schedulers of a Dragonfly cluster to join",
);

pub(super) const CLUSTER: Opt = Opt::full(
    "cluster",
    Kind::Section(&[
        Opt::full(
            "members",
            Kind::List(&Kind::Text),
            "",
            "who belongs to the cluster, as Slurm writes it: `node[001-128,200]`, `10.1.0.[1-64]`, `name:port`; one text or a list of them",
        ),
        Opt::full(
            "membersFile",
            Kind::Path,
            "",
            "a file of such lists, one a line, `#` begins a comment; read again when it changes",
        ),
        Opt::full(
            "dns",
            Kind::Text,
            "",
            "`name:port` whose addresses are all members; asked again every 30 seconds",
        ),
        Opt::full(
            "keyFile",
            Kind::Path,
            "/etc/dragonfly/cluster.key",
            "the key that all members share (`dfget cluster key > FILE`), mode 0600; not root: `$XDG_CONFIG_HOME/dragonfly/cluster.key`, made on first use; without a key the ports stay closed",
        ),
        Opt::full(
            "port",
            Kind::Integer(1, 65_533),
            "",
            "port for the members, pieces go two above it; 65000 without it, in a Slurm job 20000 + 4 × (job number modulo 3000)",
        ),
        Opt::full(
            "allowPlaintextPeers",
            Kind::Boolean,
            "false",
            "let in peers without TLS and key, such as Dragonfly's own",
        ),
        Opt::full(
            "sharePrivate",
            Kind::Text,
            "keyed",
            "who may have what was fetched with a credential: `keyed` = members that showed the key, `never`, `all`",
        ),
    ]),
    "",
    "nodes that feed each other; without `members`, `membersFile` and `dns` this daemon works alone",
);

pub(super) const HOST: Opt = Opt::full(
    "host",
    Kind::Section(&[
        Opt::full("idc", Kind::Text, "", "data centre; peers of the same one are preferred"),
        Opt::full(
            "location",
            Kind::Text,
            "",
            "levels of a place, split by `|`; peers that share more of them are preferred",
        ),
        Opt::full("hostname", Kind::Text, "", "name in the cluster; the system's without it"),
        Opt::full(
            "advertiseIP",
            Kind::Ip,
            "",
            "address in the cluster; without it the one that the members name, else the first of IPv4",
        ),
        Opt::later(
            "listenIP",
            Kind::Ip,
            "in the packaged file of 2.0.9; never had an effect",
            "where a port opens, its `tcpListen` says",
        )
        .harmless(&["", "0.0.0.0"])
        .remedy("remove it"),
    ]),
    "",
    "how the cluster knows this host",
);

/// `tcpListen` of a port for other members. It has no defaults of its own.
pub(super) const PEER_LISTEN: &[Opt] = &[
    Opt::full("listen", Kind::Ip, "", "IP address to listen on; all without it"),
    Opt::full("port", Kind::Ports, "", "the port, rather than that of `cluster.port`; of a range, the first"),
    NAMESPACE,
];

/// What the listeners for members do not take: their TLS is that of the cluster's key.
pub(super) const PEER_SECURITY: Opt = Opt::later(
    "security",
    Kind::Section(TLS_PART),
    "TLS of that listener",
    "members know each other by the key of `cluster.keyFile`",
);

pub(super) const UPLOAD: Opt = Opt::full(
    "upload",
    Kind::Section(&[
        Opt::full("rateLimit", Kind::Rate, "", "bytes per second to all peers; no limit without it"),
        Opt::full("tcpListen", Kind::Section(PEER_LISTEN), "", "where peers fetch pieces"),
        PEER_SECURITY,
    ]),
    "",
    "pieces for other peers",
);

pub(super) const OBJECT_STORAGE: Opt = Opt::later(
    "objectStorage",
    Kind::Section(&[
        Opt::part("enable", Kind::Boolean, "open the object storage port").harmless(&["false"]),
        Opt::part("filter", Kind::Text, "query keys that are no part of an object's identity"),
        Opt::part("maxReplicas", Kind::Integer(1, i64::MAX), "copies in seed peers"),
        Opt::part("tcpListen", Kind::Section(LISTEN_PART), "where it listens"),
        Opt::part("security", Kind::Section(TLS_PART), "TLS of that listener"),
    ]),
    "the object storage gateway",
    "there is no object storage gateway",
);

pub(super) const SECURITY: Opt = Opt::later(
    "security",
    Kind::Section(&[
        Opt::part("autoIssueCert", Kind::Boolean, "let the manager issue certificates").harmless(&["false"]),
        Opt::part("caCert", Kind::Pem, "authority of the cluster").harmless(&[""]),
        Opt::part("tlsVerify", Kind::Boolean, "ask peers for a certificate").harmless(&["false"]),
        Opt::part("tlsPolicy", Kind::Text, "`default`, `prefer` or `force`").harmless(&["", "default"]),
        Opt::part(
            "certSpec",
            Kind::Section(&[
                Opt::part("dnsNames", Kind::List(&Kind::Text), "names in the certificate"),
                Opt::part("ipAddresses", Kind::List(&Kind::Ip), "addresses in the certificate"),
                Opt::part("validityPeriod", Kind::UnitDuration, "how long it is valid"),
            ]),
            "the certificate asked for",
        ),
    ]),
    "TLS between the members of a cluster",
    "members know each other by the key of `cluster.keyFile`; schedulers of `scheduler.netAddrs` are spoken to in clear",
);

pub(super) const ANNOUNCER: Opt = Opt::full(
    "announcer",
    Kind::Section(&[Opt::full(
        "schedulerInterval",
        Kind::UnitDuration,
        "1m",
        "pause between two announcements of this host to the schedulers of `scheduler.netAddrs`; after two they forget it",
    )]),
    "",
    "telling schedulers about this host",
);
