//! Having the daemon give contents to other nodes of its cluster.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dfget_lease::{
    Channel, FromDaemon, NodeSpread, Nodes, NotSpread, Peer, Spread, SpreadSeen, SpreadState, ToDaemon,
};

/// A daemon tells twice a second how far it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon is told to end a moment before the time is over, so that it can still say how far it came.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Nodes that fail are named, but not more than these.
const SHOWN: usize = 3;

/// Which nodes are to have contents, and who sees to that.
#[derive(Clone, Debug)]
pub struct Spreading {
    /// Where the daemon of this node is asked; the first that answers counts.
    pub sockets: Vec<PathBuf>,
    /// The nodes.
    pub nodes: Nodes,
    /// When to give up.
    pub until: Option<Instant>,
}

/// Why other nodes do not have it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpreadError {
    /// Nothing of it has a name that other nodes could check it by.
    #[error("its URL has no digest, and nodes give each other nothing else; name an image of a registry")]
    Unnamed,
    /// Nobody can be asked.
    #[error("no daemon of this node can be asked to give it to others{0}; start one by `dfget daemon`")]
    NoDaemon(String),
    /// It knows no such orders.
    #[error(
        "the daemon of this node (dfget {0}) is older than this command and fills no other nodes; restart it"
    )]
    Older(String),
    /// It does not do it.
    #[error("the daemon of this node says: {reason}")]
    Refused {
        /// What kind of reason it is.
        cause: NotSpread,
        /// The reason.
        reason: String,
    },
    /// It broke off.
    #[error("the daemon of this node went away meanwhile ({0}); the same command goes on from there")]
    Lost(String),
    /// Not as many nodes as should have it.
    #[error("only {} of {} nodes have it{}", seen.there(), seen.wanted, failures(seen))]
    TooFew {
        /// Which have it, and why others have not.
        seen: SpreadSeen,
    },
}

// === impl SpreadError ===

impl SpreadError {
    /// The exit status, as sysexits.h and the shells have it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoDaemon(_) | Self::Lost(_) | Self::TooFew { .. } => 75,
            Self::Older(_) | Self::Refused { cause: NotSpread::NoCluster, .. } => 78,
            Self::Refused { cause: NotSpread::NotAllowed, .. } => 77,
            Self::Unnamed | Self::Refused { cause: NotSpread::Nodes, .. } => 2,
            Self::Refused { cause: NotSpread::Contents, .. } => 1,
        }
    }
}

/// Why nodes have failed, as the end of a sentence.
fn failures(seen: &SpreadSeen) -> String {
    let failed: Vec<&NodeSpread> =
        seen.nodes.iter().filter(|node| node.state == SpreadState::Failed).collect();
    let mut text = String::new();
    for node in failed.iter().take(SHOWN) {
        let why = node.reason.as_deref().unwrap_or("for no reason that is known");
        text.push_str(&format!("; {}: {why}", node.name));
    }
    if failed.len() > SHOWN {
        text.push_str(&format!("; and {} more", failed.len() - SHOWN));
    }
    text
}

// === impl Spreading ===

impl Spreading {
    /// Asks whether it could be done at all. Blocking.
    ///
    /// # Errors
    /// [`SpreadError`]
    pub fn check(&self) -> Result<(), SpreadError> {
        self.ask(Vec::new(), &mut |_| ()).map(|_| ())
    }

    /// Has the nodes take contents of this one; `heard` is told how far it is. Blocking.
    ///
    /// # Errors
    /// [`SpreadError`]
    pub fn spread(
        &self,
        contents: Vec<String>,
        heard: &mut dyn FnMut(&SpreadSeen),
    ) -> Result<SpreadSeen, SpreadError> {
        let seen = self.ask(contents, heard)?;
        if seen.is_enough() { Ok(seen) } else { Err(SpreadError::TooFew { seen }) }
    }

    fn ask(
        &self,
        contents: Vec<String>,
        heard: &mut dyn FnMut(&SpreadSeen),
    ) -> Result<SpreadSeen, SpreadError> {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let within = left.map(|left| left.saturating_sub(LAST_WORDS));
        let within_ms = within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let wanted = ToDaemon::Spread(Spread { contents, nodes: self.nodes.clone(), within_ms });
        let mut reasons = String::new();
        for socket in &self.sockets {
            match connect(socket) {
                Ok(channel) => return converse(channel, &wanted, heard),
                Err(Some(reason)) => reasons.push_str(&format!("; {}: {reason}", socket.display())),
                Err(None) => {}
            }
        }
        Err(SpreadError::NoDaemon(reasons))
    }
}

