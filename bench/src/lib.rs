//! Measures dfget beside other proxies, on one machine, in one run.
//!
//! It owns the load, the setting up of all contenders and of the origin behind them, the accounting (time here,
//! processor and memory by the operating system) and the table. It refuses to run outside the namespaces that
//! `bench/run` makes. A contender that fails is told and left out; no figure of a failed pull is taken.
//!
//! | room | owns |
//! |---|---|
//! | [`course`] | the course of a run, in rounds |
//! | [`scenario`] | what is measured |
//! | [`contender`] | who is measured, and how each is set up |
//! | [`origin`] | the registry behind them all |
//! | [`network`] | nodes on links of a rate |
//! | [`load`] | many clients at once |
//! | [`client`], [`tls`] | one client, as cheap as can be |
//! | [`process`] | what the operating system accounts |
//! | [`places`] | where things lie |
//! | [`table`] | medians, ratios and goals |
//! | [`machine`] | what it ran on |
//! | [`output`] | what is printed |

pub mod client;
pub mod contender;
pub mod course;
pub mod load;
pub mod machine;
pub mod network;
pub mod origin;
pub mod output;
pub mod places;
pub mod process;
pub mod scenario;
pub mod table;
pub mod tls;
