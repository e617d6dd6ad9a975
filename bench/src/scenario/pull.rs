//! The real client: `apptainer pull` of a large image from a real registry, with nothing in the client's own cache.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

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

/// A job array: many pulls of one small image at once, by clients with nothing of their own, through a proxy that
/// has nothing of it; what the registry was asked for all of them.
pub(super) fn array(bench: &mut Bench) -> io::Result<()> {
    let pulls = bench.plan.count(100);
    let ids = ["array-requests".to_owned(), "array-time".to_owned()];
    let row = Row::new(&ids[0], format!("{pulls} apptainer pulls: requests"));
    bench.table.add(row.against("direct").goal(Goal::AtMost(12.0)));
    bench.table.add(Row::new(&ids[1], "  until the last has it, s").against("direct"));
    bench.places.registry("start")?;
    let directory = bench.places.directory("array")?;
    let image = bench.places.clients.join("images/4.sif");
    let authority = bench.places.origin_authority();
    let contenders = bench.contenders.clone();
    let places = bench.places.clone();
    let mut tag = 0;
    let running = bench.start(|kind| matches!(kind, Kind::Direct | Kind::Dfget(_) | Kind::Peer(_)));
    bench.rounds(&running, &ids, |_, running| {
        let contender = contenders.iter().find(|contender| contender.name == running.name);
        let contender = contender.ok_or(io::ErrorKind::NotFound)?;
        // New each time, so that nobody has it: the image, with another last byte.
        tag += 1;
        let reference = format!("oras://registry.test/bench/array:{tag}");
        let own = directory.join("pushed.sif");
        changed(&image, &own, tag)?;
        let mut push = apptainer(&directory, &authority)?;
        finished(push.arg("push").arg(&own).arg(&reference))?;
        let before = requests()?;
        let began = Instant::now();
        thread::scope(|scope| {
            let pull = |client: usize| {
                pulled_as(contender, &places, &directory.join(client.to_string()), &own, &reference)
            };
            let clients: Vec<_> = (0..pulls).map(|client| scope.spawn(move || pull(client))).collect();
            clients.into_iter().try_for_each(|client| {
                client.join().map_err(|_| io::Error::other("a client failed"))?.map(drop)
            })
        })?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(vec![(requests()? - before) as f64, seconds])
    });
    bench.places.registry("stop")?;
    fs::remove_dir_all(&directory)?;
    bench.clear(running, &[])
}

/// The image with something behind its end, which makes it another one.
fn changed(image: &Path, to: &Path, number: u64) -> io::Result<()> {
    fs::copy(image, to)?;
    OpenOptions::new().append(true).open(to)?.write_all(&number.to_be_bytes())
}

/// How many requests docker-registry has answered. What was answered before is in it soon.
fn requests() -> io::Result<u64> {
    let count = || io::Result::Ok(fs::read_to_string(REGISTRY_LOG)?.lines().count() as u64);
    let mut last = count()?;
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = count()?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

/// Seconds of a pull by a client that is new.
fn pulled(contender: &Contender, places: &Places, directory: &Path, image: &Path) -> io::Result<f64> {
    pulled_as(contender, places, &directory.join("client"), image, REFERENCE)
}

fn pulled_as(
    contender: &Contender,
    places: &Places,
    home: &Path,
    image: &Path,
    reference: &str,
) -> io::Result<f64> {
    fs::create_dir_all(home)?;
    let authority = if contender.connects() { places.proxy_authority() } else { places.origin_authority() };
    let mut pull = apptainer(home, &authority)?;
    if contender.connects() {
        pull.env("HTTPS_PROXY", contender.address().to_string());
    }
    let file = home.join("pulled.sif");
    let began = Instant::now();
    finished(pull.arg("pull").arg(&file).arg(reference))?;
    let seconds = began.elapsed().as_secs_f64();
    let same = fs::metadata(&file)?.len() == fs::metadata(image)?.len();
    fs::remove_dir_all(home)?;
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

/// Where docker-registry of `tests/real-clients/registries` writes what it was asked.
const REGISTRY_LOG: &str = "/tmp/registries/open.log";
const REFERENCE: &str = "oras://registry.test/bench/sif:large";
