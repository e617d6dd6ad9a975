//! Sums over what is stored.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::shapes::{Content, RegistryUse, Stat};

/// What is stored, in all and by registry.
#[must_use]
pub fn stat(contents: &[&Content]) -> Stat {
    let mut stat = Stat::default();
    let mut registries: BTreeMap<&str, RegistryUse> = BTreeMap::new();
    for content in contents {
        stat.contents += 1;
        stat.complete += u64::from(content.complete);
        stat.bytes += content.stored_bytes;
        stat.uses += content.uses;
        stat.served_bytes = stat.served_bytes.saturating_add(served_bytes(content));
        if content.origins.is_empty() {
            add(&mut stat.without_registry, content);
        }
        for origin in &content.origins {
            add(registries.entry(&origin.authority).or_default(), content);
        }
    }
    let named =
        registries.into_iter().map(|(authority, sum)| RegistryUse { authority: authority.to_owned(), ..sum });
    stat.registries = named.collect();
    stat.registries.sort_by_key(|registry| Reverse(registry.bytes));
    stat
}

fn add(sum: &mut RegistryUse, content: &Content) {
    sum.contents += 1;
    sum.bytes += content.stored_bytes;
    sum.uses += content.uses;
    sum.served_bytes = sum.served_bytes.saturating_add(served_bytes(content));
}

fn served_bytes(content: &Content) -> u64 {
    content.size.unwrap_or(0).saturating_mul(content.uses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Origin;

    #[test]
    fn a_content_of_two_registries_counts_once_in_all_and_for_both() {
        let origin = |authority: &str| Origin { authority: authority.to_owned(), ..Origin::default() };
        let content = |bytes, uses, origins| Content {
            size: Some(bytes),
            stored_bytes: bytes,
            complete: true,
            uses,
            origins,
            ..Content::default()
        };
        let contents = [
            content(10, 2, vec![origin("https://a"), origin("https://b")]),
            content(5, 1, vec![origin("https://b")]),
            content(1, 0, Vec::new()),
        ];
        let stat = stat(&contents.iter().collect::<Vec<_>>());
        assert_eq!(
            (stat.contents, stat.complete, stat.bytes, stat.uses, stat.served_bytes),
            (3, 3, 16, 3, 25)
        );
        let shown: Vec<_> =
            stat.registries.iter().map(|one| (one.authority.as_str(), one.contents, one.bytes)).collect();
        assert_eq!(shown, [("https://b", 2, 15), ("https://a", 1, 10)]);
        assert_eq!(stat.without_registry.contents, 1);
    }
}
