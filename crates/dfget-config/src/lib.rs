//! `dfget.yaml` into one typed, complete [`Config`].
//!
//! The crate owns the file's two layouts, its scalar formats, every key with its default, and the
//! words of each error and warning. [`load()`] reads; what it gives holds nothing left to check.
//! Everything that is wrong is said at once, each with file, line, column, key and remedy; secrets
//! are in no message. It opens no port and writes no file. Certificates are judged by a [`PemCheck`]
//! that the caller brings.
//!
//! Data goes one way: `places` finds the file, `yaml` makes a tree with positions of it, `layout`
//! sorts the keys, `check` looks for unknown ones along the table in `options`, `build` makes types
//! of the rest, `lint` doubts the result, `report` collects what they say.

mod build;
mod check;
mod diagnostic;
mod environment;
mod host_pattern;
mod layout;
mod lint;
mod load;
mod model;
mod options;
mod otel;
mod pem_check;
mod places;
mod read;
mod report;
mod scalar;
mod secret;
mod settings;
mod yaml;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use diagnostic::{Code, Diagnostic, Location, Severity};
pub use environment::{Environment, Files, SystemFiles};
pub use host_pattern::literal_host;
pub use load::{ConfigErrors, LoadOptions, Loaded, load, load_without_authority};
pub use model::{
    Access, BasicAuth, Cluster, Concurrent, Config, Download, Health, Hijack, HijackAuthority, HijackHost,
    Host, Listen, LogFiles, Manifests, MirrorTasks, OriginBudget, OwnAuthority, Paths, PeerListen, PemSource,
    PortRange, Proxy, ProxyTls, RedirectPolicy, RegistryMirror, RegistryMirrors, ResourceClient,
    ResourceClients, Scheduler, SharePrivate, SniListen, Storage, Traces, Upload, WhiteListEntry,
};
pub use options::reference;
pub use pem_check::{PemCheck, PemFault, PemHalf};
pub use places::{config_directory, own_authority};
pub use secret::Secret;
pub use settings::{Plain, Setting, Settings, Source};
