//! The real clients, against real registries, through the real `dfget` binary.
//!
//! Each test runs in namespaces of its own (`tests/real-clients/in-namespace`): a loopback, ports, `/etc`, `/var`
//! and `/tmp` that end with it. So tests may run at once, all daemons listen on the documented port, and the
//! machine stays as it is. An ordinary user can make them too, by a user namespace, where the machine lets users;
//! where it does not, the tests fail with the remedy. What needs a second uid says that it is left out.
//!
//! What the origin was asked for is read from the registries' own access logs, and every pulled file is compared
//! by its sha256.

#[cfg(test)]
mod authority;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod docker;
#[cfg(test)]
mod first;
#[cfg(test)]
mod get;
#[cfg(test)]
mod guides;
#[cfg(test)]
mod h2spec;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod led;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod nginx;
#[cfg(test)]
mod page;
#[cfg(test)]
#[path = "../pages/mod.rs"]
#[expect(dead_code, reason = "documents.rs needs more of it")]
mod pages;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod push;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sick;
#[cfg(test)]
mod site_proxy;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod support;
