//! What must be true of the page for everybody who reads it, however they do.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use dfget_testkit::Tab;
use serde_json::{Value, json};

/// Sizes that are looked at: a small phone, and a window on a desk.
pub(crate) const PHONE: (u32, u32) = (360, 740);
pub(crate) const DESK: (u32, u32) = (1280, 900);

/// In the page: what is wrong with its names, headings and tables, as a list of words.
const WRONG: &str = r"(() => {
  const wrong = [];
  const is = (bad, words) => { if (bad) wrong.push(words); };
  const seen = (one) => one.offsetParent !== null;
  is(document.documentElement.lang !== 'en', 'no language');
  is(document.title === '', 'no title');
  for (const tag of ['header', 'main', 'footer', 'h1']) is(document.querySelectorAll(tag).length !== 1, `not one ${tag}`);
  const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  is(new Set(ids).size !== ids.length, 'an id twice');
  let level = 0;
  for (const head of document.querySelectorAll('h1, h2, h3')) {
    const own = Number(head.tagName[1]);
    is(own > level + 1, `${head.textContent} leaves a level out`);
    level = own;
  }
  for (const one of document.querySelectorAll('section')) is(!document.getElementById(one.getAttribute('aria-labelledby')), 'a section without a name');
  for (const table of document.querySelectorAll('table')) {
    is(!table.caption?.textContent, 'a table without a caption');
    for (const head of table.querySelectorAll('th')) is(!head.scope, `${head.textContent} heads nothing`);
  }
  for (const picture of document.querySelectorAll('svg')) {
    is(!picture.closest('[aria-hidden=true]') && !picture.getAttribute('aria-label'), 'a picture without words');
  }
  for (const place of document.querySelectorAll('.picture')) {
    is(!place.parentElement.querySelector('table'), 'a picture without a table');
  }
  for (const bar of document.querySelectorAll('[role=progressbar]')) {
    is(!bar.getAttribute('aria-label') || !bar.getAttribute('aria-valuetext'), 'a bar without words');
  }
  for (const one of document.querySelectorAll('button, summary')) {
    if (seen(one)) is(one.textContent.trim() === '' || one.getBoundingClientRect().height < 24, `${one.textContent} is no button to hit`);
  }
  const live = [...document.querySelectorAll('[aria-live], [role=status], [role=log], [role=alert]')].map((one) => one.id);
  is(live.join() !== 'state,told', `these speak up: ${live}`);
  is(document.documentElement.scrollWidth > document.documentElement.clientWidth, 'wider than its window');
  return wrong;
})()";

/// Checks what can be checked of a page that shows something, by the rules here and by those of axe.
#[track_caller]
pub(crate) fn assert_for_everybody(tab: &mut Tab) {
    let wrong = tab.value(WRONG);
    assert_eq!(wrong, json!([]), "{}", tab.text());
    let tree = tab.call("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().expect("a tree");
    let of_role = |role: &str| nodes.iter().filter(|node| node["role"]["value"] == role).collect::<Vec<_>>();
    for role in ["banner", "main", "contentinfo"] {
        assert_eq!(of_role(role).len(), 1, "{role}");
    }
    for role in ["button", "link", "progressbar", "table", "region"] {
        for node in of_role(role).into_iter().filter(|node| node["ignored"] != true) {
            assert!(node["name"]["value"].as_str().is_some_and(|name| !name.is_empty()), "no name: {node}");
        }
    }
    assert_axe(tab);
}

/// The rules of axe-core for WCAG 2.2 A and AA, where `tests/real-clients/axe` has brought it.
#[track_caller]
fn assert_axe(tab: &mut Tab) {
    let Some(script) = axe().and_then(|file| fs::read_to_string(file).ok()) else {
        // Not by a macro, whose words the test harness keeps to itself when the test ends well.
        writeln!(io::stderr(), "left out: the rules of axe, which tests/real-clients/axe brings")
            .expect("it is open");
        return;
    };
    tab.value(&format!("(() => {{ {script}\n; return true; }})()"));
    let tags = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";
    let found = tab.value(&format!(
        "axe.run(document, {{ runOnly: {tags} }}).then((found) => found.violations.map((one) => \
         ({{ id: one.id, help: one.help, nodes: one.nodes.slice(0, 5).map((node) => node.html + node.failureSummary) }})))"
    ));
    assert_eq!(found, json!([]), "axe: {found:#}");
}

fn axe() -> Option<PathBuf> {
    let build = std::env::var_os("DFGET_BUILD_DIR").map(PathBuf::from);
    let usual = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../build"));
    Some(build.unwrap_or_else(usual).join("axe/axe.min.js")).filter(|file| file.is_file())
}

/// Everything was asked of the page's own port, and nothing went wrong in it.
#[track_caller]
pub(crate) fn assert_keeps_to_itself(tab: &Tab, address: &str) {
    let own = address.split("/#").next().expect("it has a host");
    let asked = tab.asked();
    assert!(asked.len() > 5, "{asked:?}");
    for asked in asked {
        assert!(asked.starts_with(&format!("{own}/")), "{asked}");
        assert!(!asked.contains("token") || asked.contains('#'), "{asked}");
    }
    assert_eq!(tab.troubles(), Vec::<String>::new());
}

/// Where pictures go: `$DFGET_PICTURES`, if somebody wants to look at them.
pub(crate) fn picture(tab: &mut Tab, name: &str) {
    if let Some(directory) = std::env::var_os("DFGET_PICTURES").map(PathBuf::from) {
        tab.picture(&directory.join(format!("{name}.png")));
    }
}

/// The element that has the focus, as its id or its text.
pub(crate) fn focused(tab: &mut Tab) -> String {
    let value: Value = tab.value(
        "(() => { const one = document.activeElement; return one.id || one.getAttribute('aria-label') || one.textContent; })()",
    );
    value.as_str().unwrap_or_default().to_owned()
}
