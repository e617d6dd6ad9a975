//! Which contents are meant, and in which order: the query of `/api/v1/contents`.

use std::cmp::{Ordering, Reverse};

use url::form_urlencoded;

use super::shapes::{Content, Contents, Origin};

/// Filters, order and how many. All filters must agree; none means all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// A digest or its beginning, `sha256:` or not.
    pub digest: Option<String>,
    /// A host (any scheme), `host:port`, or `scheme://host`.
    pub registry: Option<String>,
    /// The repository, or a path of several: `project` means `project/a` too.
    pub repository: Option<String>,
    /// Only whole ones, or only others.
    pub complete: Option<bool>,
    /// Those that were stored at this time or later.
    pub stored_since: Option<u64>,
    /// Those that were not used since this time.
    pub unused_since: Option<u64>,
    /// What comes first.
    pub order: Order,
    /// The other way round.
    pub reverse: bool,
    /// So many at most.
    pub limit: Option<usize>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// What was used last.
    #[default]
    Used,
    /// What was stored last.
    Stored,
    /// What takes most.
    Size,
    /// What was used most often.
    Uses,
    /// By registry and repository.
    Origin,
    /// By key.
    Key,
}

// === impl Order ===

impl Order {
    const ALL: [Self; 6] = [Self::Used, Self::Stored, Self::Size, Self::Uses, Self::Origin, Self::Key];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Stored => "stored",
            Self::Size => "size",
            Self::Uses => "uses",
            Self::Origin => "origin",
            Self::Key => "key",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.as_str() == word)
    }
}

// === impl Selection ===

impl Selection {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut selection = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = || format!("{key}={value} is not understood");
            let number = || value.parse().map_err(|_| wrong());
            let truth = || value.parse().map_err(|_| wrong());
            match &*key {
                "digest" => selection.digest = Some(value.into_owned()),
                "registry" => selection.registry = Some(value.into_owned()),
                "repository" => selection.repository = Some(value.into_owned()),
                "complete" => selection.complete = Some(truth()?),
                "storedSince" => selection.stored_since = Some(number()?),
                "unusedSince" => selection.unused_since = Some(number()?),
                "order" => selection.order = Order::parse(&value).ok_or_else(wrong)?,
                "reverse" => selection.reverse = truth()?,
                "limit" => selection.limit = Some(value.parse().map_err(|_| wrong())?),
                _ => return Err(format!("{key} is no parameter of this call")),
            }
        }
        Ok(selection)
    }

    /// As a query that [`Self::parse`] reads.
    #[must_use]
    pub fn to_query(&self) -> String {
        let text = |key, value: &Option<String>| Some((key, value.clone()?));
        let number = |key, value: Option<u64>| Some((key, value?.to_string()));
        let parts = [
            text("digest", &self.digest),
            text("registry", &self.registry),
            text("repository", &self.repository),
            self.complete.map(|complete| ("complete", complete.to_string())),
            number("storedSince", self.stored_since),
            number("unusedSince", self.unused_since),
            self.limit.map(|limit| ("limit", limit.to_string())),
            Some(("order", self.order.as_str().to_owned())),
            self.reverse.then(|| ("reverse", "true".to_owned())),
        ];
        form_urlencoded::Serializer::new(String::new()).extend_pairs(parts.into_iter().flatten()).finish()
    }

    /// Whether this content is meant.
    #[must_use]
    pub fn admits(&self, content: &Content) -> bool {
        let digest = |wanted: &String| {
            let wanted = wanted.strip_prefix("sha256:").unwrap_or(wanted);
            let own = content.digest.as_deref().unwrap_or_default();
            own.strip_prefix("sha256:").unwrap_or(own).starts_with(wanted) && !own.is_empty()
        };
        let place = self.registry.is_none() && self.repository.is_none()
            || content.origins.iter().any(|origin| {
                let registry = self.registry.as_deref().is_none_or(|wanted| origin.is_at(wanted));
                let repository = |wanted: &str| origin.places.iter().any(|place| is_within(place, wanted));
                registry && self.repository.as_deref().is_none_or(repository)
            });
        self.digest.as_ref().is_none_or(digest)
            && place
            && self.complete.is_none_or(|complete| content.complete == complete)
            && self.stored_since.is_none_or(|since| content.stored_at >= since)
            && self.unused_since.is_none_or(|since| content.last_used_at < since)
    }

    /// Those that are meant of `contents`, in order.
    #[must_use]
    pub fn of(&self, contents: &[&Content]) -> Contents {
        let mut meant: Vec<&Content> =
            contents.iter().copied().filter(|content| self.admits(content)).collect();
        let matched = meant.len() as u64;
        let matched_bytes = meant.iter().map(|content| content.stored_bytes).sum();
        let limit = self.limit.unwrap_or(usize::MAX);
        if limit < meant.len() {
            // Most need not be put in order.
            meant.select_nth_unstable_by(limit, |one, other| self.compare(one, other));
            meant.truncate(limit);
        }
        meant.sort_unstable_by(|one, other| self.compare(one, other));
        Contents { matched, matched_bytes, contents: meant.into_iter().cloned().collect() }
    }

    /// Equal ones are in the order of their names, so that the same question has the same answer.
    fn compare(&self, one: &Content, other: &Content) -> Ordering {
        let size = |content: &Content| Reverse(content.size.max(Some(content.stored_bytes)));
        let order = match self.order {
            Order::Used => other.last_used_at.cmp(&one.last_used_at),
            Order::Stored => other.stored_at.cmp(&one.stored_at),
            Order::Size => size(one).cmp(&size(other)),
            Order::Uses => other.uses.cmp(&one.uses),
            Order::Origin => first_place(one).cmp(&first_place(other)),
            Order::Key => Ordering::Equal,
        };
        let order = order.then_with(|| one.key.cmp(&other.key));
        if self.reverse { order.reverse() } else { order }
    }
}

