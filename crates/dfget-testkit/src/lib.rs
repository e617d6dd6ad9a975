//! Scripted origins, raw clients and a running daemon, for the tests of dfget.
//!
//! What the tests need and no well-behaved library gives: an origin that breaks a promise at a chosen byte, a client
//! that sees *how* a body ended, a certificate with a chosen flaw, and an order of events that is asserted by gates
//! and not by clocks. So this crate writes HTTP/1.1 by hand over blocking sockets, one thread a connection, and takes
//! from libraries only the cryptography.
//!
//! | room | owns |
//! |---|---|
//! | [`ca`] | certificate authorities, good and flawed leaves, TLS settings of both ends |
//! | [`content`] | bodies that are made from a seed, and their digests |
//! | [`gate`] | the order of events |
//! | [`message`] | HTTP/1.1 heads as text |
//! | [`wire`] | a TCP or TLS stream that can end well, badly or by reset |
//! | [`answer`] | what an origin sends, byte by byte |
//! | [`origin`] | the listening end, with a journal of what it was asked |
//! | [`registry`] | an OCI registry with rights that can be taken away |
//! | [`client`] | a client of the proxy that hides nothing |
//! | [`incoming`] | answers, and how their bodies end |
//! | [`h2`] | the one thing not written by hand: a client of HTTP/2 |
//! | [`daemon`] | the real binary: started, watched, drained, killed, started again |
//! | [`forwarder`] | a door to the hijack for programs that know no proxy |
//! | [`session`] | a user's session on a node, and the commands run in it by `dfget run` |
//! | [`home`] | a user's home with a configuration, for commands that need no daemon |
//! | [`site_proxy`] | the proxy of a site, which leads to origins by CONNECT |
//! | [`network`] | nodes and an origin on shaped links that can be cut, as network namespaces |
//! | [`cluster`] | a daemon on each node of a network, and a registry at its origin |
//! | [`browser`] | a real Chromium without a window, and what it shows |
//! | [`snapshot`] | texts kept in files, with which those of now are compared |
//! | [`stage`] | one registry, one daemon and one client, set up in a line |
//!
//! A failure of the kit itself (no free port, no thread) fails the test at once by a panic that names it; what a test
//! may want to look at (a refused CONNECT, a body cut short) comes back as a value.

pub mod answer;
pub mod browser;
pub mod ca;
pub mod client;
pub mod cluster;
pub mod content;
pub mod daemon;
pub mod forwarder;
pub mod gate;
pub mod h2;
pub mod home;
pub mod incoming;
pub mod message;
pub mod network;
pub mod origin;
pub mod registry;
pub mod session;
pub mod site_proxy;
pub mod snapshot;
pub mod stage;
pub mod wire;

pub use answer::{Answer, Cut, Reply};
pub use browser::{Browser, Tab};
pub use ca::TestCa;
pub use client::{Client, Connection, Request};
pub use cluster::{Cluster, Node, Setup};
pub use content::Blob;
pub use daemon::{Daemon, DaemonOptions};
pub use forwarder::Forwarder;
pub use gate::Gate;
pub use home::Home;
pub use incoming::{End, Incoming, Response};
pub use network::{Network, Place};
pub use origin::Origin;
pub use registry::Registry;
pub use session::{Ended, Running, Session};
pub use site_proxy::SiteProxy;
pub use snapshot::{Snapshots, assert_snapshot};
pub use stage::Stage;
