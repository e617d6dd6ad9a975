//! `dfget cache` by the real binary, with real daemons and without.

mod bundles;
mod commands;
mod kit;
mod places;
mod rights;
mod verify;
