//! What dfget prints, word for word: tables and errors, each kept in a file of `tests/snapshots` to be read there.
//! What differs from run to run has a word instead. `make texts` writes the files anew.
//!
//! The help of each command is there too, by `src/help_tests.rs`, and what needs a cluster or a certain machine by the
//! tests of the modules that draw it.

mod errors;
mod misuse;
mod tables;
mod transcript;
