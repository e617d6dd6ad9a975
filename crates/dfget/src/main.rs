//! The `dfget` command.
fn main() {}
