//! The real client: `apptainer pull` of a large image from a real registry, with nothing in the client's own cache.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::contender::{Contender, Kind};
use crate::course::{Bench, MIB};
use crate::origin::write_random;
use crate::places::Places;
use crate::table::{Goal, Row};

/// One pull through each proxy first, so that the image is stored, then all in turn.
pub(super) fn pull(bench: &mut Bench) -> io::Result<()> {
    let size = bench.plan.size(1536 * MIB);
    let ids = ["pull-time".to_owned()];
    let what = format!("apptainer pull, {} MiB, warm, s", size / MIB);
    bench.table.add(Row::new(&ids[0], what).against("direct").goal(Goal::RatioAtMost(0.8)));
    bench.places.registry("start")?;
    let directory = bench.places.directory("pull")?;
    let image = directory.join("pushed.sif");
    make_image(&bench.places, &image, size)?;
    let authority = bench.places.origin_authority();
    let mut push = apptainer(&directory, &authority)?;
    finished(push.arg("push").arg(&image).arg(REFERENCE))?;
    let running = bench.start(|kind| matches!(kind, Kind::Direct | Kind::Dfget(_) | Kind::Peer(_)));
    let contenders = bench.contenders.clone();
    let places = bench.places.clone();
    let one = |name: &str| {
        let contender = contenders.iter().find(|contender| contender.name == name);
        contender.map_or_else(
            || Err(io::ErrorKind::NotFound.into()),
            |contender| pulled(contender, &places, &directory, &image),
        )
    };
    for contender in &running {
        one(&contender.name)?;
    }
    bench.rounds(&running, &ids, |_, contender| Ok(vec![one(&contender.name)?]));
    bench.places.registry("stop")?;
    fs::remove_dir_all(&directory)?;
    bench.clear(running, &[])
}

/// Seconds of a pull by a client that is new.
fn pulled(contender: &Contender, places: &Places, directory: &Path, image: &Path) -> io::Result<f64> {
    let home = directory.join("client");
    fs::create_dir_all(&home)?;
    let authority = if contender.connects() { places.proxy_authority() } else { places.origin_authority() };
    let mut pull = apptainer(&home, &authority)?;
    if contender.connects() {
        pull.env("HTTPS_PROXY", contender.address().to_string());
    }
    let file = home.join("pulled.sif");
    let began = Instant::now();
    finished(pull.arg("pull").arg(&file).arg(REFERENCE))?;
    let seconds = began.elapsed().as_secs_f64();
    let same = fs::metadata(&file)?.len() == fs::metadata(image)?.len();
    fs::remove_dir_all(&home)?;
    if same { Ok(seconds) } else { Err(io::Error::other("another image than was pushed")) }
}

/// A real image, followed by bytes that make it as large as wanted.
fn make_image(places: &Places, image: &Path, size: u64) -> io::Result<()> {
    let real = places.clients.join("images/4.sif");
    let rest = image.with_extension("rest");
    write_random(&rest, size.saturating_sub(fs::metadata(&real)?.len()), 0)?;
    fs::copy(real, image)?;
    let mut out = OpenOptions::new().append(true).open(image)?;
    io::copy(&mut File::open(&rest)?, &mut out)?;
    out.flush()?;
    fs::remove_file(rest)
}

fn apptainer(home: &Path, authority: &PathBuf) -> io::Result<Command> {
    let mut command = Command::new("apptainer");
    command.arg("--silent").env("HOME", home).env("SSL_CERT_FILE", authority).env("NO_PROXY", "");
    command.current_dir(home);
    Ok(command)
}

fn finished(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

const REFERENCE: &str = "oras://registry.test/bench/sif:large";
