//! Nodes that have less than the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dfget_testkit::cluster::assert_all_right;

use crate::support::{in_namespace, pull, put, run, setup, share_sent};

/// A place for a store that holds no more than so many MiB.
fn small_disk(mib: usize) -> PathBuf {
    let path = Path::new("/tmp/small-disk");
    fs::create_dir_all(path).expect("/tmp is ours");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "small"])
        .arg(path))
    .ok();
    path.to_owned()
}

#[test]
fn a_node_with_a_full_disk_passes_the_bytes_on_to_its_client() {
    in_namespace(|| {
        let disk = small_disk(4);
        let cluster = setup(4)
            .each(move |number, options| if number == 2 { options.data_dir(&disk) } else { options })
            .start();
        let (blob, url) = put(&cluster, 16);
        pull(&cluster, 1..=4, &blob, &url);
        pull(&cluster, [2], &blob, &url);
        share_sent(&cluster, &blob);
    });
}

#[test]
fn a_node_with_a_hundredth_of_the_bandwidth_holds_up_nobody() {
    in_namespace(|| {
        let cluster = setup(6).rates("400mbit", "400mbit").start();
        cluster.network.set_rate(&cluster.node(2).place, Some("4mbit"));
        let (blob, url) = put(&cluster, 16);
        std::thread::scope(|scope| {
            let weak = scope.spawn(|| cluster.node(2).get(&url));
            pull(&cluster, [1, 3, 4, 5, 6], &blob, &url);
            eprintln!("all but the weak node have it");
            assert_all_right(&[weak.join().expect("it gets an answer")], &blob.digest);
        });
        share_sent(&cluster, &blob);
    });
}

#[test]
fn a_node_that_may_upload_little_still_gets_all() {
    in_namespace(|| {
        let cluster = setup(3)
            .each(
                |number, options| {
                    if number == 1 { options.extra("upload: {rateLimit: 1Mi}") } else { options }
                },
            )
            .start();
        let (blob, url) = put(&cluster, 8);
        pull(&cluster, 1..=3, &blob, &url);
        share_sent(&cluster, &blob);
    });
}
