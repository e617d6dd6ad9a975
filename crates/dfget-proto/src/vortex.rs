//! Frames of the piece transfer.
