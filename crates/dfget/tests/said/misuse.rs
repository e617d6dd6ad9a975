//! Command lines that mean nothing: what is wrong, and what to write.

use dfget_testkit::{Ended, Session};

use crate::transcript::{DFGET, Transcript};

const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// Shows each of these command lines, which must be refused, and has nothing begun.
fn refused(name: &str, lines: &[&str]) {
    let session = Session::new(DFGET);
    let mut transcript = Transcript::new();
    transcript.word(session.path("home").display(), "~");
    for line in lines {
        let command = |words: &[&str]| {
            let mut command = session.program(DFGET);
            command.args(words);
            command
        };
        let Ended { code, stdout, .. } = transcript.run(command, line);
        // Who asks for JSON is told in JSON, too.
        assert!(
            code == 2 && (stdout.is_empty() || line.ends_with("--output json")),
            "{line}: {code} {stdout}"
        );
    }
    assert!(session.daemons().is_empty(), "nothing was begun");
    transcript.end(name);
}

#[test]
fn snapshot_of_flags_and_commands_that_nobody_knows() {
    refused(
        "errors/unknown.txt",
        &[
            "dfget cach ls",
            "dfget cache lss",
            "dfget cluster stat",
            "dfget --no-such-flag",
            "dfget daemon --confg my.yaml",
            "dfget get --diegst x https://h.test/x",
            "dfget https://h.test/x --diegst x",
            "dfget preheat --best-efort oras://h.test/x",
            "dfget run --all-host -- true",
            "dfget ca create --hots h.test",
            "dfget cluster status --cluster-prot 1",
            "dfget cache ls --older-then 7d",
            "dfget cache rm --al",
            "dfget config show --ouput json",
            "dfget explain --metod HEAD https://h.test/x",
            "dfget doctor --ofline",
            "dfget top --onc",
            "dfget setup slurm-prolgo",
            "dfget completions tcsh",
            "dfget top --output yaml",
        ],
    );
}

#[test]
fn snapshot_of_commands_that_say_too_little_or_too_much() {
    refused(
        "errors/usage.txt",
        &[
            "dfget get",
            "dfget run",
            "dfget explain",
            "dfget preheat",
            "dfget cache export",
            "dfget cache rm --yes",
            "dfget cache rm --all --registry r.test",
            "dfget cache ls --store d --config f",
            "dfget https://h.test/x https://h.test/y",
            "dfget https://h.test/x -O a --output b",
            "dfget https://h.test/x -O - --output json",
            "dfget https://h.test/x --direct --disable-back-source",
            &format!("dfget https://h.test/x --range 0-1 --digest {DIGEST}"),
            "dfget https://h.test/x -r",
            "dfget https://h.test/x --original-offset",
            "dfget run --quiet --verbose -- true",
            "dfget run --cluster-port 7 -- true",
            "dfget top --web --once",
            "dfget config check my.yaml --config other.yaml",
            "dfget setup --output f",
            "dfget --verbose daemon",
        ],
    );
}

#[test]
fn snapshot_of_values_that_cannot_be() {
    refused(
        "errors/values.txt",
        &[
            "dfget h.test/x",
            "dfget ftp://h.test/x",
            "dfget library://a/b/c",
            "dfget oras://h.test/x --platform linux",
            "dfget oras://h.test/x -H Authorization:canary",
            "dfget https://h.test/x -H canary",
            "dfget https://h.test/x --digest md5:d41d8cd98f00b204e9800998ecf8427e",
            "dfget https://h.test/x --digest sha256:12",
            "dfget https://h.test/x --range 5-1",
            "dfget https://h.test/x --timeout soon",
            "dfget https://h.test/x --ratelimit fast",
            "dfget https://h.test/x --cluster node[1-",
            "dfget preheat --timeout 10x oras://h.test/x",
            "dfget preheat --at-once 0 oras://h.test/x",
            "dfget preheat library://a/b/c",
            "dfget preheat -f missing.txt",
            "dfget preheat --project missing",
            "dfget run --cluster node[1- -- true",
            "dfget run --cluster n1 --cluster-linger never -- true",
            "dfget daemon --cluster-port 65534",
            "dfget cluster status --cluster node[1-",
            "dfget cache ls --older-than 7",
            "dfget cache ls --since yesterday",
            "dfget cache gc --to much",
            "dfget ca create --days 0",
            "dfget doctor bad/name",
        ],
    );
}
