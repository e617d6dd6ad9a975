//! Lists of hosts as Slurm writes them: `node[001-128,200]`.
//!
//! What `scontrol show hostlist` and `SLURM_JOB_NODELIST` hold, and two things more: addresses
//! (`10.1.0.[1-64]`, `2001:db8::1`), and a port after a host (`node[1-4]:65000`,
//! `[2001:db8::1]:65000`).

use std::fmt;
use std::net::Ipv6Addr;

/// One host of a list.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListedHost {
    /// Its name or address, in lower case. An IPv6 address is without brackets.
    pub host: String,
    /// The port that the list gives it.
    pub port: Option<u16>,
}

/// Where a list is wrong, and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem} at character {at}")]
pub struct HostlistError {
    /// The character, from 1.
    pub at: usize,
    /// What is wrong there.
    pub problem: HostlistProblem,
}

/// What can be wrong with a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HostlistProblem {
    /// No host at all.
    Empty,
    /// A character that no host name has.
    Character(char),
    /// A `[` without `]`.
    Unclosed,
    /// A `]` without `[`.
    Unopened,
    /// No number where one should be.
    NoNumber,
    /// A number of more than 18 digits.
    LongNumber,
    /// A range from a larger number to a smaller one.
    Backwards,
    /// No port from 1 to 65535 after the colon.
    Port,
    /// A host of more than 253 characters.
    LongName,
    /// More hosts than [`MOST_HOSTS`].
    TooMany,
}

impl fmt::Display for HostlistProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("there is no host"),
            Self::Character(c) => write!(formatter, "{c:?} is in no host name"),
            Self::Unclosed => formatter.write_str("a `[` without its `]`"),
            Self::Unopened => formatter.write_str("a `]` without its `[`"),
            Self::NoNumber => formatter.write_str("a number is missing"),
            Self::LongNumber => formatter.write_str("a number of more than 18 digits"),
            Self::Backwards => formatter.write_str("a range that runs backwards"),
            Self::Port => formatter.write_str("no port from 1 to 65535"),
            Self::LongName => formatter.write_str("a host of more than 253 characters"),
            Self::TooMany => write!(formatter, "more than {MOST_HOSTS} hosts"),
        }
    }
}

/// All hosts of a list, in its order; the last brackets of a host run fastest.
///
/// # Errors
/// [`HostlistError`]. Nothing is expanded before it is known to be of at most [`MOST_HOSTS`].
pub fn expand_hostlist(text: &str) -> Result<Vec<ListedHost>, HostlistError> {
    let mut reader = Reader { rest: text, at: 1 };
    let mut hosts = Vec::new();
    loop {
        reader.skip(|c| c == ',' || c.is_whitespace());
        if reader.rest.is_empty() {
            break;
        }
        let start = reader.at;
        let item = reader.item()?;
        let room = MOST_HOSTS - hosts.len();
        if item.count() > room {
            return Err(HostlistError { at: start, problem: HostlistProblem::TooMany });
        }
        for host in item.expand() {
            if host.len() > MOST_CHARACTERS {
                return Err(HostlistError { at: start, problem: HostlistProblem::LongName });
            }
            hosts.push(ListedHost { host, port: item.port });
        }
    }
    if hosts.is_empty() {
        return Err(reader.wrong(HostlistProblem::Empty));
    }
    Ok(hosts)
}

/// One element of a list, before it is expanded.
#[derive(Default)]
struct Item {
    parts: Vec<Part>,
    port: Option<u16>,
}

enum Part {
    Text(String),
    Ranges(Vec<Range>),
}

/// From and to, and the digits that a number has at least.
struct Range {
    first: u64,
    last: u64,
    width: usize,
}

// === impl Item ===

impl Item {
    fn count(&self) -> usize {
        self.parts.iter().fold(1, |count, part| match part {
            Part::Text(_) => count,
            Part::Ranges(ranges) => {
                let of = |range: &Range| usize::try_from(range.last - range.first).unwrap_or(usize::MAX);
                let sum = ranges.iter().fold(0_usize, |sum, r| sum.saturating_add(of(r)).saturating_add(1));
                count.saturating_mul(sum)
            }
        })
    }

    fn expand(&self) -> Vec<String> {
        let mut hosts = vec![String::new()];
        for part in &self.parts {
            match part {
                Part::Text(text) => hosts.iter_mut().for_each(|host| host.push_str(text)),
                Part::Ranges(ranges) => {
                    let longer = |host: &String| {
                        ranges
                            .iter()
                            .flat_map(Range::numbers)
                            .map(|n| format!("{host}{n}"))
                            .collect::<Vec<_>>()
                    };
                    hosts = hosts.iter().flat_map(longer).collect();
                }
            }
        }
        hosts
    }
}

