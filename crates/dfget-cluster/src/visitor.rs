//! What somebody needs who only asks the members how they are: no port, and no place among them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::door::Dialer;
use crate::identity::Identity;
use crate::key_file::read_key;
use crate::local::{local_addresses, system_hostname};
use crate::members::{Itself, Members, Resolver};
use crate::setup::{ClusterError, ClusterOptions};

/// Somebody with the key of a cluster, for a short time.
#[derive(Debug)]
pub struct Visitor {
    /// The members, as they are named now.
    pub members: watch::Receiver<Arc<Members>>,
    /// Goes to them.
    pub dialer: Dialer,
    /// Tells this key from others.
    pub key_fingerprint: String,
    /// What is odd with the lists of members.
    pub remarks: Vec<String>,
}

// === impl Visitor ===

impl Visitor {
    /// Reads the key and the lists of members; DNS gets no longer than `patience`. A missing key is
    /// not made, and no name of a member is looked up.
    ///
    /// # Errors
    /// [`ClusterError`]: nobody would answer, and why.
    pub async fn prepare(options: &ClusterOptions, patience: Duration) -> Result<Self, ClusterError> {
        let (port, _) = options.ports()?;
        let key = read_key(&options.key_file)?;
        let mut hostnames = options.hostname.iter().cloned().chain([system_hostname()]).collect::<Vec<_>>();
        hostnames.extend(options.aliases.iter().cloned());
        for name in &mut hostnames {
            name.make_ascii_lowercase();
        }
        let names: Vec<String> = local_addresses().iter().map(ToString::to_string).collect();
        let identity = Identity::from_key(&key, &names)?;
        let (hosts, mut remarks) = options.sources.read(patience).await;
        let addresses = local_addresses().into_iter().chain(options.advertise).collect();
        let itself = Itself { hostnames, addresses, port };
        let (members, odd) = Members::as_listed(hosts, &itself, Arc::<Resolver>::default());
        remarks.extend(odd);
        Ok(Self {
            members: watch::channel(Arc::new(members)).1,
            dialer: Dialer { tls: Some(identity.client()) },
            key_fingerprint: key.fingerprint(),
            remarks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Sources;
    use crate::{ClusterKey, KeyFileError};

    #[tokio::test]
    async fn a_visitor_knows_the_members_and_makes_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            hostlists: vec!["none[1-2].invalid,127.0.0.1".to_owned()],
            file: Some(directory.path().join("nothing")),
            ..Sources::default()
        };
        let key_file = directory.path().join("cluster.key");
        let options = ClusterOptions { sources, key_file, make_key: true, ..ClusterOptions::default() };
        let refused = Visitor::prepare(&options, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(refused, ClusterError::Key(KeyFileError::Missing { .. })), "{refused}");

        std::fs::write(&options.key_file, ClusterKey::generate().unwrap().to_text().as_bytes()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&options.key_file, mode).unwrap();
        let visitor = Visitor::prepare(&options, Duration::from_secs(1)).await.unwrap();
        let members = visitor.members.borrow();
        assert_eq!((members.all().len(), members.me()), (3, Some("127.0.0.1:65000")));
        assert!(
            visitor.remarks.iter().any(|remark| remark.contains("cluster.membersFile")),
            "{:?}",
            visitor.remarks
        );
    }
}
