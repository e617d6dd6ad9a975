//! Nodes that meet over real sockets.

mod door;
