//! Keys of the parts that make several daemons work together; none of them has an effect yet.

use super::{Kind, LISTEN_PART, Opt, TLS_PART};

const ADDRESSES: &[Opt] = &[
    Opt::part("type", Kind::Text, "kind of the address, `tcp`"),
    Opt::part("addr", Kind::Text, "`host:port`"),
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

pub(super) const SCHEDULER: Opt = Opt::later(
    "scheduler",
    Kind::Section(&[
        Opt::part("manager", Kind::Section(MANAGER), "the manager"),
        Opt::part("netAddrs", Kind::Sections(ADDRESSES), "addresses of schedulers"),
        Opt::part("scheduleTimeout", Kind::Duration, "how long to wait for a scheduler"),
        Opt::part("disableAutoBackSource", Kind::Boolean, "leave the origin to the scheduler's word")
            .harmless(&["false"]),
    ]),
    "the schedulers of a cluster",
    "this daemon works alone, and takes from the origin what its cache does not hold",
);

pub(super) const HOST: Opt = Opt::later(
    "host",
    Kind::Section(&[
        Opt::part("idc", Kind::Text, "data centre").harmless(&[""]),
        Opt::part("location", Kind::Text, "levels of a place, split by `|`").harmless(&[""]),
        Opt::part("hostname", Kind::Text, "name in the cluster").harmless(&[""]),
        Opt::part("advertiseIP", Kind::Ip, "address in the cluster").harmless(&[""]),
        Opt::part("listenIP", Kind::Ip, "in the packaged file of 2.0.9; never had an effect")
            .harmless(&["", "0.0.0.0"]),
    ]),
    "how the cluster knows this host",
    "this daemon works alone, there is no cluster to know it",
);

pub(super) const UPLOAD: Opt = Opt::later(
    "upload",
    Kind::Section(&[
        Opt::part("rateLimit", Kind::Rate, "bytes per second to all peers"),
        Opt::part("tcpListen", Kind::Section(LISTEN_PART), "where peers fetch pieces"),
        Opt::part("security", Kind::Section(TLS_PART), "TLS of that listener"),
    ]),
    "pieces for other peers",
    "this daemon works alone, it opens no port for peers",
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
    "this daemon works alone, it speaks to no other member",
);

pub(super) const ANNOUNCER: Opt = Opt::later(
    "announcer",
    Kind::Section(&[Opt::part("schedulerInterval", Kind::UnitDuration, "pause between two announcements")]),
    "telling the schedulers about this host",
    "this daemon works alone, there is no scheduler to tell",
);
