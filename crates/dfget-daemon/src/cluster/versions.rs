//! Members that run another version than this node.

use std::collections::HashMap;

use super::survey::shown;

/// So many are told of one by one; then it is known that the cluster is mixed.
const MOST: usize = 16;

/// What was told of whom.
pub(super) struct Versions {
    own: &'static str,
    told: HashMap<String, String>,
}

// === impl Versions ===

impl Versions {
    pub(super) fn new(own: &'static str) -> Self {
        Self { own, told: HashMap::new() }
    }

    /// What is to be said of a member with this version, once; again only when it changes.
    pub(super) fn heard(&mut self, member: &str, version: &str) -> Option<String> {
        if version == self.own {
            self.told.remove(member);
            return None;
        }
        let version = shown(version);
        if self.told.get(member) == Some(&version) || self.told.len() >= MOST {
            return None;
        }
        self.told.insert(member.to_owned(), version.clone());
        let more = match self.told.len() {
            MOST => "; more members may differ (`dfget cluster status`)",
            _ => "",
        };
        let own = self.own;
        Some(format!("{member} runs dfget {version}, this node {own}: nodes of one version work best{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_once_and_not_for_ever() {
        let mut versions = Versions::new("1.0.0");
        assert_eq!(versions.heard("n1:1", "1.0.0"), None);
        let remark = versions.heard("n2:1", "0.9.0").unwrap();
        assert!(remark.starts_with("n2:1 runs dfget 0.9.0, this node 1.0.0"), "{remark}");
        assert_eq!(versions.heard("n2:1", "0.9.0"), None);
        assert!(versions.heard("n2:1", "0.9.1").is_some());
        assert_eq!(versions.heard("n2:1", "1.0.0"), None);
        assert!(versions.heard("n2:1", "0.9.1").is_some(), "it has gone back");
        let told =
            (0..100).filter_map(|node| versions.heard(&format!("m{node}:1"), "2.0.0")).collect::<Vec<_>>();
        assert_eq!(told.len(), MOST - 1);
        assert!(told.last().unwrap().ends_with("more members may differ (`dfget cluster status`)"));
    }
}
