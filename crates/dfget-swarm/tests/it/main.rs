//! Many nodes in one process: the cores on a made-up network and clock.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a simulation reckons in floating point, prints its seeds, and fails loudly"
)]

mod gone;
mod liars;
mod scenarios;
mod sim;
