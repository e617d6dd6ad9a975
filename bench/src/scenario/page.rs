//! The web page of a daemon that has stored much: how long its answers take, and what it costs the daemon while it is
//! open, beside the same daemon while nobody looks.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::objects::OBJECT;
use super::start::filled;
use crate::client::Target;
use crate::contender::{Contender, Kind, Running};
use crate::course::{Bench, Plan};
use crate::table::{Goal, Row, quantile};
use crate::tls::{TlsSettings, Trust};

/// Something that is asked of the admin port, again and again.
struct Call {
    id: &'static str,
    what: &'static str,
    /// One after the other; the time is that of all.
    paths: &'static [&'static str],
    /// Whether the answer has to be there at once: the page asks for it, or people wait for it.
    waited_for: bool,
}

/// Where the page is, and what opens it.
#[derive(Clone)]
struct Page {
    target: Target,
    /// A line of a head.
    authorization: String,
}

/// Each dfget stores many blobs; then its answers are timed, and what it takes while it idles and while pages are open.
pub(super) fn page(bench: &mut Bench) -> io::Result<()> {
    let count = bench.plan.count(10_000);
    let (times, costs) = rows(bench, count);
    let blobs = bench.blobs(count, OBJECT)?;
    let contenders = bench.contenders.clone();
    for contender in contenders.iter().filter(|contender| contender.is_dfget()) {
        let running = filled(bench, contender, &blobs)?;
        let page = Page::of(contender, bench)?;
        // What is left to do of the pulls, such as bringing the index to the disk.
        thread::sleep(SETTLE);
        for round in 0..bench.plan.rounds {
            let values = answers(&page, &bench.plan);
            bench.record(round, &contender.name, &times, values);
            let idle = cost(&running, &page, 0, &bench.plan);
            let looked_at: io::Result<Vec<f64>> =
                PAGES.iter().map(|pages| cost(&running, &page, *pages, &bench.plan)).collect();
            bench.record(round, &contender.name, &costs, looked_at);
            if contender.name == crate::table::DFGET {
                bench.record(round, IDLE, &costs, idle.map(|idle| vec![idle; PAGES.len()]));
            }
        }
        running.end()?;
    }
    bench.clear(Vec::new(), &blobs)
}

/// Adds the rows; the ids of those of times, two for each call, and of those of processors.
fn rows(bench: &mut Bench, count: usize) -> (Vec<String>, Vec<String>) {
    let (mut times, mut costs) = (Vec::new(), Vec::new());
    for call in CALLS {
        let ids = ["p50", "p99"].map(|part| format!("page-{}-{part}", call.id));
        let whats = [format!("{}, {count} stored, ms", call.what), "  99 % of them within, ms".to_owned()];
        for (id, what) in ids.into_iter().zip(whats) {
            let row = Row::new(&id, what);
            bench.table.add(if call.waited_for { row.goal(Goal::AtMost(MOST_MILLIS)) } else { row });
            times.push(id);
        }
    }
    for pages in PAGES {
        let id = format!("page-cpu-{pages}");
        let row = Row::new(&id, format!("daemon, pages open: {pages}, % of a core"));
        bench.table.add(row.against(IDLE).goal(Goal::DifferenceAtMost(MOST_PERCENT)));
        costs.push(id);
    }
    (times, costs)
}

