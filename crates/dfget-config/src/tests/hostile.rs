//! No text stops the program, and every message has its place within the text.

use proptest::prelude::*;

use super::load_text;

fn key() -> impl Strategy<Value = String> {
    let known: Vec<String> = crate::options::flatten()
        .into_iter()
        .filter_map(|(path, _)| path.rsplit('.').next().map(str::to_owned))
        .collect();
    prop_oneof![proptest::sample::select(known), "[a-zA-Z<>]{0,6}", Just(r#""a\n\e[31mb""#.to_owned())]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "'[a-z.:/$^<>(){}]{0,12}'",
        "[0-9]{1,20}(ms|s|h|Gi|M|)",
        Just("~".to_owned()),
        Just("*a".to_owned()),
        Just("ca.crt".to_owned()),
    ]
}

fn yaml() -> impl Strategy<Value = String> {
    let leaf = value();
    let node = leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec((key(), inner), 0..4).prop_map(|pairs| {
                let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    });
    proptest::collection::vec((key(), node), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| format!("{key}: {value}\n")).collect())
}

fn check(text: &[u8]) {
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() + 2;
    let diagnostics = match load_text(text) {
        Ok(loaded) => loaded.warnings,
        Err(failed) => {
            assert!(!failed.errors.is_empty());
            failed.errors
        }
    };
    for diagnostic in diagnostics {
        let line = diagnostic.location.as_ref().and_then(|location| location.line).unwrap_or(1);
        assert!(line >= 1 && line as usize <= lines, "{diagnostic} of {lines} lines");
        assert!(!diagnostic.to_string().contains(char::is_control), "{diagnostic:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_stop_the_program(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn no_text_that_looks_like_a_configuration_stops_the_program(text in yaml()) {
        check(text.as_bytes());
    }
}
