//! Every key of `dfget.yaml`: those that work here, and those that Dragonfly 2.0.9 and its 2.1
//! successors have.
//!
//! Owns names, kinds, defaults as text, one line of meaning each, and what a user should know about
//! a key that has no effect yet. The reference in `docs/configuration.md` is made from it, unknown
//! keys are found by it, keys without effect are checked by it. Values that have an effect are read
//! elsewhere; a test holds the defaults given here against those of [`Config`](crate::Config).

mod cluster;
mod download;
mod proxy;
mod reference;
mod tracing;

pub(crate) use proxy::PROXY;
pub use reference::reference;

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// In the spelling of the documentation.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written; empty when there is none.
    pub(crate) default: &'static str,
    /// What it does, in a few words.
    pub(crate) doc: &'static str,
    pub(crate) support: Support,
    /// Values that ask for nothing but what happens anyway, for keys without effect.
    pub(crate) harmless: &'static [&'static str],
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    /// A whole number from .. to.
    Integer(i64, i64),
    Number,
    /// A duration, or nanoseconds.
    Duration,
    /// A duration with its unit.
    UnitDuration,
    Rate,
    Bytes,
    Percent,
    /// Permissions of a directory, in octal.
    Mode,
    /// A port, or `start` and `end`.
    Ports,
    Ip,
    Address,
    Text,
    /// Text that no message shows.
    Secret,
    Path,
    /// A file of PEM text, or the text.
    Pem,
    Pattern,
    /// Text or number, not looked at.
    Any,
    /// A list of single values.
    List(&'static Self),
    Section(&'static [Opt]),
    /// A list of mappings.
    Sections(&'static [Opt]),
    /// A mapping of free names to mappings.
    Named(&'static [Opt]),
    /// A mapping of free names to single values.
    Map(&'static Self),
}

/// Whether a key has an effect.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Support {
    /// It has.
    Full,
    /// Not yet: what that means to the user, and what to do about it.
    Later { effect: &'static str, remedy: &'static str },
    /// Not yet, which is said of the section it lies in.
    LaterWithParent,
}

// === impl Opt ===

impl Opt {
    /// A key that works.
    const fn full(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, default, doc, support: Support::Full, harmless: &[] }
    }

    /// A key without effect yet.
    const fn later(name: &'static str, kind: Kind, doc: &'static str, effect: &'static str) -> Self {
        let support = Support::Later { effect, remedy: "remove it, or keep it for a later version" };
        Self { name, kind, default: "", doc, support, harmless: &[] }
    }

    /// A key in a section without effect yet.
    const fn part(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: "", doc, support: Support::LaterWithParent, harmless: &[] }
    }

    /// These values change nothing, so nothing needs to be said about them.
    const fn harmless(mut self, values: &'static [&'static str]) -> Self {
        self.harmless = values;
        self
    }

    /// Another next step than the usual one.
    const fn remedy(mut self, remedy: &'static str) -> Self {
        if let Support::Later { effect, .. } = self.support {
            self.support = Support::Later { effect, remedy };
        }
        self
    }

    /// The keys below it, if any.
    pub(crate) const fn children(&self) -> &'static [Self] {
        match self.kind {
            Kind::Section(children) | Kind::Sections(children) | Kind::Named(children) => children,
            _ => &[],
        }
    }
}

/// The key of this name among these, whatever its case.
pub(crate) fn find<'a>(options: &'a [Opt], name: &str) -> Option<&'a Opt> {
    options.iter().find(|option| option.name.eq_ignore_ascii_case(name))
}

