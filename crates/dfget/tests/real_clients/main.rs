//! The real clients, against real registries, through the real `dfget` binary.
//!
//! Each test runs in namespaces of its own (`tests/real-clients/in-namespace`): a loopback, ports, `/etc`, `/var`
//! and `/tmp` that end with it. So tests may run at once, all daemons listen on the documented port, and the
//! machine stays as it is. The price is root; a test that cannot have it fails and says so, unless
//! `DFGET_WITHOUT_ROOT=1` leaves these tests out.
//!
//! What the origin was asked for is read from the registries' own access logs, and every pulled file is compared
//! by its sha256.

#[cfg(test)]
mod direct;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod page;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod push;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod support;
