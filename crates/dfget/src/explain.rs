//! `dfget explain`.

use std::{path::Path, process::ExitCode};

use dfget_config::{ConfigErrors, Environment, LoadOptions, load_without_authority};
use dfget_core::unix_seconds;
use dfget_daemon::{Explained, Explanation, Outcome, Question, Step, Stored, explain};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::{
    arguments::{ExplainArguments, Output},
    message,
    words::push_words,
};

/// Where the words of a step begin.
const INDENT: usize = 14;
/// A wrong command line.
const USAGE: u8 = 2;

/// Says what would become of a URL or an image, and why.
pub(crate) fn run(arguments: ExplainArguments, environment: &Environment) -> ExitCode {
    let ExplainArguments { reference, config, method, headers, output } = arguments;
    let (method, headers) = match (method.parse::<Method>(), read_headers(&headers)) {
        (Ok(method), Ok(headers)) => (method, headers),
        (Err(_), _) => return usage("--method: not a method of HTTP; write GET or HEAD"),
        (_, Err(error)) => return usage(error),
    };
    let loaded = match load_without_authority(&LoadOptions { config, ..LoadOptions::default() }, environment)
    {
        Ok(loaded) => loaded,
        Err(failed) => {
            message::diagnostics(&failed.errors);
            return ExitCode::from(ConfigErrors::EXIT_CODE);
        }
    };
    let variables = crate::variables::variables();
    let question = Question { reference, method, headers, variables };
    let explanation = match explain(&question, &loaded) {
        Ok(explanation) => explanation,
        Err(error) => return usage(&error),
    };
    let text = match output {
        Output::Text => to_text(&explanation, &loaded.source),
        Output::Json => to_json(&explanation, &loaded.source).to_string(),
    };
    let status = if explanation.accelerated { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    message::printed_or(message::output(text), status)
}

fn usage(error: &str) -> ExitCode {
    message::error(error);
    ExitCode::from(USAGE)
}

/// Headers as they are typed: `Name: value`. A value is in no message.
fn read_headers(lines: &[String]) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) = header.ok_or("-H: not a header; write -H 'Name: value'")?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn to_text(explanation: &Explanation, file: &Path) -> String {
    let mut text = format!("by {}\n", file.display());
    for request in &explanation.requests {
        text.push_str(&format!("\n{} {}\n", request.method, request.url));
        push_line("", &request.about, &mut text);
        for step in &request.steps {
            let place = step
                .place
                .as_ref()
                .map(|place| format!(" ({}:{})", place.file.display(), place.line.unwrap_or_default()));
            push_line(step.name, &format!("{}{}", step.text, place.unwrap_or_default()), &mut text);
        }
    }
    text.push_str(match explanation.accelerated {
        true => "\nyes: it is accelerated",
        false => "\nno: it is not accelerated",
    });
    if !explanation.accelerated {
        let because = explanation
            .requests
            .iter()
            .filter(|request| request.is_content)
            .flat_map(|request| request.steps.iter().filter(|step| step.outcome == Outcome::No))
            .map(|step| step.name)
            .collect::<Vec<_>>();
        text.push_str(&format!(" (see: {})", because.join(", ")));
    }
    text
}

/// A name and words after it.
fn push_line(name: &str, words: &str, text: &mut String) {
    push_words(&format!("  {name:<width$}", width = INDENT - 2), INDENT, words, text);
}

/// `version` grows when a field changes its meaning or goes.
fn to_json(explanation: &Explanation, file: &Path) -> Value {
    json!({
        "version": 1,
        "file": file.display().to_string(),
        "accelerated": explanation.accelerated,
        "requests": explanation.requests.iter().map(request).collect::<Vec<_>>(),
    })
}

fn request(request: &Explained) -> Value {
    let content = request.content.as_ref();
    json!({
        "method": request.method.as_str(),
        "url": request.url,
        "about": request.about,
        "content": request.is_content,
        "accelerated": request.accelerated,
        "taskId": content.map(|content| content.id.to_string()),
        "canonicalUrl": content.map(|content| dfget_daemon::shown_url(&content.canonical)),
        "digest": content.and_then(|content| content.digest).map(|digest| digest.to_string()),
        "stored": request.stored.as_ref().map(stored),
        "steps": request.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn stored(stored: &Stored) -> Value {
    match stored {
        Stored::Whole { bytes, last_used } => {
            json!({ "state": "whole", "bytes": bytes, "lastUsed": unix_seconds(*last_used) })
        }
        Stored::Part { total, last_used } => {
            json!({ "state": "part", "bytes": total, "lastUsed": unix_seconds(*last_used) })
        }
        Stored::Nothing => json!({ "state": "nothing" }),
        Stored::Unknown(reason) => json!({ "state": "unknown", "reason": reason }),
    }
}

fn step(step: &Step) -> Value {
    json!({
        "step": step.name,
        "outcome": step.outcome.as_str(),
        "text": step.text,
        "file": step.place.as_ref().map(|place| place.file.display().to_string()),
        "line": step.place.as_ref().and_then(|place| place.line),
    })
}
