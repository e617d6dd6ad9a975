//! Finding the scheduler of a task, and talking with it.

mod dragonfly;
mod join;
mod keeper;
mod line;
mod member;
mod membership;
mod outgoing;
mod schedulers;
mod take;

pub use dragonfly::{Dragonfly, DragonflyMembership, SchedulerState};
pub use join::{Join, NoScheduler};
pub use member::{MemberState, Roll};
pub use membership::{Membership, Orders};
pub use outgoing::Progress;
pub use schedulers::{Pace, Schedulers};
pub use take::{Take, TakeRefused};
