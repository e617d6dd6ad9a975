//! The table of all keys for `docs/configuration.md`.

use super::{Kind, Opt, Support, flatten};

/// A Markdown table of every key of `dfget.yaml`: name, kind, default, whether it works, meaning.
///
/// `docs/configuration.md` holds exactly this between its two marks.
#[must_use]
pub fn reference() -> String {
    let mut table = "| key | takes | default | meaning |\n|---|---|---|---|\n".to_owned();
    for (path, option) in flatten() {
        let default = if option.default.is_empty() { String::new() } else { format!("`{}`", option.default) };
        let kind = kind(&option.kind);
        table.push_str(&format!("| `{path}` | {kind} | {default} | {} |\n", meaning(option)));
    }
    table
}

fn meaning(option: &Opt) -> String {
    let doc = option.doc.replace('|', "\\|");
    match option.support {
        Support::Full => doc,
        Support::Later { effect, .. } => format!("*not yet:* {doc} ({effect})"),
        Support::LaterWithParent => format!("*not yet:* {doc}"),
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "true, false".to_owned(),
        Kind::Integer(min, i64::MAX) => format!("number from {min}"),
        Kind::Integer(min, max) => format!("number {min} to {max}"),
        Kind::Number => "number".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::UnitDuration => "duration with unit".to_owned(),
        Kind::Rate => "rate".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
        Kind::Percent => "percent".to_owned(),
        Kind::Mode => "octal mode".to_owned(),
        Kind::Ports => "port".to_owned(),
        Kind::Ip => "IP address".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Text | Kind::Any | Kind::Secret => "text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Pem => "PEM".to_owned(),
        Kind::Pattern => "pattern".to_owned(),
        Kind::List(item) => format!("list of {}", self::kind(item)),
        Kind::Section(_) => "keys".to_owned(),
        Kind::Sections(_) => "list of keys".to_owned(),
        Kind::Named(_) => "names, each with keys".to_owned(),
        Kind::Map(value) => format!("names, each with {}", self::kind(value)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    const BEGIN: &str = "<!-- made from the code by `DFGET_WRITE_DOCS=1 cargo test -p dfget-config` -->\n";
    const END: &str = "<!-- end of what is made from the code -->\n";

    #[test]
    fn the_reference_in_the_documentation_is_fresh() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the mark before the table");
        let (_, after) = rest.split_once(END).expect("the mark after the table");
        let fresh = format!("{before}{BEGIN}\n{}\n{END}{after}", super::reference());
        if std::env::var_os("DFGET_WRITE_DOCS").is_some() {
            std::fs::write(&path, &fresh).unwrap();
            return;
        }
        assert!(
            text == fresh,
            "docs/configuration.md is stale: run `DFGET_WRITE_DOCS=1 cargo test -p dfget-config`"
        );
    }
}
