//! How many connections there may be, of all and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The connections that there are.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one connection, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

// === impl Places ===

impl Places {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, taken: Mutex::default() })
    }

    /// A place for a connection from `address`, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock();
        let of_one = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.most || of_one >= self.most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, of_one + 1);
        drop(taken);
        Some(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        let of_one = taken.by_address.get(&self.address).copied().unwrap_or_default();
        if of_one <= 1 {
            taken.by_address.remove(&self.address);
        } else {
            taken.by_address.insert(self.address, of_one - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_all_together_theirs() {
        let places = Places::new(3, 2);
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = places.enter(one).unwrap();
        let _second = places.enter(one).unwrap();
        assert!(places.enter(one).is_none());
        let _third = places.enter(other).unwrap();
        assert!(places.enter(other).is_none(), "all are taken");
        drop(first);
        let _fourth = places.enter(one).unwrap();
        assert_eq!(places.taken.lock().by_address.len(), 2);
    }
}
