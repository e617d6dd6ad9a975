//! Clusters of real daemons, each on a node of its own: a network namespace with an address and a shaped link.
//!
//! Each test runs in namespaces of its own (`tests/real-clients/in-namespace`), in which it makes its network, so
//! that tests may run at once and the machine stays as it is. What counts at the end is that every pull got the right
//! bytes; where the registry must not be asked, that is read from what it was asked. Nothing is said about time.

#[cfg(test)]
mod apptainer;
#[cfg(test)]
#[path = "../top_page/checks.rs"]
#[expect(dead_code, reason = "the page of one node is checked for more")]
mod checks;
#[cfg(test)]
mod churn;
#[cfg(test)]
#[path = "../traces/collector.rs"]
#[expect(dead_code, reason = "one node is looked at more closely")]
mod collector;
#[cfg(test)]
mod dragonfly;
#[cfg(test)]
mod evil;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod joined;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod losses;
#[cfg(test)]
mod mixed;
#[cfg(test)]
mod preheat;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod status;
#[cfg(test)]
mod stock;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod support;
#[cfg(test)]
mod top;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod weak;
