//! Which scheduler a task belongs to (Dragonfly client 1.5.10: SipHash-2-4, 512 points a name).

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

/// Points on the ring for each name.
const POINTS: u64 = 512;

/// The members on a ring of hashes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ring {
    names: Vec<String>,
    /// Position, and whose it is; sorted.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of these names, `name:port` each.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        let mut points = Vec::with_capacity(names.len() * 512);
        for (index, name) in names.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            points.extend((0..POINTS).map(|id| (position(Some(id), name), index)));
        }
        points.sort_unstable();
        Self { names, points }
    }

    /// All names, the one that the task belongs to first, then who takes over, in order.
    pub fn order(&self, task: &str) -> impl Iterator<Item = &str> {
        let key = position(None, task);
        let first = self.points.partition_point(|(position, _)| *position < key);
        let mut seen = vec![false; self.names.len()];
        let (before, from) = self.points.split_at(first);
        let members = from.iter().chain(before).map(|(_, index)| *index as usize);
        members
            .filter(move |&index| seen.get_mut(index).is_some_and(|seen| !std::mem::replace(seen, true)))
            .filter_map(|index| self.names.get(index).map(String::as_str))
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// The position of a name's point, or of a task.
fn position(id: Option<u64>, name: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    if let Some(id) = id {
        hasher.write(&id.to_le_bytes());
    }
    hasher.write(name.as_bytes());
    hasher.write(&[0xff]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_public_vectors() {
        assert_eq!(position(Some(0), "seed-peer-1"), 0x1e5a_582b_8d94_5969);
        assert_eq!(position(None, "test-task"), 0xa78d_d821_b402_3714);
    }

    #[test]
    fn a_task_belongs_to_the_member_of_the_public_vectors() {
        let ring = Ring::new((0..3).map(|n| format!("default-seed-client-{n}")));
        assert_eq!(ring.order(&"0".repeat(64)).next(), Some("default-seed-client-1"));
        let ring = Ring::new(["127.0.0.1:18002", "127.0.0.1:18012", "127.0.0.1:18022"].map(String::from));
        assert_eq!(ring.order(&"a".repeat(64)).next(), Some("127.0.0.1:18002"));
        assert_eq!(ring.order(&"b".repeat(64)).next(), Some("127.0.0.1:18012"));
    }

    #[test]
    fn who_takes_over_is_everybody_once_and_the_same_for_all() {
        let ring = Ring::new((0..50).map(|n| format!("node{n:03}:65000")));
        let order: Vec<_> = ring.order("a task").collect();
        assert_eq!(order.len(), 50);
        let without = Ring::new(order.iter().skip(1).map(|name| (*name).to_owned()));
        assert_eq!(without.order("a task").collect::<Vec<_>>(), order[1..]);
        assert_eq!(Ring::default().order("a task").next(), None);
    }
}
