//! What is measured, one file for each kind.

mod blobs;
mod cluster;
mod first;
mod loopback;
mod many;
mod memory;
mod objects;
mod page;
mod pull;
mod start;

use std::io;

use crate::course::Bench;

/// A scenario: its name, and what it does.
pub type Scenario = (&'static str, fn(&mut Bench) -> io::Result<()>);

/// All of them, in their order.
pub const ALL: [Scenario; 18] = [
    ("cached", blobs::cached),
    ("mirror", blobs::mirror),
    ("cold", blobs::cold),
    ("registry", blobs::registry),
    ("tiny", objects::tiny),
    ("hot", objects::hot),
    ("connect", objects::connect),
    ("memory", memory::memory),
    ("pull", pull::pull),
    ("array", pull::array),
    ("crowd", many::crowd),
    ("idle", many::idle),
    ("start", start::start),
    ("page", page::page),
    ("first", first::first),
    ("capped", blobs::capped),
    ("cluster", cluster::cluster),
    ("loopback", loopback::loopback),
];
