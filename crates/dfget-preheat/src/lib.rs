//! `dfget preheat`: images into the store of this node before anybody waits for them.
//!
//! Each is got as `dfget get` gets it, through a daemon, and its bytes go nowhere: what stays is what the daemon keeps.
//! So the registry is asked with the user's own login, and the daemon's rules hold as for anybody. Which images,
//! `list` and `project` read from files. In a cluster the daemon then has other nodes take them (`spread`), which
//! have them from each other. Nothing is printed: an [`Audience`] hears what happens.

mod list;
mod project;
mod spread;

pub use list::{ListError, images_of_list};
pub use project::{Project, Unclear};
pub use spread::{SpreadError, Spreading};

use std::path::PathBuf;
use std::sync::Arc;

use dfget_get::{Event, GetError, Hints, Observer, Order, Output, Platform, Reference, Report};
use dfget_lease::SpreadSeen;
use dfget_run::Variables;
use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What is to be there.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The images, each once.
    pub references: Vec<Reference>,
    /// So many at once; at least one.
    pub at_once: usize,
    /// Which image, where there are several.
    pub platform: Platform,
    /// Logins from this file alone.
    pub login_file: Option<PathBuf>,
    /// Let a daemon that is started for this log at debug level.
    pub verbose: bool,
    /// Which other nodes are to have them.
    pub spreading: Option<Spreading>,
}

/// An image that is there.
#[derive(Clone, Debug)]
pub struct Preheated {
    /// How it came here.
    pub report: Report,
    /// Which nodes have it, if that was wanted.
    pub nodes: Option<SpreadSeen>,
}

/// Hears of what happens, from any thread, and does not hold it up.
pub trait Audience: Send + Sync {
    /// Something has happened with the image of this number.
    fn hear(&self, number: usize, event: Event<'_>);

    /// The image is here, and other nodes take it.
    fn spreads(&self, number: usize, seen: &SpreadSeen);

    /// It has ended.
    fn ended(&self, number: usize, outcome: &Result<Preheated, PreheatError>);
}

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreheatError {
    /// It could not be got.
    #[error("{0}")]
    Get(#[from] GetError),
    /// It could, and no daemon was there to keep it.
    #[error("no daemon of this node could be had, so nothing of it is kept; `dfget doctor` says why")]
    NotKept,
    /// It is here, and not at the other nodes.
    #[error("it is here, but {0}")]
    Spread(#[from] SpreadError),
    /// The program is at fault.
    #[error("it was given up: {0}; please report it")]
    Fault(String),
}

// === impl PreheatError ===

impl PreheatError {
    /// The exit status, as sysexits.h and the shells have it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Get(error) => error.exit_code(),
            Self::NotKept => 75,
            Self::Spread(error) => error.exit_code(),
            Self::Fault(_) => 1,
        }
    }
}

/// Passes on what one download tells, with its number.
struct Numbered {
    number: usize,
    audience: Arc<dyn Audience>,
}

impl Observer for Numbered {
    fn hear(&self, event: Event<'_>) {
        self.audience.hear(self.number, event);
    }
}

/// Gets all that is wanted; one that fails holds up no other. References are begun in their order, and the outcomes
/// are in it too.
///
/// # Cancel safety
/// Dropped at any moment it leaves what has come to the daemon, which goes on from there the next time.
pub async fn preheat(
    wanted: Wanted,
    variables: &Variables,
    audience: Arc<dyn Audience>,
) -> Vec<Result<Preheated, PreheatError>> {
    let turns = Arc::new(Semaphore::new(wanted.at_once.max(1)));
    let mut running = JoinSet::new();
    let count = wanted.references.len();
    for (number, reference) in wanted.references.iter().enumerate() {
        let order = order(reference.clone(), &wanted);
        let observer = Arc::new(Numbered { number, audience: Arc::clone(&audience) });
        let (variables, audience) = (variables.clone(), Arc::clone(&audience));
        let spreading = wanted.spreading.clone();
        // Asked for here, they are begun in their order. The semaphore is never closed.
        let turn = Arc::clone(&turns).acquire_owned().await;
        running.spawn(async move {
            let outcome = match dfget_get::get(order, variables, observer).await {
                Ok((report, _)) if report.direct => Err(PreheatError::NotKept),
                Ok((report, _)) => spread_on(report, spreading, number, &audience).await,
                Err(error) => Err(error.into()),
            };
            audience.ended(number, &outcome);
            drop(turn);
            (number, outcome)
        });
    }
    let mut outcomes: Vec<_> =
        (0..count).map(|_| Err(PreheatError::Fault("it has no end".to_owned()))).collect();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((number, outcome)) => outcomes[number] = outcome,
            Err(lost) => {
                if let Some(open) = outcomes.iter_mut().find(|one| matches!(one, Err(PreheatError::Fault(_))))
                {
                    *open = Err(PreheatError::Fault(lost.to_string()));
                }
            }
        }
    }
    outcomes
}

/// Has other nodes take what is here, if that is wanted.
async fn spread_on(
    report: Report,
    spreading: Option<Spreading>,
    number: usize,
    audience: &Arc<dyn Audience>,
) -> Result<Preheated, PreheatError> {
    let Some(spreading) = spreading else { return Ok(Preheated { report, nodes: None }) };
    if report.contents.is_empty() {
        return Err(SpreadError::Unnamed.into());
    }
    let (contents, audience) = (report.contents.clone(), Arc::clone(audience));
    let spread = move || spreading.spread(contents, &mut |seen| audience.spreads(number, seen));
    let spread = tokio::task::spawn_blocking(spread).await;
    let seen = spread.map_err(|lost| PreheatError::Fault(lost.to_string()))??;
    Ok(Preheated { report, nodes: Some(seen) })
}

fn order(reference: Reference, wanted: &Wanted) -> Order {
    Order {
        reference,
        output: Output::Path(PathBuf::from("/dev/null")),
        replace: false,
        digest: None,
        headers: HeaderMap::new(),
        range: None,
        hints: Hints::default(),
        platform: wanted.platform.clone(),
        login_file: wanted.login_file.clone(),
        rate: None,
        direct: false,
        everything: true,
        cluster: None,
        verbose: wanted.verbose,
    }
}

/// The exit status for all: that of the failures if they share one, else 1.
#[must_use]
pub fn exit_code<T>(outcomes: &[Result<T, PreheatError>]) -> u8 {
    let mut codes = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(PreheatError::exit_code);
    let Some(first) = codes.next() else { return 0 };
    if codes.all(|code| code == first) { first } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_kind_keep_their_status() {
        let late = || Err(PreheatError::NotKept);
        let denied = || {
            Err(PreheatError::Get(GetError::NotAllowed {
                place: "p".to_owned(),
                said: "401".to_owned(),
                remedy: "log in".to_owned(),
            }))
        };
        assert_eq!(exit_code::<()>(&[Ok(()), Ok(())]), 0);
        assert_eq!(exit_code::<()>(&[Ok(()), late(), late()]), 75);
        assert_eq!(exit_code::<()>(&[denied(), Ok(())]), 77);
        assert_eq!(exit_code::<()>(&[denied(), late()]), 1);
    }
}
