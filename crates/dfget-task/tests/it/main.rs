//! Downloads in a swarm whose members, schedulers and origin do what a test wants.

#![expect(clippy::single_range_in_vec_init, reason = "grants are lists of ranges, often of one")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says what it measured"
)]

mod cluster;
mod hostile;
mod losses;
mod ordered;
mod pulls;
mod stage;
