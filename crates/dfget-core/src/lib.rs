//! The pure words and maths of dfget.
//!
//! Everything here is a value or a function of its arguments: no socket, file, clock or
//! runtime. The names are the field's own (task, piece, digest, range, authority), so that
//! the crates above speak one language.

mod authority;
mod backoff;
mod challenge;
mod client_proxy;
mod content_key;
mod decimal;
mod digest;
mod duration;
mod hostlist;
mod network;
mod oci;
mod piece;
mod ping_path;
mod public_url;
mod range;
mod range_set;
mod registry_url;
mod rules;
mod shaper;
mod size;
mod task_id;
mod unix_time;
mod url_filter;

pub use authority::{Authority, AuthorityError, Scheme};
pub use backoff::Backoff;
pub use challenge::bearer_realm;
pub use client_proxy::{ClientVariables, Passage};
pub use content_key::ContentKey;
pub use decimal::Decimal;
pub use digest::{Digest, DigestError, Hasher};
pub use duration::{DurationError, parse_duration, parse_go_duration};
pub use hostlist::{HostlistError, HostlistProblem, ListedHost, MOST_HOSTS, expand_hostlist};
pub use network::{Network, NetworkError};
pub use oci::{ContentReference, ReferenceKind, RegistryPath};
pub use piece::{
    MAX_PIECE_LENGTH, MIN_PIECE_LENGTH, UNITS, piece_count, piece_length, piece_range, unit_length,
};
pub use ping_path::{METRICS_PATH, PingPath, PingPathError};
pub use public_url::public_url;
pub use range::{ByteRange, ContentRange, RangeError, RangeHeader, RangeSpec};
pub use range_set::{MOST_RANGES, Parts, RangeSet};
pub use registry_url::{PathError, RegistryUrl, RegistryUrlError, check_path};
pub use rules::{Decision, Redirect, RewriteError, Rule, decide};
pub use shaper::{READ, RateLimits, Shaper, Share, Turn};
pub use size::{binary_size, decimal_size};
pub use task_id::{TaskId, TaskParts};
pub use unix_time::unix_seconds;
pub use url_filter::{DEFAULT_FILTER, UrlFilter};