fn first_place(content: &Content) -> (Option<&str>, Option<&str>) {
    let origin = content.origins.first();
    let place = origin.and_then(|origin| origin.places.first());
    (origin.map(|origin| origin.authority.as_str()), place.map(String::as_str))
}

// === impl Origin ===

impl Origin {
    /// Whether it is the registry that `wanted` names: a host (any scheme), `host:port`, or `scheme://host`.
    #[must_use]
    pub fn is_at(&self, wanted: &str) -> bool {
        let authority = self.authority.as_str();
        let wanted = wanted.trim_end_matches('/').to_ascii_lowercase();
        let host = authority.split_once("://").map_or(authority, |(_, host)| host);
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        [authority, host, name].contains(&wanted.as_str())
    }
}

/// Whether `place` is the path `wanted`, or below it.
fn is_within(place: &str, wanted: &str) -> bool {
    let (place, wanted) = (place.trim_matches('/'), wanted.trim_matches('/'));
    place.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    fn content(key: &str, digest: &str, authority: &str, place: &str, number: u64) -> Content {
        Content {
            key: key.to_owned(),
            digest: Some(format!("sha256:{digest}")),
            origins: vec![Origin {
                authority: authority.to_owned(),
                places: vec![place.to_owned()],
                ..Origin::default()
            }],
            stored_bytes: number,
            last_used_at: number,
            stored_at: 100 - number,
            complete: number > 1,
            ..Content::default()
        }
    }

    fn all() -> Vec<Content> {
        vec![
            content("a", "aa11", "https://r.test", "lab/one", 1),
            content("b", "ab22", "https://r.test:5000", "lab/two", 3),
            content("c", "cc33", "http://s.test", "laboratory", 2),
        ]
    }

    fn keys(selection: &Selection) -> String {
        selection
            .of(&all().iter().collect::<Vec<_>>())
            .contents
            .into_iter()
            .map(|content| content.key)
            .collect()
    }

    #[test]
    fn filters_agree_and_the_order_is_the_same_each_time() {
        let keys = |query: &str| keys(&Selection::parse(query).expect(query));
        assert_eq!(keys(""), "bca");
        assert_eq!(keys("order=stored"), "acb");
        assert_eq!(keys("order=size&reverse=true"), "acb");
        assert_eq!(keys("order=uses"), "abc");
        assert_eq!(keys("order=origin"), "cab");
        assert_eq!(keys("limit=1"), "b");
        assert_eq!(keys("registry=r.test"), "ba");
        assert_eq!(keys("registry=R.test:5000"), "b");
        assert_eq!(keys("registry=http://s.test/"), "c");
        assert_eq!(keys("repository=lab"), "ba");
        assert_eq!(keys("repository=/lab/one/"), "a");
        assert_eq!(keys("registry=s.test&repository=lab"), "");
        assert_eq!(keys("digest=sha256:a"), "ba");
        assert_eq!(keys("digest=cc33"), "c");
        assert_eq!(keys("complete=false"), "a");
        assert_eq!(keys("storedSince=98"), "ca");
        assert_eq!(keys("unusedSince=2"), "a");
    }

    #[test]
    fn what_is_left_off_is_counted() {
        let some = Selection { limit: Some(1), ..Selection::default() };
        let some = some.of(&all().iter().collect::<Vec<_>>());
        assert_eq!((some.matched, some.matched_bytes, some.contents.len()), (3, 6, 1));
    }

    #[test]
    fn a_query_is_read_back_and_a_wrong_one_refused() {
        let selection = Selection {
            digest: Some("sha256:a&b".to_owned()),
            registry: Some("r.test".to_owned()),
            repository: Some("lab/ö".to_owned()),
            complete: Some(true),
            stored_since: Some(1),
            unused_since: Some(2),
            order: Order::Uses,
            reverse: true,
            limit: Some(3),
        };
        assert_eq!(Selection::parse(&selection.to_query()), Ok(selection));
        for wrong in ["limit=-1", "order=best", "complete=yes", "page=2", "storedSince="] {
            assert!(Selection::parse(wrong).is_err(), "{wrong}");
        }
    }
}
