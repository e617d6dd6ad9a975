//! The nodes that feed each other.

use super::{GOOD, good_and, load_text, machine, said};
use crate::{
    LoadOptions, PeerListen, Plain, SharePrivate, Source, load,
    testing::{FakeFiles, environment},
};

#[test]
fn without_members_there_is_no_cluster() {
    let config = load_text(GOOD).unwrap().config;
    assert!(!config.cluster.is_wanted());
    assert_eq!(config.cluster.key_file, std::path::Path::new("/etc/dragonfly/cluster.key"));
    assert!(!config.cluster.make_key, "what is the system's is not made");
}

#[test]
fn a_cluster_is_read() {
    let text = format!(
        "{GOOD}cluster:\n  members: node[001-128,200]\n  membersFile: hosts\n  dns: dfget.example:65000\n  \
         port: 7000\n  allowPlaintextPeers: true\n  sharePrivate: never\n  keyFile: /k\nhost: {{idc: a, location: \
         b|c, hostname: n1, advertiseIP: 10.0.0.7}}\nupload: {{rateLimit: 100Mi, tcpListen: {{listen: 10.0.0.7, \
         port: 9}}}}\ndownload: {{peerGRPC: {{tcpListen: {{port: {{start: 8, end: 10}}}}}}}}\n"
    );
    let loaded = load_text(text).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    let cluster = config.cluster;
    assert_eq!(cluster.members, ["node[001-128,200]"]);
    assert_eq!(cluster.members_file, Some("/site/hosts".into()));
    assert_eq!(cluster.dns, Some(("dfget.example".to_owned(), 65_000)));
    assert_eq!((cluster.port, cluster.key_file.to_str()), (Some(7000), Some("/k")));
    assert!(cluster.allow_plaintext_peers && cluster.share_private == SharePrivate::Never);
    assert_eq!((config.host.idc.as_str(), config.host.location.as_str()), ("a", "b|c"));
    assert_eq!(config.host.hostname.as_deref(), Some("n1"));
    assert_eq!(config.host.advertise_ip, Some([10, 0, 0, 7].into()));
    assert_eq!(config.upload.rate_limit.map(std::num::NonZeroU64::get), Some(100 << 20));
    assert_eq!(config.upload.listen, PeerListen { ip: Some([10, 0, 0, 7].into()), port: Some(9) });
    assert_eq!(config.download.peer_grpc, PeerListen { ip: None, port: Some(8) });
}

#[test]
fn several_lists_add_up() {
    let loaded = load_text(format!("{GOOD}cluster:\n  members:\n  - a[1-2]\n  - 10.0.0.1:7\n")).unwrap();
    assert_eq!(loaded.config.cluster.members, ["a[1-2]", "10.0.0.1:7"]);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let table = [
        (
            "cluster: {members: 'node[1-'}",
            "3:20: cluster.members: a number is missing at character 8 (got `node[1-`); \
             write a list of hosts, for example `members: 'node[001-128,200]'`",
        ),
        (
            "cluster: {members: [a, 'b[3-1]']}",
            "3:24: cluster.members[1]: a range that runs backwards at character 3 (got `b[3-1]`); \
             write a list of hosts, for example `- 'node[001-128,200]'`",
        ),
        (
            "cluster: {members: ['a[1-65536]', b]}",
            "3:20: cluster.members: 65537 members, and 65536 are the most (got no single value); \
             write a list of hosts, for example `members: 'node[001-128,200]'`",
        ),
        (
            "cluster: {dns: dfget.example}",
            "3:16: cluster.dns: it is no name with a port (got `dfget.example`); \
             write a name and a port, for example `dns: dfget.cluster.example:65000`",
        ),
        (
            "cluster: {port: 65534}",
            "3:17: cluster.port: out of range, 1 to 65533 is possible (got `65534`); \
             write a whole number, for example `port: 1`",
        ),
        (
            "cluster: {sharePrivate: some}",
            "3:25: cluster.sharePrivate: there is no such choice (got `some`); \
             write `keyed`, `never` or `all`, for example `sharePrivate: keyed`",
        ),
        (
            "host: {hostname: two words}",
            "3:18: host.hostname: it is no name of a host (got `two words`); \
             write the name of this node, for example `hostname: node001`",
        ),
        (
            "host: {advertiseIP: node}",
            "3:21: host.advertiseIP: not an IP address (got `node`); \
             write an IP address, for example `advertiseIP: 127.0.0.1`",
        ),
    ];
    for (text, message) in table {
        assert_eq!(good_and(text), [message], "{text}");
    }
}

