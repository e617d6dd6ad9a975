//! Jobs that bring their cluster with them: `dfget run --cluster` on every node, no daemon, one home for all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Network, Place, Registry, TestCa};

use crate::support::{MIB, REPOSITORY, dfget_binary, in_namespace, run};

/// The key of the job's cluster.
const KEY: &str = "/tmp/shared-home/cluster.key";

/// Nodes with a registry, and a home that all of them share.
struct Site {
    registry: Registry,
    network: Network,
    blob: Blob,
    url: String,
}

impl Site {
    fn new(nodes: u8) -> Self {
        let network = Network::new(nodes, Some("200mbit"), Some("400mbit"));
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https_at(&network.origin, &ca);
        let blob = Blob::random(16 * MIB, 51);
        let url = registry.put(REPOSITORY, &blob);
        fs::create_dir_all("/tmp/shared-home").expect("/tmp is ours");
        fs::write("/tmp/trusted.pem", ca.certificate_pem()).expect("/tmp is ours");
        // In these namespaces every process is root, whose key is made by hand.
        let key = run(Command::new(dfget_binary()).args(["cluster", "key"])).ok().stdout;
        fs::write(KEY, key).expect("/tmp is ours");
        fs::set_permissions(KEY, fs::Permissions::from_mode(0o600)).expect("it is ours");
        Self { registry, network, blob, url }
    }

    /// The nodes, as Slurm names them.
    fn members(&self) -> String {
        format!("198.51.100.[101-{}]", 100 + self.network.nodes.len())
    }

    /// What one node runs in a job: the blob goes to a file of the job and node.
    fn task(&self, place: &Place, job: &str, flags: &[&str]) -> Command {
        let mut command = self.begin(place, job, flags);
        command
            .args(["curl", "--silent", "--show-error", "--fail", "--output"])
            .arg(own(place, job).join("fetched"))
            .arg(&self.url);
        command
    }

    /// `dfget run` of one node in a job, without what it runs.
    fn begin(&self, place: &Place, job: &str, flags: &[&str]) -> Command {
        let own = own(place, job);
        fs::create_dir_all(own.join("run")).expect("/tmp is ours");
        let mut command = Command::new(dfget_binary());
        command
            .args(["run", "--host", &self.registry.origin.authority(), "--cluster", &self.members()])
            .args(flags)
            .args(["--cluster-key", KEY, "--"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/tmp/shared-home")
            .env("TMPDIR", &own)
            .env("XDG_RUNTIME_DIR", own.join("run"))
            .env("SSL_CERT_FILE", "/tmp/trusted.pem")
            .env("DFGET_SYSTEM_SOCKET", own.join("none.sock"))
            .env("SLURM_JOB_ID", job);
        command
    }

    /// `dfget` itself gets the blob on one node of a job.
    fn get(&self, place: &Place, job: &str) -> Command {
        let template = self.begin(place, job, &[]);
        let mut command = Command::new(dfget_binary());
        command.env_clear().args([
            "--cluster",
            &self.members(),
            "--cluster-key",
            KEY,
            "--output",
            "json",
            "-O",
        ]);
        command.arg(own(place, job).join("fetched")).arg(&self.url);
        for (name, value) in template.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }

    /// Runs these jobs at once, a task of each on each node, and looks at what came.
    fn run(&self, jobs: &[&str], flags: &[&str]) {
        let tasks = jobs.iter().flat_map(|job| self.network.nodes.iter().map(move |place| (*job, place)));
        let tasks: Vec<_> = tasks.collect();
        let ended: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = tasks
                .iter()
                .map(|(job, place)| {
                    scope.spawn(move || place.within(|| run(&mut self.task(place, job, flags))))
                })
                .collect();
            running.into_iter().map(|task| task.join().expect("a task ends")).collect()
        });
        for ((job, place), ended) in tasks.into_iter().zip(ended) {
            ended.ok();
            let file = format!("/tmp/{}-{job}/fetched", place.name());
            let came = fs::read(&file).expect("curl wrote it");
            assert_eq!(sha256(&came), self.blob.digest, "job {job} on {place}");
        }
    }

