//! `dfget doctor`.

use std::{process::ExitCode, time::SystemTime};

use dfget_config::Environment;
use dfget_doctor::{Examination, Finding, Verdict};
use serde_json::{Value, json};

use crate::{
    arguments::{DoctorArguments, Output},
    message,
    words::push_words,
};

/// Where the words of a finding begin.
const INDENT: usize = 23;
/// A wrong command line.
const USAGE: u8 = 2;

/// Says what would make a first pull fail, and what to do.
pub(crate) fn run(arguments: DoctorArguments, environment: &Environment) -> ExitCode {
    let DoctorArguments { registries, config, offline, output } = arguments;
    let variables = crate::variables::variables();
    let examination = Examination { config, registries, offline, variables, now: SystemTime::now() };
    let findings = match examination.run(environment) {
        Ok(findings) => findings,
        Err(error) => {
            message::error(error);
            return ExitCode::from(USAGE);
        }
    };
    let text = match output {
        Output::Text => to_text(&findings),
        Output::Json => to_json(&findings).to_string(),
    };
    let bad = count(&findings, Verdict::Bad);
    message::printed_or(message::output(text), if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { area, verdict, text: what, remedy } in findings {
        push_words(&format!("{verdict:<8}{:<15}", area.as_str()), INDENT, what, &mut text);
        if let Some(remedy) = remedy {
            push_words(&" ".repeat(INDENT), INDENT, &format!("→ {remedy}"), &mut text);
        }
    }
    let (bad, warnings) = (count(findings, Verdict::Bad), count(findings, Verdict::Warning));
    text.push_str(&match (bad, warnings) {
        (0, 0) => "\nNothing is in the way of a pull.".to_owned(),
        (0, _) => format!("\nNothing is bad; {warnings} to look at."),
        _ => format!("\n{bad} bad, {warnings} to look at."),
    });
    text
}

/// `version` grows when a field changes its meaning or goes.
fn to_json(findings: &[Finding]) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "area": finding.area.as_str(),
            "verdict": finding.verdict.as_str().to_lowercase(),
            "text": finding.text,
            "remedy": finding.remedy,
        })
    };
    json!({
        "version": 1,
        "bad": count(findings, Verdict::Bad),
        "warnings": count(findings, Verdict::Warning),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use dfget_doctor::Area;

    use super::*;

    fn finding(area: Area, verdict: Verdict, text: &str, remedy: Option<&str>) -> Finding {
        Finding { area, verdict, text: text.to_owned(), remedy: remedy.map(str::to_owned) }
    }

    /// Of each verdict one, with words for more than a line.
    fn findings() -> Vec<Finding> {
        vec![
            finding(Area::Configuration, Verdict::Good, "/etc/dragonfly/dfget.yaml", None),
            finding(
                Area::Variables,
                Verdict::Note,
                "HTTPS_PROXY is not set in this shell: clients started here do not ask the daemon",
                Some("HTTPS_PROXY=127.0.0.1:65001 apptainer pull …, or dfget run -- apptainer pull …"),
            ),
            finding(
                Area::Trust,
                Verdict::Warning,
                "curl: /etc/ssl/certs/ca-certificates.crt does not hold the authority, so hijacked hosts are refused",
                Some("dfget ca install, as root, or SSL_CERT_FILE=/etc/dragonfly/ca.crt"),
            ),
            finding(
                Area::Port,
                Verdict::Bad,
                "127.0.0.1:65001 is taken by nginx (process 7), which is no daemon of dfget's",
                Some("end it, or set proxy.tcpListen.port"),
            ),
        ]
    }

    #[test]
    fn snapshot_of_findings() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/tables/doctor.txt");
        let (all, findings) = (findings(), |most: usize| to_text(&findings()[..most]) + "\n");
        let text = [findings(all.len()), findings(3), findings(1)].join("\n");
        dfget_testkit::assert_snapshot(file.as_ref(), &text);
    }
}