#[test]
fn what_has_no_effect_or_shows_private_things_is_told() {
    let all = good_and("cluster: {members: a, sharePrivate: all}");
    assert!(all.len() == 1 && all[0].contains("cluster.sharePrivate: whoever reaches"), "{all:?}");
    let none = good_and("upload: {security: {cert: a}}\nhost: {listenIP: 192.0.2.1}");
    assert_eq!(none.len(), 2, "{none:?}");
    assert!(none.iter().all(|line| line.contains("known, not yet supported")), "{none:?}");
}

#[test]
fn flags_stand_above_the_file() {
    let text = format!("{GOOD}cluster: {{members: a, membersFile: /m, dns: 'd:1', port: 7}}\n");
    let files = || machine().with("/etc/dragonfly/dfget.yaml", &text);
    let with = |list: &str| {
        let cluster = Some(list.to_owned());
        let options = LoadOptions { cluster, cluster_port: Some(9), ..LoadOptions::default() };
        load(&options, &environment(files(), &[]))
    };
    let loaded = with("b[1-2]").unwrap();
    let cluster = &loaded.config.cluster;
    assert_eq!((cluster.members.as_slice(), cluster.port), (&["b[1-2]".to_owned()][..], Some(9)));
    assert_eq!((&cluster.members_file, &cluster.dns), (&None, &None));
    let shown = |key: &str| {
        let setting = loaded.settings.iter().find(|setting| setting.key == key).unwrap();
        (setting.value(), setting.source.clone())
    };
    assert_eq!(shown("cluster.members"), (Plain::Text("b[1-2]".into()), Source::Flag("--cluster")));
    assert_eq!(shown("cluster.port"), (Plain::Number(9), Source::Flag("--cluster-port")));
    assert_eq!(shown("cluster.membersFile"), (Plain::Nothing, Source::Unset));
    let wrong = said(with("b["));
    assert!(wrong[0].starts_with("--cluster: "), "{wrong:?}");
    assert!(
        wrong[0].contains("at character 2") && wrong[0].contains("--cluster 'node[001-128]'"),
        "{wrong:?}"
    );
}

#[test]
fn a_plain_user_has_a_key_of_its_own_that_is_made() {
    let key = |variables: &[(&str, &str)], text: &str| {
        let files =
            FakeFiles::default().with("/site/c.yaml", format!("proxies: [{{regx: a}}]\ndataDir: /d\nlogDir: /l\n{text}"));
        let files =
            files.with("/etc/dragonfly/ca.crt", super::CERT).with("/etc/dragonfly/ca.key", super::KEY);
        let options = LoadOptions { config: Some("c.yaml".into()), ..LoadOptions::default() };
        let cluster = load(&options, &environment(files, variables)).unwrap().config.cluster;
        (cluster.key_file.display().to_string(), cluster.make_key)
    };
    let home = [("HOME", "/home/u")];
    assert_eq!(key(&home, ""), ("/home/u/.config/dragonfly/cluster.key".into(), true));
    let xdg = [("HOME", "/home/u"), ("XDG_CONFIG_HOME", "/x")];
    assert_eq!(key(&xdg, ""), ("/x/dragonfly/cluster.key".into(), true));
    assert_eq!(key(&home, "cluster: {keyFile: /home/u/k}"), ("/home/u/k".into(), true));
    assert_eq!(key(&home, "cluster: {keyFile: /etc/k}"), ("/etc/k".into(), false));
    assert_eq!(key(&[], ""), ("/etc/dragonfly/cluster.key".into(), false));
}
