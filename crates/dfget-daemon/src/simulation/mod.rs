//! Whole daemons, up to about fifty, in one process: the real code of each over a simulated network and
//! in simulated time.
//!
//! A node is what [`crate::run`] makes of a configuration (`Parts` and `Cluster`: proxy, tasks, store,
//! scheduler, piece port, all with TLS under the cluster's key); its client asks the proxy by HTTP, as
//! `apptainer` would. Left out are what belongs to one machine: listening sockets for clients, the
//! hijack of HTTPS, leases, signals, reload, `sendfile` and the options of sockets.
//!
//! A seed decides the network's delays, what breaks when, and what the nodes leave to chance on their
//! main thread; the order of a hash map, of threads that write to disk, and keys are not decided by it.
//! A failure tells the seed; `DFGET_SEED=n` runs all scenarios with it.

mod network;
mod node;
mod origin;
mod scenarios;
mod scene;
