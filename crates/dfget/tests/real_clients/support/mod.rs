//! What the scenarios are written with.

mod client;
mod daemon;
mod image;
mod namespace;
mod process;
mod registry;
mod squid;

pub(crate) use client::{Client, Reference, Tool, User};
pub(crate) use daemon::{CORE_LOG, Daemon, PAGE_CONFIG, PAGE_OPENSSL_CONF};
pub(crate) use image::{Image, sha256};
pub(crate) use namespace::{
    clients_dir, dfget_binary, h2spec_dir, in_namespace, in_namespace_with, left_out_without_root, root_dir,
    scripts_dir,
};
pub(crate) use process::{Finished, run, until};
pub(crate) use registry::{Registries, Request};
pub(crate) use squid::{LOGIN, Squid};
