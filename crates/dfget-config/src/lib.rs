//! dfget.yaml into one typed, complete Config.
