//! What registries say of a refusal, as a part of one line.

use serde::Deserialize;

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    errors: Vec<ErrorLine>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct ErrorLine {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says in the body of an error (OCI distribution specification, "Error Codes").
pub(crate) fn said_in(body: &[u8]) -> Option<String> {
    let answer: ErrorAnswer = serde_json::from_slice(body).ok()?;
    let line = answer
        .errors
        .into_iter()
        .next()
        .map(|line| if line.message.is_empty() { line.code } else { line.message });
    [line.unwrap_or_default(), answer.message, answer.details].iter().find_map(|text| words(text))
}

/// A foreign text as a part of one line.
pub(crate) fn words(text: &str) -> Option<String> {
    let line = text.split(|c: char| c.is_control()).find(|line| !line.trim().is_empty())?;
    let line = line.trim();
    Some(line.strip_prefix("dfget: ").unwrap_or(line).chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_one_line() {
        let said = said_in(br#"{"errors":[{"code":"DENIED","message":"not\u001b[31m for you"}]}"#);
        assert_eq!(said.as_deref(), Some("not"), "no escape sequence comes through");
        assert_eq!(said_in(br#"{"errors":[{"code":"DENIED"}]}"#).as_deref(), Some("DENIED"));
        assert_eq!(said_in(br#"{"details":"bad login"}"#).as_deref(), Some("bad login"));
        for none in ["", "<html>", "{}", r#"{"errors":[]}"#] {
            assert_eq!(said_in(none.as_bytes()), None, "{none}");
        }
    }
}
