//! kill -9 of the daemon over pulls in flight, again and again.

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};

use super::support::{Client, Daemon, Image, Reference, Registries, Tool, User, in_namespace};

/// Rounds of start, pull, kill.
const ROUNDS: usize = 20;

#[test]
fn twenty_kills_over_pulls_in_flight_never_yield_a_wrong_byte() {
    in_namespace(|| {
        let registries = Registries::start_slow("12m");
        let image = Image::of_mib(64);
        let right = fs::read(&image.file).unwrap();
        let from = Reference { registry: "slow", repository: "public/sif" };
        for round in 0..ROUNDS {
            let mut daemon = Daemon::start();
            let client = Client::proxied(User::Nobody);
            let mut apptainer = client
                .apptainer_pull(Tool::Apptainer, from, &image)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut curl = stream_blob(&client, &image);
            // Each round is killed a little later in the blob than the one before.
            let enough = right.len() * (round + 1) / (ROUNDS + 1);
            let mut got = vec![0; enough];
            let mut stream = curl.stdout.take().unwrap();
            stream
                .read_exact(&mut got)
                .unwrap_or_else(|error| panic!("round {round}, before the kill: {error}"));
            daemon.kill();
            stream.read_to_end(&mut got).unwrap();
            curl.wait().unwrap();
            apptainer.wait().unwrap();
            assert!(right.starts_with(&got), "round {round}: a wrong byte among the {} that came", got.len());
        }
        let downloads = registries.downloads("slow", &image);
        assert!(
            downloads.len() > ROUNDS / 2,
            "few kills came while the registry was sending: {downloads:#?}"
        );
        let _daemon = Daemon::start();
        for _ in ["what the last kill left", "what is verified now"] {
            Client::proxied(User::Nobody).pull(Tool::Apptainer, from, &image);
        }
    });
}

/// `curl` of the blob to a pipe, as its bytes arrive.
fn stream_blob(client: &Client, image: &Image) -> Child {
    let mut command = client.command("curl");
    command.args(["--silent", "--no-buffer", &image.blob_url(&Registries::host("slow"), "public/sif")]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}
