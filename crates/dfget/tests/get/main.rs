//! `dfget URL` as a user has it: the real binary in a session of its own, against scripted origins and registries.
//!
//! What both ways have in common is tried by both: directly, and through the daemon that the command starts. The bar
//! is looked at in a real terminal; that needs `tmux`.

#[cfg(test)]
mod daemon;
#[cfg(test)]
mod images;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod support;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod urls;
