//! What the documents say is so: links lead somewhere, command lines are ones that dfget takes, YAML is a
//! configuration. What they have people type is typed in by the tests that `pages` names.

#[expect(dead_code, reason = "those who type them in need more of it")]
mod pages;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use dfget_testkit::TestCa;

use crate::pages::{LEFT_OUT, TYPED, blocks, commands, root, typed_blocks};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// All documents, with their text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("docs"), root().join("bench")];
    let top = ["README.md", "README.zh.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root().join(name));
    found.extend(top);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("text");
        (path, text)
    };
    found.into_iter().map(read).collect()
}

#[test]
fn every_link_leads_to_a_file() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (path, text) in documents() {
        let targets =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            let directory = path.parent().expect("a file is in a directory");
            count += 1;
            if !directory.join(file).exists() {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty() && count > 50, "{count} links; {wrong:#?}");
}

/// The values of an attribute in HTML that stands in a document.
fn attributes<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let start = format!(" {name}=\"");
    text.split(&start).skip(1).filter_map(|rest| rest.split_once('"')).map(|(value, _)| value).collect()
}

#[test]
fn every_picture_is_there_small_and_said_in_words() {
    const MOST_BYTES: u64 = 150 * 1024;
    let mut count = 0;
    for (path, text) in documents() {
        let directory = path.parent().expect("a file is in a directory");
        for name in attributes(&text, "src").into_iter().chain(attributes(&text, "srcset")) {
            let file = directory.join(name);
            let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(bytes.starts_with(b"\x89PNG\r\n"), "{} is no PNG", file.display());
            assert!(bytes.len() as u64 <= MOST_BYTES, "{} has {} bytes", file.display(), bytes.len());
            count += 1;
        }
        let words = attributes(&text, "alt");
        assert_eq!(words.len(), text.matches("<img ").count(), "{}: a picture without words", path.display());
        assert!(words.iter().all(|words| words.chars().count() > 20), "{}: {words:?}", path.display());
    }
    assert!(count >= 4, "{count} pictures");
}

/// Where a word of dfget's begins in a command line, and its arguments up to the end of the command.
fn dfget_words(command: &str) -> Option<Vec<String>> {
    let plain = command.split(" #").next()?.trim();
    let at = plain.split_whitespace().position(|word| word == "dfget" || word == "exec/dfget")?;
    let mut words = Vec::new();
    let mut rest = plain.split_whitespace().skip(at + 1);
    for word in rest.by_ref() {
        if [">", "<", "|", "&", "&&", ";"].contains(&word) || word.starts_with('>') {
            break;
        }
        words.push(word.trim_end_matches([';', ')']).trim_matches(['"', '\'']).to_owned());
        if word.ends_with(';') {
            break;
        }
    }
    Some(words)
}

#[test]
fn every_command_line_is_one_that_dfget_takes() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (path, text) in documents() {
        for (number, lines) in blocks(&text, "sh") {
            for words in commands(&lines).iter().filter_map(|command| dfget_words(command)) {
                // What it would do is not done: an unknown flag or command is told before `--help` counts.
                let command = words.first().cloned().unwrap_or_default();
                let own = words.iter().position(|word| word == "--").map_or(&words[..], |end| &words[..end]);
                let mut run = Command::new(DFGET);
                let output = run.args(own).arg("--help").output().expect("the binary is there");
                count += 1;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    wrong.push(format!("{}:{number}: dfget {command} …: {said}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty() && count > 20, "{count} command lines; {wrong:#?}");
}

#[test]
fn every_command_is_typed_in_by_a_test_or_left_out_for_a_reason() {
    let (mut wrong, mut used, mut count) = (Vec::new(), vec![false; LEFT_OUT.len()], 0);
    for (path, text) in documents() {
        let page = path.strip_prefix(root()).expect("it is of this clone").to_string_lossy().into_owned();
        let typed = TYPED.iter().any(|(typed, _)| *typed == page);
        for command in typed_blocks(&text).concat() {
            count += 1;
            let left = LEFT_OUT.iter().position(|left| left.is(&page, &command));
            left.into_iter().for_each(|index| used[index] = true);
            if left.is_none() && !typed {
                wrong.push(format!("{page}: nobody types in `{command}`: add the page to TYPED"));
            }
        }
    }
    for (page, file) in TYPED {
        let test = fs::read_to_string(root().join("crates/dfget/tests").join(file)).unwrap_or_default();
        if !test.contains(&format!("{page}\"")) {
            wrong.push(format!("{page}: {file} does not name it"));
        }
    }
    let unused = LEFT_OUT.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(
        unused.map(|(left, _)| format!("no command begins so any more: {} ({})", left.begin, left.why)),
    );
    assert!(wrong.is_empty() && count > 80, "{count} commands; {wrong:#?}");
}

#[test]
fn every_configuration_is_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = TestCa::new("the documents'");
    for (name, text) in [
        ("ca.crt", authority.certificate_pem()),
        ("ca.key", authority.key_pem()),
        ("site-ca.crt", authority.certificate_pem()),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, text).expect("it can be written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("and closed");
    }
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (path, text) in documents() {
        for (number, lines) in blocks(&text, "yaml") {
            let yaml = lines.join("\n").replace("/etc/dragonfly/", &format!("{}/", dir.path().display()));
            if yaml.contains('…') || !is_ours(&yaml) {
                continue;
            }
            count += 1;
            let file = dir.path().join("dfget.yaml");
            fs::write(&file, &yaml).expect("it can be written");
            let output = Command::new(DFGET)
                .args(["config", "check"])
                .arg(&file)
                .output()
                .expect("the binary is there");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_wrong = |line: &str| {
                line.contains("unknown key") || line.starts_with("error: ") && !is_elsewhere(line)
            };
            if said.lines().any(is_wrong) {
                wrong.push(format!("{}:{number}: {said}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty() && count > 5, "{count} configurations; {wrong:#?}");
}

/// Whether a block is of `dfget.yaml`, and not of somebody else's file.
fn is_ours(yaml: &str) -> bool {
    let known = [
        "proxy:",
        "proxies:",
        "hijackHTTPS:",
        "registryMirror:",
        "access:",
        "cluster:",
        "download:",
        "storage:",
        "tracing:",
    ];
    yaml.lines().any(|line| known.contains(&line.trim_end()))
}

/// A file that the document's reader has, and this machine has not; or a rest of the configuration that the document
/// does not repeat.
fn is_elsewhere(line: &str) -> bool {
    line.contains("there is no such file") || line.contains("no key of the proxy")
}
