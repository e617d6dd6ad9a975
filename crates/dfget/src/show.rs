//! `dfget config show` and `dfget config reference`.

use std::process::ExitCode;

use dfget_config::{
    ConfigErrors, Environment, LoadOptions, Plain, Setting, Settings, Source, load_without_authority,
};
use serde_json::{Value, json};

use crate::{
    arguments::{Output, ShowArguments},
    message,
};

/// Prints the configuration as it is in effect.
pub(crate) fn run(arguments: ShowArguments, environment: &Environment) -> ExitCode {
    let ShowArguments { config, console, verbose, cluster, cluster_port, output } = arguments;
    let options = LoadOptions { config, console, verbose, cluster, cluster_port, ..LoadOptions::default() };
    // What the authority is does not matter here, and not everybody may read its key.
    let loaded = match load_without_authority(&options, environment) {
        Ok(loaded) => loaded,
        Err(failed) => {
            message::diagnostics(failed.errors.iter().chain(&failed.warnings));
            return ExitCode::from(ConfigErrors::EXIT_CODE);
        }
    };
    message::diagnostics(&loaded.warnings);
    let printed = match output {
        Output::Text => message::output(loaded.settings.to_yaml(false).trim_end()),
        Output::Json => message::output(json_of(&loaded.settings, &loaded.source.display().to_string())),
    };
    message::printed(printed)
}

/// Prints the table of all keys, as it stands in the documentation.
pub(crate) fn reference() -> ExitCode {
    message::printed(message::output(dfget_config::reference().trim_end()))
}

/// `version` grows when a field changes its meaning or goes.
fn json_of(settings: &Settings, file: &str) -> Value {
    let keys = settings.iter().filter(|setting| !setting.is_section()).map(setting);
    json!({ "version": 1, "file": file, "settings": keys.collect::<Vec<_>>() })
}

fn setting(setting: &Setting) -> Value {
    let name = match setting.source {
        Source::Flag(name) | Source::Environment(name) => Some(name),
        Source::File(_) | Source::Default | Source::Unset => None,
    };
    let place = setting.place();
    json!({
        "key": setting.key,
        "value": value(&setting.value()),
        "redacted": setting.is_secret(),
        "source": {
            "kind": setting.source.as_str(),
            "name": name,
            "file": place.map(|place| place.file.display().to_string()),
            "line": place.and_then(|place| place.line),
        },
    })
}

fn value(plain: &Plain) -> Value {
    match plain {
        Plain::Nothing => Value::Null,
        Plain::Boolean(value) => json!(value),
        Plain::Number(value) => json!(value),
        Plain::Text(text) => json!(text),
        Plain::List(items) => items.iter().map(value).collect(),
        Plain::Map(entries) => entries.iter().map(|(key, item)| (key.clone(), value(item))).collect(),
    }
}
