//! The scheduler of a task: its service in every daemon, and how one is found and asked.
//!
//! [`SchedulerService`] is the gRPC side of the pure core `dfget_swarm::Scheduler`; [`serve_grpc`] is
//! the port where it answers, beside other services. [`Schedulers`] is the other side: it finds the
//! scheduler of a task on the ring, joins its swarm, and keeps telling what this node holds.

mod announce;
mod client;
mod hold;
mod limits;
mod mailbox;
mod meter;
mod room;
mod serve;
mod service;
mod take;
mod words;

pub use client::{
    Dragonfly, DragonflyMembership, Join, MemberState, Membership, NoScheduler, Orders, Pace, Progress, Roll,
    SchedulerState, Schedulers, Take, TakeRefused,
};
pub use serve::{Caller, serve_grpc};
pub use service::{Member, SchedulerService, mount_health};
pub use take::{Takes, Taking, manifest_type};