/// Each key with its way from the top, such as `proxy.proxies[].regx`, parents first.
pub(crate) fn flatten() -> Vec<(String, &'static Opt)> {
    let mut all = Vec::new();
    let mut open: Vec<(String, &'static Opt)> =
        TOP.iter().rev().map(|option| (option.name.to_owned(), option)).collect();
    while let Some((path, option)) = open.pop() {
        let below = match option.kind {
            Kind::Sections(_) => format!("{path}[]."),
            Kind::Named(_) => format!("{path}.NAME."),
            _ => format!("{path}."),
        };
        let children = option.children().iter().rev();
        open.extend(children.map(|child| (format!("{below}{}", child.name), child)));
        all.push((path, option));
    }
    all
}

const NOTHING_THERE: &str = "dfget keeps nothing there: no lock files, no copy of what a manager says";
const NO_JAEGER: &str = "no traces are sent there";

/// The top level of the file. Keys of the proxy may stand here too.
pub(crate) const TOP: &[Opt] = &[
    Opt::full("aliveTime", Kind::Duration, "0", "leave after this long without a request; 0 = never"),
    Opt::full("gcInterval", Kind::Duration, "1m", "pause between two clean-ups of the cache, more than 0"),
    Opt::full("keepStorage", Kind::Boolean, "true", "keep the cache when the daemon stops"),
    Opt::full(
        "metrics",
        Kind::Address,
        "",
        "address of a second listener for `/metrics` alone; `:8000` is loopback",
    ),
    Opt::later("workHome", Kind::Path, "lock files", NOTHING_THERE).remedy("remove it"),
    Opt::later("cacheDir", Kind::Path, "what a manager says, and issued certificates", NOTHING_THERE)
        .remedy("remove it; `dataDir` says where the cached blobs lie"),
    Opt::full(
        "logDir",
        Kind::Path,
        "/var/log/dragonfly",
        "logs, in `daemon/core.log`; not root: `$XDG_STATE_HOME/dragonfly/log`",
    ),
    Opt::full(
        "dataDir",
        Kind::Path,
        "/var/lib/dragonfly",
        "the cached blobs; not root: `$XDG_CACHE_HOME/dragonfly`",
    ),
    Opt::full("console", Kind::Boolean, "false", "log to standard output in human form, not to files"),
    Opt::full("verbose", Kind::Boolean, "false", "log at debug level"),
    Opt::full("storage", Kind::Section(STORAGE), "", "what stays in the cache, and for how long"),
    Opt::full("health", Kind::Section(HEALTH), "", "the admin listener: liveness and metrics"),
    Opt::full("download", Kind::Section(download::DOWNLOAD), "", "how blobs are downloaded"),
    Opt::full("access", Kind::Section(ACCESS), "", "how long a permission of the origin is remembered"),
    Opt::full("manifests", Kind::Section(MANIFESTS), "", "how often registries are asked what a tag means"),
    Opt::full(
        "proxy",
        Kind::Section(PROXY),
        "",
        "the proxy; its keys may also stand at the top level, or in a file that is named here",
    ),
    cluster::CLUSTER,
    cluster::SCHEDULER,
    cluster::HOST,
    cluster::UPLOAD,
    cluster::OBJECT_STORAGE,
    cluster::SECURITY,
    cluster::ANNOUNCER,
    Opt::full("reload", Kind::Section(RELOAD), "", "reading a changed file while running"),
    Opt::full(
        "network",
        Kind::Section(&[Opt::full(
            "enableIPv6",
            Kind::Boolean,
            "false",
            "try the IPv6 addresses of an origin first, and name this node by its own; where the daemon listens, `tcpListen` says",
        )]),
        "",
        "the address family",
    ),
    Opt::later(
        "peerExchange",
        Kind::Section(&[
            Opt::part("initialInterval", Kind::Any, "pause before the first exchange"),
            Opt::part("reSyncInterval", Kind::Any, "pause between two exchanges"),
            Opt::part("replicaThreshold", Kind::Integer(0, i64::MAX), "copies from which no more are told"),
            Opt::part("replicaCleanPercentage", Kind::Integer(0, 100), "copies that a clean-up may remove"),
        ]),
        "telling other peers what is here",
        "this daemon works alone, there is no other to tell",
    ),
    Opt::later("pluginDir", Kind::Path, "plugins for other protocols", "there are no plugins")
        .remedy("remove it"),
    Opt::later(
        "pprof-port",
        Kind::Integer(-1, 65535),
        "port of Go's profiler",
        "there is no Go runtime to profile",
    )
    .harmless(&["-1"])
    .remedy("remove it"),
    Opt::later("jaeger", Kind::Text, "where traces went, in a protocol of Jaeger's own", NO_JAEGER)
        .harmless(&[""])
        .remedy("write `tracing: {endpoint: 'HOST:4318'}`, where Jaeger takes OTLP since version 1.35"),
    tracing::TRACING,
    Opt::full("service-name", Kind::Text, "dfget", "name of the service in traces; or `OTEL_SERVICE_NAME`"),
    Opt::later("workHomeMode", Kind::Mode, "mode of `workHome`", NOTHING_THERE)
        .harmless(&["448", "0700", "0o700"])
        .remedy("remove it"),
    Opt::later("cacheDirMode", Kind::Mode, "mode of `cacheDir`", NOTHING_THERE)
        .harmless(&["448", "0700", "0o700"])
        .remedy("remove it"),
    Opt::full(
        "dataDirMode",
        Kind::Mode,
        "0700",
        "mode of `dataDir` when it is made; nobody but the owner may write there, and what is in it stays the owner's",
    ),
    Opt::full("logMaxSize", Kind::Integer(1, 1 << 20), "1024", "MiB of one log file, then it is renamed"),
    Opt::full("logMaxAge", Kind::Integer(0, 100_000), "7", "days that an old log file is kept; 0 = for ever"),
    Opt::full("logMaxBackups", Kind::Integer(0, 1 << 20), "20", "old log files that are kept; 0 = all"),
    Opt::later(
        "maxThreads",
        Kind::Integer(0, i64::MAX),
        "bound of the Go runtime",
        "there is no Go runtime to bound",
    )
    .remedy("remove it"),
];

const STORAGE: &[Opt] = &[
    Opt::full("taskExpireTime", Kind::Duration, "168h", "forget what nobody read for this long; 0 = never"),
    Opt::full("multiplex", Kind::Boolean, "true", "serve finished downloads again"),
    Opt::full(
        "diskGCThreshold",
        Kind::Bytes,
        "0",
        "bytes the cache may take before the least recently used goes; 0 = no bound",
    ),
    Opt::full(
        "diskGCThresholdPercent",
        Kind::Percent,
        "95",
        "use of the disk in percent at which the least recently used goes; 0 = no bound",
    ),
    Opt::full(
        "strategy",
        Kind::Text,
        "io.d7y.storage.v2.simple",
        "this or `io.d7y.storage.v2.advance`: both mean dfget's one layout",
    ),
    Opt::later("dataPath", Kind::Path, "where the cache lies", "`dataDir` says where the cache lies")
        .remedy("write `dataDir` at the top level"),
    Opt::later("writeBufferSize", Kind::Bytes, "buffer of a download", "buffers have a size of their own"),
    Opt::later(
        "reloadGoroutineCount",
        Kind::Integer(0, i64::MAX),
        "how many tasks are read at once at the start",
        "the index is read at once",
    ),
];

const HEALTH: &[Opt] = &[
    Opt::full("path", Kind::Text, "/server/ping", "the path that answers while the daemon lives"),
    Opt::full(
        "tcpListen",
        Kind::Section(&[
            Opt::full("listen", Kind::Ip, "127.0.0.1", "IP address to listen on"),
            Opt::full(
                "port",
                Kind::Ports,
                "{start: 40901, end: 65535}",
                "a port; of a range, the first free one",
            ),
            NAMESPACE,
        ]),
        "",
        "where it listens",
    ),
];

const ACCESS: &[Opt] = &[
    Opt::full("ttl", Kind::Duration, "60s", "how long a yes of the registry holds; 0 = ask for each request"),
    Opt::full(
        "offlineGrace",
        Kind::Duration,
        "24h",
        "while the registry does not answer, how long its last yes holds; 0 = not at all",
    ),
];

const MANIFESTS: &[Opt] = &[Opt::full(
    "freshness",
    Kind::Duration,
    "10s",
    "how long a tag's manifest is given to the same credential without asking; 0 = asked each time",
)];

const RELOAD: &[Opt] = &[Opt::full(
    "interval",
    Kind::Duration,
    "1m",
    "pause between two looks at the file, at least 1s; 0 = only when told by SIGHUP",
)];

/// In every `tcpListen`.
const NAMESPACE: Opt = Opt::later(
    "namespace",
    Kind::Path,
    "network namespace to listen in",
    "the daemon listens in the namespace it was started in",
)
.harmless(&[""])
.remedy("start the daemon in the namespace, for example with `nsenter --net=FILE`");

/// `tcpListen` of a section without effect.
const LISTEN_PART: &[Opt] = &[
    Opt::part("listen", Kind::Ip, "IP address to listen on"),
    Opt::part("port", Kind::Ports, "a port or a range"),
    Opt::part("namespace", Kind::Path, "network namespace to listen in"),
];

/// `security` of a section without effect.
const TLS_PART: &[Opt] = &[
    Opt::part("insecure", Kind::Boolean, "no TLS").harmless(&["true"]),
    Opt::part("caCert", Kind::Pem, "authority of the clients").harmless(&[""]),
    Opt::part("cert", Kind::Pem, "certificate of the listener").harmless(&[""]),
    Opt::part("key", Kind::Pem, "its private key").harmless(&[""]),
    Opt::part("tlsVerify", Kind::Boolean, "ask clients for a certificate").harmless(&["false"]),
    Opt::part("tlsConfig", Kind::Any, "fields of Go's TLS settings"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning_and_stands_once() {
        let all = flatten();
        assert!(all.len() > 200, "{}", all.len());
        for (path, option) in &all {
            assert!(!option.doc.is_empty() && !option.doc.ends_with('.'), "{path}");
            assert_eq!(all.iter().filter(|(other, _)| other.eq_ignore_ascii_case(path)).count(), 1, "{path}");
        }
    }

    #[test]
    fn only_keys_in_a_section_without_effect_leave_the_word_to_it() {
        fn visit(options: &[Opt], covered: bool) {
            for option in options {
                let is_part = matches!(option.support, Support::LaterWithParent);
                assert_eq!(is_part, covered, "{}", option.name);
                visit(option.children(), covered || !matches!(option.support, Support::Full));
            }
        }
        visit(TOP, false);
    }
}
