//! `dfget cache` by the real binary, with real daemons and without.

mod bundles;
mod commands;
mod documented;
mod kit;
mod places;
mod rights;
mod terminal;
mod verify;
