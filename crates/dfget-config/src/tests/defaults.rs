//! The defaults in the table of keys are those that are used.

use super::{GOOD, load_text};
use crate::{
    LoadOptions, load,
    options::{Kind, Opt, Support, TOP},
    testing::{FakeFiles, environment},
};

/// Lines that set every key with an effect and a default to this default.
fn defaults(options: &[Opt], indent: &str) -> String {
    let mut lines = String::new();
    for option in options.iter().filter(|option| matches!(option.support, Support::Full)) {
        if let Kind::Section(children) = option.kind {
            let below = defaults(children, &format!("{indent}  "));
            if !below.is_empty() {
                lines.push_str(&format!("{indent}{}:\n{below}", option.name));
            }
        } else if !option.default.is_empty() {
            lines.push_str(&format!("{indent}{}: {}\n", option.name, option.default));
        }
    }
    lines
}

#[test]
fn setting_every_key_to_its_default_changes_nothing() {
    let lines = defaults(TOP, "");
    assert!(lines.contains("offlineGrace: 24h") && lines.contains("port: 65001"), "{lines}");
    let explicit = load_text(format!("{GOOD}{lines}")).unwrap();
    let implicit = load_text(GOOD).unwrap();
    assert_eq!(format!("{:?}", explicit.config), format!("{:?}", implicit.config));
    assert!(explicit.warnings.is_empty(), "{:?}", explicit.warnings);
}

#[test]
fn without_a_home_the_named_directories_are_enough() {
    let load = |text: &str, console| {
        let files = FakeFiles::default().with("/site/c.yaml", format!("proxies: [{{regx: a}}]\n{text}"));
        let options = LoadOptions { config: Some("c.yaml".into()), console, ..LoadOptions::default() };
        load(&options, &environment(files, &[])).unwrap().config.paths
    };
    let paths = load("dataDir: /d\nlogDir: /l\n", false);
    assert_eq!((paths.data_dir, paths.log_dir), ("/d".into(), Some("/l".into())));
    assert_eq!(load("dataDir: /d\n", true).log_dir, None, "who logs to the console needs no place for logs");
    assert_eq!(load("dataDir: /d\nconsole: true\n", false).log_dir, None);
}

#[test]
fn zero_means_off_and_the_command_line_overrides_the_file() {
    let text = "access: {ttl: 0, offlineGrace: 0s}\nstorage: {taskExpireTime: 0, diskGCThreshold: 2Ki, \
                diskGCThresholdPercent: 0}\naliveTime: 5m\nconsole: false\nproxies: [{regx: a}]\n";
    let files = FakeFiles::default().writable("/").with("/site/c.json", text);
    let options =
        LoadOptions { config: Some("c.json".into()), console: true, verbose: true, ..LoadOptions::default() };
    let config = load(&options, &environment(files, &[])).unwrap().config;
    assert!(config.access.ttl.is_zero());
    assert_eq!(config.access.offline_grace, None);
    assert_eq!(config.storage.task_expire_time, None);
    assert_eq!(config.storage.disk_gc_threshold_bytes, Some(2048));
    assert_eq!(config.storage.disk_gc_threshold_percent, None);
    assert_eq!(config.alive_time, Some(std::time::Duration::from_secs(300)));
    assert!(config.paths.log_dir.is_none() && config.verbose);
}

#[test]
fn json_is_read_too() {
    let text = r#"{"proxy": {"proxies": [{"regx": "blobs/sha256.*"}], "tcpListen": {"port": 7}}}"#;
    let proxy = load_text(text).unwrap().config.proxy;
    assert_eq!(proxy.listen.to_string(), "127.0.0.1:7");
}
