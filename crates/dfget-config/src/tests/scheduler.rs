//! A Dragonfly cluster to join.

use std::time::Duration;

use super::{GOOD, good_and, load_text, machine};
use crate::{LoadOptions, load, testing::environment};

fn addresses(addresses: &[(&str, u16)]) -> Vec<(String, u16)> {
    addresses.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
}

#[test]
fn schedulers_are_read_as_dragonfly_wrote_them() {
    let text = format!(
        "{GOOD}scheduler:\n  manager: {{enable: false}}\n  netAddrs:\n  - type: tcp\n    addr: \
         Scheduler.example.com:8002\n  - addr: '[2001:db8::1]:8002'\nannouncer: {{schedulerInterval: 30s}}\n"
    );
    let loaded = load_text(text).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let scheduler = loaded.config.scheduler;
    assert_eq!(scheduler.addresses, addresses(&[("scheduler.example.com", 8002), ("2001:db8::1", 8002)]));
    assert_eq!(scheduler.announce_interval, Duration::from_secs(30));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let table = [
        (
            "scheduler: {netAddrs: [{addr: host}]}",
            "3:31: scheduler.netAddrs[0].addr: it is no host with a port (got `host`); \
             write a host and a port, for example `addr: scheduler.example.com:8002`",
        ),
        (
            "scheduler: {netAddrs: [{type: unix, addr: 'h:1'}]}",
            "3:31: scheduler.netAddrs[0].type: there is no other kind (got `unix`); \
             write `tcp`, for example `type: tcp`",
        ),
        (
            "scheduler: {netAddrs: [{type: tcp}]}",
            "3:24: scheduler.netAddrs[0]: a scheduler has no address; write `addr: scheduler.example.com:8002`",
        ),
        (
            "announcer: {schedulerInterval: 2h}",
            "3:32: announcer.schedulerInterval: out of range (got `2h`); \
             write a duration from 1s to 1h, for example `schedulerInterval: 1m`",
        ),
        (
            "cluster: {members: a}\nscheduler: {netAddrs: [{addr: 'h:1'}]}",
            "4:13: scheduler.netAddrs: a daemon is in one cluster, and `cluster` names the members of another; \
             remove `scheduler.netAddrs`, or `cluster.members`, `cluster.membersFile` and `cluster.dns`",
        ),
    ];
    for (text, message) in table {
        assert_eq!(good_and(text), [message], "{text}");
    }
}

#[test]
fn a_manager_is_known_and_it_is_said_what_to_do_instead() {
    let said = good_and("scheduler: {manager: {enable: true, netAddrs: [{addr: 'm:65003'}]}}");
    assert!(said.len() == 1 && said[0].contains("name the schedulers in `scheduler.netAddrs`"), "{said:?}");
}

#[test]
fn a_flag_names_the_cluster_whatever_the_file_says() {
    let with = |text: &str, options: LoadOptions| {
        let files = machine().with("/etc/dragonfly/dfget.yaml", format!("{GOOD}{text}"));
        load(&options, &environment(files, &[]))
    };
    let scheduler = |text: &str| LoadOptions { scheduler: Some(text.to_owned()), ..LoadOptions::default() };
    let config = with("cluster: {members: a, dns: 'd:1'}\n", scheduler("10.0.0.1:8002")).unwrap().config;
    assert!(!config.cluster.is_wanted());
    assert_eq!(config.scheduler.addresses, addresses(&[("10.0.0.1", 8002)]));
    let cluster = LoadOptions { cluster: Some("n[1-2]".to_owned()), ..LoadOptions::default() };
    let config = with("scheduler: {netAddrs: [{addr: 'h:1'}]}\n", cluster).unwrap().config;
    assert!(config.cluster.is_wanted() && config.scheduler.addresses.is_empty());
    let failed = with("", scheduler("nowhere")).unwrap_err();
    assert!(failed.errors[0].to_string().contains("--scheduler: it is no host with a port"), "{failed:?}");
}
