//! Many nodes in one process: the cores on a made-up network and clock.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a simulation reckons in floating point"
)]

mod scenarios;
mod sim;
