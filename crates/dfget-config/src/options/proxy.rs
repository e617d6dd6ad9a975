//! Keys of the proxy, which may stand under `proxy`, at the top level, or in a file of their own.

use super::{Kind, Opt};

const MIRROR: &[Opt] = &[
    MIRROR_URL,
    Opt::full(
        "dynamic",
        Kind::Boolean,
        "false",
        "let clients name any registry, by the header `X-Dragonfly-Registry` or by `ns` in the query; it is reached by https and verified as usual, and must not stand on this machine or on its link",
    ),
    MIRROR_INSECURE,
    MIRROR_CERTS,
    MIRROR_DIRECT,
    MIRROR_USE_PROXIES,
];

const EXTRA_MIRROR: &[Opt] = &[
    MIRROR_URL,
    Opt::later("dynamic", Kind::Boolean, "had no effect in 2.0.9 either", "an entry is chosen by its host")
        .harmless(&["false"])
        .remedy("write it under `registryMirror`"),
    MIRROR_INSECURE,
    MIRROR_CERTS,
    MIRROR_DIRECT,
    MIRROR_USE_PROXIES,
];

const MIRROR_URL: Opt = Opt::full(
    "url",
    Kind::Text,
    "",
    "the registry: `https://host[:port][/path]`; `https://` goes without saying",
);
const MIRROR_INSECURE: Opt =
    Opt::full("insecure", Kind::Boolean, "false", "do not verify the certificate of `url`");
const MIRROR_CERTS: Opt =
    Opt::full("certs", Kind::List(&Kind::Pem), "", "authorities trusted for `url`, besides the system's");
const MIRROR_DIRECT: Opt = Opt::full("direct", Kind::Boolean, "false", "forward only, cache nothing");
const MIRROR_USE_PROXIES: Opt = Opt::full(
    "useProxies",
    Kind::Boolean,
    "false",
    "let `proxies` say what is cached; false = blobs and manifests by digest",
);

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

const PORT: Kind = Kind::Integer(1, 65_535);

const WHITE_LIST: &[Opt] = &[
    Opt::full("host", Kind::Text, "", "this host exactly"),
    Opt::full("regx", Kind::Pattern, "", "hosts in which this is found"),
    Opt::full("ports", Kind::List(&PORT), "", "ports that may be reached; none = all"),
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

/// They have no defaults of their own: without `tcpListen` those beside it count.
const SNI_LISTEN: &[Opt] = &[
    Opt::full("listen", Kind::Ip, "", "IP address to listen on"),
    Opt::full("port", Kind::Ports, "", "a port, the origins' too; of a range, the first free one"),
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
        "tokenHosts",
        Kind::Boolean,
        "",
        "open the connections to the hosts too that these registries name for tokens; absent = yes",
    ),
    Opt::full(
        "sni",
        Kind::Sections(SNI),
        "",
        "listeners for clients that a hosts file or DNS leads here: TLS at once; names that match no `hosts` get their own host unopened. See `download.resolve`",
    ),
];

const SECURITY: &[Opt] = &[
    Opt::full(
        "insecure",
        Kind::Boolean,
        "",
        "true, or absent without `cert` and `key` = plain HTTP; false, or absent beside `cert` and `key` = clients speak TLS to the proxy (`HTTPS_PROXY=https://…`)",
    ),
    Opt::full("cert", Kind::Pem, "", "certificate of the port, then those that lead to a root"),
    Opt::full("key", Kind::Pem, "", "its private key"),
    Opt::full("tlsVerify", Kind::Boolean, "false", "clients must have a certificate of `caCert`"),
    Opt::full("caCert", Kind::Pem, "", "authorities of the clients' certificates"),
    Opt::later(
        "tlsConfig",
        Kind::Any,
        "fields of Go's TLS settings",
        "TLS 1.2 and 1.3 are spoken, with their own bounds",
    )
    .remedy("remove it"),
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
    Opt::full(
        "defaultPriority",
        Kind::Integer(0, 6),
        "0",
        "priority of tasks in a cluster; on one node it is only logged",
    ),
    Opt::full(
        "maxConcurrency",
        Kind::Integer(0, i64::MAX),
        "0",
        "requests that run at once; up to 512 more wait for 60s at most, the rest gets 503; 0 = no bound",
    ),
    Opt::full("security", Kind::Section(SECURITY), "", "TLS on the proxy's own port"),
    Opt::full(
        "registryMirror",
        Kind::Section(MIRROR),
        "",
        "the registry that is served to clients which take the port for a registry",
    ),
    Opt::full(
        "extraRegistryMirrors",
        Kind::Sections(EXTRA_MIRROR),
        "",
        "more of them, for clients that name their host by `ns` or `X-Dragonfly-Registry`",
    ),
    Opt::full(
        "dumpHTTPContent",
        Kind::Boolean,
        "false",
        "with `verbose`: log the headers of requests and answers, without what may be secret in them",
    ),
];

const BASIC_AUTH: &[Opt] = &[
    Opt::full("username", Kind::Text, "", "required"),
    Opt::full("password", Kind::Secret, "", "required; keep the file readable for its owner only"),
];
