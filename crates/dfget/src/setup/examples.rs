//! The files of `deploy/`, which `dfget setup` prints.

/// One file.
#[derive(Debug)]
pub(super) struct Example {
    /// How it is asked for.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    /// Where it goes.
    pub(super) place: &'static str,
    /// What is to be typed then; nothing where nothing is.
    pub(super) then: &'static str,
    /// As it is for a machine where nothing is set otherwise.
    pub(super) text: &'static str,
}

/// All of them, in the order they are shown.
pub(super) const EXAMPLES: &[Example] = &[
    Example {
        name: "systemd",
        about: "the daemon as a service of its own user",
        place: "/etc/systemd/system/dfget.service",
        then: "systemctl daemon-reload && systemctl enable --now dfget.service",
        text: include_str!("../../../../deploy/systemd/dfget.service"),
    },
    Example {
        name: "systemd-socket",
        about: "its ports, which stay while it restarts",
        place: "/etc/systemd/system/dfget.socket",
        then: "systemctl daemon-reload && systemctl enable --now dfget.socket",
        text: include_str!("../../../../deploy/systemd/dfget.socket"),
    },
    Example {
        name: "sysusers",
        about: "the user of that service",
        place: "/etc/sysusers.d/dfget.conf",
        then: "systemd-sysusers dfget.conf",
        text: include_str!("../../../../deploy/systemd/sysusers.conf"),
    },
    Example {
        name: "tmpfiles",
        about: "what may be written beside dfget.yaml, and by whom",
        place: "/etc/tmpfiles.d/dfget.conf",
        then: "systemd-tmpfiles --create dfget.conf",
        text: include_str!("../../../../deploy/systemd/tmpfiles.conf"),
    },
    Example {
        name: "apparmor",
        about: "a profile for that service",
        place: "/etc/apparmor.d/dfget-daemon",
        then: "apparmor_parser -r /etc/apparmor.d/dfget-daemon",
        text: include_str!("../../../../deploy/apparmor/dfget-daemon"),
    },
    Example {
        name: "config",
        about: "a dfget.yaml to begin with",
        place: "/etc/dragonfly/dfget.yaml",
        then: "dfget config check",
        text: include_str!("../../../../deploy/dfget.yaml"),
    },
    Example {
        name: "slurm-prolog",
        about: "starts the daemon and fetches images before a job",
        place: "/etc/slurm/prolog.d/50-dfget.sh",
        then: "chmod 755 /etc/slurm/prolog.d/50-dfget.sh",
        text: include_str!("../../../../deploy/slurm/prolog.sh"),
    },
    Example {
        name: "slurm-epilog",
        about: "notes what was served, after a job",
        place: "/etc/slurm/epilog.d/50-dfget.sh",
        then: "chmod 755 /etc/slurm/epilog.d/50-dfget.sh",
        text: include_str!("../../../../deploy/slurm/epilog.sh"),
    },
    Example {
        name: "job-script",
        about: "a job whose nodes feed each other, without any set-up",
        place: "job.sh",
        then: "sbatch job.sh",
        text: include_str!("../../../../deploy/slurm/job.sh"),
    },
    Example {
        name: "lmod",
        about: "an environment module for clients",
        place: "/usr/share/modulefiles/dfget.lua",
        then: "module load dfget",
        text: include_str!("../../../../deploy/lmod/dfget.lua"),
    },
    Example {
        name: "apptainer",
        about: "variables for apptainer and singularity of all users",
        place: "/etc/profile.d/dfget.sh",
        then: "dfget ca bundle -O /etc/dragonfly/bundle.crt",
        text: include_str!("../../../../deploy/apptainer/dfget.sh"),
    },
    Example {
        name: "containerd",
        about: "the daemon as mirror of all registries",
        place: "/etc/containerd/certs.d/_default/hosts.toml",
        then: "",
        text: include_str!("../../../../deploy/containerd/hosts.toml"),
    },
    Example {
        name: "ansible",
        about: "a playbook for all nodes, with the role of deploy/ansible",
        place: "playbook.yml",
        then: "ansible-playbook -i INVENTORY playbook.yml",
        text: include_str!("../../../../deploy/ansible/playbook.yml"),
    },
    Example {
        name: "prometheus",
        about: "alerts",
        place: "/etc/prometheus/rules.d/dfget.yml",
        then: "promtool check rules /etc/prometheus/rules.d/dfget.yml",
        text: include_str!("../../../../deploy/prometheus/rules.yml"),
    },
    Example {
        name: "grafana",
        about: "a dashboard, to be imported",
        place: "/var/lib/grafana/dashboards/dfget.json",
        then: "",
        text: include_str!("../../../../deploy/grafana/dashboard.json"),
    },
];
