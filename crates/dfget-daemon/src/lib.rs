//! The wiring: configuration to parts, run, drain.
