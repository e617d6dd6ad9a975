//! The scheduler's port and its client, over real sockets on loopback.

#[cfg(test)]
mod orders;
#[cfg(test)]
mod ours;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod rough;
#[cfg(test)]
mod stock;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod strangers;
