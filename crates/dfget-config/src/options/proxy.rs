//! Keys of the proxy, which may stand under `proxy`, at the top level, or in a file of their own.

use super::{Kind, Opt, TLS_PART};

const MIRROR: &[Opt] = &[
    Opt::part("url", Kind::Text, "the registry behind it; `https://` goes without saying"),
    Opt::part("dynamic", Kind::Boolean, "let the header `X-Dragonfly-Registry` name the registry"),
    Opt::part("insecure", Kind::Boolean, "do not verify its certificate"),
    Opt::part("certs", Kind::List(&Kind::Pem), "authorities trusted for it"),
    Opt::part("direct", Kind::Boolean, "forward only"),
    Opt::part("useProxies", Kind::Boolean, "let `proxies` say what becomes a task"),
];

const RULE: &[Opt] = &[
    Opt::full("regx", Kind::Pattern, "", "searched in the whole URL, not anchored; required"),
    Opt::full("useHTTPS", Kind::Boolean, "false", "reach the origin by https"),
    Opt::full("direct", Kind::Boolean, "false", "forward, do not cache"),
    Opt::full(
        "redirect",
        Kind::Text,
        "",
        "`host[:port]` to go to, or, with a `/` in it, what replaces the match in the URL (`$1`)",
    ),
];

const WHITE_LIST: &[Opt] = &[
    Opt::full("host", Kind::Text, "", "this host exactly"),
    Opt::full("regx", Kind::Pattern, "", "hosts in which this is found"),
    Opt::full("ports", Kind::List(&Kind::Ports), "", "ports that may be reached; none = all"),
];

const HOST: &[Opt] = &[
    Opt::full(
        "regx",
        Kind::Pattern,
        "",
        r"searched in `host:port`, not anchored: `^registry\.example\.com:443$`; required",
    ),
    Opt::full("insecure", Kind::Boolean, "false", "do not verify this origin's certificate"),
    Opt::full(
        "certs",
        Kind::List(&Kind::Pem),
        "",
        "authorities trusted for this origin, besides the system's",
    ),
];

/// In the `tcpListen` of the proxy and of `sni`.
const HERE: Opt = Opt::full(
    "namespace",
    Kind::Path,
    "",
    "network namespace to listen in, such as `/run/netns/NAME` or `/proc/PID/ns/net`",
);

const SNI_LISTEN: &[Opt] = &[
    Opt::full("listen", Kind::Ip, "127.0.0.1", "IP address to listen on"),
    Opt::full("port", Kind::Ports, "443", "a port, the origins' too; of a range, the first free one"),
    HERE,
];

const SNI: &[Opt] = &[
    Opt::full("listen", Kind::Ip, "127.0.0.1", "IP address to listen on"),
    Opt::full("port", Kind::Ports, "443", "a port, the origins' too; of a range, the first free one"),
    HERE,
    Opt::full("tcpListen", Kind::Section(SNI_LISTEN), "", "the same keys, as 2.0.9 also takes them"),
];

const HIJACK: &[Opt] = &[
    Opt::full(
        "cert",
        Kind::Pem,
        "",
        "certificate of the authority that signs for the hosts; without it and `key` dfget makes its own",
    ),
    Opt::full("key", Kind::Pem, "", "its private key; where one of the two is, both must be"),
    Opt::full("hosts", Kind::Sections(HOST), "", "hosts whose connections are opened; the first match wins"),
    Opt::full(
        "sni",
        Kind::Sections(SNI),
        "",
        "listeners for clients that a hosts file or DNS leads here: TLS at once; names that match no `hosts` get their own host unopened. See `download.resolve`",
    ),
];

/// All keys of the proxy.
pub(crate) const PROXY: &[Opt] = &[
    Opt::full(
        "tcpListen",
        Kind::Section(&[
            Opt::full("listen", Kind::Ip, "127.0.0.1", "IP address to listen on"),
            Opt::full(
                "port",
                Kind::Ports,
                "65001",
                "a port, 0 = any free one; of a range, the first free one",
            ),
            HERE,
        ]),
        "",
        "where clients connect",
    ),
    Opt::full(
        "proxies",
        Kind::Sections(RULE),
        "",
        "what is cached; the first match wins, what matches none is forwarded",
    ),
    Opt::full(
        "hijackHTTPS",
        Kind::Section(HIJACK),
        "",
        "which HTTPS connections are opened; the rest is tunnelled",
    ),
    Opt::full("basicAuth", Kind::Section(BASIC_AUTH), "", "what clients must send; absent = nothing"),
    Opt::full("whiteList", Kind::Sections(WHITE_LIST), "", "targets that may be reached; absent = all"),
    Opt::full(
        "defaultFilter",
        Kind::Text,
        "",
        "query keys that are no part of a blob's identity, split by `&`; absent = those that sign URLs of S3, GCS, OSS, OBS and COS, and `ns`",
    ),
    Opt::full("defaultTag", Kind::Text, "", "part of the task id"),
    Opt::full("defaultApplication", Kind::Text, "", "part of the task id"),
    Opt::later("defaultPriority", Kind::Integer(0, 6), "priority of tasks", "all tasks are equal")
        .harmless(&["0"]),
    Opt::full(
        "maxConcurrency",
        Kind::Integer(0, i64::MAX),
        "0",
        "requests that run at once; up to 512 more wait for 60s at most, the rest gets 503; 0 = no bound",
    ),
    Opt::later(
        "security",
        Kind::Section(TLS_PART),
        "TLS on the proxy's own port",
        "the proxy's port speaks plain HTTP; what clients tunnel through it stays encrypted",
    ),
    Opt::later(
        "registryMirror",
        Kind::Section(MIRROR),
        "requests sent to the port as if it were a registry",
        "it serves requests sent to the port as if it were a registry",
    )
    .remedy("clients that use `HTTPS_PROXY` do not need it: keep it, or remove it"),
    Opt::later(
        "extraRegistryMirrors",
        Kind::Sections(MIRROR),
        "had no effect in 2.0.9 either",
        "it had no effect in 2.0.9 either",
    )
    .remedy("remove it"),
    Opt::later(
        "dumpHTTPContent",
        Kind::Boolean,
        "log the headers of requests",
        "headers hold credentials and are not logged",
    )
    .harmless(&["false"]),
];

const BASIC_AUTH: &[Opt] = &[
    Opt::full("username", Kind::Text, "", "required"),
    Opt::full("password", Kind::Secret, "", "required; keep the file readable for its owner only"),
];