// === impl Range ===

impl Range {
    fn numbers(&self) -> impl Iterator<Item = String> + '_ {
        (self.first..=self.last).map(|number| format!("{number:0width$}", width = self.width))
    }
}

/// Reads a list from left to right.
struct Reader<'a> {
    rest: &'a str,
    /// The next character, from 1.
    at: usize,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    const fn wrong(&self, problem: HostlistProblem) -> HostlistError {
        HostlistError { at: self.at, problem }
    }

    /// Steps over the characters that `accept` takes.
    fn skip(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let length = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.at += taken.chars().count();
        taken
    }

    /// Steps over this character if it is next.
    fn take(&mut self, wanted: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        self.rest = rest;
        self.at += 1;
        true
    }

    fn item(&mut self) -> Result<Item, HostlistError> {
        if let Some(item) = self.ipv6()? {
            return Ok(item);
        }
        let mut item = Item::default();
        loop {
            match self.rest.chars().next() {
                None | Some(',') => return Ok(item),
                Some(c) if c.is_whitespace() => return Ok(item),
                Some('[') => item.parts.push(Part::Ranges(self.ranges()?)),
                Some(']') => return Err(self.wrong(HostlistProblem::Unopened)),
                Some(':') if !item.parts.is_empty() => {
                    item.port = Some(self.port()?);
                    return Ok(item);
                }
                Some(c) if is_of_name(c) => {
                    item.parts.push(Part::Text(self.skip(is_of_name).to_ascii_lowercase()));
                }
                Some(c) => return Err(self.wrong(HostlistProblem::Character(c))),
            }
        }
    }

    /// An address of IPv6, with brackets and perhaps a port, or without.
    fn ipv6(&mut self) -> Result<Option<Item>, HostlistError> {
        let end = self.rest.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(self.rest.len());
        let (word, _) = self.rest.split_at(end);
        let in_brackets = word.strip_prefix('[').and_then(|word| word.split_once(']'));
        let (text, brackets) = in_brackets.map_or((word, 0), |(inner, _)| (inner, 2));
        let Ok(address) = text.parse::<Ipv6Addr>() else { return Ok(None) };
        let (_, rest) = self.rest.split_at(text.len() + brackets);
        self.rest = rest;
        self.at += text.len() + brackets;
        let port = if self.rest.starts_with(':') { Some(self.port()?) } else { None };
        Ok(Some(Item { parts: vec![Part::Text(address.to_string())], port }))
    }

    /// `[1-3,7]`.
    fn ranges(&mut self) -> Result<Vec<Range>, HostlistError> {
        let opened = HostlistError { at: self.at, problem: HostlistProblem::Unclosed };
        self.take('[');
        let mut ranges = Vec::new();
        loop {
            self.skip(char::is_whitespace);
            if self.rest.is_empty() {
                return Err(opened);
            }
            let start = self.at;
            let (first, width) = self.number()?;
            let last = if self.take('-') { self.number()?.0 } else { first };
            if last < first {
                return Err(HostlistError { at: start, problem: HostlistProblem::Backwards });
            }
            ranges.push(Range { first, last, width });
            self.skip(char::is_whitespace);
            if self.take(']') {
                return Ok(ranges);
            }
            if !self.take(',') {
                let next = self.rest.chars().next();
                return Err(next.map_or(opened, |c| self.wrong(HostlistProblem::Character(c))));
            }
        }
    }

    /// A number and how many digits it is written with.
    fn number(&mut self) -> Result<(u64, usize), HostlistError> {
        let start = self.at;
        let wrong = |problem| HostlistError { at: start, problem };
        let digits = self.skip(|c| c.is_ascii_digit());
        match digits.len() {
            0 => Err(wrong(HostlistProblem::NoNumber)),
            1..=18 => {
                let number = digits.parse().map_err(|_| wrong(HostlistProblem::NoNumber))?;
                Ok((number, digits.len()))
            }
            _ => Err(wrong(HostlistProblem::LongNumber)),
        }
    }

    /// `:65000`, and nothing behind it.
    fn port(&mut self) -> Result<u16, HostlistError> {
        self.take(':');
        let wrong = self.wrong(HostlistProblem::Port);
        let digits = self.skip(|c| c != ',' && !c.is_whitespace());
        let port = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
        port.flatten().filter(|port| *port != 0).ok_or(wrong)
    }
}

