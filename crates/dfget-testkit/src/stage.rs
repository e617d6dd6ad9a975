//! One registry over TLS, one daemon that trusts it, and a client of that daemon.

use crate::ca::TestCa;
use crate::client::{Client, Request};
use crate::daemon::{Daemon, DaemonOptions};
use crate::incoming::Response;
use crate::registry::Registry;

/// What most tests need.
#[derive(Debug)]
pub struct Stage {
    /// The authority of the registry's certificate; the daemon trusts it, the clients do not.
    pub ca: TestCa,
    /// The registry.
    pub registry: Registry,
    /// The daemon.
    pub daemon: Daemon,
}

impl Stage {
    /// A stage with the daemon of this file and its default options.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self::with(binary, |options| options)
    }

    /// The same, with other options.
    #[must_use]
    pub fn with(binary: &str, change: impl FnOnce(DaemonOptions) -> DaemonOptions) -> Self {
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https(&ca);
        let daemon = change(DaemonOptions::new(binary).trust(&ca)).start();
        Self { ca, registry, daemon }
    }

    /// A client of the daemon.
    #[must_use]
    pub fn client(&self) -> Client {
        self.daemon.client()
    }

    /// What a client gets that sends `request` on a connection of its own.
    ///
    /// # Panics
    /// If no answer comes at all.
    #[must_use]
    pub fn fetch(&self, request: &Request) -> Response {
        self.client().fetch(request).expect("the daemon answers")
    }

    /// What a client gets that asks for `url` and nothing more.
    ///
    /// # Panics
    /// If no answer comes at all.
    #[must_use]
    pub fn get(&self, url: &str) -> Response {
        self.fetch(&Request::get(url))
    }
}