/// A connection to a daemon that is trusted; `Err(None)` if nobody is there.
fn connect(socket: &Path) -> Result<Channel, Option<String>> {
    let channel = Channel::connect(socket, PATIENCE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => None,
        _ => Some(error.to_string()),
    })?;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let peer = Peer::of(channel.stream()).map_err(|error| Some(error.to_string()))?;
    peer.trusted(&passwd).map_err(|error| Some(error.to_string()))?;
    Ok(channel)
}

fn converse(
    mut channel: Channel,
    wanted: &ToDaemon,
    heard: &mut dyn FnMut(&SpreadSeen),
) -> Result<SpreadSeen, SpreadError> {
    let lost = |error: io::Error| SpreadError::Lost(error.to_string());
    channel.send(wanted, &[]).map_err(lost)?;
    loop {
        match channel.receive::<FromDaemon>().map_err(lost)? {
            Some(FromDaemon::Spread(seen)) if seen.ended => return Ok(seen),
            Some(FromDaemon::Spread(seen)) => heard(&seen),
            Some(FromDaemon::NotSpread { cause, reason }) => {
                return Err(SpreadError::Refused { cause, reason });
            }
            // To one that does not know the question it is no question at all.
            Some(FromDaemon::Refused { version, .. }) => return Err(SpreadError::Older(version)),
            Some(_) => return Err(SpreadError::Lost("it answers something else".to_owned())),
            None => return Err(SpreadError::Lost("it closed the connection".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What a daemon that gives these answers leads to.
    fn answered(answers: Vec<FromDaemon>) -> (Result<SpreadSeen, SpreadError>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut channel = Channel::over(stream);
            let asked = channel.receive::<ToDaemon>().unwrap();
            for answer in answers {
                channel.send(&answer, &[]).unwrap();
            }
            asked
        });
        let until = Some(Instant::now() + Duration::from_secs(60));
        let sockets = vec![dir.path().join("nobody"), socket];
        let spreading = Spreading { sockets, nodes: Nodes::Number(2), until };
        let mut told = 0;
        let outcome = spreading.spread(vec!["u".to_owned()], &mut |_| told += 1);
        let Some(ToDaemon::Spread(asked)) = daemon.join().unwrap() else { panic!("another question") };
        assert!(asked.within_ms.is_some_and(|within| within < 60_000) && asked.nodes == Nodes::Number(2));
        (outcome, told)
    }

    fn seen(states: &[SpreadState], ended: bool) -> FromDaemon {
        let node = |(number, state): (usize, &SpreadState)| NodeSpread {
            name: format!("n{number}:1"),
            state: *state,
            reason: (*state == SpreadState::Failed).then(|| "no".to_owned()),
            ..NodeSpread::default()
        };
        let nodes = states.iter().enumerate().map(node).collect();
        FromDaemon::Spread(SpreadSeen { total: 1, wanted: 2, nodes, ended })
    }

    #[test]
    fn it_is_heard_how_far_it_is_until_enough_nodes_have_it() {
        use SpreadState::{Coming, Failed, There};
        let words = vec![seen(&[There, Coming], false), seen(&[There, Failed, There], true)];
        let (outcome, told) = answered(words);
        assert_eq!((outcome.unwrap().there(), told), (2, 1));
        let (outcome, _) = answered(vec![seen(&[There, Failed, Failed, Failed, Failed], true)]);
        let few = outcome.unwrap_err();
        assert_eq!(few.exit_code(), 75);
        let said = "only 1 of 2 nodes have it; n1:1: no; n2:1: no; n3:1: no; and 1 more";
        assert_eq!(few.to_string(), said);
    }

    #[test]
    fn each_refusal_has_its_status() {
        let refused = |cause| FromDaemon::NotSpread { cause, reason: "why".to_owned() };
        let old = FromDaemon::Refused { protocol: 1, version: "0.1.0".into(), reason: "no request".into() };
        for (answer, code, said) in [
            (refused(NotSpread::NoCluster), 78, "why"),
            (refused(NotSpread::NotAllowed), 77, "why"),
            (refused(NotSpread::Nodes), 2, "why"),
            (refused(NotSpread::Contents), 1, "why"),
            (old, 78, "(dfget 0.1.0) is older"),
        ] {
            let error = answered(vec![answer]).0.unwrap_err();
            assert!(error.exit_code() == code && error.to_string().contains(said), "{error}");
        }
        let error = answered(Vec::new()).0.unwrap_err();
        assert!(matches!(error, SpreadError::Lost(_)), "{error}");
        let nobody = Spreading { sockets: vec!["/nowhere".into()], nodes: Nodes::All, until: None };
        assert_eq!(nobody.check().unwrap_err().exit_code(), 75);
    }
}