/// Letters, digits, and what stands in names and addresses besides.
const fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

/// Hosts of a list, at most.
pub const MOST_HOSTS: usize = 65_536;
/// Characters of a host name, at most (RFC 1035 section 2.3.4).
const MOST_CHARACTERS: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        let shown = |host: ListedHost| match host.port {
            Some(port) => format!("{} {port}", host.host),
            None => host.host,
        };
        expand_hostlist(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .into_iter()
            .map(shown)
            .collect()
    }

    #[test]
    fn the_forms_that_scontrol_prints_are_read() {
        assert_eq!(hosts("login"), ["login"]);
        assert_eq!(hosts("node[1-3]"), ["node1", "node2", "node3"]);
        assert_eq!(hosts("node[098-101,200]"), ["node098", "node099", "node100", "node101", "node200"]);
        assert_eq!(hosts("n[8-11]"), ["n8", "n9", "n10", "n11"]);
        assert_eq!(hosts("n[08-11]"), ["n08", "n09", "n10", "n11"]);
        assert_eq!(hosts("a[1-2]b[01-02]"), ["a1b01", "a1b02", "a2b01", "a2b02"]);
        assert_eq!(hosts("rack[1-2]-gpu,login[3]"), ["rack1-gpu", "rack2-gpu", "login3"]);
        assert_eq!(hosts("c_[0-1].hpc.example"), ["c_0.hpc.example", "c_1.hpc.example"]);
        assert_eq!(hosts("nid[000012-000013,001024]"), ["nid000012", "nid000013", "nid001024"]);
        assert_eq!(hosts("NodeA,, nodeB ,\n[1-2]x,"), ["nodea", "nodeb", "1x", "2x"]);
    }

    #[test]
    fn addresses_and_ports_are_read() {
        assert_eq!(hosts("10.1.0.[1-3]"), ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
        assert_eq!(hosts("node[1-2]:7000,10.0.0.9:1"), ["node1 7000", "node2 7000", "10.0.0.9 1"]);
        assert_eq!(hosts("2001:DB8::1,::1"), ["2001:db8::1", "::1"]);
        assert_eq!(hosts("[2001:db8::1]:65000,[::2],a"), ["2001:db8::1 65000", "::2", "a"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = |text: &str| expand_hostlist(text).unwrap_err().to_string();
        assert_eq!(wrong(""), "there is no host at character 1");
        assert_eq!(wrong(" , "), "there is no host at character 4");
        assert_eq!(wrong("node[1-3"), "a `[` without its `]` at character 5");
        assert_eq!(wrong("node[1-3,"), "a `[` without its `]` at character 5");
        assert_eq!(wrong("a,node1-3]"), "a `]` without its `[` at character 10");
        assert_eq!(wrong("node[]"), "a number is missing at character 6");
        assert_eq!(wrong("node[1-]"), "a number is missing at character 8");
        assert_eq!(wrong("node[a-c]"), "a number is missing at character 6");
        assert_eq!(wrong("node[1,5-3]"), "a range that runs backwards at character 8");
        assert_eq!(wrong("node[1/2]"), "'/' is in no host name at character 7");
        assert_eq!(wrong("n\u{f6}de"), "'\u{f6}' is in no host name at character 2");
        assert_eq!(wrong("(null)"), "'(' is in no host name at character 1");
        assert_eq!(wrong("a;b"), "';' is in no host name at character 2");
        assert_eq!(wrong("a:0"), "no port from 1 to 65535 at character 3");
        assert_eq!(wrong("a:+7"), "no port from 1 to 65535 at character 3");
        assert_eq!(wrong("a:70000"), "no port from 1 to 65535 at character 3");
        assert_eq!(wrong(":7"), "':' is in no host name at character 1");
        assert_eq!(
            wrong(&format!("n[{}]", "9".repeat(19))),
            "a number of more than 18 digits at character 3"
        );
        assert_eq!(wrong(&"a".repeat(254)), "a host of more than 253 characters at character 1");
    }

    #[test]
    fn no_list_grows_beyond_its_bound() {
        assert_eq!(hosts("n[1-65536]").len(), MOST_HOSTS);
        for text in [
            "n[1-65537]",
            "n[0-999999999999999999]",
            "n[1-65536],m",
            "a[1-1000]b[1-1000]c[1-1000]d[1-1000]e[1-1000]f[1-1000]g[1-1000]h[1-1000]",
        ] {
            let error = expand_hostlist(text).unwrap_err();
            assert_eq!(error.problem, HostlistProblem::TooMany, "{text}");
        }
    }
}