/// Milliseconds of half and of nearly all answers to each call.
fn answers(page: &Page, plan: &Plan) -> io::Result<Vec<f64>> {
    let asked = if plan.small { 10 } else { 200 };
    let mut values = Vec::new();
    for call in CALLS {
        let mut times = Vec::new();
        for _ in 0..asked {
            let began = Instant::now();
            for path in call.paths {
                page.ask(path)?;
            }
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        values.extend([0.5, 0.99].map(|part| quantile(&times, part).unwrap_or(f64::NAN)));
    }
    Ok(values)
}

/// How much of a core the daemon takes, in percent, while so many pages are open.
fn cost(running: &Running, page: &Page, pages: usize, plan: &Plan) -> io::Result<f64> {
    let time = Duration::from_secs(if plan.small { 3 } else { 60 });
    let start = Barrier::new(pages + 1);
    thread::scope(|scope| {
        let open: Vec<_> = (0..pages).map(|_| scope.spawn(|| look(page, &start, time))).collect();
        start.wait();
        let before = running.cpu_seconds()?;
        thread::sleep(time);
        let took = running.cpu_seconds()? - before;
        for page in open {
            page.join().map_err(|_| io::Error::other("a page failed"))??;
        }
        Ok(took * 100.0 / time.as_secs_f64())
    })
}

/// Does what a browser does: it fetches all parts, then asks once a second.
fn look(page: &Page, start: &Barrier, time: Duration) -> io::Result<()> {
    let opened = FILES.iter().chain([&LIVE]).try_for_each(|path| page.ask(path));
    // Also where it failed: others wait here.
    start.wait();
    opened?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        page.ask(LIVE)?;
        thread::sleep(EVERY);
    }
    Ok(())
}

// === impl Page ===

impl Page {
    /// As the command prints it, which has it of the daemon's unix socket.
    fn of(contender: &Contender, bench: &Bench) -> io::Result<Self> {
        let Kind::Dfget(binary) = &contender.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        let (place, token) = address(binary)?;
        let target = Target {
            address: place,
            connect: false,
            host: place.ip().to_string(),
            port: place.port(),
            // It is not used: the port speaks in clear.
            tls: TlsSettings::new(&fs::read(bench.places.proxy_authority())?)?,
            plain: true,
        };
        Ok(Self { target, authorization: format!("Authorization: Bearer {token}\r\n") })
    }

    /// Asks over a connection of its own: the port answers one request on each, as it does for browsers.
    fn ask(&self, path: &str) -> io::Result<()> {
        let mut connection = self.target.open(Trust::Accept)?;
        let answer = connection.get_with(path, &self.authorization, |_| ControlFlow::Continue(()))?;
        if answer.length > 0 { Ok(()) } else { Err(io::Error::other(format!("{path} is empty"))) }
    }
}

/// Where the page is, and its token.
fn address(binary: &Path) -> io::Result<(SocketAddr, String)> {
    let output = Command::new(binary).args(["top", "--web"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let parts = said.trim().strip_prefix("http://").and_then(|said| said.split_once("/#token="));
    let parts = parts.and_then(|(place, token)| Some((place.parse().ok()?, token.to_owned())));
    parts.ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("`dfget top --web` prints no address: {}", why.trim()))
    })
}

const CALLS: [Call; 7] = [
    Call { id: "files", what: "page's files", paths: &FILES, waited_for: true },
    Call { id: "live", what: "/api/v1/live", paths: &[LIVE], waited_for: true },
    Call { id: "node", what: "/api/v1/node", paths: &["/api/v1/node"], waited_for: true },
    Call { id: "tasks", what: "/api/v1/tasks", paths: &["/api/v1/tasks"], waited_for: true },
    Call { id: "stat", what: "/api/v1/stat", paths: &["/api/v1/stat"], waited_for: true },
    Call { id: "some", what: "100 contents", paths: &["/api/v1/contents?limit=100"], waited_for: true },
    Call { id: "all", what: "all contents", paths: &["/api/v1/contents"], waited_for: false },
];
const FILES: [&str; 6] = ["/", "/page.css", "/main.js", "/draw.js", "/words.js", "/icon.svg"];
/// As the page asks.
const LIVE: &str = "/api/v1/live?most=13";
/// How often a page asks.
const EVERY: Duration = Duration::from_secs(1);
/// So many are open at once.
const PAGES: [usize; 2] = [1, 5];
const SETTLE: Duration = Duration::from_secs(5);
/// The daemon while nobody looks.
const IDLE: &str = "idle";
const MOST_MILLIS: f64 = 50.0;
const MOST_PERCENT: f64 = 1.0;
