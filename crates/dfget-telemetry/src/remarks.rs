//! The last warnings and errors, for whoever looks at the daemon while it runs.
//!
//! What the log says at these levels, in plain words and few: one that comes again is counted and not repeated, and
//! the oldest make room for new ones. Nothing is in them that is not in the log.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// So many are kept.
const MOST: usize = 50;

/// One warning or error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// Its place among all since the process began; it grows, also when an old one comes again.
    pub number: u64,
    /// When it was said last.
    pub at: SystemTime,
    /// It is an error, and no warning.
    pub is_error: bool,
    /// What was said, in one line without control characters.
    pub text: String,
    /// How often, since it is in the list.
    pub times: u64,
}

/// The list. Its size is bounded.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    /// The newest last.
    remarks: VecDeque<Remark>,
    next: u64,
}

// === impl Remarks ===

impl Remarks {
    pub(crate) fn note(&self, is_error: bool, text: String, at: SystemTime) {
        let mut list = self.list.lock();
        list.next += 1;
        let number = list.next;
        let same = |remark: &Remark| remark.is_error == is_error && remark.text == text;
        let before = list.remarks.iter().position(same).and_then(|place| list.remarks.remove(place));
        let times = before.map_or(1, |before| before.times + 1);
        if list.remarks.len() >= MOST {
            list.remarks.pop_front();
        }
        list.remarks.push_back(Remark { number, at, is_error, text, times });
    }

    /// All of them, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Remark> {
        self.list.lock().remarks.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(remarks: &Remarks) -> Vec<(String, u64)> {
        remarks.newest_first().into_iter().map(|remark| (remark.text, remark.times)).collect()
    }

    #[test]
    fn one_that_comes_again_is_counted_and_becomes_the_newest() {
        let remarks = Remarks::default();
        for text in ["a", "b", "a"] {
            remarks.note(false, text.to_owned(), SystemTime::UNIX_EPOCH);
        }
        remarks.note(true, "b".to_owned(), SystemTime::UNIX_EPOCH);
        assert_eq!(texts(&remarks), [("b".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let numbers: Vec<u64> = remarks.newest_first().iter().map(|remark| remark.number).collect();
        assert_eq!(numbers, [4, 3, 2]);
    }

    #[test]
    fn the_oldest_make_room() {
        let remarks = Remarks::default();
        for number in 0..MOST + 10 {
            remarks.note(false, number.to_string(), SystemTime::UNIX_EPOCH);
        }
        let kept = texts(&remarks);
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept.last().map(|(text, _)| text.as_str()), Some("10"));
    }
}
