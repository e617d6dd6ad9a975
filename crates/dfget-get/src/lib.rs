//! `dfget get`: one content or image to one file, resolved, resumed and checked, through a daemon of this node or
//! without one.
//!
//! Data goes one way: `reference` reads what the user names, `login` what the user may show, `net` has the two
//! ways to an origin, `session` asks with the login that is wanted, `manifest` tells what an image consists of,
//! `transfer` gets one content over all that breaks, `writer` writes and hashes it, `part` and `layout` put it in
//! place when it is right. It prints nothing: an [`Observer`] hears what happens.
//!
//! Whatever fails of a daemon, the origin is asked directly then. What has come is kept beside the output under
//! another name, and the next try goes on with it; the output's own name appears only with all of it, checked.

mod challenge;
mod credential;
mod error;
mod event;
mod layout;
mod login;
mod manifest;
mod name;
mod net;
mod order;
mod part;
mod place;
mod reference;
mod said;
mod session;
mod tar;
mod transfer;
mod work;
mod writer;

pub use error::GetError;
pub use event::{Event, Observer, Silent};
pub use login::Logins;
pub use manifest::Platform;
pub use order::{Hints, Order, Output, Report};
pub use reference::{Image, Reference, ReferenceError};
pub use work::get;