    /// What the registry sent, as a multiple of the blob.
    fn sent(&self) -> f64 {
        self.registry.origin.body_bytes(&self.blob.digest) as f64 / self.blob.len() as f64
    }
}

/// What a node has of its own in a job.
fn own(place: &Place, job: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/{}-{job}", place.name()))
}

#[test]
fn a_job_sees_its_own_cluster_and_none_besides() {
    in_namespace(|| {
        let site = Site::new(2);
        let script = "for try in $(seq 300); do
            \"$0\" cluster status --cluster \"$1\" --cluster-key \"$2\" && exit 0; sleep 0.2
        done; exit 9";
        let status = |place: &Place| {
            let mut task = site.begin(place, "4711", &[]);
            task.args(["sh", "-c", script]).arg(dfget_binary()).args([&site.members(), KEY]);
            place.within(|| run(&mut task)).ok().stdout
        };
        let told: Vec<String> = thread::scope(|scope| {
            let running: Vec<_> =
                site.network.nodes.iter().map(|place| scope.spawn(|| status(place))).collect();
            running.into_iter().map(|task| task.join().expect("a task ends")).collect()
        });
        for (place, told) in site.network.nodes.iter().zip(told) {
            // The port is that of the job: 20000 + 4 x (4711 - 3000).
            let own = format!("{}:26844 (this node)", place.address());
            assert!(told.contains(&own) && told.contains("2 of 2 up"), "{told}");
        }
        // Without the job's number there is nobody.
        let outside = Command::new(dfget_binary())
            .args(["cluster", "status", "--cluster", &site.members(), "--cluster-key", KEY])
            .env_clear()
            .env("HOME", "/tmp/shared-home")
            .output()
            .expect("the binary is there");
        assert_eq!(outside.status.code(), Some(1), "{}", String::from_utf8_lossy(&outside.stdout));
    });
}

#[test]
fn a_job_without_any_daemon_feeds_itself() {
    in_namespace(|| {
        let site = Site::new(4);
        site.run(&["4711"], &["--cluster-port", "64000"]);
        // Daemons that start at once on a busy machine may find two schedulers, which costs a second copy.
        assert!(site.sent() <= 2.1, "the registry sent {:.3} x the blob", site.sent());
    });
}

#[test]
fn two_jobs_share_their_nodes_in_peace() {
    in_namespace(|| {
        let site = Site::new(3);
        site.run(&["4711", "4712"], &[]);
        assert!(site.sent() <= 4.2, "the registry sent {:.3} x the blob", site.sent());
    });
}

#[test]
fn the_nodes_of_a_job_get_a_file_from_each_other_and_say_so() {
    in_namespace(|| {
        let site = Site::new(3);
        let objects: Vec<serde_json::Value> = thread::scope(|scope| {
            let running: Vec<_> = site
                .network
                .nodes
                .iter()
                .map(|place| scope.spawn(|| place.within(|| run(&mut site.get(place, "4711"))).ok().stdout))
                .collect();
            let printed = running.into_iter().map(|task| task.join().expect("a get ends"));
            printed.map(|text| serde_json::from_str(&text).expect("an object")).collect()
        });
        let sum = |source: &str| -> u64 {
            objects.iter().map(|object| object["sources"][source].as_u64().expect("a count")).sum()
        };
        for place in &site.network.nodes {
            let came = fs::read(own(place, "4711").join("fetched")).expect("it was got");
            assert_eq!(sha256(&came), site.blob.digest, "{place}");
        }
        let len = site.blob.len() as u64;
        assert_eq!(sum("peers") + sum("origin") + sum("cache"), 3 * len, "{objects:?}");
        assert!(sum("peers") > len / 2, "they have fed each other: {objects:?}");
        assert!(site.sent() <= 2.1, "the registry sent {:.3} x the blob", site.sent());
    });
}
