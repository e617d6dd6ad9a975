//! Challenges: how an origin asks for a login (RFC 9110, section 11.6.1).

/// One challenge of a `WWW-Authenticate` header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Challenge {
    /// The scheme in lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

// === impl Challenge ===

impl Challenge {
    /// All challenges of a header's value. What cannot be read ends the list.
    pub(crate) fn all(value: &str) -> Vec<Self> {
        let mut rest = value;
        let mut found: Vec<Self> = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (word, after) = token(rest);
            if word.is_empty() {
                return found;
            }
            let spaced = after.trim_start_matches([' ', '\t']);
            match (spaced.strip_prefix('='), found.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
                        return found;
                    };
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                    rest = after;
                }
                (Some(_), None) => return found,
                (None, _) => {
                    found.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                    rest = after;
                }
            }
        }
    }

    /// A parameter by its name in lower case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c));
    text.split_at(end.unwrap_or(text.len()))
}

/// A token or a quoted text, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries leave the quotes out around URLs.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_header_may_hold_several_challenges() {
        let all = Challenge::all(
            r#"Basic realm="a, \"b\"", Bearer realm="https://auth.example/token?x=1", service=reg.example , scope="repository:a/b:pull,push""#,
        );
        let schemes: Vec<_> = all.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer"]);
        assert_eq!(all[0].parameter("realm"), Some("a, \"b\""));
        assert_eq!(all[1].parameter("realm"), Some("https://auth.example/token?x=1"));
        assert_eq!(all[1].parameter("service"), Some("reg.example"));
        assert_eq!(all[1].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(all[1].parameter("error"), None);
    }

    #[test]
    fn what_is_none_gives_none() {
        for text in ["", ",", "realm=\"x\"", "=", "\"x\""] {
            assert!(Challenge::all(text).is_empty(), "{text}");
        }
        assert_eq!(Challenge::all("Negotiate").len(), 1);
        assert_eq!(
            Challenge::all("Bearer realm=\"open").first().and_then(|one| one.parameter("realm")),
            None
        );
    }

    proptest! {
        #[test]
        fn any_value_is_survived(value in ".{0,80}") {
            let _ = Challenge::all(&value);
        }
    }
}
