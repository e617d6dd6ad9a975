//! Who feeds whom, as pure code.
//!
//! Two cores: the [`Scheduler`] of a task, which knows who has what and says who asks whom and who
//! fetches which pieces from the origin; and the [`Picker`] of one download, which says which piece
//! to ask of which parent next. Neither knows a socket, a clock or a runtime: time comes in as the
//! duration since some fixed moment, randomness from a seed, and what is to be done comes out as
//! values. So thousands of nodes can be simulated in one process.

mod patience;
mod picker;
mod pieces;
mod scheduler;
mod trust;
mod words;

pub use patience::{Patience, Waiting};
pub use picker::{Ask, Failure, Picker, PickerOptions};
pub use pieces::Pieces;
pub use scheduler::{Order, Register, Report, Scheduler, SchedulerOptions, What};
pub use trust::{Disputes, MOST_ROUNDS, MOST_ROUNDS_AT_ALL, Take, Trust};
pub use words::{HostInfo, Parent, SwarmKey};
