//! Whether the variables of a shell lead its clients to the daemon.

use std::collections::BTreeMap;

use dfget_config::Listen;
use dfget_core::{Authority, ClientVariables, Passage};

use crate::finding::{Area, Finding, Verdict};
use crate::port::leads_to;

/// Both cases of a variable; programs differ in which they read.
const PAIRS: [(&str, &str); 2] = [("HTTPS_PROXY", "https_proxy"), ("NO_PROXY", "no_proxy")];

pub(crate) fn findings(
    variables: &BTreeMap<String, String>,
    listen: &Listen,
    registries: &[Authority],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (upper, lower) in PAIRS {
        let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        if let (Some(one), Some(other)) = (set(upper), set(lower))
            && one != other
        {
            findings.push(Finding::new(
                Area::Variables,
                Verdict::Warning,
                format!("{upper} and {lower} differ: Go reads the first, curl the second"),
                "set both to the same, or unset one",
            ));
        }
    }
    let go = ClientVariables::of(variables);
    for registry in registries {
        let finding = judge(&registry.host_header(), &go.passage(registry), listen);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

fn judge(registry: &str, passage: &Passage, listen: &Listen) -> Finding {
    let finding = |verdict, text, remedy: String| Finding::new(Area::Variables, verdict, text, remedy);
    match passage {
        Passage::Proxied { variable, proxy } if leads_to(proxy, listen) => {
            Finding::good(Area::Variables, format!("{variable} leads to the daemon, also for {registry}"))
        }
        Passage::Proxied { variable, proxy } => finding(
            Verdict::Warning,
            format!("{variable} leads to {proxy}, and not to the daemon at {listen}"),
            format!(
                "HTTPS_PROXY={listen} for the clients, or `dfget run`, which keeps the other proxy on the way"
            ),
        ),
        Passage::Unset(variable) => finding(
            Verdict::Note,
            format!("{variable} is not set in this shell: clients started here do not ask the daemon"),
            format!("HTTPS_PROXY={listen} apptainer pull …, or dfget run -- apptainer pull …"),
        ),
        Passage::Loopback => finding(
            Verdict::Warning,
            format!("clients written in Go never send {registry} to a proxy, for it is this node itself"),
            "name the registry by another name or address of this node".to_owned(),
        ),
        Passage::Excluded { variable, entry, both } => finding(
            Verdict::Warning,
            format!("{variable} holds `{entry}`, so that {registry} is asked without the daemon"),
            match both {
                true => "no_proxy='' NO_PROXY='' apptainer pull …, or `dfget run`".to_owned(),
                false => format!("{variable}='' apptainer pull …, or `dfget run`"),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use dfget_config::PortRange;
    use dfget_core::Scheme;

    use super::*;

    fn of(set: &[(&str, &str)], registries: &[&str]) -> Vec<Finding> {
        let variables = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let registries: Vec<_> =
            registries.iter().map(|one| Authority::parse(Scheme::Https, one).unwrap()).collect();
        findings(&variables, &Listen::loopback(PortRange::exactly(65_001)), &registries)
    }

    #[test]
    fn each_trap_has_its_words() {
        let proxy = ("HTTPS_PROXY", "127.0.0.1:65001");
        let first = |set: &[(&str, &str)], registry| of(set, &[registry]).swap_remove(0);
        assert_eq!(first(&[proxy], "r.example").verdict, Verdict::Good);
        assert_eq!(first(&[], "r.example").verdict, Verdict::Note);
        assert_eq!(first(&[("HTTPS_PROXY", "http://site:3128")], "r.example").verdict, Verdict::Warning);
        assert!(first(&[proxy], "127.0.0.1:5000").text.contains("never send"));
        let excluded = first(&[proxy, ("NO_PROXY", "a,.example")], "r.example");
        assert!(excluded.text.contains("`.example`"), "{}", excluded.text);
        assert!(excluded.remedy.unwrap().starts_with("NO_PROXY=''"));
        let both = first(&[proxy, ("NO_PROXY", "r.example"), ("no_proxy", "r.example")], "r.example");
        assert!(both.remedy.unwrap().starts_with("no_proxy='' NO_PROXY=''"));
    }

    #[test]
    fn what_holds_for_all_registries_is_told_once() {
        assert_eq!(of(&[], &["a.example", "b.example"]).len(), 1);
        let differ = of(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:1")], &[]);
        assert!(differ[0].text.contains("differ"), "{differ:?}");
    }
}
