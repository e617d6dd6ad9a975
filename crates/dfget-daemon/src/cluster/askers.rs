//! Which nodes have asked for what lately, to be shown.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long somebody who asked counts as a child.
const LATELY: Duration = Duration::from_secs(30);

/// Pairs of a task and a node that are kept at most; more are not shown.
const MOST: usize = 16_384;

/// A task and a node, and when that asked last.
type Asked = HashMap<(Arc<str>, IpAddr), Instant>;

/// Who has asked for which task. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Askers {
    asked: Arc<Mutex<Asked>>,
}

// === impl Askers ===

impl Askers {
    /// Notes that `node` was given something of `task`.
    pub(super) fn note(&self, task: &str, node: IpAddr) {
        let now = Instant::now();
        let mut asked = self.asked.lock();
        if asked.len() >= MOST {
            asked.retain(|_, at| now.duration_since(*at) < LATELY);
        }
        if asked.len() < MOST {
            asked.insert((task.into(), node), now);
        }
    }

    /// The nodes that have asked for `task` lately, in order.
    pub(crate) fn of(&self, task: &str) -> Vec<String> {
        let asked = self.asked.lock();
        let of_task = asked.iter().filter(|((other, _), at)| &**other == task && at.elapsed() < LATELY);
        let mut nodes: Vec<_> = of_task.map(|((_, node), _)| *node).collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|node| node.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_told_who_asked_for_the_task() {
        let askers = Askers::default();
        for (task, node) in
            [("a", [10, 0, 0, 2]), ("a", [10, 0, 0, 1]), ("a", [10, 0, 0, 2]), ("b", [10, 0, 0, 3])]
        {
            askers.note(task, node.into());
        }
        assert_eq!(askers.of("a"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(askers.of("c"), Vec::<String>::new());
    }
}
